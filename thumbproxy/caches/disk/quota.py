"""What a cache directory holds, counted as it changes, by all processes that use it.

The count is a few numbers in a file, changed under a lock: about 20 microseconds, beside a write
that waits milliseconds for the disk. It may be too high, never too low: room is taken before
a file is written, and given back after one is gone. What killed processes took is put right when
everything is counted anew (janitor.py).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.locks import Patience, locked
from thumbproxy.caches.disk.size import NOTHING, Space
from thumbproxy.caches.disk.usage_file import LENGTH, Tally
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.scheduling.coalescing import Hold
from thumbproxy.telemetry.metrics import Metrics

# The share of its bounds over which a cache is trimmed, and to which.
HIGH, LOW = 0.95, 0.9
# While nobody knows what is there, what is added must not take it far over its bounds.
_UNKNOWN = 0.01
# Whoever took room so long ago is dead or stopped.
_TURN_SECONDS = 60
# The janitor's patience: nobody waits for it.
_PATIENT_SECONDS = 2.0


class CacheFull(Exception):
    """There is no room, until the janitor has made some."""


@dataclass(slots=True)
class Room:
    """What was taken for one write. Whoever writes says what came of it.

    kept      what is in place now, new directories included
    replaced  what was there in its place
    """

    taken: Space
    count: int
    turn: int
    kept: Space = NOTHING
    replaced: Space = NOTHING


@dataclass(slots=True)
class Freed:
    """What was removed."""

    space: Space = NOTHING

    def add(self, space: Space) -> None:
        self.space = self.space.plus(space)


class Usage:
    """The count of one cache directory, and its bounds.

    metrics   told the count whenever it changes, if it is known
    alarm     called when the cache is nearly full, or should be counted anew
    patience  with whoever holds a lock of this directory
    """

    def __init__(
        self, layout: Layout, bounds: Space = NOTHING, metrics: Metrics | None = None
    ) -> None:
        self.bounds = bounds
        self.patience = Patience()
        self._metrics = metrics or Metrics()
        self.alarm: Callable[[], None] = _nobody
        self._layout = layout
        self.path = f"{layout.locks}/usage"
        self._turns = PerProcess(threading.Lock)

    @contextmanager
    def room(
        self, need: Space, *, forced: bool = False, patience: Deadline | None = None
    ) -> Iterator[Room]:
        """Room for one write, which says in `Room` what has become of it.

        forced    what replaces something of its size needs no room
        patience  other than that of a request
        Raises CacheFull, OSError.
        """
        room = self._take(need, forced, patience)
        try:
            yield room
        finally:
            # If that fails, the count is too high, until everything is counted anew.
            with suppress(OSError):
                self._settle(room)

    @contextmanager
    def removing(self) -> Iterator[Freed]:
        """Gives back what is said to be removed. Raises OSError.

        When everything is counted anew meanwhile, nobody knows whether it was there then, so
        nothing is given back.
        """
        counts, freed = self.read().counts, Freed()
        try:
            yield freed
        finally:
            if freed.space != NOTHING:
                with suppress(OSError), self._changed() as tally:
                    if tally.counts == counts:
                        tally.kept = tally.kept.minus(freed.space)

    def read(self) -> Tally:
        """The count as it is now; one of nothing where there is none."""
        with suppress(FileNotFoundError), open(self.path, "rb") as file:
            return Tally.unpacked(file.read()) or Tally()
        return Tally()

    def tell(self) -> None:
        """Tell the metrics what there is, before anything changes. Raises OSError."""
        self._tell(self.read())

    def begin(self) -> Tally:
        """Before everything is counted anew."""
        with self._changed(Deadline(_PATIENT_SECONDS)) as tally:
            return tally

    def finish(self, begun: Tally, found: Space) -> Space:
        """What is there, when `found` was counted since `begun`.

        What was put there meanwhile was seen or not. Here it is added: so it may be
        counted twice, until the next time, but is not lost. What went meanwhile was counted or
        not: it is left in for the same reason. The pile of the turn before is forgotten.
        """
        with self._changed(Deadline(_PATIENT_SECONDS)) as tally:
            tally.kept = found.plus(tally.added.minus(begun.added))
            tally.counts += 1
            tally.counted_at = now = int(time.time())
            if abs(now - tally.turned_at) > _TURN_SECONDS:
                tally.turn, tally.turned_at = 1 - tally.turn, now
                tally.taken[tally.turn] = NOTHING
            return tally.kept

    # -- inside ----------------------------------------------------------------------------

    def _take(self, need: Space, forced: bool, patience: Deadline | None = None) -> Room:
        with self._changed(patience) as tally:
            bounds = self.bounds if tally.known else self.bounds.part(_UNKNOWN)
            total = tally.total.plus(need)
            fits = forced or total.within(bounds)
            if fits:
                tally.taken[tally.turn] = tally.taken[tally.turn].plus(need)
            room = Room(need, tally.counts, tally.turn)
            alarm = tally.due or not fits or not total.within(self.bounds.part(HIGH))
        if alarm:
            self.alarm()
        if not fits:
            raise CacheFull
        return room

    def _settle(self, room: Room) -> None:
        with self._changed() as tally:
            tally.taken[room.turn] = tally.taken[room.turn].minus(room.taken)
            tally.kept = tally.kept.plus(room.kept)
            tally.added = tally.added.plus(room.kept)
            if tally.counts == room.count:
                tally.kept = tally.kept.minus(room.replaced)

    @contextmanager
    def _changed(self, patience: Deadline | None = None) -> Iterator[Tally]:
        """Threads of one process take turns by a lock of their own, because whoever waits for that
        of the file has to sleep and look again."""
        patience = patience or self.patience.deadline()
        turns = self._turns.value
        with in_order(Rank.COUNT):
            if not turns.acquire(timeout=patience.remaining):
                raise self._too_long()
            try:
                with self._file(patience) as fd:
                    tally = Tally.unpacked(os.pread(fd, LENGTH + 1, 0)) or self._new()
                    yield tally
                    os.pwrite(fd, tally.packed(), 0)
                    self._tell(tally)
            finally:
                turns.release()

    def _tell(self, tally: Tally) -> None:
        if tally.known:
            self._metrics.cache_size(*tally.kept)

    @contextmanager
    def _file(self, patience: Deadline) -> Iterator[int]:
        fd = self._layout.create(self.path, os.O_RDWR, 0o600)
        with locked(fd, "usage", patience) as hold:
            if hold is Hold.NOT:
                raise self._too_long()
            yield fd

    def _too_long(self) -> TimeoutError:
        self.patience.lost()
        return TimeoutError(errno.ETIMEDOUT, "a lock is held for too long", self.path)

    def _new(self) -> Tally:
        """Of an empty cache it is known what is there; else somebody has to look."""
        layout = self._layout
        for tree in (layout.public, layout.private, layout.sources):
            with suppress(FileNotFoundError), os.scandir(tree) as entries:
                if next(entries, None) is not None:
                    return Tally()
        return Tally(counted_at=int(time.time()))


def _nobody() -> None:
    pass
