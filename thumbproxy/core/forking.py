"""Keeps locks, slots, pools and connections valid when the process forks.

A forked child has one thread, the one that forked, and a copy of everything else: locks that were
held by threads which are not there, slots that nobody gives back, pools without threads,
connections that are its parent's. So whatever threads share is held in a `PerProcess`, which a
child finds made anew. Nothing else of thumbproxy asks whether there was a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value of this process. In a forked child it is another one, made by `make`.

    make     called when the value is first asked for, in each process; quick, and asks nobody, and
             may be called by several threads at once, of which one is heeded. Not before, because
             gevent may replace locks and threads after a fork, and old ones would stop everybody
    abandon  called in a child with the parent's value, where dropping that is not enough. It must
             wait for nothing: whoever held a lock of it is not there

    What has been taken from a value is given back to the same one: whoever holds something
    across a call keeps the value, not the PerProcess.
    """

    __slots__ = ("__weakref__", "_abandon", "_first", "_make", "value")
    value: T

    def __init__(self, make: Callable[[], T], abandon: Callable[[T], object] | None = None) -> None:
        self._make = make
        self._abandon = abandon
        self._first: dict[None, T] = {}
        _all.add(self)

    def __getattr__(self, name: str) -> T:
        """While there is no value; then it is found without us."""
        if name != "value":
            raise AttributeError(name)
        self.value = value = self._first.setdefault(None, self._make())
        return value

    def renew(self) -> None:
        """Have another value from here on; the one that there was is dropped."""
        self.value = self._make()

    def forked(self) -> None:
        """In a child."""
        self._first = {}
        try:
            parents: T = object.__getattribute__(self, "value")
        except AttributeError:
            return
        del self.value
        if self._abandon is not None:
            self._abandon(parents)


def lock_across_forks() -> threading.Lock:
    """A lock that no fork happens in, for calls to a library whose own locks cannot be made anew.
    Whoever forks waits until it is free, so it is held for moments only. For one that is kept for
    as long as the process."""
    lock = threading.Lock()
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )
    return lock


_all: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


def _forked() -> None:
    for each in list(_all):
        each.forked()


os.register_at_fork(after_in_child=_forked)
