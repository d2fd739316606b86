"""Where things lie in a cache directory.

public/<source>/<options>.<signature>.<format>   may be served by anyone, without asking
private/<source>/<the same, or without signature for URLs that expire>
private/<source>/.source                         the source's record; mtime is fresh-until
private/<folder>/.purged                         purged at its mtime: nothing older is kept
sources/<hh>/<version>                           the original bytes, by their hash
tmp/                                             files that are being written, or removed
locks/                                           files whose bytes are locked, and `usage`
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from thumbproxy.urls import ImageRequest

RECORD = ".source"
PURGED = ".purged"


class Layout:
    """Paths below `directory`. No segment of a source begins with a dot, so none is in the way."""

    __slots__ = ("closed", "directory", "locks", "private", "public", "sources", "tmp")

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.public = os.path.join(directory, "public")
        self.private = os.path.join(directory, "private")
        self.sources = os.path.join(directory, "sources")
        self.tmp = os.path.join(directory, "tmp")
        self.locks = os.path.join(directory, "locks")
        # What others may not look into.
        self.closed = (self.private, self.sources, self.tmp, self.locks)

    def foreign(self) -> str | None:
        """A tree that is somebody else's: there before us, in a directory that is no cache. In it
        we would remove files, and nobody else could read it any more. Raises OSError."""
        if os.path.isdir(self.locks):
            return None
        for tree in (self.public, self.private, self.sources, self.tmp):
            with suppress(FileNotFoundError), os.scandir(tree) as entries:
                if next(entries, None) is not None:
                    return tree
        return None

    def make(self) -> None:
        """Make the directories. Raises OSError."""
        os.makedirs(self.public, exist_ok=True)
        for directory in self.closed:
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, 0o700)

    def create(self, path: str, flags: int, mode: int) -> int:
        """A descriptor of a file in tmp/ or locks/, made if need be. Raises OSError."""
        flags |= os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:  # somebody emptied the cache directory under us
            self.make()
            return os.open(path, flags, mode)

    def variant(self, request: ImageRequest, public: bool) -> str:
        tree = self.public if public else self.private
        return f"{tree}/{request.source}/{request.filename}"

    def record(self, source: str) -> str:
        return f"{self.private}/{source}/{RECORD}"

    def original(self, version: str) -> str:
        return f"{self.sources}/{version[:2]}/{version}"

    def marks(self, source: str) -> Iterator[str]:
        """Where a purge of the source, or of a folder that it is in, would be marked."""
        path = self.private
        yield f"{path}/{PURGED}"
        for segment in source.split("/"):
            path = f"{path}/{segment}"
            yield f"{path}/{PURGED}"
