"""The processes of a server by what they do, and what each of them holds."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROLES = ("master", "worker", "fork server", "render")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


class Process(NamedTuple):
    pid: int
    role: str
    zombie: bool


class Held(NamedTuple):
    """Bytes of memory, resident and with what is shared divided among those who share it (0 where
    that was not asked for); open files; threads."""

    rss: int
    pss: int
    files: int
    threads: int


def family(master: int) -> list[Process]:
    """The server's processes. Its workers are children of the master; of a worker, the fork server
    is the child, and what that forks makes pictures."""
    children: dict[int, list[int]] = defaultdict(list)
    states: dict[int, str] = {}
    for pid, parent, state in _processes():
        children[parent].append(pid)
        states[pid] = state
    found = []
    level = [master]
    for role in ROLES:
        found += [Process(pid, role, states[pid] == "Z") for pid in level if pid in states]
        level = [child for pid in level for child in children[pid]]
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:  # it has just ended
                continue
            yield int(entry.name), int(fields[1]), fields[0]


def rss(pid: int) -> int:
    """0 of a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def held(pid: int) -> Held:
    """Raises OSError where the process has ended."""
    proc = Path(f"/proc/{pid}")
    lines = (proc / "smaps_rollup").read_text().splitlines()
    pss = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    threads = len(list((proc / "task").iterdir()))
    return Held(rss(pid), pss, len(list((proc / "fd").iterdir())), threads)
