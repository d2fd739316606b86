"""The paths of everything in a cache directory.

public/<source>/<options>.<signature>.<format>   may be served by anyone, without asking
private/<source>/<the same>                      the other renditions
private/<source>/.<options>.<format>             those of URLs that expire
private/<source>/.source                         the source's record; mtime is fresh-until
private/<folder>/.purged                         purged at its mtime: nothing older is kept; in the
                                                 composed form of its name, for all of them
sources/<hh>/<version>                           the original bytes, by their hash
tmp/                                             files that are being written, or removed
locks/                                           files whose bytes are locked, and `usage`
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress

from thumbproxy.core.formats import OUTPUTS
from thumbproxy.core.spelling import composed
from thumbproxy.urls.codec import LONGEST_SOURCE, MOST_SEGMENTS, ImageRequest, folder_of, source_of

RECORD = ".source"
PURGED = ".purged"
# Bytes. With the longest source and name below it, a path has 3337, and where a tree is moved to
# be removed some 100 more; the system takes 4095.
LONGEST_DIRECTORY = 1024
_FORMATS = "|".join(OUTPUTS)
_OURS = re.compile(
    rf"{re.escape(RECORD)}|{re.escape(PURGED)}|\.[^.].*\.(?:{_FORMATS})"
    rf"|.+\.[A-Za-z0-9_-]{{22}}\.(?:auto\.)?(?:{_FORMATS})|[0-9a-f]{{64}}"
)


class Layout:
    """Paths below `directory`. What is kept has places that differ, and none is below another's
    file: see `folder_of`."""

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

    def check(self) -> None:
        """Raise OSError for a directory whose path leaves no room for what lies below it."""
        length = len(os.fsencode(self.directory))
        if length > LONGEST_DIRECTORY:
            raise OSError(
                errno.ENAMETOOLONG,
                f"its path has {length} bytes; at most {LONGEST_DIRECTORY} are allowed",
            )

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
        return f"{tree}/{folder_of(request.source)}/{request.filename}"

    def record(self, source: str) -> str:
        return f"{self.private}/{folder_of(source)}/{RECORD}"

    def original(self, version: str) -> str:
        return f"{self.sources}/{version[:2]}/{version}"

    def marks(self, source: str) -> Iterator[str]:
        """Where a purge of the source, or of a folder that it is in, would be marked."""
        path = self.private
        yield f"{path}/{PURGED}"
        for segment in folder_of(composed(source)).split("/"):
            path = f"{path}/{segment}"
            yield f"{path}/{PURGED}"

    def mark(self, name: str) -> str:
        """Where the purge of a source or folder is marked; "" for everything."""
        return os.path.join(self.private, folder_of(composed(name.rstrip("/"))), PURGED)


def is_name(name: str) -> bool:
    """Whether a file is named like those that are asked for. Others are of another release, or were
    left by who was killed."""
    return _OURS.fullmatch(name) is not None


def is_place(folder: str) -> bool:
    """Whether a folder in a tree can be that of a source, or have such folders in it."""
    return (
        folder_of(source_of(folder)) == folder
        and folder.count("/") < MOST_SEGMENTS
        and len(os.fsencode(folder)) <= LONGEST_SOURCE
    )
