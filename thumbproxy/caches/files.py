"""Files that appear whole or not at all, and trees that vanish at once."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from thumbproxy.caches.base import Removed
from thumbproxy.caches.layout import Layout

# A file system gives space in blocks; a file of one byte takes one, too.
BLOCK = 4096
_STRAY_SECONDS = 600.0


class Files:
    """Writes and removes files of one cache directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._host = socket.gethostname()
        # Containers can have equal names and process ids.
        self._instance = secrets.token_hex(4)
        self._serial = itertools.count()

    @contextmanager
    def written(self, body: bytes, mtime_ns: int, *, sync: bool = True) -> Iterator[str]:
        """A whole new file in tmp/, to be renamed by the caller; removed if it is not."""
        path = self.temporary()
        fd = self.create(path, os.O_WRONLY | os.O_EXCL, 0o644)
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

    def create(self, path: str, flags: int, mode: int) -> int:
        flags |= os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:  # somebody emptied the cache directory under us
            self._layout.make()
            return os.open(path, flags, mode)

    def temporary(self) -> str:
        """A name in tmp/ that tells whose it is."""
        name = f"{self._host}-{os.getpid()}-{self._instance}.{next(self._serial)}"
        return f"{self._layout.tmp}/{name}"

    def set_aside(self, path: str) -> str | None:
        """Move a file or a tree to tmp/, and so out of everyone's sight, at once."""
        aside = self.temporary()
        try:
            os.rename(path, aside)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return aside

    def remove_strays(self) -> None:
        """Remove from tmp/ what killed processes left there."""
        for entry in os.scandir(self._layout.tmp):
            with suppress(OSError):
                if self._stray(entry):
                    remove(entry.path)

    def _stray(self, entry: os.DirEntry[str]) -> bool:
        """Whether nobody writes this file any more: its process is gone, or it is old."""
        host, _, rest = entry.name.rpartition("-")[0].rpartition("-")
        if host == self._host and rest.isdigit() and not os.path.exists(f"/proc/{rest}"):
            return True
        return time.time() - entry.stat(follow_symlinks=False).st_ctime > _STRAY_SECONDS


def rename(tmp: str, path: str) -> None:
    """Rename into a directory that may not be there yet, or be removed under us as empty."""
    for last_try in (False, False, True):
        try:
            os.rename(tmp, path)
        except FileNotFoundError:
            if last_try:
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
        else:
            return


def space(size: int) -> int:
    """Bytes that a file of `size` bytes takes on a disk."""
    return -(-size // BLOCK) * BLOCK


def remove(path: str) -> Removed:
    """Remove a file or a tree, whoever else may be removing parts of it. Raises OSError.

    Counted are the files; what begins with a dot is ours and no picture.
    """
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            size = os.lstat(path).st_size
            os.unlink(path)
            counts = not os.path.basename(path).startswith(".")
            return Removed(1, size) if counts else Removed()
        removed = Removed()
        with os.scandir(path) as entries:
            for entry in entries:
                removed = removed.plus(remove(entry.path))
        os.rmdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return Removed()
    return removed
