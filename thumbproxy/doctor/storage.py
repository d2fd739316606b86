"""Checks the cache directory and its file system."""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from thumbproxy.config.settings import Settings
from thumbproxy.core.resources import size, unescaped
from thumbproxy.core.shortage import reason
from thumbproxy.doctor.findings import Finding

_GROUP = "disk"
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.s3fs", "glusterfs")
_MEMORY = ("tmpfs", "ramfs")
# Not enough for anything.
_NO_BYTES, _NO_FILES = 16 * 1024 * 1024, 100
_TREES = ("public", "private", "sources", "tmp", "locks")
_CLOSED = _TREES[1:]
_LOCK = struct.Struct("hhqqi4x")


class Held(NamedTuple):
    """What the cache holds, as it counts itself, and may hold; 0: no bound."""

    bytes: int
    files: int
    max_bytes: int
    max_files: int


class Mount(NamedTuple):
    place: str
    kind: str
    options: frozenset[str]


def storage(settings: Settings, held: Held) -> Iterator[Finding]:
    if not settings.cache_dir:
        yield Finding(
            _GROUP, "note" if settings.memcached else "critical",
            "there is no cache_dir: what is not in memcached is fetched and made anew",
            "set cache_dir",
        )  # fmt: skip
        return
    directory = Path(settings.cache_dir).expanduser().absolute()
    there = directory
    while not os.path.exists(there):  # Path.exists() raises for what may not be looked at
        there = there.parent
    mount = mount_of(there)
    yield from _usable(directory, there)
    yield from _kind(directory, mount, settings)
    yield from _room(there, held)
    if directory.is_dir():
        yield from _rights(directory)
        yield from _devices(directory)


def mount_of(place: Path, mounts: Path = _MOUNTS) -> Mount:
    """The file system of a place that is there (proc(5): mountinfo). The last mount counts."""
    path, best = os.path.realpath(place), Mount("/", "unknown", frozenset())
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return best
    for line in lines:
        fields, _, system = line.partition(" - ")
        parts = fields.split()
        point = unescaped(parts[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.place):
            options = frozenset((*parts[5].split(","), *system.split()[-1].split(",")))
            best = Mount(point, system.split()[0], options)
    return best


def _usable(directory: Path, there: Path) -> Iterator[Finding]:
    if there != directory:
        try:  # rights do not tell all: it may be no folder, or a file system that cannot be written
            tempfile.TemporaryDirectory(dir=there).cleanup()
        except OSError as error:
            yield _cannot(directory, f"it cannot be made in {there}: {reason(error, str(there))}")
        else:
            yield Finding(_GROUP, "ok", f"{directory} is not there yet, and can be made")
        return
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
            file.flush()
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    except OSError as error:
        yield _cannot(directory, reason(error, str(directory)))
    else:
        yield Finding(_GROUP, "ok", f"{directory} takes files and locks")


def _cannot(directory: Path, why: str) -> Finding:
    advice = "choose a folder that this user may write to, on a file system that has locks"
    return Finding(_GROUP, "critical", f"{directory} cannot be used: {why}", advice)


def _kind(directory: Path, mount: Mount, settings: Settings) -> Iterator[Finding]:
    where = f"{directory} is on {mount.kind}"
    if mount.kind in _MEMORY:
        yield Finding(
            _GROUP, "note", f"{where}: it takes memory, and is gone after a restart",
            f"count cache_max_bytes, {size(settings.cache_max_bytes)}, as memory in use",
        )  # fmt: skip
    elif mount.kind in _NETWORK:
        yield Finding(
            _GROUP, "warning", f"{where}: each hit waits for another machine, and so do locks",
            "use a local disk, and memcached between hosts",
        )  # fmt: skip
    elif mount.kind == "overlay":
        yield Finding(
            _GROUP, "note", f"{where}: it is gone when the container is", "mount a volume there"
        )
    else:
        yield Finding(_GROUP, "ok", where)
    # thumbproxy records each use itself, once an hour (reader.py); nginx leaves it to the kernel.
    if "noatime" in mount.options:
        yield Finding(
            _GROUP, "note",
            f"{mount.place} has noatime: what only nginx serves from the files seems unused, and "
            "is removed first when room is needed",
            "mount it with relatime, if nginx serves hits",
        )  # fmt: skip
    elif "relatime" not in mount.options and "ro" not in mount.options:
        yield Finding(
            _GROUP, "note", f"{mount.place} has neither relatime nor noatime: each hit is written",
            "mount it with relatime",
        )  # fmt: skip


def _room(there: Path, held: Held) -> Iterator[Finding]:
    system = os.statvfs(there)
    free = system.f_bavail * system.f_frsize
    if not held.max_bytes:
        yield Finding(
            _GROUP, "warning", "cache_max_bytes is 0: the cache grows until the disk is full",
            "set it to what the disk has to spare",
        )  # fmt: skip
    yield _fits("bytes", free, held.bytes, held.max_bytes, _NO_BYTES)
    if system.f_files:  # some file systems make as many as are wanted
        yield _fits("inodes", system.f_favail, held.files, held.max_files, _NO_FILES)


def _fits(what: str, free: int, kept: int, bound: int, nothing: int) -> Finding:
    words = size if what == "bytes" else "{:,.0f} inodes".format
    name = "cache_max_bytes" if what == "bytes" else "cache_max_files"
    text = f"{words(free)} free on its file system"
    if free < nothing and not 0 < bound <= kept:
        return Finding(
            _GROUP, "critical", f"{text}: nothing new can be kept",
            "make room, or `thumbproxy cache trim`",
        )  # fmt: skip
    room = kept + free
    if bound and room < bound:
        advice = f"lower {name} to {int(room * 0.9)}, or make room"
        text += f", of {words(bound)} that the cache may hold and {words(kept)} that it does"
        return Finding(_GROUP, "warning", f"{text}: the disk is full before the cache is", advice)
    return Finding(_GROUP, "ok", text)


def _rights(directory: Path) -> Iterator[Finding]:
    for place in (directory, *(directory / tree for tree in _TREES)):
        try:
            status = place.stat()
        except OSError:
            continue
        if status.st_mode & 0o002:
            yield Finding(
                _GROUP, "critical",
                f"everyone may write to {place}: and so replace what is served",
                f"chmod o-w {place}",
            )  # fmt: skip
        elif place.name in _CLOSED and status.st_mode & 0o077 and place != directory:
            yield Finding(_GROUP, "warning", f"others may look into {place}", f"chmod 700 {place}")
        if status.st_uid != os.geteuid() and os.geteuid() != 0:
            yield Finding(
                _GROUP, "warning", f"{place} belongs to another user",
                f"serve as that user, or chown -R {os.geteuid()} {directory}",
            )  # fmt: skip


def _devices(directory: Path) -> Iterator[Finding]:
    """Files are renamed from tmp/ to where they belong, which cannot be done between two."""
    try:
        device = (directory / "tmp").stat().st_dev
    except OSError:
        return
    for tree in _TREES[:3]:
        try:
            other = (directory / tree).stat().st_dev != device
        except OSError:
            continue
        if other:
            yield Finding(
                _GROUP, "critical", f"{directory / tree} and tmp are on two file systems",
                "mount the cache directory as a whole",
            )  # fmt: skip
