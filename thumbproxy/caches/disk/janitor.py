"""Keeps a cache directory within its limits: runs when it is nearly full, one at a time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from thumbproxy.caches.disk.files import Files
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.locks import locked
from thumbproxy.caches.disk.quota import LOW, Usage
from thumbproxy.caches.disk.scan import Progress, Scan
from thumbproxy.caches.disk.size import NOTHING, Space
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.core.shortage import shortage
from thumbproxy.scheduling.coalescing import Hold
from thumbproxy.telemetry.metrics import Metrics

log = logging.getLogger("thumbproxy.caches")
# Seconds between two runs of a process, at least.
_SHORTEST_BREAK = 0.05
_BREAK_AFTER_FAILURE = 60.0


class Trimmed(NamedTuple):
    """What a run found, what it left, and the part of it that was removed for want of room."""

    found: Space
    left: Space
    removed: Space


class Rest:
    """Called often, lets others work: `rest` seconds after each `work` seconds."""

    def __init__(self, work: float = 0.001, rest: float = 0.004) -> None:
        self._work, self._rest = work, rest
        self._since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._since > self._work:
            time.sleep(self._rest)
            self._since = time.monotonic()


class Janitor:
    """Looks after one cache directory: of all that do, one at a time."""

    def __init__(self, layout: Layout, files: Files, usage: Usage, metrics: Metrics) -> None:
        self.usage = usage
        usage.alarm = self.wake
        self._layout = layout
        self._files = files
        self._metrics = metrics
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._told = ""

    def wake(self) -> None:
        """Begin a run in the background, unless one is under way, or was a moment ago."""
        if time.monotonic() < self._not_before or (self._thread and self._thread.is_alive()):
            return
        # A daemon: a process that ends does not wait for it, and it may be killed at any time. If
        # two threads get here at once, the second janitor finds the first at work.
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        with suppress(RuntimeError):  # the process is ending, or has too many threads
            self._thread.start()

    def trim(
        self,
        target: Space | None = None,
        *,
        rest: Callable[[], None] | None = None,
        progress: Progress | None = None,
        patience: Deadline | None = None,
    ) -> Trimmed | None:
        """Count everything anew, remove what is of no use any more, and then what was used least,
        down to `target`: 90 % of the bounds, if it is not given.

        rest      called often, to let others work
        progress  called with "count" or "remove", and how many files it has been so far
        patience  how long to wait for another janitor
        None: another janitor is at work. Raises OSError.
        """
        target = self.usage.bounds.part(LOW) if target is None else target
        with self._alone(patience or Deadline(0)) as alone:
            if not alone:
                return None
            with suppress(FileNotFoundError):
                self._files.remove_strays()
            round = Scan(
                self._layout, self._files, self.usage, rest or _no_rest, progress or _no_progress
            )
            ages = round.count()
            removed = NOTHING
            if not ages.total.within(target):
                for freed in round.remove(ages.cut(target)):
                    removed = removed.plus(freed)
                    self._metrics.evicted(freed.files, freed.bytes)
            self._tell(round.fault)
            return Trimmed(ages.total, self.usage.read().kept, removed)

    def _tell(self, fault: OSError | None) -> None:
        """What a run had to pass over is told once, for as long as it is the same."""
        told = "" if fault is None else str(fault)
        if told and told != self._told:
            log.warning("the janitor of %s passed over: %s", self._layout.directory, told)
        self._told = told

    def _run(self) -> None:
        began, pause = time.monotonic(), _SHORTEST_BREAK
        try:
            self.trim(rest=Rest())
        except OSError as error:
            pause = _BREAK_AFTER_FAILURE
            log.warning(
                "the janitor of %s had to stop: %s",
                self._layout.directory,
                shortage(error, self._layout.directory) or error,
            )
        except Exception:
            log.exception("unexpected error of the janitor of %s", self._layout.directory)
        finally:
            took = time.monotonic() - began
            self._not_before = time.monotonic() + max(pause, took)

    @contextmanager
    def _alone(self, patience: Deadline) -> Iterator[bool]:
        # A byte of a file that is there: out of inodes, none could be made.
        fd = self._layout.create(self.usage.path, os.O_RDWR, 0o600)
        with (
            in_order(Rank.JANITOR, waits=not patience.passed),
            locked(fd, "janitor", patience) as hold,
        ):
            yield hold is not Hold.NOT


def _no_rest() -> None:
    pass


def _no_progress(stage: str, files: int) -> None:
    pass
