"""Looks at all files of a cache, however many there are, in bounded memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

# Directories below each other that are read as they are walked. Below these they are read whole, so
# that the number of open ones is bounded; so deep, they are small.
_STREAMED = 32
# Gone meanwhile, no directory any more, or of somebody else.
_PASSED_OVER = (FileNotFoundError, NotADirectoryError, PermissionError)


class Found(NamedTuple):
    """A file. size: bytes; used, modified: unix seconds."""

    path: str
    size: int
    used: float
    modified: float

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class Shelf:
    """The directories of one name, "photos/cat.jpg", in all trees that are walked together.

    folders  those that there are
    files    what lies in them, without what is below
    others   paths of what is neither file nor directory: symbolic links, for one. Never followed
    """

    place: str
    folders: list[str] = field(default_factory=list)
    files: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def look_into(path: str) -> bytes:
    """What is in a file, which does not count as a use of it. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOATIME)
    except PermissionError:  # it is another user's
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        return file.read()


def _no_rest() -> None:
    pass


def walk(*trees: str, rest: Callable[[], None] = _no_rest) -> Iterator[Shelf]:
    """Every directory of the trees, after all that are below it.

    rest  called before each entry, for those who must not take all the time
    Others may change the trees meanwhile: what comes or goes is found or not. Raises OSError.
    """
    root = Shelf("")
    stack = [(root, _below(root, trees, rest))]
    while stack:
        shelf, below = stack[-1]
        name = next(below, None)
        if name is None:
            stack.pop()
            yield shelf
        else:
            shelf = Shelf(f"{shelf.place}/{name}" if shelf.place else name)
            stack.append((shelf, _below(shelf, trees, rest)))


def _below(shelf: Shelf, trees: tuple[str, ...], rest: Callable[[], None]) -> Iterator[str]:
    """Names of directories, each once; files go onto the shelf on the way."""
    for number, tree in enumerate(trees):
        folder = f"{tree}/{shelf.place}" if shelf.place else tree
        for entry in _entries(folder, shelf):
            rest()
            if not entry.is_dir(follow_symlinks=False):
                _put(shelf, entry)
            elif not any(
                _is_folder(f"{earlier}/{shelf.place}/{entry.name}") for earlier in trees[:number]
            ):
                yield entry.name


def _entries(folder: str, shelf: Shelf) -> Iterator[os.DirEntry[str]]:
    try:
        opened = os.scandir(folder)
    except _PASSED_OVER:
        return
    shelf.folders.append(folder)
    with opened:
        yield from opened if shelf.place.count("/") < _STREAMED else list(opened)


def _put(shelf: Shelf, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except _PASSED_OVER:
        return
    if stat.S_ISREG(status.st_mode):
        found = Found(entry.path, status.st_size, status.st_atime, status.st_mtime)
        shelf.files.append(found)
    else:
        shelf.others.append(entry.path)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
