"""The order in which a thread may wait for what others hold.

Whoever holds something may wait for what comes later in `Rank`, and for nothing else: so no two
can wait for each other, whatever happens in between. What is not in the table, the mutexes inside
of objects, is held for microseconds, by threads that wait for nothing meanwhile.

In Python's development mode (`python -X dev`), and in the tests, each wait is checked: one against
the order raises AssertionError, whether or not anybody is in the way at that moment.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class Rank(IntEnum):
    """What is held for longer than a moment, in the order in which it may be waited for.

    REQUEST    the work for equal requests of a process (a flight)
    VARIANT    the work for equal renditions of a process (a flight)
    RENDITION  the lease of a rendition, among processes and hosts
    SOURCE     the work for one source of a process (a flight)
    QUESTION   the lease of a question to an origin, among processes and hosts
    SLOT       a turn to render
    JANITOR    the file lock of whoever makes room in a cache directory
    PURGES     the file lock of whoever does what other hosts were told to purge
    RECORD     the file lock of a source's record and renditions, or of all sources
    JOURNAL    the file lock of what is known of purges
    COUNT      the file locks of the numbers of a cache directory: its usage, the latest date
    """

    REQUEST = 1
    VARIANT = 2
    RENDITION = 3
    SOURCE = 4
    QUESTION = 5
    SLOT = 6
    JANITOR = 7
    PURGES = 8
    RECORD = 9
    JOURNAL = 10
    COUNT = 11


class _Held(threading.local):
    """The ranks that this thread holds, in their order."""

    def __init__(self) -> None:
        self.ranks: list[Rank] = []


_held = _Held()
_checked = sys.flags.dev_mode
_pause: Callable[[Rank], None] | None = None


def check(pause: Callable[[Rank], None] | None = None) -> None:
    """From now on, check each wait.

    pause: called before each, for tests that look for bad moments
    """
    global _checked, _pause
    _checked, _pause = True, pause


@contextmanager
def in_order(rank: Rank, *, waits: bool = True) -> Iterator[None]:
    """Around waiting for something of this rank, and around holding it.

    waits: False where it is taken only if that can be done at once
    Raises AssertionError, when waits are checked, for what may wait against the order.
    """
    if not _checked:
        yield
        return
    if waits:
        latest = max(_held.ranks, default=0)
        if latest >= rank:
            raise AssertionError(f"waiting for {rank.name} while holding {Rank(latest).name}")
        if _pause is not None:
            _pause(rank)
    _held.ranks.append(rank)
    try:
        yield
    finally:
        _held.ranks.remove(rank)
