"""A process in its sandbox makes the very bytes that a thread makes, of everything that is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from handmade import matrix_profile
from pictures import encoded, landscape
from PIL import Image
from specimens import ANIMATIONS, SOURCES

from thumbproxy.core.errors import ThumbproxyError
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.watermark import Watermark
from thumbproxy.rendering.base import Runner, Task
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(
    Limits(),
    Encoding(progressive_jpg=True),
    {"mark": Watermark(Image.new("RGBA", (20, 10), (200, 0, 0, 128)), (1, 1), 0.2, 0)},
    ("Orientation", "Model"),
)
FORMATS = [*sorted(ENGINE.outputs, key=lambda format: format.value), Format.JSON]
OPTIONS = (
    "w_60",
    "w_40,h_40,fit_cover,g_smart,wm_mark",
    "trim_10,w_50,rot_90,blur_1,sharp_1,round_max",
    "w_30,h_40,fit_pad,bg_336699,contrast_20,sat_-100,bytes_900",
    "crop_0.1x0.1x0.5x0.5,lossless",
    "page_2,w_50",
    "still,w_50",
)
ALL = {**SOURCES, **{f"{name}, animated": make for name, make in ANIMATIONS.items()}}


@pytest.fixture(scope="module")
def processes() -> Iterator[Runner]:
    runner = Processes(ENGINE, Limits(), 1)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def threads() -> Iterator[Runner]:
    runner = Threads(ENGINE, 1)
    yield runner
    runner.close()


@cache
def source(name: str) -> bytes:
    return ALL[name]()


def came_of(runner: Runner, task: Task) -> object:
    """The pictures without their times, or the error."""
    try:
        pictures = runner.run(task, Deadline(30), lambda: None)
    except ThumbproxyError as error:
        return type(error), error.reason, error.log
    return [replace(picture, render_seconds=0, encode_seconds=0) for picture in pictures]


@pytest.mark.parametrize("name", ALL)
def test_of_every_source(name: str, processes: Runner, threads: Runner) -> None:
    """Each source with two formats and one set of options, all of which take turns."""
    turn = list(ALL).index(name)
    options = Options.read(OPTIONS[turn % len(OPTIONS)])
    for format in (FORMATS[turn % len(FORMATS)], FORMATS[(turn // 2 + 3) % len(FORMATS)]):
        task = Task(source(name), ((options, format),))
        assert came_of(processes, task) == came_of(threads, task)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("options", OPTIONS)
def test_of_every_option(options: str, format: Format, processes: Runner, threads: Runner) -> None:
    name = "png alpha, animated" if "page" in options else next(iter(SOURCES))
    task = Task(source(name), ((Options.read(options), format),), Format.JPEG)
    assert came_of(processes, task) == came_of(threads, task)


def test_of_several_at_once(processes: Runner, threads: Runner) -> None:
    profile = matrix_profile([(0.6, 0.3, 0), (0.2, 0.6, 0.1), (0.15, 0.07, 0.74)], 2.2)
    picture = encoded(landscape(700, 500), icc_profile=profile)
    variants = tuple(
        (Options(width=width), format) for width in (50, 100, 400) for format in FORMATS[:4]
    )
    task = Task(picture, variants)
    made = came_of(processes, task)
    assert isinstance(made, list)
    assert all(isinstance(one, Encoded) for one in made)
    assert made == came_of(threads, task)


@pytest.mark.parametrize("cut", [0, 1, 20, 200, 2000])
def test_of_what_is_broken(cut: int, processes: Runner, threads: Runner) -> None:
    for name in ALL:
        task = Task(source(name)[:cut], ((Options(width=40), Format.JPEG),))
        assert came_of(processes, task) == came_of(threads, task)
