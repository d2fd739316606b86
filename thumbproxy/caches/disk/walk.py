"""Visits all files of a cache, however many and however deep, with bounded memory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from typing import NamedTuple

# Directories below each other that are read as they are walked. Below these they are read whole, so
# that the number of open ones is bounded; so deep, they are small.
_STREAMED = 32
# Bytes of a path to which a name of 255 can be added: the system takes 4095.
_LONGEST_PATH = 3072
# Directories of a tree that are held open because paths to them are longer than that.
_HELD = 100
# Where a place is so long, it is no source's, and no longer told apart from those below it.
_LONGEST_PLACE = 8192
# Of the process, and not of what it looks at.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


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
class DirectoryEntry:
    """The directories of one name, "photos/cat.jpg", in all trees that are walked together.

    tree     the first of these
    folders  those that there are
    files    what lies in them, without what is below
    others   paths of what is neither file nor directory: symbolic links, for one. Never followed
    faults   why some of it could not be looked at, or removed

    Paths hold until the next shelf is asked for.
    """

    place: str
    tree: str
    folders: list[str] = field(default_factory=list)
    files: list[Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    faults: list[OSError] = field(default_factory=list)

    @contextmanager
    def passing_over(self) -> Iterator[None]:
        """Nothing is wrong with what is gone. Other failures are noted: one file or directory that
        cannot be read or removed must not keep all others from it."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            if error.errno in _OURS:
                raise
            self.faults.append(error)


def opened(path: str) -> BufferedReader:
    """A file for reading, which does not count as a use of it. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # it is another user's
        fd = os.open(path, flags)
    return open(fd, "rb")


def look_into(path: str) -> bytes:
    """What is in a file, likewise. Raises OSError."""
    with opened(path) as file:
        return file.read()


def _no_rest() -> None:
    pass


def walk(*trees: str, rest: Callable[[], None] = _no_rest) -> Iterator[DirectoryEntry]:
    """Every directory of the trees, after all that are below it.

    rest  called before each entry, for those who must not take all the time
    Others may change the trees meanwhile: what comes or goes is found or not. What fails is told in
    `faults`; raises OSError for want of memory or descriptors.
    """
    root = DirectoryEntry("", trees[0])
    stack = [_Level(root, trees, 0, 0)]
    walks = [stack[0].below(rest)]
    try:
        while stack:
            level = stack[-1]
            name = next(walks[-1], None)
            if name is not None:
                stack.append(level.into(name))
                walks.append(stack[-1].below(rest))
                continue
            yield level.directory
            walks.pop()
            stack.pop().close()
    finally:
        while stack:
            walks.pop().close()
            stack.pop().close()


def directories(path: str, rest: Callable[[], None] = _no_rest) -> Iterator[DirectoryEntry]:
    """The same of what there is at `path`, a file or a tree."""
    directory = DirectoryEntry("", path)
    with directory.passing_over():
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            return walk(path, rest=rest)
        directory.files.append(_found(path, status))
    return iter([directory])


class _Level:
    """One directory of a walk, in each tree.

    folders  their paths, by which they can be removed
    depth    how many there are above it
    held     how many of these are held open
    """

    def __init__(
        self, directory: DirectoryEntry, folders: tuple[str, ...], depth: int, held: int
    ) -> None:
        self.directory = directory
        self._folders = folders
        self._depth = depth
        self._fds: list[int] = []
        self._held = held
        self._bases = tuple(map(self._base, folders))

    def into(self, name: str) -> _Level:
        place = self.directory.place
        if len(place) < _LONGEST_PLACE:
            place = f"{place}/{name}" if place else name
        folders = tuple(f"{base}/{name}" for base in self._bases)
        return _Level(
            DirectoryEntry(place, self.directory.tree), folders, self._depth + 1, self._held
        )

    def below(self, rest: Callable[[], None]) -> Generator[str, None, None]:
        """Names of directories, each once; files are noted in `directory` on the way."""
        for number, (folder, base) in enumerate(zip(self._folders, self._bases, strict=True)):
            with self.directory.passing_over(), os.scandir(base) as opened:
                self.directory.folders.append(folder)
                for entry in opened if self._depth < _STREAMED else list(opened):
                    rest()
                    if not entry.is_dir(follow_symlinks=False):
                        _put(self.directory, entry)
                    elif not any(
                        _is_folder(f"{earlier}/{entry.name}") for earlier in self._bases[:number]
                    ):
                        yield entry.name

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def _base(self, folder: str) -> str:
        """A short path to the directory, for those of what is in it."""
        if len(os.fsencode(folder)) <= _LONGEST_PATH or self._held >= _HELD:
            return folder
        try:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fds.append(os.open(folder, flags))
        except OSError:  # what is tried with it fails as well, and tells
            return folder
        self._held += 1
        return f"/proc/self/fd/{self._fds[-1]}"


def _put(directory: DirectoryEntry, entry: os.DirEntry[str]) -> None:
    with directory.passing_over():
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            directory.files.append(_found(entry.path, status))
        else:
            directory.others.append(entry.path)


def _found(path: str, status: os.stat_result) -> Found:
    return Found(path, status.st_size, status.st_atime, status.st_mtime)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
