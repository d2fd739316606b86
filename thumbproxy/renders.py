"""Renders, so many at a time, and none twice of what has just brought a decoder down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from thumbproxy.admission import Slots, Wanted, always
from thumbproxy.concurrency import Remembered
from thumbproxy.errors import DecoderFailed, RenderTooSlow, SourceError
from thumbproxy.imaging.base import Engine
from thumbproxy.limits import Deadline
from thumbproxy.media import Encoded, Format, ImageInfo
from thumbproxy.metrics import Metrics
from thumbproxy.options import Options
from thumbproxy.rendering.base import Runner, Task, Workshop

Variant = tuple[Options, Format]


class Renders:
    """Has pictures made.

    engine       what says how much memory a picture takes
    runner       where they are made
    pixels       that may be in memory at a time, in all renders of this process
    seconds      of a processor that one render may take
    failure_ttl  seconds for which a picture that could not be made is not tried again
    """

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        *,
        pixels: int,
        seconds: float,
        metrics: Metrics,
        failure_ttl: float = 5.0,
    ) -> None:
        self.engine = engine
        self._runner = runner
        self._seconds = seconds
        self._metrics = metrics
        self._failure_ttl = failure_ttl
        self._slots = Slots(runner.size, pixels)
        self._unmakeable = Remembered()

    def one(
        self,
        version: str,
        info: ImageInfo,
        source: Callable[[], bytes],
        variant: Variant,
        *,
        fallback: Format | None = None,
        deadline: Deadline,
        wanted: Wanted = always,
    ) -> Encoded:
        """A picture of a source.

        version  of the source, the hash of its bytes
        source   gives these, when it is its turn: what waits must not fill the memory
        wanted   nothing is decoded for those who have gone
        Raises SourceError, BadOptions, Overloaded, TooSlow, EngineFailed, ClientGone.
        """
        key = (version, variant[0].identity, variant[1], fallback)
        for failed in (version, key):
            self._unmakeable.check(failed)
        began = time.monotonic()
        try:
            (encoded,) = self._run(info, source, (variant,), fallback, deadline, wanted)
        except (DecoderFailed, RenderTooSlow) as error:
            # Other sizes of it would do the same; and it must not take most of the time there is.
            wasted = time.monotonic() - began
            self._unmakeable.remember(version, error, max(self._failure_ttl, wasted))
            raise
        except SourceError as error:
            self._unmakeable.remember(key, error, self._failure_ttl)
            raise
        return encoded

    def several(
        self,
        version: str,
        info: ImageInfo,
        source: Callable[[], bytes],
        variants: Sequence[Variant],
        *,
        deadline: Deadline,
    ) -> list[Encoded]:
        """Several pictures of a source, for less than one by one. Raises as `one` does when any
        fails, and remembers nothing: each then tells by itself what is wrong with it."""
        self._unmakeable.check(version)
        return self._run(info, source, tuple(variants), None, deadline, always)

    @property
    def busy(self) -> bool:
        """Whether a picture would have to wait for its turn."""
        return self._slots.busy

    def workshop(self) -> Workshop:
        return self._runner.workshop()

    def start(self) -> None:
        """Get ready, in the background."""
        self._runner.start()

    def _run(
        self,
        info: ImageInfo,
        source: Callable[[], bytes],
        variants: tuple[Variant, ...],
        fallback: Format | None,
        deadline: Deadline,
        wanted: Wanted,
    ) -> list[Encoded]:
        weight = max(self.engine.pixels(info, *variant) for variant in variants)
        queued = time.monotonic()
        ended = self._slots.take(weight, deadline, wanted)
        self._metrics.queued(time.monotonic() - queued)
        try:
            task = Task(source(), variants, fallback, self._seconds * len(variants))
        except BaseException:
            ended()
            raise
        return self._runner.run(task, deadline, ended)
