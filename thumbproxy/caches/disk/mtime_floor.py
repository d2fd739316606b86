"""Modification times of sources, which are part of their ETags, never go back: not after a purge,
and not after a change of the clock."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.locks import locked
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order

_DAY = 86_400.0


def dated(layout: Layout, source: str) -> int:
    """What comes after the purges of a source is at least of this date; 0: it was not purged."""
    dates = [0]
    for mark in layout.marks(source):
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):
            dates.append(int(Path(mark).read_bytes()))
    return max(dates)


def latest(layout: Layout, date: int, patience: Deadline, *, more: int = 0) -> int:
    """The latest date of all that was ever given, now that `date` is: unix seconds, in a file.

    Nothing that is purged has a later one, so what comes after is of the next second. Whoever
    holds the file's lock for longer than `patience` is stopped. Raises OSError.
    """
    fd = layout.create(f"{layout.locks}/dated", os.O_RDWR, 0o600)
    with in_order(Rank.COUNT), locked(fd, "dated", patience):
        text = os.pread(fd, 20, 0)
        known = int(text) if text.isdigit() else 0
        if known > time.time() + _DAY:  # the trace of a clock that jumped
            known = 0
        found = max(known, date) + more
        os.pwrite(fd, b"%020d" % found, 0)
    return found
