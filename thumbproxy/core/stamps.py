"""A short checksum of each rendition, kept where it costs nothing to read: in the microseconds of
its file's modification time, of which HTTP and nginx use the seconds only.

A disk that was damaged, a power cut or somebody's hand can leave a file that is empty, cut off, has
a hole of zeros or is another one. A hit has the status of the file and its bytes in hand, so a look
at some of these is all it takes: one in each sector of 512 bytes, the last ones, the length and the
format. What such a look does not find, `thumbproxy cache verify` does (verifying.py).
"""

from __future__ import annotations

import os
import zlib

from thumbproxy.core.formats import Format

# Files over this are sent by the kernel, and of them only the edges are looked at. Bytes.
LARGE = 256 * 1024
_EDGE = 4096
# A prime, so that it does not fall in with what repeats in a picture.
_STRIDE = 509
_TAIL = 16
_SECOND = 1_000_000_000
# By extension, because to hash a member of an Enum takes as long as a checksum.
_SEEDS = {format.extension: zlib.crc32(format.extension.encode()) for format in Format}


def stamped(seconds: int, body: bytes, format: Format) -> int:
    """The modification time of a rendition's file, nanoseconds. seconds: what HTTP tells of it."""
    return seconds * _SECOND + _checksum(looked_at(body), len(body), format)


def looked_at(body: bytes) -> bytes:
    """What is looked at of a file: all of it, or the edges of a large one."""
    return body if len(body) <= LARGE else body[:_EDGE] + body[-_EDGE:]


def edges(fd: int, size: int) -> bytes:
    """The same of a large file that is open. Raises OSError."""
    return os.pread(fd, _EDGE, 0) + os.pread(fd, _EDGE, size - _EDGE)


def is_intact(part: bytes, status: os.stat_result, format: Format) -> bool:
    """Whether a file still is what was written, as far as a look tells.

    part  what is looked at of it
    Whoever writes to a file changes its time, too, and so the checksum. What has no fraction of a
    second has gone through something that keeps none, such as a file system or an archive: then it
    only must not begin with zeros.
    """
    stamp = status.st_mtime_ns % _SECOND
    if stamp == 0:
        return bool(part[:_TAIL].strip(b"\0"))
    return stamp == _checksum(part, status.st_size, format)


def _checksum(part: bytes, size: int, format: Format) -> int:
    """Nanoseconds, a whole number of microseconds and never 0."""
    seen = part[::_STRIDE] + part[-_TAIL:]
    return (zlib.crc32(seen, _SEEDS[format.extension] ^ size) % 999_999 + 1) * 1000
