"""Doing a thing once, and only so many things at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

from thumbproxy.errors import EngineFailed, Overloaded, ThumbproxyError, TooSlow
from thumbproxy.limits import Deadline

T = TypeVar("T")


class Flights:
    """Coalesces equal work among the threads of a process.

    The first thread that asks for a key leads: it does the work. Those that ask while it is under
    way follow: they get its result, or a fresh exception like its own. Work may
    itself wait for another key if work for that one never waits for its kind: that for a request
    waits for its source and its variant.
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
    """Work under way, and work that waits."""

    active: int
    waiting: int


class BoundedPool:
    """Does `size` pieces of work at a time and lets `queue` more wait; refuses the rest.

    The work is done by threads of its own, for two reasons. Renders free large blocks of memory,
    of which glibc keeps some for each thread that ever had any: with a few threads that is
    bounded, with all threads of a server it was a gigabyte. And who asked can be answered at the
    deadline, whatever the work does.
    """

    def __init__(self, size: int, queue: int) -> None:
        self._size = size
        self._queue = queue
        self._lock = threading.Lock()
        self._admitted = 0
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def do(self, work: Callable[[], T], deadline: Deadline) -> T:
        """The result of `work`. Raises what it raises; Overloaded at once when the queue is full,
        or when it could not begin before the deadline; TooSlow when it did not end before it."""
        with self._lock:
            pool = self._pool()
            if self._admitted >= self._size + self._queue:
                raise Overloaded(log=f"{self._queue} renders wait already")
            future = pool.submit(work)
            self._admitted += 1
        future.add_done_callback(self._leave)
        finished, _ = wait([future], deadline.remaining)
        if finished:
            return future.result()
        if future.cancel():
            raise Overloaded(log="no thread became free before the deadline")
        raise TooSlow(log="the render went on after the deadline")

    def _pool(self) -> ThreadPoolExecutor:
        """This process's threads: those of its parent have not come along."""
        pid = os.getpid()
        if self._threads is None or self._threads[0] != pid:
            self._threads = pid, ThreadPoolExecutor(self._size, thread_name_prefix="render")
            self._admitted = 0
        return self._threads[1]

    def _leave(self, future: Future[Any]) -> None:
        with self._lock:
            self._admitted -= 1

    @property
    def load(self) -> Load:
        with self._lock:
            return Load(min(self._admitted, self._size), max(0, self._admitted - self._size))
