"""The queue of renders; an image that has just brought a decoder down is not tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from thumbproxy.core.errors import DecoderFailed, RenderKilled, RenderTooSlow, SourceError
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.base import PoolStatus, Runner, Task
from thumbproxy.scheduling.admission import Wanted, WeightedSemaphore, always
from thumbproxy.scheduling.coalescing import InARow, NegativeCache
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.options import Options

Variant = tuple[Options, Format]
# Requests one after another whose render was killed, after which it is left alone like others that
# bring a decoder down: one that needs more memory than there is must not be tried without end.
_KILLED = 3


class NotAtHand(Exception):
    """The bytes of a source are not to be had without waiting for somebody."""


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
        failure_ttl: float,
    ) -> None:
        self.engine = engine
        self._runner = runner
        self._seconds = seconds
        self._metrics = metrics
        self._failure_ttl = failure_ttl
        self._slots = PerProcess(lambda: WeightedSemaphore(runner.size, pixels))
        self._unmakeable = PerProcess(NegativeCache)
        self._killed = PerProcess(InARow)

    def one(
        self,
        version: str,
        info: ImageInfo,
        source: Callable[[], bytes],
        variant: Variant,
        *,
        fallback: Format | None = None,
        deadline: Deadline,
        still_wanted: Wanted = always,
    ) -> Encoded:
        """A picture of a source.

        version  of the source, the hash of its bytes
        source   gives these, when it is its turn: what waits must not fill the memory. It waits for
                 nobody meanwhile; where it would have to, it raises NotAtHand, and the turn is over
        wanted   nothing is decoded for those who have gone
        Raises SourceError, BadOptions, Overloaded, RenderKilled, TooSlow, EngineFailed, ClientGone,
        NotAtHand.
        """
        key = (version, variant[0].identity, variant[1], fallback)
        for failed in (version, key):
            self._unmakeable.value.check(failed)
        with self._turn(info, (variant,), deadline, still_wanted) as run:
            task = Task(source(), (variant,), fallback, self._seconds)
            began = time.monotonic()
            try:
                (encoded,) = run(task)
            except (DecoderFailed, RenderTooSlow) as error:
                # Other sizes of it would do the same, and must not take most of the time there is.
                wasted = time.monotonic() - began
                self._unmakeable.value.remember(version, error, max(self._failure_ttl, wasted))
                raise
            except RenderKilled as error:
                # By a shortage of memory that may be over; or that comes of this very picture.
                if self._killed.value.failed(version) >= _KILLED:
                    self._unmakeable.value.remember(version, error, self._failure_ttl)
                raise
            except SourceError as error:
                self._unmakeable.value.remember(key, error, self._failure_ttl)
                raise
        self._killed.value.succeeded(version)
        return encoded

    def several(
        self,
        version: str,
        info: ImageInfo,
        source: bytes,
        variants: Sequence[Variant],
        *,
        deadline: Deadline,
    ) -> list[Encoded]:
        """Several pictures of a source, for less than one by one. Raises as `one` does when any
        fails, and remembers nothing: each then tells by itself what is wrong with it."""
        self._unmakeable.value.check(version)
        with self._turn(info, variants, deadline, always) as run:
            seconds = self._seconds * len(variants)
            return run(Task(source, tuple(variants), seconds=seconds))

    @property
    def busy(self) -> bool:
        """Whether a picture would have to wait for its turn."""
        return self._slots.value.busy

    def pool_status(self) -> PoolStatus:
        return self._runner.pool_status()

    def start(self) -> None:
        """Get ready, in the background."""
        self._runner.start()

    @contextmanager
    def _turn(
        self, info: ImageInfo, variants: Sequence[Variant], deadline: Deadline, still_wanted: Wanted
    ) -> Iterator[Callable[[Task], list[Encoded]]]:
        """Wait for one's turn; what does one task in it."""
        weight = max(self.engine.pixels(info, *variant) for variant in variants)
        queued, begun = time.monotonic(), False

        def run(task: Task) -> list[Encoded]:
            nonlocal begun
            begun = True
            return self._runner.run(task, deadline, ended)

        with in_order(Rank.SLOT):
            ended = self._slots.value.take(weight, deadline, still_wanted)
            self._metrics.queued(time.monotonic() - queued)
            try:
                yield run
            finally:
                if not begun:
                    ended()
