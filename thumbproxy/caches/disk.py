"""The disk tier: two trees of files that are named like their URLs (layout.py).

Files appear by rename only, so a reader finds a whole file or none. A rendition is renamed into
its place under the lock of its source and only while the record that it was made from stands:
so whoever changes or removes the record (a new version, a purge) beats every render in flight.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from thumbproxy.caches.base import Record, Removed, Scope, SourceRecord, read_record, settle
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.files import Files, remove, rename
from thumbproxy.caches.layout import PURGED, RECORD, Layout
from thumbproxy.caches.locks import acquire
from thumbproxy.concurrency import Hold
from thumbproxy.errors import PurgeFailed
from thumbproxy.limits import Deadline
from thumbproxy.media import Rendition
from thumbproxy.metrics import Metrics, Tier, Where
from thumbproxy.urls import ImageRequest

# The name cannot be a file's, or another source has taken it; the disk itself is well.
_NAME_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST}
_LOCK_SECONDS = 2.0
_PURGE_SECONDS = 10.0
# Larger files are sent by the kernel, and never pass through this process.
_LARGE = 256 * 1024
# How exactly the janitor knows when a file was last used, seconds.
_RECENT = 3600.0
_HIT = "hit; detail=disk"


class DiskCache:
    """Renditions, records and originals below one directory; see layout.py.

    Any number of threads and processes may use one directory. `prepare` makes it.
    """

    tier: Tier = "disk"
    among: Where = "host"

    def __init__(self, directory: str, *, metrics: Metrics | None = None) -> None:
        self.layout = Layout(directory)
        self._files = Files(self.layout)
        self._breaker = Breaker(f"the disk cache {directory}", 0, self.tier, metrics or Metrics())
        # Among whom its locks hold.
        self.host = ""

    def prepare(self) -> None:
        """Make the directories and remove what killed processes left. Raises OSError."""
        self.layout.make()
        self.host = self._host()
        self._files.remove_strays()

    # -- reading ---------------------------------------------------------------------------

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition. Four system calls: open, fstat, read, close.

        `record` is not looked at: nothing is kept here that is not of the record in this tree.
        """
        path = self.layout.variant(request, public)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        try:
            status = os.fstat(fd)
            if time.time() - status.st_atime > _RECENT:
                _touch(fd, status)
            size, modified = status.st_size, int(status.st_mtime)
            below = path[len(self.layout.directory) + 1 :]
            if size > _LARGE:
                file, fd = os.fdopen(fd, "rb", 0), -1
                return Rendition(
                    b"", request.format, modified, _HIT,
                    immutable=public, path=below, file=file, size=size,
                )  # fmt: skip
            body = os.read(fd, size)
        except OSError as error:
            self._failed(error)
            return None
        finally:
            if fd >= 0:
                os.close(fd)
        if len(body) != size or not body:
            return None
        return Rendition(body, request.format, modified, _HIT, immutable=public, path=below)

    def record(self, source: str) -> Record | None:
        """One `stat` when this process has read the record before."""
        path = self.layout.record(source)
        try:
            status = os.stat(path)
            # The file is replaced, never changed, so its identity stands for what is in it.
            return _read(path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None

    def original(self, record: SourceRecord) -> bytes | None:
        """The bytes that the record was made from, if they are kept."""
        try:
            with open(self.layout.original(record.version), "rb") as file:
                body = file.read(record.size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        return body if len(body) == record.size else None

    # -- writing ---------------------------------------------------------------------------

    def set_record(self, source: str, record: Record) -> Record:
        try:
            with self._locked(source):
                if self._purged_since(source, record):
                    return record
                standing = self._standing(source)
                record = settle(standing, record)
                if not (isinstance(record, SourceRecord) and record.same_source(standing)):
                    self._remove_variants(source, standing)
                if record != standing:
                    fresh_until = int(record.fresh_until * 1e9)
                    # Not synced: a record that a power cut empties is read as no record.
                    with self._files.written(record.to_json(), fresh_until, sync=False) as tmp:
                        rename(tmp, self.layout.record(source))
        except OSError as error:
            self._failed(error)
        else:
            self._breaker.succeeded()
        return record

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        path = self.layout.variant(request, public)
        try:
            mtime_ns = rendition.modified * 10**9
            with (
                self._files.written(rendition.body, mtime_ns) as tmp,
                self._locked(request.source),
            ):
                if not record.same_source(self._standing(request.source)):
                    return False
                rename(tmp, path)
        except OSError as error:
            self._failed(error)
            return False
        self._breaker.succeeded()
        return True

    def set_original(self, record: SourceRecord, body: bytes) -> None:
        path = self.layout.original(record.version)
        try:
            if not os.path.exists(path):
                with self._files.written(body, time.time_ns()) as tmp:
                    rename(tmp, path)
        except OSError as error:
            self._failed(error)

    def purge(self, scope: Scope) -> Removed:
        """All at once, however much it is: the trees are moved out of sight under the lock of
        every source, and then removed."""
        layout = self.layout
        try:
            with self._locked(None, _PURGE_SECONDS):
                if scope.kind == "source":
                    aside = self._set_source_aside(scope.text)
                else:
                    aside = [self._files.set_aside(path) for path in self._trees(scope)]
                self._mark_purged(scope)
            return self._remove_aside([path for path in aside if path])
        except OSError as error:
            if error.errno in _NAME_ERRORS:
                return Removed()  # nothing can be there
            self._failed(error)
            raise PurgeFailed(
                f"the disk cache {layout.directory}: {error.strerror or error}"
            ) from error

    # -- locks -----------------------------------------------------------------------------

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        """A lease among the processes of this host; a failing disk grants all."""
        fd, hold = -1, Hold.AT_ONCE
        try:
            fd = self._files.create(f"{self.layout.locks}/work", os.O_RDWR, 0o600)
            hold = acquire(fd, key, patience)
        except OSError as error:
            self._failed(error)
        try:
            yield hold
        finally:
            if fd >= 0:
                os.close(fd)

    @contextmanager
    def _locked(self, source: str | None, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock of a source, or of all if it is None."""
        fd = self._files.create(f"{self.layout.locks}/records", os.O_RDWR, 0o600)
        try:
            if acquire(fd, source, Deadline(seconds)) is Hold.NOT:
                # Its holder is stopped: better not to keep this.
                raise TimeoutError(errno.ETIMEDOUT, "a lock is held for too long", source)
            yield
        finally:
            os.close(fd)

    def _host(self) -> str:
        path = f"{self.layout.locks}/host"
        with suppress(FileExistsError), self._files.written(
            secrets.token_hex(8).encode(), time.time_ns()
        ) as tmp:
            os.link(tmp, path)
        return Path(path).read_text("ascii", "replace")

    # -- inside ----------------------------------------------------------------------------

    def _standing(self, source: str) -> Record | None:
        """The record as it is on disk now; only for holders of the lock."""
        try:
            with open(self.layout.record(source), "rb") as file:
                return read_record(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _purged_since(self, source: str, record: Record) -> bool:
        """Whether a purge came after the request that the record is from. A failure is no news,
        and harms nobody."""
        if not isinstance(record, SourceRecord):
            return False
        now = time.time()
        for mark in self.layout.marks(source):
            with suppress(FileNotFoundError, NotADirectoryError):
                # One from the future is the trace of a clock that jumped.
                if record.fetched_at <= os.stat(mark).st_mtime <= now + 1:
                    return True
        return False

    def _mark_purged(self, scope: Scope) -> None:
        folder = os.path.join(self.layout.private, scope.text).rstrip("/")
        with self._files.written(b"", time.time_ns(), sync=False) as tmp:
            rename(tmp, f"{folder}/{PURGED}")

    def _trees(self, scope: Scope) -> list[str]:
        """What has all of a folder, or of the cache. The outermost folders stay: somebody may
        have set their owner and mode."""
        layout = self.layout
        if scope.kind == "folder":
            return [f"{tree}/{scope.text}".rstrip("/") for tree in (layout.public, layout.private)]
        return [
            entry.path
            for tree in (layout.public, layout.private, layout.sources)
            for entry in os.scandir(tree)
        ]

    def _set_source_aside(self, source: str) -> list[str | None]:
        standing = self._standing(source)
        # The record first: without it nothing private is served.
        paths = [self.layout.record(source)]
        if isinstance(standing, SourceRecord):
            paths.append(self.layout.original(standing.version))
        paths += self._variants(source, self.layout.private, self.layout.public)
        return [self._files.set_aside(path) for path in paths]

    def _remove_aside(self, paths: list[str]) -> Removed:
        removed = Removed()
        for path in paths:
            removed = removed.plus(remove(path))
        return removed

    def _remove_variants(self, source: str, standing: Record | None) -> None:
        """Remove what was made under `standing`, public renditions included.

        Where no record stands, public renditions may be of any version, as their URLs allow.
        """
        trees = [self.layout.private]
        if isinstance(standing, SourceRecord):
            with suppress(FileNotFoundError):
                os.unlink(self.layout.original(standing.version))
            trees.append(self.layout.public)
        for path in self._variants(source, *trees):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _variants(self, source: str, *trees: str) -> list[str]:
        found: list[str] = []
        for tree in trees:
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                os.scandir(f"{tree}/{source}") as entries,
            ):
                found += [
                    entry.path
                    for entry in entries
                    if entry.name not in (RECORD, PURGED) and entry.is_file(follow_symlinks=False)
                ]
        return found

    def _failed(self, error: OSError) -> None:
        if error.errno not in _NAME_ERRORS:
            self._breaker.failed(error)


def _touch(fd: int, status: os.stat_result) -> None:
    """Note a use. The kernel does so once a day at best (relatime), or not at all (noatime)."""
    with suppress(OSError):  # a file of another user, a file system that is read-only
        os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))


@lru_cache(maxsize=16_384)
def _read(path: str, inode: int, mtime_ns: int, ctime_ns: int) -> Record | None:
    with open(path, "rb") as file:
        return read_record(file.read())
