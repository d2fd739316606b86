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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from thumbproxy.caches.base import Record, Removed, Scope, SourceRecord, merge_records
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.disk.files import Files
from thumbproxy.caches.disk.inventory import Inventory, take
from thumbproxy.caches.disk.janitor import Janitor, Rest
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.locks import locked
from thumbproxy.caches.disk.mtime_floor import dated, latest
from thumbproxy.caches.disk.quota import CacheFull, Usage
from thumbproxy.caches.disk.reader import NAME_ERRORS, Reader, record_at
from thumbproxy.caches.disk.removal import Cleared, Removal
from thumbproxy.caches.disk.size import NOTHING, Space
from thumbproxy.caches.disk.verifying import Decode, Verification
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.limits import Deadline
from thumbproxy.core.media import Rendition
from thumbproxy.core.shortage import reason
from thumbproxy.core.stamps import stamped
from thumbproxy.scheduling.coalescing import Hold
from thumbproxy.telemetry.metrics import Metrics, Where
from thumbproxy.urls.codec import ImageRequest

# Of a purge, which waits longer than a request.
_LOCK_SECONDS = 2.0
_PURGE_SECONDS = 10.0
# Where there is no place for anything of a source, there is nothing to purge.
_NOWHERE = (errno.ENAMETOOLONG, errno.ENOTDIR)


class DiskCache(Reader):
    """Renditions, records and originals below one directory; see layout.py.

    Any number of threads and processes may use one directory. `prepare` makes it.

    bounds   what it may hold. What has no room is not kept, until the janitor has made some
    janitor  who makes room
    """

    among: Where = "host"

    def __init__(
        self, directory: str, bounds: Space = NOTHING, *, metrics: Metrics | None = None
    ) -> None:
        metrics = metrics or Metrics()
        breaker = Breaker(f"the disk cache {directory}", 0, self.tier, metrics)
        super().__init__(Layout(directory), breaker)
        self._usage = Usage(self.layout, bounds, metrics)
        self._files = Files(self.layout, self._usage)
        self._removal = Removal(self.layout, self._files, self._usage)
        self.janitor = Janitor(self.layout, self._files, self._usage, metrics)
        # Among whom its locks hold.
        self.host = ""

    def prepare(self) -> None:
        """Make the directories and remove what killed processes left. Raises OSError."""
        tree = self.layout.foreign()
        if tree is not None:
            raise OSError(errno.ENOTEMPTY, f"it is no cache, but has files in {tree}")
        self.layout.check()
        self.layout.make()
        self.host = self._host()
        self._files.remove_strays()
        self._usage.tell()

    # -- writing ---------------------------------------------------------------------------

    def set_record(self, source: str, record: Record) -> Record:
        try:
            with self._locked(source):
                if self._purged_since(source, record):
                    return record
                standing = self._standing(source)
                if standing is None and isinstance(record, SourceRecord):
                    # What was there before a purge may have gone out with this date and length.
                    record = replace(
                        record, modified=max(record.modified, dated(self.layout, source))
                    )
                record = merge_records(standing, record)
                if record.modified > time.time():
                    latest(self.layout, record.modified, self._usage.patience.deadline())
                if not (isinstance(record, SourceRecord) and record.same_source(standing)):
                    self._removal.remove_variants(source, standing, record)
                if record != standing:
                    fresh_until = int(record.fresh_until * 1e9)
                    self._put_small(self.layout.record(source), record.to_json(), fresh_until)
        except CacheFull:
            return record
        except OSError as error:
            self._failed(error)
        else:
            self._breaker.succeeded()
        return record

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        path, body = self.layout.variant(request, public), rendition.body
        stamp = stamped(rendition.modified, body, request.format)
        try:
            need = self._files.need(path, len(body))
            with (
                self._usage.room(need) as room,
                self._files.written(body, stamp) as tmp,
                self._locked(request.source),
            ):
                if not record.same_source(self._standing(request.source)):
                    return False
                self._files.put(tmp, path, room)
        except CacheFull:
            return False
        except OSError as error:
            self._failed(error)
            return False
        self._breaker.succeeded()
        return True

    def set_original(self, record: SourceRecord, body: bytes) -> None:
        path = self.layout.original(record.version)
        try:
            if self.original(record) != body:  # none, or a damaged one
                need = self._files.need(path, len(body))
                with (
                    self._usage.room(need) as room,
                    self._files.written(body, time.time_ns()) as tmp,
                    self._locked(record.version),
                ):
                    self._files.put(tmp, path, room)
        except CacheFull:
            return
        except OSError as error:
            self._failed(error)

    def purged_at(self, source: str) -> float:
        last = 0.0
        for mark in self.layout.marks(source):
            with suppress(OSError):  # there is none, or the disk fails and keeps nothing
                last = max(last, os.stat(mark).st_mtime)
        return last

    def purge(self, scope: Scope) -> Removed:
        """All at once, however much it is: the trees are moved out of sight under the lock of
        every source, and then removed. Where they cannot be moved, nobody writes until they are
        removed."""
        cleared = Cleared()
        try:
            try:
                with self._locked(None, _PURGE_SECONDS):
                    for one in scope.spellings():
                        standing = self._standing(one.text) if one.kind == "source" else None
                        self._removal.clear(one, standing, cleared)
                    self._mark_purged(scope)
            finally:  # on a full disk there is no room for the mark, until this is done
                self._removal.finish(scope, cleared)
            if cleared.fault is not None:
                raise cleared.fault
        except OSError as error:
            if error.errno not in _NOWHERE:
                self._failed(error)
                raise PurgeFailed(
                    f"the disk cache {self.layout.directory}: "
                    f"{reason(error, self.layout.directory)}"
                ) from error
        return cleared.removed

    def inventory(self, progress: Callable[[int], None]) -> Inventory:
        """What is there. Raises OSError."""
        return take(self.layout, self._usage.bounds, self._usage.read(), progress)

    def verification(self, decode: Decode, progress: Callable[[int], None]) -> Verification:
        """A look at what is in every file, at the pace of a janitor."""
        return Verification(
            self.layout, self._files, self._usage, decode, rest=Rest(), progress=progress
        )

    # -- locks -----------------------------------------------------------------------------

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        """A lease among the processes of this host; a failing disk grants all."""
        with ExitStack() as stack:
            hold = Hold.AT_ONCE
            try:
                fd = self.layout.create(f"{self.layout.locks}/work", os.O_RDWR, 0o600)
                hold = stack.enter_context(locked(fd, key, patience))
            except OSError as error:
                self._failed(error)
            yield hold

    def _locked(
        self, source: str | None, seconds: float | None = None
    ) -> AbstractContextManager[None]:
        """Hold the lock of a source, or of all if it is None."""
        return self._files.locked(source, seconds)

    def _host(self) -> str:
        """Names those who share this directory, this mount of it and this kernel: containers of an
        image with a cache in it have the same files, and locks of their own."""
        path = f"{self.layout.locks}/host"
        fd = self.layout.create(path, os.O_RDWR, 0o600)
        with locked(fd, "host", Deadline(_LOCK_SECONDS)):
            name = os.pread(fd, 64, 0) or secrets.token_hex(8).encode()
            os.pwrite(fd, name, 0)
            mount = os.fstat(fd).st_dev
        kernel = ""
        with suppress(OSError):
            kernel = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{name.decode('ascii', 'replace')}-{kernel}-{mount:x}"

    # -- inside ----------------------------------------------------------------------------

    def _standing(self, source: str) -> Record | None:
        """The record as it is on disk now; only for holders of the lock."""
        try:
            return record_at(self.layout.record(source))
        except OSError as error:
            if error.errno in NAME_ERRORS:
                return None
            raise

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
        body = b"%d" % latest(self.layout, int(time.time()), Deadline(_LOCK_SECONDS), more=1)
        path = self.layout.mark(scope.text)
        self._put_small(path, body, time.time_ns(), patience=Deadline(_LOCK_SECONDS))

    def _put_small(
        self, path: str, body: bytes, mtime_ns: int, *, patience: Deadline | None = None
    ) -> None:
        """Write one of our own files, which replaces one like it at no cost. Raises CacheFull.

        patience: for what has to be written, bounds or not.

        Not synced: a record that a power cut empties is read as no record.
        """
        need = self._files.need(path, len(body))
        forced = patience is not None or os.path.exists(path)
        with (
            self._usage.room(need, forced=forced, patience=patience) as room,
            self._files.written(body, mtime_ns, sync=False) as tmp,
        ):
            self._files.put(tmp, path, room)
