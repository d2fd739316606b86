"""Limits how many requests may be misses, and how many renders run, at the same time.

A hit takes a fraction of a millisecond; a miss waits for an origin, a decoder, or other requests.
So a limit on misses leaves some threads of the server to hits, and a render needs a slot.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thumbproxy.core.errors import ClientGone, Overloaded
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline

# Whether anybody still waits for what is being done.
Wanted = Callable[[], bool]
# Seconds between two looks at whether that is so.
LOOK = 0.5
# Of the threads of a server, what is kept for those who need not wait.
_KEPT_FOR_HITS = 4


def always() -> bool:
    return True


def misses_of(threads: int) -> int:
    """How many of a server's threads may wait for something; at least one."""
    return max(1, threads - max(1, threads // _KEPT_FOR_HITS))


class ConcurrencyLimit:
    """Lets `size` in, and refuses the rest at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._places = PerProcess(lambda: threading.BoundedSemaphore(size))

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Raises Overloaded when there is no place."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()

    def enter(self) -> Callable[[], None]:
        """Take a place; what gives it back. Raises Overloaded when there is none."""
        places = self._places.value
        if not places.acquire(blocking=False):
            raise Overloaded(log=f"{self.size} wait already (`misses`)")
        return places.release


class _Ticket:
    __slots__ = ("called", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.called = threading.Event()


class WeightedSemaphore:
    """`size` pieces of work at a time, of no more than `room` weight together, in their order.

    What alone weighs more than `room` counts as `room`: it waits until it is alone.
    """

    def __init__(self, size: int, room: int) -> None:
        self._lock = threading.Lock()
        self._free = size
        self._room = self._left = room
        self._queue: deque[_Ticket] = deque()

    def take(self, weight: int, deadline: Deadline, wanted: Wanted = always) -> Callable[[], None]:
        """Wait for one's turn; what gives the slot back.

        Raises Overloaded at the deadline, ClientGone when nobody waits any more.
        """
        ticket = _Ticket(min(weight, self._room))
        with self._lock:
            self._queue.append(ticket)
            self._call()
        try:
            while not ticket.called.wait(min(LOOK, deadline.remaining)):
                if deadline.passed:
                    raise Overloaded(log="no render ended before the deadline")
                if not wanted():
                    raise ClientGone
            if not wanted():
                raise ClientGone
        except BaseException:
            self._give_up(ticket)
            raise
        return lambda: self._give_back(ticket)

    def _call(self) -> None:
        """Call those whose turn it is. Nobody overtakes, or what is large would wait for ever."""
        while self._queue and self._free and self._queue[0].weight <= self._left:
            ticket = self._queue.popleft()
            self._free -= 1
            self._left -= ticket.weight
            ticket.called.set()

    def _give_up(self, ticket: _Ticket) -> None:
        with self._lock:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._call()  # the next may be smaller
                return
        self._give_back(ticket)

    def _give_back(self, ticket: _Ticket) -> None:
        with self._lock:
            self._free += 1
            self._left += ticket.weight
            self._call()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether one would have to wait, whatever the weight."""
        return not self._free or bool(self._queue)
