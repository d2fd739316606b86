"""The disk tier: two trees of files that are named like their URLs.

    public/<source>/<options>.<signature>.<format>   may be served by anyone, without asking
    private/<source>/<the same, or without signature for URLs that expire>
    private/<source>/.source                         the source's record; mtime is fresh-until
    sources/<hh>/<version>                           the original bytes, by their hash
    tmp/                                             files that are being written
    locks/<hh>                                       held while a record or a rendition changes

Files appear by rename only, so a reader finds a whole file or none. A rendition is renamed into
its place under the lock of its source and only while the record that it was made from stands:
so whoever changes or removes the record (a new version, a purge) beats every render in flight.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from thumbproxy.caches.base import SourceRecord, settle
from thumbproxy.caches.breaker import Breaker
from thumbproxy.media import Rendition
from thumbproxy.urls import ImageRequest

# The name cannot be a file's, or another source has taken it; the disk itself is well.
_NAME_ERRORS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST}
_LOCK_SECONDS = 2.0
_STRAY_SECONDS = 600.0
_HIT = "hit; detail=disk"


class DiskCache:
    """Renditions, records and originals below one directory; see the module for its layout.

    Any number of threads and processes may use one directory. `prepare` makes it.
    """

    def __init__(self, directory: str) -> None:
        self._public = os.path.join(directory, "public")
        self._private = os.path.join(directory, "private")
        self._sources = os.path.join(directory, "sources")
        self._tmp = os.path.join(directory, "tmp")
        self._locks = os.path.join(directory, "locks")
        self._breaker = Breaker(f"the disk cache {directory}", pause=0)
        self._host = socket.gethostname()
        # Containers can have equal names and process ids.
        self._instance = secrets.token_hex(4)
        self._serial = itertools.count()

    def prepare(self) -> None:
        """Make the directories and remove what killed processes left. Raises OSError."""
        os.makedirs(self._public, exist_ok=True)
        for directory in (self._private, self._sources, self._tmp, self._locks):
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, 0o700)
        for entry in os.scandir(self._tmp):
            with suppress(OSError):
                if self._stray(entry):
                    os.unlink(entry.path)

    # -- reading ---------------------------------------------------------------------------

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition. Four system calls: open, fstat, read, close.

        `record` is not looked at: nothing is kept here that is not of the record in this tree.
        """
        path = self._variant(request, public)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        try:
            status = os.fstat(fd)
            body = os.read(fd, status.st_size)
        except OSError as error:
            self._failed(error)
            return None
        finally:
            os.close(fd)
        if len(body) != status.st_size or not body:
            return None
        return Rendition(body, request.format, int(status.st_mtime), _HIT, immutable=public)

    def record(self, source: str) -> SourceRecord | None:
        """One `stat` when this process has read the record before."""
        path = self._record_path(source)
        try:
            status = os.stat(path)
            # The file is replaced, never changed, so its identity stands for what is in it.
            return _read_record(path, status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None

    def original(self, record: SourceRecord) -> bytes | None:
        """The bytes that the record was made from, if they are kept."""
        try:
            with open(self._original_path(record.version), "rb") as file:
                body = file.read(record.size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(error)
            return None
        return body if len(body) == record.size else None

    # -- writing ---------------------------------------------------------------------------

    def set_record(self, source: str, record: SourceRecord) -> SourceRecord:
        try:
            with self._locked(source):
                standing = self._standing(source)
                record = settle(standing, record)
                if not record.same_source(standing):
                    self._remove_variants(source, standing)
                if record != standing:
                    path = self._record_path(source)
                    fresh_until = int(record.fresh_until * 1e9)
                    # Not synced: a record that a power cut empties is read as no record.
                    with self._written(record.to_json(), fresh_until, sync=False) as tmp:
                        _rename(tmp, path)
        except OSError as error:
            self._failed(error)
        else:
            self._breaker.succeeded()
        return record

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        path = self._variant(request, public)
        try:
            mtime_ns = rendition.modified * 10**9
            with self._written(rendition.body, mtime_ns) as tmp, self._locked(request.source):
                if not record.same_source(self._standing(request.source)):
                    return False
                _rename(tmp, path)
        except OSError as error:
            self._failed(error)
            return False
        self._breaker.succeeded()
        return True

    def set_original(self, record: SourceRecord, body: bytes) -> None:
        path = self._original_path(record.version)
        try:
            if not os.path.exists(path):
                with self._written(body, time.time_ns()) as tmp:
                    _rename(tmp, path)
        except OSError as error:
            self._failed(error)

    def delete(self, source: str) -> None:
        try:
            with self._locked(source):
                standing = self._standing(source)
                # The record first: from here on no render in flight can be committed.
                with suppress(FileNotFoundError, NotADirectoryError):
                    os.unlink(self._record_path(source))
                self._remove_variants(source, standing, public=True)
        except OSError as error:
            self._failed(error)

    # -- inside ----------------------------------------------------------------------------

    def _variant(self, request: ImageRequest, public: bool) -> str:
        return f"{self._public if public else self._private}/{request.source}/{request.filename}"

    def _record_path(self, source: str) -> str:
        return f"{self._private}/{source}/.source"

    def _original_path(self, version: str) -> str:
        return f"{self._sources}/{version[:2]}/{version}"

    def _standing(self, source: str) -> SourceRecord | None:
        """The record as it is on disk now; only for holders of the lock."""
        try:
            with open(self._record_path(source), "rb") as file:
                return SourceRecord.from_json(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _remove_variants(
        self, source: str, standing: SourceRecord | None, *, public: bool = False
    ) -> None:
        """Remove what was made under `standing`; public renditions if that is known or asked for.

        Where no record stands, public renditions may be of any version, as their URLs allow.
        """
        trees = [self._private]
        if standing is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._original_path(standing.version))
        if standing is not None or public:
            trees.append(self._public)
        for tree in trees:
            with suppress(FileNotFoundError, NotADirectoryError):
                for entry in os.scandir(f"{tree}/{source}"):
                    if entry.name != ".source" and entry.is_file(follow_symlinks=False):
                        os.unlink(entry.path)

    @contextmanager
    def _written(self, body: bytes, mtime_ns: int, *, sync: bool = True) -> Iterator[str]:
        """A whole new file in tmp/, to be renamed by the caller; removed if it is not."""
        path = f"{self._tmp}/{self._host}-{os.getpid()}-{self._instance}.{next(self._serial)}"
        fd = self._create(path, os.O_WRONLY | os.O_EXCL, 0o644)
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

    @contextmanager
    def _locked(self, source: str) -> Iterator[None]:
        """Hold the lock of a source: 256 files, that the kernel unlocks when a holder dies."""
        stripe = hashlib.sha256(source.encode()).hexdigest()[:2]
        fd = self._create(f"{self._locks}/{stripe}", os.O_RDWR, 0o600)
        try:
            give_up = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(fd):
                if time.monotonic() > give_up:  # its holder is stopped: better not to keep this
                    raise TimeoutError(errno.ETIMEDOUT, "lock is held for too long", stripe)
                time.sleep(0.002)
            yield
        finally:
            os.close(fd)

    def _create(self, path: str, flags: int, mode: int) -> int:
        flags |= os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:  # somebody emptied the cache directory under us
            self.prepare()
            return os.open(path, flags, mode)

    def _stray(self, entry: os.DirEntry[str]) -> bool:
        """Whether nobody writes this file any more: its process is gone, or it is old."""
        host, _, rest = entry.name.rpartition("-")[0].rpartition("-")
        if host == self._host and rest.isdigit() and not os.path.exists(f"/proc/{rest}"):
            return True
        return time.time() - entry.stat().st_ctime > _STRAY_SECONDS

    def _failed(self, error: OSError) -> None:
        if error.errno not in _NAME_ERRORS:
            self._breaker.failed(error)


@lru_cache(maxsize=16_384)
def _read_record(path: str, inode: int, mtime_ns: int) -> SourceRecord | None:
    with open(path, "rb") as file:
        return SourceRecord.from_json(file.read())


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rename(tmp: str, path: str) -> None:
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
