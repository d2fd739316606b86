"""The processes of a server, as the kernel tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, listed.read_text().split())
    return found


def family(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for child in children(pid):
        yield from family(child)


def session(leader: int) -> list[int]:
    """The processes of the session that a process has begun, whether or not it is still there."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(status.parent.name))
    return found


def renderers(pid: int) -> list[int]:
    """Those of a process's family that make pictures."""
    return [member for member in family(pid) if _name(member) == "thumb-render"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def most_memory(pid: int) -> int:
    """The most that a process has had at a time, bytes. Raises OSError for one that has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise ProcessLookupError  # it is about to be gone
    return int(found[1]) * 1024
