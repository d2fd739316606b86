"""Writes files that appear completely or not at all, and removes whole trees by renaming them."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from thumbproxy.caches.base import Removed, SourceRecord, read_record
from thumbproxy.caches.disk.layout import PURGED, RECORD, Layout
from thumbproxy.caches.disk.locks import locked
from thumbproxy.caches.disk.quota import Freed, Room, Usage
from thumbproxy.caches.disk.renames import rename
from thumbproxy.caches.disk.size import FOLDER, Space, space
from thumbproxy.caches.disk.walk import DirectoryEntry, directories, look_into
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.scheduling.coalescing import Hold

_STRAY_SECONDS = 600.0
# In tmp/: what was moved there to be removed, and is counted until it is.
ASIDE = ".aside"
# Files and directories after which what they freed is given back.
_BATCH = 256


class Files:
    """Writes and removes files of one cache directory. usage: where they are counted."""

    def __init__(self, layout: Layout, usage: Usage | None = None) -> None:
        self._layout = layout
        self._usage = usage or Usage(layout)
        self._host = socket.gethostname()
        # Containers can have equal names and process ids.
        self._instance = secrets.token_hex(4)
        self._serial = itertools.count()

    # -- writing ---------------------------------------------------------------------------

    def need(self, path: str, size: int) -> Space:
        """What a file of `size` bytes at `path` takes, with directories that are not there yet."""
        need = space(size)
        while not os.path.isdir(path := os.path.dirname(path)):
            need = need.plus(FOLDER)
        return need

    @contextmanager
    def written(self, body: bytes, mtime_ns: int, *, sync: bool = True) -> Iterator[str]:
        """A whole new file in tmp/, to be renamed by the caller; removed if it is not."""
        path = self.temporary()
        fd = self._layout.create(path, os.O_WRONLY | os.O_EXCL, 0o644)
        try:
            try:
                written = os.write(fd, body)
                while written < len(body):
                    written += os.write(fd, memoryview(body)[written:])
                os.utime(fd, ns=(time.time_ns(), mtime_ns))
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            yield path
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def put(self, tmp: str, path: str, room: Room) -> None:
        """Rename a file to its place, and say so. The caller holds the lock of that place."""
        replaced = Space()
        with suppress(FileNotFoundError, NotADirectoryError):
            replaced = space(os.lstat(path).st_size)
        size = os.lstat(tmp).st_size
        try:
            made = rename(tmp, path, self._layout.closed)
        except IsADirectoryError:  # somebody has put one there
            self.set_aside(path)
            made = rename(tmp, path, self._layout.closed)
        room.kept = space(size).plus(Space(made * FOLDER.bytes, made * FOLDER.files))
        room.replaced = replaced

    def temporary(self) -> str:
        """A name in tmp/ that tells whose it is."""
        name = f"{self._host}-{os.getpid()}-{self._instance}.{next(self._serial)}"
        return f"{self._layout.tmp}/{name}"

    @contextmanager
    def locked(self, source: str | None, seconds: float | None = None) -> Iterator[None]:
        """Hold the lock of a source, or of all if it is None. Raises OSError.

        seconds  how long to wait for another holder; by default as a request may
        """
        patience = self._usage.patience
        until = patience.deadline() if seconds is None else Deadline(seconds)
        fd = self._layout.create(f"{self._layout.locks}/records", os.O_RDWR, 0o600)
        with in_order(Rank.RECORD), locked(fd, source, until) as hold:
            if hold is Hold.NOT:
                # Its holder is stopped: better not to keep this.
                if seconds is None:
                    patience.lost()
                raise TimeoutError(errno.ETIMEDOUT, "a lock is held for too long", source)
            yield

    # -- removing --------------------------------------------------------------------------

    def unlink(self, path: str, freed: Freed) -> Removed:
        """Remove a file if it is there; the caller holds the lock of its place."""
        with suppress(FileNotFoundError, NotADirectoryError):
            size = os.lstat(path).st_size
            os.unlink(path)
            freed.add(space(size))
            return Removed(1, size)
        return Removed()

    def set_aside(self, path: str) -> str | None:
        """Move a file or a tree to tmp/, and so out of everyone's sight, at once.

        None if there is none. Raises OSError where it cannot be moved there.
        """
        aside = self.temporary() + ASIDE
        try:
            os.rename(path, aside)
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.lexists(path):
                return None
            self._layout.make()  # it is tmp/ that is not there
            os.rename(path, aside)
        return aside

    def remove(self, path: str, *, originals: bool = False) -> tuple[Removed, OSError | None]:
        """Remove a file or a tree, whoever else may be removing it; and the first failure, if some
        of it could not be.

        originals  also the bytes of the sources whose records lie there. Another source of the same
                   bytes loses them as well, and is fetched again
        """
        removed, fault, found, more = Removed(), None, directories(path), True
        while more:
            more = False
            with self._usage.removing() as freed:
                for directory in found:
                    for original in self._originals(directory) if originals else ():
                        with directory.passing_over():
                            removed = removed.plus(self.unlink(original, freed))
                    removed = removed.plus(_clear(directory, freed))
                    fault = fault or next(iter(directory.faults), None)
                    if freed.space.files >= _BATCH:
                        more = True
                        break
        return removed, fault

    def remove_aside(self, paths: Iterable[str], *, originals: bool = False) -> Removed:
        """Remove what was set aside. What cannot be is out of sight, and left to the janitor."""
        removed = Removed()
        for path in paths:
            removed = removed.plus(self.remove(path, originals=originals)[0])
        return removed

    def remove_strays(self) -> None:
        """Remove from tmp/ what killed processes left there. Raises OSError."""
        with os.scandir(self._layout.tmp) as entries:
            strays = [entry.path for entry in entries if self._stray(entry)]
        for path in strays:
            with suppress(OSError):
                if path.endswith(ASIDE):
                    self.remove_aside([path])
                else:
                    os.unlink(path)

    def _originals(self, directory: DirectoryEntry) -> Iterator[str]:
        for found in directory.files:
            record = None
            if found.name == RECORD:
                with directory.passing_over():
                    record = read_record(look_into(found.path))
            if isinstance(record, SourceRecord):
                yield self._layout.original(record.version)

    def _stray(self, entry: os.DirEntry[str]) -> bool:
        """Whether nobody writes this file any more: its process is gone, or it is old."""
        host, _, rest = entry.name.rpartition("-")[0].rpartition("-")
        if host == self._host and rest.isdigit() and not os.path.exists(f"/proc/{rest}"):
            return True
        with suppress(FileNotFoundError):
            return time.time() - entry.stat(follow_symlinks=False).st_ctime > _STRAY_SECONDS
        return False


def _clear(directory: DirectoryEntry, freed: Freed) -> Removed:
    """Counted are pictures and originals."""
    removed = Removed()
    for found in directory.files:
        with directory.passing_over():
            os.unlink(found.path)
            freed.add(space(found.size))
            if found.name not in (RECORD, PURGED):
                removed = removed.plus(Removed(1, found.size))
    for path in directory.others:
        with directory.passing_over():
            os.unlink(path)
    for folder in directory.folders:
        with directory.passing_over():
            os.rmdir(folder)
            freed.add(FOLDER)
    return removed
