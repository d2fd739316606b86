"""Explains why something cannot be written, and what to do about it.

For a file system that has no inodes left the kernel has the same error, and the same words, as for
one without space; and its words for a quota do not say where.
"""

from __future__ import annotations

import errno
import os

# With so few inodes, and so many bytes, left, it is the inodes that were missing: whoever fails has
# given back what he had taken by the time that this is asked.
_FEW = 16
_ENOUGH = 1024 * 1024


def reason(error: OSError, place: str) -> str:
    """What failed at a file or directory, for people."""
    return shortage(error, place) or error.strerror or str(error)


def shortage(error: OSError, place: str) -> str:
    """What there is too little of on the file system of `place`, and what to do; or ""."""
    if error.errno == errno.EDQUOT:
        return f"the disk quota at {place} is used up: raise it, or remove files (see `quota`)"
    if error.errno != errno.ENOSPC:
        return ""
    if _without_inodes(place):
        return f"no inodes are left at {place}, whatever space there is: remove files (see `df -i`)"
    return f"no space is left at {place}: make room (see `df`)"


def _without_inodes(place: str) -> bool:
    while True:
        try:
            room = os.statvfs(place)
        except FileNotFoundError:
            place = os.path.dirname(place) or "."
        except OSError:
            return False
        else:
            break
    if not room.f_files:  # as on btrfs, which makes them when they are needed
        return False
    enough = room.f_bavail * room.f_frsize >= _ENOUGH
    return not room.f_favail or (room.f_favail < _FEW and enough)
