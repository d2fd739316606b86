"""Decides whether bytes are a complete image, by decoding them in a sandboxed process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from thumbproxy.assembly.factories import engine_of, runner_of
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import SourceError
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline
from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.base import Runner, Task
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.options import Options

_TINY = Options(width=1)


@contextmanager
def decoder(settings: Settings) -> Iterator[Callable[[bytes, Format], str]]:
    """Says why bytes are no whole picture of a format, "" if they are one. In a render process.

    What it gives raises CapacityError where nobody can say. Raises SettingsError.
    """
    most = settings.limits
    # What is made may be larger than what it may be made from.
    side = max(most.source_side, most.output_side)
    limits = replace(
        most, source_side=side, source_pixels=max(most.source_pixels, most.output_side**2)
    )
    engine = engine_of(settings, limits)
    runner = runner_of(engine, replace(settings, isolation="processes", renders=1), Metrics())

    def fault(body: bytes, format: Format) -> str:
        try:
            return _fault(engine, runner, body, format)
        except SourceError as error:
            return error.log or error.reason

    try:
        yield fault
    finally:
        runner.close()


def _fault(engine: Engine, runner: Runner, body: bytes, format: Format) -> str:
    info = engine.inspect(body)
    if info.format is not format:
        return f"it is {info.format.extension}"
    # All of a picture is read for the smallest one of it; of an animation, all frames.
    made = Format.WEBP if info.frames > 1 else Format.PNG
    task = Task(body, ((_TINY, made),))
    runner.run(task, Deadline(task.seconds), lambda: None)
    return ""
