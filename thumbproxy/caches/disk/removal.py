"""Removes files from the disk, for purges and for new versions of a source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from thumbproxy.caches.base import FailureRecord, Record, Removed, Scope, SourceRecord
from thumbproxy.caches.disk.files import Files
from thumbproxy.caches.disk.layout import PURGED, RECORD, Layout
from thumbproxy.caches.disk.quota import Usage
from thumbproxy.caches.disk.walk import walk
from thumbproxy.urls.codec import folder_of


@dataclass(slots=True)
class Cleared:
    """What has become of a purge.

    aside    where the trees are now that were moved out of sight
    removed  what is gone
    fault    why something is still in its place; the rest is not
    """

    aside: list[str] = field(default_factory=list)
    removed: Removed = field(default_factory=Removed)
    fault: OSError | None = None

    @contextmanager
    def each(self) -> Iterator[None]:
        """One that fails must not keep the others from being purged."""
        try:
            yield
        except OSError as error:
            self.fault = self.fault or error


class Removal:
    """Finds and removes what belongs to sources. Who calls holds their locks."""

    def __init__(self, layout: Layout, files: Files, usage: Usage) -> None:
        self._layout = layout
        self._files = files
        self._usage = usage

    def clear(self, scope: Scope, standing: Record | None, cleared: Cleared) -> None:
        """Have nothing of what `scope` covers in its place any more.

        standing: the record of the source that it is, if it is one. Raises OSError.
        """
        if scope.kind == "source":
            self._clear_source(scope.text, standing, cleared)
            return
        for path in self._trees(scope):
            with cleared.each():
                self._clear_tree(path, scope, cleared)

    def finish(self, scope: Scope, cleared: Cleared) -> None:
        """Remove what was moved aside, for which no lock is needed. Raises OSError."""
        removed = self._files.remove_aside(cleared.aside, originals=scope.kind == "folder")
        cleared.removed = cleared.removed.plus(removed)

    def remove_variants(self, source: str, standing: Record | None, record: Record) -> None:
        """Remove what was made under `standing`, in the place of which `record` comes.

        Where none stands, public renditions may be of any version, as their URLs allow; but of what
        its origin does not give any more, none may be served. Raises OSError.
        """
        trees, paths = [self._layout.private], []
        if isinstance(standing, SourceRecord):
            paths.append(self._layout.original(standing.version))
        withdrawn = isinstance(record, FailureRecord) and record.failure.withdrawn
        if withdrawn or isinstance(standing, SourceRecord):
            trees.append(self._layout.public)
        paths += self._variants(source, *trees)
        if paths:
            with self._usage.removing() as freed:
                for path in paths:
                    self._files.unlink(path, freed)

    def _clear_source(self, source: str, standing: Record | None, cleared: Cleared) -> None:
        paths = self._variants(source, self._layout.private, self._layout.public)
        if isinstance(standing, SourceRecord):
            paths.append(self._layout.original(standing.version))
        with self._usage.removing() as freed:
            # The record first: without it nothing private is served. It is not counted.
            with cleared.each():
                self._files.unlink(self._layout.record(source), freed)
            for path in paths:
                with cleared.each():
                    cleared.removed = cleared.removed.plus(self._files.unlink(path, freed))

    def _clear_tree(self, path: str, scope: Scope, cleared: Cleared) -> None:
        """Move it out of sight, which takes no time however large it is. What cannot be moved, as
        from a lower layer of overlayfs or another mount, is removed where it is."""
        try:
            aside = self._files.set_aside(path)
        except OSError:
            removed, fault = self._files.remove(path, originals=scope.kind == "folder")
            cleared.removed = cleared.removed.plus(removed)
            # Directories may stay: something is mounted there.
            if fault is not None and any(
                directory.files or directory.faults for directory in walk(path)
            ):
                raise fault from None
        else:
            cleared.aside += [aside] if aside else []

    def _trees(self, scope: Scope) -> list[str]:
        """What has all of a folder, or of the cache. The outermost folders stay: somebody may
        have set their owner and mode."""
        layout = self._layout
        if scope.kind == "folder":
            folder = folder_of(scope.text.rstrip("/"))
            return [f"{tree}/{folder}" for tree in (layout.public, layout.private)]
        found: list[str] = []
        for tree in (layout.public, layout.private, layout.sources):
            # Where somebody has removed one, there is still the rest.
            with suppress(FileNotFoundError), os.scandir(tree) as entries:
                # The mark is replaced by the new one.
                found += [entry.path for entry in entries if entry.name != PURGED]
        return found

    def _variants(self, source: str, *trees: str) -> list[str]:
        found: list[str] = []
        for tree in trees:
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                os.scandir(f"{tree}/{folder_of(source)}") as entries,
            ):
                found += [
                    entry.path
                    for entry in entries
                    if entry.name not in (RECORD, PURGED) and entry.is_file(follow_symlinks=False)
                ]
        return found
