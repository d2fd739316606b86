"""Locks between the processes of a host, which the kernel frees when their holder dies.

A lock is one byte of a file, at an offset that is the hash of its key: so there are as many as
there are keys, none has to be made or removed, and different keys never wait for each other. They
belong to the open file (`F_OFD_SETLK`, fcntl(2)), not to the process, so they hold between threads
as well.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Hold

# struct flock: type, whence, start, length, pid; a length of 0 is all of the file.
_FLOCK = struct.Struct("hhqqi4x")
_OFFSETS = 1 << 62
_EVERYTHING = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
_BUSY = (errno.EAGAIN, errno.EACCES)
# The byte after those of the keys: locked by whoever wants all of them.
_ALL = "\0all"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02


class Patience:
    """How long to wait for locks that are held for milliseconds, unless their holder is stopped.

    After one was waited for in vain, all are waited for less, for some seconds: a request that
    needs several ends soon after its deadline all the same.
    """

    _MOST, _LEAST, _MEMORY = 0.3, 0.02, 5.0

    def __init__(self) -> None:
        self._short_until = 0.0

    def deadline(self) -> Deadline:
        short = time.monotonic() < self._short_until
        return Deadline(self._LEAST if short else self._MOST)

    def lost(self) -> None:
        """A lock was waited for in vain."""
        self._short_until = time.monotonic() + self._MEMORY


@contextmanager
def locked(fd: int, key: str | None, patience: Deadline) -> Iterator[Hold]:
    """Hold `key`, or all keys at once if it is None; after `patience` without it (Hold.NOT).

    fd: of the lock file, open for writing; it is closed here
    Raises OSError where the file system has no locks.
    """
    ours = _open.value
    ours.add(fd)
    try:
        yield acquire(fd, key, patience)
    finally:
        if fd in ours:  # not in a child, of which the lock is not
            ours.remove(fd)
            release(fd)


def acquire(fd: int, key: str | None, patience: Deadline) -> Hold:
    """Lock `key`, or all keys at once if it is None, until `release`.

    fd        of the lock file, open for writing, and of nobody else
    patience  how long to wait for another holder
    Raises OSError where the file system has no locks.
    """
    if key is None and acquire(fd, _ALL, patience) is Hold.NOT:
        return Hold.NOT
    region, hold, pause = _region(key), Hold.AT_ONCE, _SHORTEST_PAUSE
    # Those of one key let go first who want all: else there would always be one of them.
    while (key not in (None, _ALL) and _wanted(fd)) or not _taken(fd, region):
        if patience.passed:
            return Hold.NOT
        hold = Hold.AFTER_OTHERS
        time.sleep(min(pause, patience.remaining))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return hold


def release(fd: int) -> None:
    """Unlock whatever `fd` has locked, and close it. Closing alone would leave it to those who were
    forked meanwhile and have the same open file: for as long as they live."""
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _EVERYTHING)
    os.close(fd)


def _abandon(descriptors: set[int]) -> None:
    """In a child: it shares the parent's open files, and with them what is locked, which so would
    outlive the parent."""
    while descriptors:
        os.close(descriptors.pop())


_open = PerProcess[set[int]](set, _abandon)


def _region(key: str | None) -> bytes:
    if key is None:
        return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, _OFFSETS, 0)
    if key == _ALL:
        return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _OFFSETS, 1, 0)
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    offset = int.from_bytes(digest[:8], "big") % _OFFSETS
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)


def _wanted(fd: int) -> bool:
    """Whether somebody waits for all keys, or has them."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _region(_ALL))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _taken(fd: int, region: bytes) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, region)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
