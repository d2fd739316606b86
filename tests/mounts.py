"""File systems of a test's own, for those who may mount some."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(at: Path, kind: str, options: str, what: str = "none") -> Iterator[Path]:
    """A file system of this kind; skips the test where this user may not mount any."""
    at.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", kind, "-o", options, what, str(at)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this user may not mount a file system: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A mount at `folder` of what is there, of which nothing can be removed."""
    with mounted(folder, "none", "bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield


@contextmanager
def overlay(folder: Path, lower: Path) -> Iterator[Path]:
    """An overlay of `lower`, as containers have: renaming a directory of it fails with EXDEV."""
    for name in ("upper", "work"):
        (folder / name).mkdir(parents=True)
    options = (
        f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'},redirect_dir=off"
    )
    with mounted(folder / "merged", "overlay", options, "overlay") as merged:
        yield merged
