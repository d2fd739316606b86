"""What the caches contain for a source, read without changing anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from thumbproxy.caches.base import Cache, Record, SourceRecord, read_record
from thumbproxy.core.formats import Format
from thumbproxy.core.stamps import is_intact, looked_at
from thumbproxy.urls.codec import ImageRequest, folder_of


class Kept(NamedTuple):
    """One rendition in one tier. modified, written_at: unix seconds; of the source and of us, the
    latter 0 where it is not known. damage: why it is not served, "" if it is."""

    tier: str
    size: int
    modified: int
    written_at: int = 0
    damage: str = ""


class DiskView:
    """The cache directory, by its layout (docs/architecture.md). DiskCache itself would note what
    was used and tidy up."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(os.path.expanduser(directory))

    def place(self, request: ImageRequest, *, public: bool) -> str:
        return f"{'public' if public else 'private'}/{folder_of(request.source)}/{request.filename}"

    def record(self, source: str) -> Record | None:
        try:
            with open(f"{self.directory}/private/{folder_of(source)}/.source", "rb") as file:
                return read_record(file.read())
        except OSError:
            return None

    def rendition(self, request: ImageRequest, *, public: bool) -> Kept | None:
        path = f"{self.directory}/{self.place(request, public=public)}"
        try:
            status = os.lstat(path)
            damage = _damage(path, status, request.format)
        except OSError:
            return None
        times = int(status.st_mtime), int(status.st_ctime)
        return Kept("disk", status.st_size, *times, damage)

    def has_original(self, version: str) -> bool:
        return os.path.isfile(f"{self.directory}/sources/{version[:2]}/{version}")


def _damage(path: str, status: os.stat_result, format: Format) -> str:
    """Why a hit would not be served from this file, as the disk cache looks at it."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no file"
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:  # which does not count as a use of it
        fd = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # it is another user's
        fd = os.open(path, flags)
    with open(fd, "rb") as file:
        body = file.read()
    if body and is_intact(looked_at(body), status, format):
        return ""
    return "it is not what was written; made anew by the next request that reaches thumbproxy"


class Directories:
    """All tiers, nearest first."""

    def __init__(self, disk: DiskView | None, others: Sequence[Cache]) -> None:
        self.disk = disk
        self._others = tuple(others)

    def records(self, source: str) -> dict[str, Record | None]:
        """By tier."""
        found: dict[str, Record | None] = {}
        if self.disk:
            found["disk"] = self.disk.record(source)
        for cache in self._others:
            found[cache.tier] = cache.record(source)
        return found

    def renditions(
        self, request: ImageRequest, records: dict[str, Record | None], *, public: bool
    ) -> list[Kept]:
        found = []
        kept = self.disk.rendition(request, public=public) if self.disk else None
        if kept:
            found.append(kept)
        for cache in self._others:
            record = records.get(cache.tier)
            known = record if isinstance(record, SourceRecord) else None
            rendition = cache.get(request, known, public=public)
            if rendition is not None:
                found.append(Kept(cache.tier, rendition.length, rendition.modified))
        return found
