"""Control groups of a test's own, for those who may make some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _hierarchy() -> tuple[Path, dict[str, str]]:
    """Where groups with a quota of half a processor can be made, and what is written into them."""
    mounts = Path("/proc/self/mountinfo").read_text()
    first = re.search(r" (\S+) \S+ - cgroup \S+ (?:\S+,)?cpu(?:,|$)", mounts, re.MULTILINE)
    if first:
        return Path(first[1]), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
    second = re.search(r" (\S+) \S+ - cgroup2 ", mounts)
    if second is None:
        pytest.skip("there are no control groups")
    return Path(second[1]), {"cpu.max": "50000 100000"}


@contextmanager
def quota_of_a_half(name: str) -> Iterator[Path]:
    """A group without a quota, within one that may use half a processor."""
    top, files = _hierarchy()
    outer = top / f"thumbproxy-{name}-{os.getpid()}"
    inner = outer / "inner"
    try:
        inner.mkdir(parents=True)
        for file, text in files.items():
            (outer / file).write_text(text)
    except OSError as error:
        pytest.skip(f"this user may not make a control group: {error.strerror}")
    try:
        yield inner
    finally:
        inner.rmdir()
        outer.rmdir()
