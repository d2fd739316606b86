"""One scan of a cache directory: removes what is useless, and what was used least recently.

Nobody who reads or writes is ever locked out of more than one source, for the moment that its
files take to remove. No lock is needed for the pictures themselves: a reader that has a file open
reads on, one that comes later finds none, and a file only ever appears whole, under a record that
stands. It is the count that needs it: of a file that is replaced and removed at once, each
side would give back what it took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from thumbproxy.caches.base import FailureRecord, read_record
from thumbproxy.caches.disk.age_histogram import AgeHistogram, EvictionCutoff
from thumbproxy.caches.disk.files import ASIDE, Files
from thumbproxy.caches.disk.layout import PURGED, RECORD, Layout, is_name, is_place
from thumbproxy.caches.disk.quota import Freed, Usage
from thumbproxy.caches.disk.size import FOLDER, Space, space
from thumbproxy.caches.disk.walk import DirectoryEntry, Found, directories, look_into, walk
from thumbproxy.urls.codec import source_of

# A mark or a remembered failure beats what was asked for before it. Whoever asked so long ago has
# been answered: no request takes more than 600 s.
_OUTDATED = 900.0
# Removed before what they took is given back.
_BATCH = 128

Progress = Callable[[str, int], None]


class Scan:
    """One run of a janitor. `count` goes over all trees, and so does `remove` after it."""

    def __init__(
        self,
        layout: Layout,
        files: Files,
        usage: Usage,
        rest: Callable[[], None],
        progress: Progress,
    ) -> None:
        self._layout = layout
        self._files = files
        self._usage = usage
        self._rest = rest
        self._progress = progress
        self._now = time.time()
        # Why the first of what was passed over could not be looked at, or removed.
        self.fault: OSError | None = None

    # -- counting --------------------------------------------------------------------------

    def count(self) -> AgeHistogram:
        """Count everything, and remove what has outlived its use."""
        begun = self._usage.begin()
        ages = AgeHistogram(self._now)
        for directory in self._directories():
            self._tidy(directory)
            self._note(directory)
            for found in directory.files:
                ages.note(_used(found, directory), space(found.size))
            for _ in directory.folders if directory.place else ():
                # They go with the last of their files.
                ages.note(_newest(directory), FOLDER) if directory.files else ages.add(FOLDER)
            for _ in directory.others:
                ages.add(FOLDER)
            self._progress("count", ages.total.files)
        # Last, so that what is set aside meanwhile is counted here if it was not there.
        for directory in self._set_aside():
            self._note(directory)
            for found in directory.files:
                ages.add(space(found.size))
            for _ in directory.folders:
                ages.add(FOLDER)
        self._usage.finish(begun, ages.total)
        return ages

    def _directories(self) -> Iterator[DirectoryEntry]:
        """The trees of sources together, because a record belongs to the renditions of both."""
        layout = self._layout
        yield from walk(layout.private, layout.public, rest=self._rest)
        yield from walk(layout.sources, rest=self._rest)

    def _set_aside(self) -> Iterator[DirectoryEntry]:
        names: list[str] = []
        with suppress(FileNotFoundError):
            names = [name for name in os.listdir(self._layout.tmp) if name.endswith(ASIDE)]
        for name in names:
            yield from directories(f"{self._layout.tmp}/{name}", rest=self._rest)

    def _note(self, directory: DirectoryEntry) -> None:
        self.fault = self.fault or next(iter(directory.faults), None)

    def _tidy(self, directory: DirectoryEntry) -> None:
        """What is removed here is not counted, so it is not given back either."""
        lost = not is_place(directory.place)
        outdated = [
            found
            for found in directory.files
            if lost or not is_name(found.name) or self._outdated(found, directory)
        ]
        if outdated:
            self._unlink(directory, outdated, Freed())
        _remove_empty(directory, Freed())

    def _outdated(self, found: Found, directory: DirectoryEntry) -> bool:
        if found.name not in (PURGED, RECORD) or found.modified > self._now - _OUTDATED:
            return False
        if found.name == PURGED:
            return True
        if len(directory.files) > 1:
            return False
        with suppress(OSError):
            # Where there was no picture. What is damaged is no record either.
            return isinstance(read_record(look_into(found.path)), FailureRecord | None)
        return False

    # -- removing --------------------------------------------------------------------------

    def remove(self, cut: EvictionCutoff) -> Iterator[Space]:
        """Remove what is older than the cut; what is freed is told, and given back, by and by."""
        files, directories, more = 0, self._directories(), True
        while more:
            more = False
            with self._usage.removing() as freed:
                for directory in directories:
                    self._evict(directory, cut, freed)
                    self._note(directory)
                    if freed.space.files >= _BATCH:
                        more = True
                        break
            files += freed.space.files
            self._progress("remove", files)
            yield freed.space

    def _evict(self, directory: DirectoryEntry, cut: EvictionCutoff, freed: Freed) -> None:
        variants = [found for found in directory.files if found.name not in (PURGED, RECORD)]
        doomed = [found for found in variants if cut.takes(found.used, space(found.size))]
        if len(doomed) == len(variants):
            # Its record goes with the last of a source.
            doomed += [
                found
                for found in directory.files
                if found.name == RECORD and cut.takes(_used(found, directory), space(found.size))
            ]
        if doomed:
            if len(doomed) == len(directory.files):
                for _ in directory.folders:
                    cut.takes(_newest(directory), FOLDER)
            self._unlink(directory, doomed, freed)
        if doomed or not directory.files:
            # Whoever makes a directory for a file meanwhile makes it again (files.rename).
            _remove_empty(directory, freed)

    def _unlink(self, directory: DirectoryEntry, doomed: list[Found], freed: Freed) -> None:
        """Remove files that were not used since, unless somebody is writing there: then it is in
        use. Originals are never replaced, so they need no lock."""
        if directory.tree == self._layout.sources:
            _unlink(directory, doomed, freed, self._rest)
            return
        with suppress(TimeoutError), self._files.locked(source_of(directory.place), 0):
            _unlink(directory, doomed, freed, _no_rest)


def _unlink(
    directory: DirectoryEntry, doomed: list[Found], freed: Freed, rest: Callable[[], None]
) -> None:
    gone = set()
    for found in doomed:
        rest()
        with directory.passing_over():
            status = os.lstat(found.path)
            if status.st_atime <= found.used and status.st_mtime == found.modified:
                os.unlink(found.path)
                freed.add(space(status.st_size))
                gone.add(found.path)
    directory.files = [found for found in directory.files if found.path not in gone]


def _remove_empty(directory: DirectoryEntry, freed: Freed) -> None:
    """The trees themselves stay: somebody may have set their owner and mode."""
    used = {os.path.dirname(found.path) for found in directory.files}
    for folder in [
        folder for folder in directory.folders if folder not in used and directory.place
    ]:
        with suppress(OSError):  # there is something below it
            os.rmdir(folder)
            directory.folders.remove(folder)
            freed.add(FOLDER)


def _used(found: Found, directory: DirectoryEntry) -> float:
    """When it was last used. A record is used with each rendition that it stands for."""
    if found.name != RECORD:
        return found.used
    return _newest(directory)


def _newest(directory: DirectoryEntry) -> float:
    return max(found.used for found in directory.files)


def _no_rest() -> None:
    pass
