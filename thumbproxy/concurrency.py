"""Doing a thing once, and only so many things at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from thumbproxy.errors import EngineFailed, Overloaded, ThumbproxyError, TooSlow
from thumbproxy.limits import Deadline

T = TypeVar("T")


class Flights:
    """Coalesces equal work among the threads of a process.

    The first thread that asks for a key leads: it does the work. Those that ask while it is under
    way follow: they get its result, or a fresh exception like its own. Keys never wait for others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[Any]] = {}

    def do(self, key: Hashable, work: Callable[[], T], deadline: Deadline) -> tuple[T, bool]:
        """The result of `work`, and whether another thread did it.

        Raises what `work` raises, and TooSlow for a follower whose deadline passes.
        """
        with self._lock:
            future = self._under_way.get(key)
            leads = future is None
            if future is None:
                future = self._under_way[key] = Future()
        return (
            (self._lead(key, work, future), False) if leads else (_follow(future, deadline), True)
        )

    def _lead(self, key: Hashable, work: Callable[[], T], future: Future[T]) -> T:
        try:
            result = work()
        except BaseException as error:  # whatever ends the leader must not leave followers waiting
            self._land(key)
            future.set_exception(error)
            raise
        self._land(key)
        future.set_result(result)
        return result

    def _land(self, key: Hashable) -> None:
        with self._lock:
            del self._under_way[key]


def _follow(future: Future[T], deadline: Deadline) -> T:
    try:
        error = future.exception(deadline.remaining)
    except TimeoutError:
        raise TooSlow(log="waited for another request's work until the deadline") from None
    if error is None:
        return future.result()
    if isinstance(error, ThumbproxyError):
        raise error.fresh()
    raise EngineFailed(log=f"the request that did the work failed with {error!r}")


class Load(NamedTuple):
    """How much of the slots is in use: work under way, and work that waits."""

    active: int
    waiting: int


class Slots:
    """Admits `size` pieces of work at a time and lets `queue` more wait; refuses the rest."""

    def __init__(self, size: int, queue: int) -> None:
        self._size = size
        self._queue = queue
        self._active = 0
        self._waiting = 0
        self._free = threading.Condition()

    @contextmanager
    def taken(self, deadline: Deadline) -> Iterator[None]:
        """Hold one slot. Raises Overloaded at once when the queue is full, or at the deadline."""
        self._take(deadline)
        try:
            yield
        finally:
            with self._free:
                self._active -= 1
                self._free.notify()

    def _take(self, deadline: Deadline) -> None:
        with self._free:
            if self._active >= self._size:
                if self._waiting >= self._queue:
                    raise Overloaded(log=f"{self._waiting} renders wait already")
                self._waiting += 1
                try:
                    admitted = self._free.wait_for(
                        lambda: self._active < self._size, deadline.remaining
                    )
                finally:
                    self._waiting -= 1
                if not admitted:
                    raise Overloaded(log="no render slot became free before the deadline")
            self._active += 1

    @property
    def load(self) -> Load:
        with self._free:
            return Load(self._active, self._waiting)
