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
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from thumbproxy.caches.base import Record, Removed, Scope, SourceRecord, read_record, settle
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.files import Files
from thumbproxy.caches.inventory import Inventory, take
from thumbproxy.caches.janitor import Janitor
from thumbproxy.caches.layout import PURGED, RECORD, Layout
from thumbproxy.caches.locks import acquire, release
from thumbproxy.caches.reading import NAME_ERRORS, Reader
from thumbproxy.caches.usage import NOTHING, CacheFull, Space, Usage
from thumbproxy.concurrency import Hold
from thumbproxy.errors import PurgeFailed
from thumbproxy.limits import Deadline
from thumbproxy.media import Rendition
from thumbproxy.metrics import Metrics, Where
from thumbproxy.urls import ImageRequest

_LOCK_SECONDS = 2.0
_PURGE_SECONDS = 10.0
_DAY = 86_400.0


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
        self.janitor = Janitor(self.layout, self._files, self._usage, metrics)
        # Among whom its locks hold.
        self.host = ""

    def prepare(self) -> None:
        """Make the directories and remove what killed processes left. Raises OSError."""
        tree = self.layout.foreign()
        if tree is not None:
            raise OSError(errno.ENOTEMPTY, f"it is no cache, but has files in {tree}")
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
                    record = replace(record, modified=max(record.modified, self._dated(source)))
                record = settle(standing, record)
                if record.modified > time.time():
                    self._latest(record.modified)
                if not (isinstance(record, SourceRecord) and record.same_source(standing)):
                    self._remove_variants(source, standing)
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
        path = self.layout.variant(request, public)
        try:
            need = self._files.need(path, len(rendition.body))
            with (
                self._usage.room(need) as room,
                self._files.written(rendition.body, rendition.modified * 10**9) as tmp,
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
            if not os.path.exists(path):
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
        every source, and then removed."""
        layout, aside = self.layout, list[str | None]()
        try:
            try:
                with self._locked(None, _PURGE_SECONDS):
                    if scope.kind == "source":
                        aside = self._set_source_aside(scope.text)
                    else:
                        aside = [self._files.set_aside(path) for path in self._trees(scope)]
                    self._mark_purged(scope)
            finally:  # on a full disk there is no room for the mark, until this is done
                removed = self._remove_aside(scope, [path for path in aside if path])
            return removed
        except OSError as error:
            if error.errno in NAME_ERRORS:
                return Removed()  # nothing can be there
            self._failed(error)
            raise PurgeFailed(
                f"the disk cache {layout.directory}: {error.strerror or error}"
            ) from error

    def inventory(self, progress: Callable[[int], None]) -> Inventory:
        """What is there. Raises OSError."""
        return take(self.layout, self._usage.bounds, self._usage.read(), progress)

    # -- locks -----------------------------------------------------------------------------

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        """A lease among the processes of this host; a failing disk grants all."""
        fd, hold = -1, Hold.AT_ONCE
        try:
            fd = self.layout.create(f"{self.layout.locks}/work", os.O_RDWR, 0o600)
            hold = acquire(fd, key, patience)
        except OSError as error:
            self._failed(error)
        try:
            yield hold
        finally:
            if fd >= 0:
                release(fd)

    def _locked(
        self, source: str | None, seconds: float | None = None
    ) -> AbstractContextManager[None]:
        """Hold the lock of a source, or of all if it is None."""
        return self._files.locked(source, _LOCK_SECONDS if seconds is None else seconds)

    def _host(self) -> str:
        path = f"{self.layout.locks}/host"
        with (
            suppress(FileExistsError),
            self._files.written(secrets.token_hex(8).encode(), time.time_ns()) as tmp,
        ):
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

    def _dated(self, source: str) -> int:
        """What comes after the purges of a source is at least of this date; 0: was not purged."""
        dates = [0]
        for mark in self.layout.marks(source):
            with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                dates.append(int(Path(mark).read_bytes()))
        return max(dates)

    def _latest(self, date: int, more: int = 0) -> int:
        """The latest date of all that was ever given, now that `date` is: unix seconds, in a file.

        Nothing that is purged has a later one, so what comes after is of the next second.
        """
        fd = self.layout.create(f"{self.layout.locks}/dated", os.O_RDWR, 0o600)
        try:
            acquire(fd, "dated", Deadline(_LOCK_SECONDS))
            text = os.pread(fd, 20, 0)
            known = int(text) if text.isdigit() else 0
            if known > time.time() + _DAY:  # the trace of a clock that jumped
                known = 0
            latest = max(known, date) + more
            os.pwrite(fd, b"%020d" % latest, 0)
        finally:
            os.close(fd)
        return latest

    def _mark_purged(self, scope: Scope) -> None:
        folder = os.path.join(self.layout.private, scope.text).rstrip("/")
        body = b"%d" % self._latest(int(time.time()), 1)
        self._put_small(f"{folder}/{PURGED}", body, time.time_ns(), forced=True)

    def _put_small(self, path: str, body: bytes, mtime_ns: int, *, forced: bool = False) -> None:
        """Write one of our own files, which replaces one like it at no cost. Raises CacheFull.

        Not synced: a record that a power cut empties is read as no record.
        """
        need = self._files.need(path, len(body))
        with (
            self._usage.room(need, forced=forced or os.path.exists(path)) as room,
            self._files.written(body, mtime_ns, sync=False) as tmp,
        ):
            self._files.put(tmp, path, room)

    def _trees(self, scope: Scope) -> list[str]:
        """What has all of a folder, or of the cache. The outermost folders stay: somebody may
        have set their owner and mode."""
        layout = self.layout
        if scope.kind == "folder":
            return [f"{tree}/{scope.text}".rstrip("/") for tree in (layout.public, layout.private)]
        found: list[str] = []
        for tree in (layout.public, layout.private, layout.sources):
            # Where somebody has removed one, there is still the rest.
            with suppress(FileNotFoundError), os.scandir(tree) as entries:
                # The mark is replaced by the new one.
                found += [entry.path for entry in entries if entry.name != PURGED]
        return found

    def _set_source_aside(self, source: str) -> list[str | None]:
        standing, paths = self._standing(source), []
        # The record first: without it nothing private is served. It is not counted.
        with self._usage.removing() as freed:
            self._files.unlink(self.layout.record(source), freed)
        if isinstance(standing, SourceRecord):
            paths.append(self.layout.original(standing.version))
        paths += self._variants(source, self.layout.private, self.layout.public)
        return [self._files.set_aside(path) for path in paths]

    def _remove_aside(self, scope: Scope, paths: list[str]) -> Removed:
        if scope.kind == "folder":
            originals = map(self._files.set_aside, self._originals(paths))
            paths += [path for path in originals if path]
        return self._files.remove_aside(paths)

    def _originals(self, trees: list[str]) -> list[str]:
        """Where the bytes lie of all sources in trees that were set aside. Another source of the
        same bytes loses them as well, and is fetched again."""
        found: list[str] = []
        for tree in trees:
            for folder, _, files in os.walk(tree):
                record = None
                if RECORD in files:
                    with suppress(FileNotFoundError):  # somebody removes what is set aside
                        record = read_record(Path(folder, RECORD).read_bytes())
                if isinstance(record, SourceRecord):
                    found.append(self.layout.original(record.version))
        return found

    def _remove_variants(self, source: str, standing: Record | None) -> None:
        """Remove what was made under `standing`, public renditions included.

        Where no record stands, public renditions may be of any version, as their URLs allow.
        """
        trees, paths = [self.layout.private], []
        if isinstance(standing, SourceRecord):
            paths.append(self.layout.original(standing.version))
            trees.append(self.layout.public)
        paths += self._variants(source, *trees)
        if paths:
            with self._usage.removing() as freed:
                for path in paths:
                    self._files.unlink(path, freed)

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
