"""Shows the progress of a run: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from thumbproxy.core.extras import Lacking
from thumbproxy.warm.tally import Tally

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.1


class Display(Protocol):
    def show(self, tally: Tally) -> None: ...
    def close(self) -> None: ...


class Lines:
    """For logs."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._shown = clock()

    def show(self, tally: Tally) -> None:
        if self._clock() - self._shown >= _LINE_SECONDS:
            self._shown = self._clock()
            print(tally.line(), file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """For people. It moves to and fro while the number of sources is not known."""

    def __init__(self) -> None:
        # An extra.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None)
        self._shown = 0.0
        self._progress.start()

    def show(self, tally: Tally) -> None:
        if time.monotonic() - self._shown < _BAR_SECONDS:
            return
        self._shown = time.monotonic()
        self._progress.update(
            self._bar, completed=tally.sources, total=tally.total, description=tally.line()
        )

    def close(self) -> None:
        self._progress.stop()


def display() -> Display:
    if sys.stderr.isatty():
        with Lacking():
            return Bar()
    return Lines()
