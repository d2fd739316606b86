"""Checks the sandbox by making an image in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from thumbproxy.core.errors import ThumbproxyError
from thumbproxy.core.extras import Lacking
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline
from thumbproxy.doctor.findings import Finding
from thumbproxy.rendering.base import PoolStatus, Runner, Task
from thumbproxy.urls.options import Options

with Lacking():  # then there is nothing to be tried out
    from PIL import Image

_GROUP = "renders"
_SECONDS = 30.0
_NONE = "none"


class Trial(NamedTuple):
    """What came of a render; error: "" if it was made."""

    pool_status: PoolStatus
    seconds: float
    error: str

    @property
    def contained(self) -> bool:
        """Whether a decoder that is taken over can do nothing."""
        walls = self.pool_status.sandbox.values()
        return bool(walls) and not any(wall.startswith(_NONE) for wall in walls)


def try_out(runner: Runner) -> Trial:
    """Make a picture where `serve` would, and end what was started for it."""
    source = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(source, "PNG")
    task = Task(source.getvalue(), ((Options(width=32), Format.JPEG),))
    error, seconds = "", 0.0
    try:
        runner.run(task, Deadline(_SECONDS), _nobody)  # the first waits for all to be loaded
        began = time.perf_counter()
        runner.run(task, Deadline(_SECONDS), _nobody)
        seconds = time.perf_counter() - began
    except (ThumbproxyError, OSError) as failure:
        error = getattr(failure, "log", None) or str(failure) or type(failure).__name__
    try:
        return Trial(runner.pool_status(), seconds, error)
    finally:
        runner.close()


def sandbox(trial: Trial) -> Iterator[Finding]:
    pool = trial.pool_status
    if trial.error:
        yield Finding(
            _GROUP, "critical", f"no picture could be made in {pool.isolation}: {trial.error}",
            "the log of `thumbproxy serve` tells more",
        )  # fmt: skip
        return
    text = f"{pool.size} at a time in {pool.isolation} of each worker"
    yield Finding(_GROUP, "ok", f"{text}; a small one takes {1000 * trial.seconds:.0f} ms")
    if not pool.sandbox:
        yield Finding(
            _GROUP, "warning", "no sandbox: a decoder that is taken over can do what this user can",
            "isolation = \"processes\"",
        )  # fmt: skip
    for name, wall in pool.sandbox.items():
        missing = wall.startswith(_NONE)
        yield Finding(
            _GROUP, "warning" if missing else "ok", f"{name}: {wall}",
            f"use a kernel, or a container, that has {name}" if missing else "",
        )  # fmt: skip


def _nobody() -> None:
    pass
