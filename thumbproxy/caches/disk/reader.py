"""The part of the disk tier that only reads."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from contextlib import suppress

from thumbproxy.caches.base import Record, SourceRecord, read_record
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.core.media import Rendition
from thumbproxy.core.memo import memoized
from thumbproxy.core.shortage import shortage
from thumbproxy.core.stamps import LARGE, edges, is_intact
from thumbproxy.telemetry.metrics import Tier
from thumbproxy.urls.codec import ImageRequest

# Nothing can be kept under this name, or something else lies there; the disk itself is well.
NAME_ERRORS = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP,
    errno.ENXIO,
}  # fmt: skip
# A name may have been given to something else: a symbolic link is not followed, and nobody waits
# for who writes to a FIFO.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# Bytes of a record that is not remembered. They have some 400.
_LONG_RECORD = 2048
_LARGEST_RECORD = 1 << 20
# How exactly the janitor knows when a file was last used, seconds.
_RECENT = 3600.0
_HIT = "hit; detail=disk"
log = logging.getLogger("thumbproxy.caches")


class Reader:
    """Finds renditions, records and originals. What fails is a miss."""

    tier: Tier = "disk"

    def __init__(self, layout: Layout, breaker: Breaker) -> None:
        self.layout = layout
        self._breaker = breaker

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition. Four system calls: open, fstat, read, close.

        `record` is not looked at: nothing is kept here that is not of the record in this tree.
        """
        path = self.layout.variant(request, public)
        try:
            fd = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        try:
            status = os.fstat(fd)
            _note_use(fd, status)
            size, modified = status.st_size, int(status.st_mtime)
            below = path[len(self.layout.directory) + 1 :]
            large = size > LARGE
            body = edges(fd, size) if large else os.read(fd, size)
            whole = large or len(body) == size > 0
            if not (whole and is_intact(body, status, request.format)):
                log.warning("%s is damaged, and is made anew", below)
                return None
            if large:
                file, fd = os.fdopen(fd, "rb", 0), -1
                return Rendition(
                    b"", request.format, modified, _HIT,
                    immutable=public, path=below, file=file, size=size,
                )  # fmt: skip
        except OSError as error:
            self._failed(error)
            return None
        finally:
            if fd >= 0:
                os.close(fd)
        return Rendition(body, request.format, modified, _HIT, immutable=public, path=below)

    def record(self, source: str) -> Record | None:
        """One `stat` when this process has read the record before."""
        path = self.layout.record(source)
        try:
            status = os.stat(path)
            # An origin's ETag may be as long as it likes.
            read = _read if status.st_size <= _LONG_RECORD else _read_anew
            # The file is replaced, never changed, so its identity stands for what is in it.
            return read(path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None

    def original(self, record: SourceRecord) -> bytes | None:
        """The bytes that the record was made from, if they are kept."""
        try:
            path = self.layout.original(record.version)
            body = contents(path, record.size, note_use=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        return body if body is not None and len(body) == record.size else None

    def has_original(self, record: SourceRecord) -> bool:
        """Whether `original` would give them, as far as can be known without reading them."""
        try:
            return os.stat(self.layout.original(record.version)).st_size == record.size
        except OSError:
            return False

    def _failed(self, error: OSError) -> None:
        if error.errno not in NAME_ERRORS:
            short = shortage(error, self.layout.directory)
            bounds = "; cache_max_bytes and cache_max_files say how much the cache may take"
            self._breaker.failed(f"{short}{bounds}" if short else f"{error}")


def _note_use(fd: int, status: os.stat_result) -> None:
    """The kernel does so once a day at best (relatime), or not at all (noatime)."""
    if time.time() - status.st_atime > _RECENT:
        with suppress(OSError):  # a file of another user, a file system that is read-only
            os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))


def contents(path: str, most: int, *, note_use: bool = False) -> bytes | None:
    """What is in a file of `most` bytes at most; None for a longer one, and for what is no file.
    Raises OSError."""
    fd = os.open(path, _READ)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        if note_use:
            _note_use(fd, status)
        return file.read(most)


def record_at(path: str) -> Record | None:
    """The record in a file; None for what is none. Raises OSError."""
    return read_record(contents(path, _LARGEST_RECORD) or b"")


def _read_anew(path: str, inode: int, mtime_ns: int, ctime_ns: int) -> Record | None:
    return record_at(path)


_read = memoized(1024)(_read_anew)
