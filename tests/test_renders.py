"""Renders: so many at a time, never for nobody, and none twice of what has just failed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pictures import encoded, quadrants

from thumbproxy.core.errors import (
    BrokenImage,
    ClientGone,
    DecoderFailed,
    Overloaded,
    RenderKilled,
    RenderTooSlow,
    ThumbproxyError,
    TooSlow,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.rendering.base import PoolStatus, Task
from thumbproxy.rendering.threads import Threads
from thumbproxy.service.render_queue import Renders
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.options import Options

INFO = ImageInfo(Format.PNG, 100, 80)
ENGINE = PillowEngine(Limits())
SMALL = (Options(width=10), Format.PNG)


class Scripted:
    """A runner that does as it is told, and counts the tasks."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.tasks = size, 0
        self.failure: ThumbproxyError | None = None
        self.started, self.go = threading.Event(), threading.Event()
        self.go.set()

    def start(self) -> None: ...

    def close(self) -> None: ...

    def pool_status(self) -> PoolStatus:
        return PoolStatus("threads", self.size, self.size, {})

    def run(self, task: Task, deadline: Deadline, ended: Callable[[], None]) -> list[Encoded]:
        self.tasks += 1
        self.started.set()
        try:
            assert self.go.wait(10)
            if self.failure is not None:
                raise self.failure
            return [Encoded(task.source, format, 1, 1) for _, format in task.variants]
        finally:
            ended()


def renders(runner: Scripted, pixels: int = 10**6, seconds: float = 9.0) -> Renders:
    return Renders(
        ENGINE, runner, pixels=pixels, seconds=seconds, metrics=Metrics(), failure_ttl=60
    )


def one(made: Renders, version: str = "1", width: int = 10, *, seconds: float = 10) -> Encoded:
    variant = Options(width=width), Format.PNG
    return made.one(version, INFO, lambda: b"bytes", variant, deadline=Deadline(seconds))


def test_what_waits_for_its_turn_has_not_read_its_source() -> None:
    runner, read = Scripted(), list[int]()
    made = renders(runner)
    runner.go.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one, made)
        assert runner.started.wait(10)
        with pytest.raises(Overloaded):
            made.one("2", INFO, lambda: bytes(read.append(1) or 3), SMALL, deadline=Deadline(0.05))
        assert read == []
        runner.go.set()
        first.result()


def test_a_source_that_cannot_be_read_leaves_its_slot() -> None:
    made = renders(Scripted())

    def gone() -> bytes:
        raise BrokenImage

    for _ in range(3):
        with pytest.raises(BrokenImage):
            made.one("1", INFO, gone, SMALL, deadline=Deadline(0.5))
    assert one(made, "2").body == b"bytes"


@pytest.mark.parametrize("failure", [DecoderFailed, RenderTooSlow])
def test_what_brought_a_decoder_down_is_left_alone_for_a_while_in_any_size(
    failure: type[ThumbproxyError], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Scripted()
    made = renders(runner)
    runner.failure = failure(log="why")
    for width in (10, 20, 30):
        with pytest.raises(failure):
            one(made, width=width)
    assert runner.tasks == 1
    with pytest.raises(failure):
        made.several("1", INFO, b"", [SMALL, SMALL], deadline=Deadline(1))
    runner.failure = None
    assert one(made, "another").body == b"bytes"
    later = time.monotonic() + 61
    monkeypatch.setattr("thumbproxy.scheduling.coalescing.time.monotonic", lambda: later)
    assert one(made).body == b"bytes", "but only for a while"


def test_what_had_too_little_of_a_processor_is_not_remembered() -> None:
    runner = Scripted()
    made = renders(runner)
    runner.failure = TooSlow()
    with pytest.raises(TooSlow):
        one(made)
    runner.failure = None
    assert one(made).body == b"bytes"


def test_what_was_killed_is_tried_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next request, as long as not all of them end like that."""
    runner = Scripted()
    made = renders(runner)
    for _ in range(2):
        runner.failure = RenderKilled(log="SIGKILL")
        for width in (10, 20):
            with pytest.raises(RenderKilled):
                one(made, width=width)
        runner.failure = None
        assert one(made).body == b"bytes"
    runner.failure = RenderKilled(log="SIGKILL")
    runner.tasks = 0
    for width in range(10, 30):
        with pytest.raises(RenderKilled) as failed:
            one(made, width=width)
        assert (failed.value.status, failed.value.retry_after is not None) == (503, True)
    assert runner.tasks == 3, "then it is left alone for a while"
    runner.failure = None
    assert one(made, "another").body == b"bytes"
    later = time.monotonic() + 61
    monkeypatch.setattr("thumbproxy.scheduling.coalescing.time.monotonic", lambda: later)
    assert one(made).body == b"bytes", "but only for a while"


def test_what_is_broken_is_left_alone_in_that_size() -> None:
    runner = Scripted()
    made = renders(runner)
    runner.failure = BrokenImage()
    for _ in range(3):
        with pytest.raises(BrokenImage):
            one(made)
    with pytest.raises(BrokenImage):
        one(made, width=20)
    assert runner.tasks == 2


def test_who_is_out_of_luck_is_not_remembered() -> None:
    runner = Scripted()
    made = renders(runner)
    runner.failure = Overloaded()
    with pytest.raises(Overloaded):
        one(made)
    runner.failure = None
    assert one(made).body == b"bytes"


def test_nothing_is_read_or_rendered_for_those_who_have_gone() -> None:
    runner = Scripted()
    made = renders(runner)
    with pytest.raises(ClientGone):
        made.one("1", INFO, lambda: b"", SMALL, deadline=Deadline(1), still_wanted=lambda: False)
    assert runner.tasks == 0
    assert one(made).body == b"bytes"


def test_pixels_in_memory_are_bounded() -> None:
    """100 x 80 in and a little out are over half of the room: one at a time, though two may."""
    runner = Scripted(size=2)
    made = renders(runner, pixels=15_000)
    runner.go.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one, made)
        assert runner.started.wait(10)
        with pytest.raises(Overloaded):
            one(made, "2", seconds=0.1)
        assert runner.tasks == 1
        runner.go.set()
        first.result()


def test_a_picture_over_the_room_is_made_alone() -> None:
    assert one(renders(Scripted(), pixels=1)).body == b"bytes"


def test_the_engine_counts_what_the_decoder_makes() -> None:
    """Only JPEG is scaled while it is decoded; of an animation all that is written is held."""
    jpeg = ImageInfo(Format.JPEG, 8000, 4000)
    small, whole = Options(width=100), Options(width=4000)
    assert ENGINE.pixels(jpeg, small, Format.JPEG) < 8000 * 4000 / 60
    assert ENGINE.pixels(jpeg, whole, Format.JPEG) >= 8000 * 4000 / 4
    webp = ImageInfo(Format.WEBP, 8000, 4000)
    assert ENGINE.pixels(webp, small, Format.JPEG) > 8000 * 4000
    moving = ImageInfo(Format.GIF, 100, 100, frames=50)
    assert ENGINE.pixels(moving, Options(), Format.WEBP) == 51 * 100 * 100
    assert ENGINE.pixels(moving, Options(), Format.PNG) == 2 * 100 * 100
    assert ENGINE.pixels(moving, Options(still=True), Format.GIF) == 2 * 100 * 100


def test_threads_make_pictures() -> None:
    made = Renders(
        ENGINE, Threads(ENGINE, 2), pixels=10**9, seconds=5, metrics=Metrics(), failure_ttl=60
    )
    source = encoded(quadrants(50, 40), "PNG")
    info = ENGINE.inspect(source)
    picture = made.one("1", info, lambda: source, SMALL, deadline=Deadline(5))
    assert (picture.width, picture.height, picture.format) == (10, 8, Format.PNG)
    both = made.several("1", info, source, [SMALL, SMALL], deadline=Deadline(5))
    assert Counter(some.body for some in both) == {picture.body: 2}


def test_a_thread_that_goes_on_after_the_deadline_keeps_its_slot() -> None:
    go = threading.Event()

    class Stuck(PillowEngine):
        def inspect(self, source: bytes) -> ImageInfo:
            return ImageInfo(Format.PNG, 1, 1)

        def render(self, *arguments: object, **more: object) -> Encoded:
            assert go.wait(10)
            return Encoded(b"late", Format.PNG, 1, 1)

    engine = Stuck(Limits())
    made = Renders(
        engine, Threads(engine, 1), pixels=10**9, seconds=0.05, metrics=Metrics(), failure_ttl=60
    )
    with pytest.raises(RenderTooSlow):
        one(made)
    with pytest.raises(Overloaded):
        one(made, "2", seconds=0.1)
    go.set()
    assert one(made, "3").body == b"late"
