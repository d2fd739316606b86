"""What a purge, and a new version of a source, remove from the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from thumbproxy.caches.base import Record, Removed, Scope, SourceRecord, read_record
from thumbproxy.caches.files import Files
from thumbproxy.caches.layout import PURGED, RECORD, Layout
from thumbproxy.caches.usage import Usage


class Removal:
    """Finds and removes what belongs to sources. Who calls holds their locks."""

    def __init__(self, layout: Layout, files: Files, usage: Usage) -> None:
        self._layout = layout
        self._files = files
        self._usage = usage

    def set_aside(self, scope: Scope, standing: Record | None) -> list[str]:
        """Move what `scope` covers out of everyone's sight, at once; where it is now.

        standing: the record of the source that it is, if it is one. Raises OSError.
        """
        if scope.kind == "source":
            # The record first: without it nothing private is served. It is not counted.
            with self._usage.removing() as freed:
                self._files.unlink(self._layout.record(scope.text), freed)
            paths = self._of_source(scope.text, standing)
        else:
            paths = self._trees(scope)
        return [aside for aside in map(self._files.set_aside, paths) if aside]

    def finish(self, scope: Scope, paths: Sequence[str]) -> Removed:
        """Remove what was set aside, for which no lock is needed. Raises OSError."""
        aside = list(paths)
        if scope.kind == "folder":
            originals = map(self._files.set_aside, self._originals(aside))
            aside += [path for path in originals if path]
        return self._files.remove_aside(aside)

    def remove_variants(self, source: str, standing: Record | None) -> None:
        """Remove what was made under `standing`, public renditions included.

        Where no record stands, public renditions may be of any version, as their URLs allow.
        Raises OSError.
        """
        trees, paths = [self._layout.private], []
        if isinstance(standing, SourceRecord):
            paths.append(self._layout.original(standing.version))
            trees.append(self._layout.public)
        paths += self._variants(source, *trees)
        if paths:
            with self._usage.removing() as freed:
                for path in paths:
                    self._files.unlink(path, freed)

    def _trees(self, scope: Scope) -> list[str]:
        """What has all of a folder, or of the cache. The outermost folders stay: somebody may
        have set their owner and mode."""
        layout = self._layout
        if scope.kind == "folder":
            return [f"{tree}/{scope.text}".rstrip("/") for tree in (layout.public, layout.private)]
        found: list[str] = []
        for tree in (layout.public, layout.private, layout.sources):
            # Where somebody has removed one, there is still the rest.
            with suppress(FileNotFoundError), os.scandir(tree) as entries:
                # The mark is replaced by the new one.
                found += [entry.path for entry in entries if entry.name != PURGED]
        return found

    def _of_source(self, source: str, standing: Record | None) -> list[str]:
        paths = []
        if isinstance(standing, SourceRecord):
            paths.append(self._layout.original(standing.version))
        return paths + self._variants(source, self._layout.private, self._layout.public)

    def _originals(self, trees: Sequence[str]) -> list[str]:
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
                    found.append(self._layout.original(record.version))
        return found

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
