"""Renames a complete file to its place, whatever is there, on whatever file system."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from contextlib import suppress


def rename(tmp: str, path: str, closed: Collection[str] = ()) -> int:
    """Rename into a directory that may not be there yet, or be removed under us as empty.

    closed: directories that others may not look into, if they are to be made.
    How many directories were made for it; none stays if it fails. Raises OSError.
    """
    made: list[str] = []
    try:
        for _ in range(3):
            with suppress(FileNotFoundError):
                _move(tmp, path)
                return len(made)
            with suppress(FileNotFoundError):
                _make(os.path.dirname(path), made, closed)
        _move(tmp, path)
    except OSError:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)
        raise
    return len(made)


def _move(tmp: str, path: str) -> None:
    """Rename, if need be by way of a copy beside it: where a tree is on another mount than tmp/."""
    try:
        os.rename(tmp, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    # Nobody takes it for a picture, and the janitor removes what the killed leave (`is_name`).
    near = f"{os.path.dirname(path)}/.{os.path.basename(tmp)}"
    try:
        shutil.copy2(tmp, near)
        fd = os.open(near, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(near, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(near)


def _make(folder: str, made: list[str], closed: Collection[str]) -> None:
    """Make a directory and those above it; append those that were not there."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700 if folder in closed else 0o777)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        else:
            made.append(folder)
