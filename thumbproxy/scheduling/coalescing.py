"""Coalescing: equal work is done once, among threads, processes and hosts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from thumbproxy.core.errors import ClientGone, EngineFailed, Overloaded, ThumbproxyError, TooSlow
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.scheduling.admission import LOOK, Wanted, always

T = TypeVar("T")
log = logging.getLogger(__name__)
_LONGEST_BACKLOG = 256
_LONGEST_MEMORY = 1024
# What a leader fails with for want of time or of a client, of which others may have more.
_ITS_OWN = (TooSlow, Overloaded, ClientGone)


class _Flight:
    """Work under way, and who waits for it."""

    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()
        self.wanted_by: list[Wanted] = []

    def still_wanted(self) -> bool:
        return any(wanted() for wanted in tuple(self.wanted_by))


class SingleFlight:
    """Coalesces equal work among the threads of a process.

    The first thread that asks for a key leads: it does the work. Those that ask while it is under
    way follow: they get its result, or a fresh exception like its own.

    rank  of the work, which may itself wait for what comes later in the order of locks
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, _Flight] = {}

    def do(
        self,
        key: Hashable,
        work: Callable[[Wanted], T],
        deadline: Deadline,
        wanted: Wanted = always,
    ) -> tuple[T, bool]:
        """The result of `work`, and whether another thread did it.

        work    is told how to know whether anybody still waits for it
        wanted  whether somebody still waits for us
        Raises what `work` raises, but not that another was out of time, or that another's client
        has gone: then we do it. TooSlow and ClientGone for a follower of whom it is true.
        """
        with in_order(self._rank):
            while True:
                flight, leads = self._boarded(key, wanted)
                if leads:
                    return self._lead(key, work, flight), False
                error = _follow(flight, deadline, wanted)
                if error is None:
                    return flight.outcome.result(), True
                if type(error) not in _ITS_OWN:
                    raise _fresh(error)

    def _boarded(self, key: Hashable, wanted: Wanted) -> tuple[_Flight, bool]:
        """The work under way for a key, and whether it is ours to do."""
        with self._lock:
            flight = self._under_way.get(key)
            leads = flight is None
            if flight is None:
                flight = self._under_way[key] = _Flight()
            flight.wanted_by.append(wanted)
        return flight, leads

    def _lead(self, key: Hashable, work: Callable[[Wanted], T], flight: _Flight) -> T:
        try:
            result = work(flight.still_wanted)
        except BaseException as error:  # whatever ends the leader must not leave followers waiting
            self._land(key)
            # What goes up has this frame, which has the flight. A flight that had it too would be a
            # cycle, and keep all that was in its way, sources for instance, until a collection.
            flight.outcome.set_exception(_fresh(error))
            raise
        self._land(key)
        flight.outcome.set_result(result)
        return result

    def _land(self, key: Hashable) -> None:
        with self._lock:
            del self._under_way[key]


def _follow(flight: _Flight, deadline: Deadline, wanted: Wanted) -> BaseException | None:
    """Wait for an outcome; the leader's error, if it was one."""
    while True:
        try:
            return flight.outcome.exception(min(LOOK, deadline.remaining))
        except TimeoutError:
            if deadline.passed:
                raise TooSlow(log="waited for another request's work until the deadline") from None
            if not wanted():
                raise ClientGone from None


def _fresh(error: BaseException) -> ThumbproxyError:
    if isinstance(error, ThumbproxyError):
        return error.fresh()
    return EngineFailed(log=f"the request that did the work failed with {error!r}")


Among = Literal["process", "host", "fleet"]


class Hold(Enum):
    """How a lease was got."""

    AT_ONCE = "at once"
    AFTER_OTHERS = "after others"  # who have probably done the work
    NOT = "not"


class Lease(Protocol):
    """Coalesces equal work among those who share it: the processes of a host, or several hosts.

    among  by whom it is shared: "host" or "fleet"
    """

    among: Among

    def hold(self, key: str, patience: Deadline) -> AbstractContextManager[Hold]:
        """Hold `key` alone. After `patience` the context is entered without it: whoever holds it
        may be stopped, and doing a thing twice is better than not at all."""
        ...


class Turn(NamedTuple):
    """How a lease was got, and among whom one had to wait for it, None if one had not."""

    hold: Hold
    among: Among | None = None


@contextmanager
def acquire_leases(leases: Sequence[Lease], key: str, patience: Deadline) -> Iterator[Turn]:
    """Hold `key` with all leases, nearest first; with one that others keep, `Hold.NOT`."""
    with ExitStack() as stack:
        turn = Turn(Hold.AT_ONCE)
        for lease in leases:
            hold = stack.enter_context(lease.hold(key, patience))
            if hold is not Hold.AT_ONCE:
                turn = Turn(hold, lease.among)
            if hold is Hold.NOT:
                break  # the others would only make us wait again
        yield turn


@contextmanager
def leased(leases: Sequence[Lease], rank: Rank, key: str, deadline: Deadline) -> Iterator[Turn]:
    """Hold `key` with all leases, when it is one's turn.

    rank  what it is the lease of
    Whoever holds it may be stopped. After half of the time that is left, one of those who wait does
    the work in its place, and the others wait for that one, for half of the rest.
    """
    with in_order(rank):
        for name in (key, f"{key} again"):
            with acquire_leases(leases, name, deadline.within(deadline.remaining / 2)) as turn:
                if turn.hold is not Hold.NOT:
                    yield turn
                    return
        yield turn


class NegativeCache:
    """Failures of the last seconds, so that what has just failed is not tried again at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[Hashable, tuple[ThumbproxyError, float]] = {}

    def check(self, key: Hashable) -> None:
        """Raise what was remembered, as a new exception, while it is."""
        with self._lock:
            error, until = self._failures.get(key, (None, 0.0))
        if error is not None and time.monotonic() < until:
            raise error.fresh()

    def remember(self, key: Hashable, error: ThumbproxyError, seconds: float) -> None:
        # One that was raised holds all that was in its way: the bytes of the source, for instance.
        kept = error.fresh()
        with self._lock:
            self._failures.pop(key, None)  # its place is among the latest
            self._failures[key] = kept, time.monotonic() + seconds
            self._forget()

    def _forget(self) -> None:
        """The oldest, those that are over and those that are too many."""
        now = time.monotonic()
        while self._failures:
            oldest = next(iter(self._failures))
            if len(self._failures) <= _LONGEST_MEMORY and self._failures[oldest][1] > now:
                break
            del self._failures[oldest]


class InARow:
    """How often a thing has failed without a success in between; of the last 1024 that failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Hashable, int] = {}

    def failed(self, key: Hashable) -> int:
        """How often it has, with this time."""
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            self._counts[key] = count  # its place is among the latest
            if len(self._counts) > _LONGEST_MEMORY:
                del self._counts[next(iter(self._counts))]
        return count

    def succeeded(self, key: Hashable) -> None:
        with self._lock:
            self._counts.pop(key, None)


class Background:
    """Does things that nobody waits for, a few at a time, each key once at a time."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._under_way: set[Hashable] = set()
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="background")

    def do(self, key: Hashable, work: Callable[[], None]) -> bool:
        """Begin `work` soon, unless work for `key` is under way. Whether it will be done."""
        with self._lock:
            if key in self._under_way or len(self._under_way) >= _LONGEST_BACKLOG:
                return False
            self._under_way.add(key)
        try:
            self._threads.submit(self._run, key, work)
        except RuntimeError:  # the process is ending, or may have no more threads
            self._landed(key)
            return False
        return True

    def _run(self, key: Hashable, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("unexpected error in the background, for %r", key)
        finally:
            self._landed(key)

    def _landed(self, key: Hashable) -> None:
        with self._lock:
            self._under_way.discard(key)
