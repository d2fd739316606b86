"""Finds damaged files in a cache directory by reading every file completely, while servers use
it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import file_digest
from typing import NamedTuple

from thumbproxy.caches.base import read_record
from thumbproxy.caches.disk.files import Files
from thumbproxy.caches.disk.layout import PURGED, RECORD, Layout, is_name
from thumbproxy.caches.disk.quota import Usage
from thumbproxy.caches.disk.walk import DirectoryEntry, look_into, opened, walk
from thumbproxy.core.errors import CapacityError
from thumbproxy.core.formats import Format
from thumbproxy.core.stamps import is_intact, looked_at
from thumbproxy.urls.codec import source_of

# Bytes of a rendition, which is held in memory. No picture that is made has so many.
_LARGEST = 1 << 28
_LOCK_SECONDS = 2.0
# Says why the bytes of a rendition are no picture of that format, "" if they are one.
Decode = Callable[[bytes, Format], str]


class Damage(NamedTuple):
    """A file that is not what it should be. place: its path below the cache directory."""

    place: str
    why: str


class Verification:
    """One look at every file of a cache, each read to its end. It holds one of them at a time.

    decode    how renditions are looked into; raises CapacityError where nobody can say
    rest      called before each file, for those who must not take all the time
    progress  called with how many files it has been so far
    """

    def __init__(
        self,
        layout: Layout,
        files: Files,
        usage: Usage,
        decode: Decode,
        *,
        rest: Callable[[], None],
        progress: Callable[[int], None],
    ) -> None:
        self._layout = layout
        self._files = files
        self._usage = usage
        self._decode = decode
        self._rest = rest
        self._progress = progress
        self.looked_at = 0
        self.unknown = 0  # what could not be looked into

    def run(self, *, remove: bool) -> Iterator[Damage]:
        """What is damaged, each when it is found, and removed if it is to be. Raises OSError."""
        layout = self._layout
        for trees in ((layout.private, layout.public), (layout.sources,)):
            for directory in walk(*trees, rest=self._rest):
                for path in [*(found.path for found in directory.files), *directory.others]:
                    with directory.passing_over():
                        yield from self._looked_at(path, directory, remove=remove)
                self.unknown += len(directory.faults)

    def _looked_at(self, path: str, directory: DirectoryEntry, *, remove: bool) -> Iterator[Damage]:
        name = path.rpartition("/")[2]
        if not is_name(name) or name == PURGED:
            return  # the janitor's
        self._rest()
        self.looked_at += 1
        self._progress(self.looked_at)
        before = os.lstat(path)
        why = self._fault(path, name, before)
        if not why or not _same(path, before):
            return  # sound, or replaced while it was looked at
        if remove:
            self._remove(path, before, directory)
        yield Damage(path.removeprefix(f"{self._layout.directory}/"), why)

    def _fault(self, path: str, name: str, status: os.stat_result) -> str:
        """Why a file is not what its name says; "" if it is."""
        if not stat.S_ISREG(status.st_mode):
            return "it is no file"
        if not status.st_size:
            return "it is empty"
        extension = name.rpartition(".")[2]
        if extension == name:
            with opened(path) as file:
                same = file_digest(file, "sha256").hexdigest() == name
            return "" if same else "it has other bytes than its name says"
        if status.st_size > _LARGEST:
            return "it is too large for a picture"
        body = look_into(path)
        if name == RECORD:
            return "" if read_record(body) is not None else "it is no record"
        return self._rendition_fault(body, Format(extension), status)

    def _rendition_fault(self, body: bytes, format: Format, status: os.stat_result) -> str:
        if not is_intact(looked_at(body), status, format):
            return "its bytes are not those that were written"
        if format is Format.JSON:
            return _json_fault(body)
        if format is Format.AVIF:
            return "" if _has_whole_boxes(body) else "it is no whole AVIF"
        try:
            return self._decode(body, format)
        except CapacityError:
            self.unknown += 1
            return ""

    def _remove(self, path: str, before: os.stat_result, directory: DirectoryEntry) -> None:
        """Under the lock of its source, as everybody who writes there, and only if it still is the
        file that was looked at. Raises OSError."""
        original = directory.tree == self._layout.sources
        lock = path.rpartition("/")[2] if original else source_of(directory.place)
        with self._files.locked(lock, _LOCK_SECONDS), self._usage.removing() as freed:
            if _same(path, before):
                self._files.unlink(path, freed)


def _same(path: str, before: os.stat_result) -> bool:
    with suppress(FileNotFoundError):
        now = os.lstat(path)
        return (now.st_ino, now.st_size, now.st_mtime_ns) == (
            before.st_ino, before.st_size, before.st_mtime_ns,
        )  # fmt: skip
    return False


def _json_fault(body: bytes) -> str:
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(body), dict):
            return ""
    return "it is no info document"


def _has_whole_boxes(body: bytes) -> bool:
    """Whether it is a row of boxes to its end, the first of them `ftyp` (ISO/IEC 14496-12 4.2)."""
    place = 0
    while 0 <= place < len(body):
        size, kind = int.from_bytes(body[place : place + 4]), body[place + 4 : place + 8]
        if place == 0 and kind != b"ftyp":
            return False
        if size == 1:
            size = int.from_bytes(body[place + 8 : place + 16])
        if size == 0:  # to the end
            return True
        if size < 8:
            return False
        place += size
    return place == len(body) > 0
