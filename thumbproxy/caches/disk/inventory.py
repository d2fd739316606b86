"""Counts what a disk cache holds, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from thumbproxy.caches.base import FailureRecord, SourceRecord, read_record
from thumbproxy.caches.disk.layout import PURGED, RECORD, Layout
from thumbproxy.caches.disk.size import FOLDER, NOTHING, Space, space
from thumbproxy.caches.disk.usage_file import Tally
from thumbproxy.caches.disk.walk import Found, look_into, walk


@dataclass(slots=True)
class Bucket:
    """Files of one kind: how many, and the space that they take, bytes."""

    files: int = 0
    bytes: int = 0

    def put(self, size: int) -> None:
        self.files += 1
        self.bytes += space(size).bytes


@dataclass(slots=True)
class Inventory:
    """What there is. Times are unix seconds, 0 where there is nothing.

    total        files and directories, as they count against `bounds`; 0 there is no bound
    trees        public, private, sources, and what purges have put aside in tmp
    formats      renditions by extension
    sources      records of sources
    failures     records of sources that could not be had
    oldest, newest  when the files that were used least and last were
    counted      what the cache itself believes to hold; known_since: when it counted, 0 never
    free         bytes and inodes that the file system has left
    unreadable   files and directories that could not be looked at
    """

    directory: str
    bounds: Space
    total: Space = NOTHING
    trees: dict[str, Bucket] = field(default_factory=dict)
    formats: dict[str, Bucket] = field(default_factory=dict)
    sources: int = 0
    failures: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    counted: Space = NOTHING
    known_since: int = 0
    free: Space = NOTHING
    unreadable: int = 0

    @property
    def share(self) -> float | None:
        """The part of its bounds that is used, of the two the larger; None without any."""
        parts = [
            there / bound for there, bound in zip(self.total, self.bounds, strict=True) if bound
        ]
        return max(parts, default=None)

    def facts(self) -> dict[str, Any]:
        """For machines."""
        return {
            "directory": self.directory,
            "bytes": self.total.bytes,
            "files": self.total.files,
            "max_bytes": self.bounds.bytes,
            "max_files": self.bounds.files,
            "share": self.share,
            "trees": _facts(self.trees),
            "formats": _facts(self.formats),
            "sources": self.sources,
            "failures": self.failures,
            "oldest_use": self.oldest,
            "newest_use": self.newest,
            "counted_bytes": self.counted.bytes,
            "counted_files": self.counted.files,
            "counted_at": self.known_since,
            "free_bytes": self.free.bytes,
            "free_files": self.free.files,
            "unreadable": self.unreadable,
        }


def take(layout: Layout, bounds: Space, tally: Tally, progress: Callable[[int], None]) -> Inventory:
    """Look at everything, without changing anything. progress: told how many files it has been.

    Raises OSError.
    """
    found = Inventory(layout.directory, bounds, counted=tally.kept, known_since=tally.counted_at)
    for name in ("public", "private", "sources", "tmp"):
        bucket = found.trees[name] = Bucket()
        for directory in walk(f"{layout.directory}/{name}"):
            for file in directory.files:
                bucket.put(file.size)
                _put(found, name, file)
            folders = len(directory.folders) + len(directory.others) - (not directory.place)
            bucket.bytes += folders * FOLDER.bytes
            found.unreadable += len(directory.faults)
            found.total = found.total.plus(Space(0, folders))
            progress(found.total.files)
        found.total = found.total.plus(Space(bucket.bytes, bucket.files))
    with suppress(OSError):
        system = os.statvfs(layout.directory)
        found.free = Space(system.f_bavail * system.f_frsize, system.f_favail)
    return found


def _put(found: Inventory, tree: str, file: Found) -> None:
    if file.name == RECORD:
        with suppress(OSError):
            record = read_record(look_into(file.path))
            found.sources += isinstance(record, SourceRecord)
            found.failures += isinstance(record, FailureRecord)
    elif file.name != PURGED and tree != "tmp":
        found.newest = max(found.newest, file.used)
        found.oldest = min(found.oldest or file.used, file.used)
        if tree != "sources":
            extension = file.name.rpartition(".")[2]
            found.formats.setdefault(extension, Bucket()).put(file.size)


def _facts(buckets: dict[str, Bucket]) -> dict[str, dict[str, int]]:
    return {
        name: {"files": bucket.files, "bytes": bucket.bytes}
        for name, bucket in sorted(buckets.items())
    }
