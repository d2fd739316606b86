"""What the caches have of a source, found out without changing anything in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from thumbproxy.caches.base import Cache, Record, SourceRecord, read_record
from thumbproxy.urls import ImageRequest, folder_of


class Kept(NamedTuple):
    """One rendition in one tier. modified, written_at: unix seconds; of the source and of us, the
    latter 0 where it is not known."""

    tier: str
    size: int
    modified: int
    written_at: int = 0


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
        place = self.place(request, public=public)
        try:
            status = os.stat(f"{self.directory}/{place}")
        except OSError:
            return None
        return Kept("disk", status.st_size, int(status.st_mtime), int(status.st_ctime))

    def has_original(self, version: str) -> bool:
        return os.path.isfile(f"{self.directory}/sources/{version[:2]}/{version}")


class Shelves:
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
