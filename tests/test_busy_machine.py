"""Beside busy neighbours: pictures take longer, and none is blamed for it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hostile_engine import START, HostileEngine
from pictures import encoded, quadrants, swapping_profile, turned

from thumbproxy.core.errors import RenderTooSlow, TooSlow
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.rendering.base import Runner
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.rendering.warmup import warm_up
from thumbproxy.service.render_queue import Renders
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.options import Options

CORE = min(os.sched_getaffinity(0))
TINY = (Options(width=10), Format.JPEG)
INFO = ImageInfo(Format.JPEG, 10, 10)


@contextmanager
def neighbours(count: int, cores: set[int]) -> Iterator[None]:
    """Processes that take all of these cores that they get."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        for process in busy:
            os.sched_setaffinity(process.pid, cores)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def renders(runner: Runner, seconds: float) -> Renders:
    return Renders(
        HostileEngine(), runner, pixels=10**6, seconds=seconds, metrics=Metrics(), failure_ttl=60
    )


def made(renders: Renders, source: str, within: float) -> str:
    picture = renders.one("1", INFO, source.encode, TINY, deadline=Deadline(within))
    return picture.body.removeprefix(START).decode()


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes(HostileEngine(), Limits(), 1)
    try:
        yield made
    finally:
        made.close()


class Pinned(HostileEngine):
    """Works on the core that its neighbours are on."""

    def render(
        self, source: bytes, options: Options, format: Format, *, fallback: Format | None = None
    ) -> Encoded:
        os.sched_setaffinity(0, {CORE})  # of this thread
        return super().render(source, options, format)


def test_a_picture_has_the_time_of_a_processor_that_is_promised(processes: Processes) -> None:
    """Among three neighbours it has a quarter of a core, so its 0.15 s take more than 0.25 s."""
    slow = renders(processes, seconds=0.25)
    os.sched_setaffinity(int(made(slow, "pid", within=20)), {CORE})
    with neighbours(3, {CORE}):
        assert made(slow, "work 150", within=60) == "worked"


def test_in_threads_too() -> None:
    slow = renders(Threads(Pinned(), 1), seconds=0.25)
    with neighbours(3, {CORE}):
        assert made(slow, "work 150", within=60) == "worked"


def test_a_picture_that_a_processor_was_kept_from_is_not_blamed(processes: Processes) -> None:
    """One that gets what nobody else wants of a core that two want: nothing."""
    slow = renders(processes, seconds=0.5)
    starved = int(made(slow, "pid", within=20))
    with neighbours(2, {CORE}):
        os.sched_setaffinity(starved, {CORE})
        os.sched_setscheduler(starved, os.SCHED_IDLE, os.sched_param(0))
        with pytest.raises(TooSlow, match="too long") as failed:
            made(slow, "work 5000", within=1)
    assert failed.type is TooSlow
    assert re.search(r" 0\.\d s of a processor in the [1-9]", failed.value.log)
    assert int(made(slow, "pid", within=20)) != starved, "and its picture is made the next time"


def test_a_picture_that_takes_too_much_of_a_processor_is_left_alone(processes: Processes) -> None:
    slow = renders(processes, seconds=0.2)
    with neighbours(2, os.sched_getaffinity(0)), pytest.raises(RenderTooSlow):
        made(slow, "spin", within=60)
    with pytest.raises(RenderTooSlow):
        made(slow, "pid", within=20)


def test_the_first_picture_after_a_start_waits_for_what_it_needs_only() -> None:
    """Each kind of picture is read and written, but not each made of each."""

    class Counted(HostileEngine):
        renders = 0

        def render(self, *_: object, **__: object) -> Encoded:
            self.renders += 1
            return Encoded(b"picture", Format.PNG, 1, 1)

    engine = Counted()
    warm_up(engine)
    assert len(Format) < engine.renders < 6 * len(Format)


NOTHING_MORE = """
import pickle, sys
from thumbproxy.assembly.factories import engine_of
from thumbproxy.core.errors import ThumbproxyError
from thumbproxy.core.limits import Limits
from thumbproxy.core.formats import Format
from thumbproxy.urls.options import Options
from thumbproxy.rendering.warmup import warm_up
from thumbproxy.config.settings import Settings

sources = pickle.load(sys.stdin.buffer)
engine = engine_of(Settings(keys=("k" * 40,)), Limits())
warm_up(engine)
seen, made = [], 0
sys.addaudithook(lambda event, of: seen.append((event, of)) if event in ("open", "import") else 0)
for source in sources:
    for text in ("w_12", "w_20,bytes_500", "w_30,h_30,fit_pad,g_smart,blur_2", "trim_9,lossless"):
        for format in Format:
            try:
                made += bool(engine.render(source, Options.read(text), format).body)
            except ThumbproxyError:
                pass
print(made, seen)
"""


def test_what_was_warmed_up_opens_no_file_any_more() -> None:
    """Whatever is read, and whatever is made of it: a render process cannot, later."""
    still, profile = quadrants(), swapping_profile()
    frames = {"save_all": True, "append_images": [still.rotate(90)], "duration": 50}
    sources = [encoded(still.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA")]
    sources += [encoded(still.convert("I").convert("I;16"), "PNG"), encoded(still.convert("CMYK"))]
    sources += [encoded(still, name, icc_profile=profile) for name in ("JPEG", "PNG", "WEBP")]
    sources += [encoded(still, name, **frames) for name in ("GIF", "PNG", "WEBP")]
    sources += [encoded(still, progressive=True), turned(encoded(still), 6), encoded(still, "WEBP")]
    run = subprocess.run(
        [sys.executable, "-c", NOTHING_MORE], input=pickle.dumps(sources), capture_output=True,
        check=False,
    )  # fmt: skip
    made, _, seen = run.stdout.decode().strip().partition(" ")
    assert seen == "[]", run.stderr.decode()
    assert int(made) > 10 * len(sources)
