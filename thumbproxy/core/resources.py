"""The processors and the memory that this process may use: of the machine, or of its container.

The least counts of what the machine has, the processors that the process may run on
(sched_getaffinity(2), which cpusets show in as well), and what its control group and all groups
above it are allowed (cgroups(7), version 1 and 2). Nothing is found of groups that are above what
is mounted in a container: their bounds are not to be seen from there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_Read = Callable[[Path], float]


class Bound(NamedTuple):
    """amount: processors, of which a quota may be a fraction, or bytes; source: what says so."""

    amount: float
    source: str


class Resources(NamedTuple):
    processors: Bound
    memory: Bound

    @property
    def whole_processors(self) -> int:
        """Rounded up, as Java and Go do it: with one process less, a part of a quota would never
        be used."""
        return max(1, math.ceil(self.processors.amount))


def available(root: Path = Path("/")) -> Resources:
    """What this process may use. root: where /proc and the control groups are."""
    cores, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    processors = [Bound(cores, "the machine"), Bound(usable, "the affinity of this process")]
    memory = [Bound(physical, "the machine")]
    try:
        cgroup = (root / "proc/self/cgroup").read_text()
        mountinfo = (root / "proc/self/mountinfo").read_text()
    except OSError:  # there is no /proc
        cgroup = mountinfo = ""
    for found, controller in ((processors, "cpu"), (memory, "memory")):
        for place in hierarchies(cgroup, mountinfo, controller):
            for group in place.groups(root):
                found.extend(_bounds(group, controller, place.version))
    return Resources(_least(processors), _least(memory))


def _least(bounds: list[Bound]) -> Bound:
    return min(bounds, key=lambda bound: bound.amount)


def size(number: float) -> str:
    """Bytes in words: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return (
                f"{number:.0f} {unit}"
                if unit == "bytes" or number >= 100
                else (f"{number:.1f} {unit}")
            )
        number /= 1024
    return f"{number:.1f} TiB"


class Hierarchy(NamedTuple):
    """A mount of control groups, and where in it the group of this process is.

    path    of the group below the mount, as far as its name is known
    hidden  how many groups are between the mount and `path` whose names are not known: the mount
            was made outside of the control group namespace of this process
    """

    version: int
    mount: str
    path: str
    hidden: int = 0

    def groups(self, root: Path) -> Iterator[Path]:
        """The directory of the group, and those of all above it."""
        top = root / self.mount.lstrip("/")
        group = top / self.path.lstrip("/") if not self.hidden else self._searched(top)
        while group.is_relative_to(top):
            yield group
            group = group.parent

    def _searched(self, top: Path) -> Path:
        """By the processes that are in it."""
        mine = str(os.getpid())
        for group in top.glob("*/" * self.hidden + self.path.lstrip("/")):
            try:
                if mine in (group / "cgroup.procs").read_text().split():
                    return group
            except OSError:
                continue
        return top


def hierarchies(cgroup: str, mountinfo: str, controller: str) -> Iterator[Hierarchy]:
    """Where a controller ("cpu", "memory") may have bounds for this process.

    cgroup, mountinfo: the text of these files of /proc/self (cgroups(7), proc(5))
    """
    paths = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    for line in mountinfo.splitlines():
        fields, _, more = line.partition(" - ")
        top, mount = (unescaped(field) for field in fields.split()[3:5])
        kind, _, options = more.split()[:3]
        version = {"cgroup": 1, "cgroup2": 2}.get(kind, 0)
        if version in paths and (version == 2 or controller in options.split(",")):
            yield _placed(version, mount, top, paths[version])


def _placed(version: int, mount: str, top: str, path: str) -> Hierarchy:
    """top: the group that is mounted. Both it and `path` are as seen from the root of our control
    group namespace, below which is what has no `..`."""
    up = PurePosixPath(top).parts.count("..")
    if up and ".." not in path:
        return Hierarchy(version, mount, path, hidden=up)
    if ".." not in path and PurePosixPath(path).is_relative_to(top):
        return Hierarchy(version, mount, str("/" / PurePosixPath(path).relative_to(top)))
    return Hierarchy(version, mount, "/")


def unescaped(field: str) -> str:
    """Of mountinfo, which writes blanks as octal numbers (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _bounds(group: Path, controller: str, version: int) -> Iterator[Bound]:
    for name, read in _FILES[controller, version].items():
        try:
            amount = read(group / name)
        except (OSError, ValueError, ZeroDivisionError):  # no such controller, or no bound ("max")
            continue
        yield Bound(amount, f"{group / name}")


def _cpu_max(file: Path) -> float:
    quota, period = file.read_text().split()
    return int(quota) / int(period)


def _cfs_quota(file: Path) -> float:
    quota = int(file.read_text())
    period = int(file.with_name("cpu.cfs_period_us").read_text())
    return quota / period if quota > 0 else math.inf


def _bytes(file: Path) -> float:
    return int(file.read_text())


# memory.high is no limit, but above it processes are slowed down until nothing works any more.
_FILES: dict[tuple[str, int], dict[str, _Read]] = {
    ("cpu", 1): {"cpu.cfs_quota_us": _cfs_quota},
    ("cpu", 2): {"cpu.max": _cpu_max},
    ("memory", 1): {"memory.limit_in_bytes": _bytes},
    ("memory", 2): {"memory.max": _bytes, "memory.high": _bytes},
}
