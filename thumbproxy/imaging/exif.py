"""The orientation of an image, from its EXIF and XMP; nothing else is read from these."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

_ORIENTATION = 0x0112
_SHORT = 3
# Cameras write some fifty entries, in one block.
_MOST_ENTRIES = 1_000
_MOST_BLOCKS = 64
_MOST_XMP = 256 * 1024
# An attribute, or an element. Every repetition has a bound, so the search is a single pass.
_XMP = re.compile(rb"tiff:Orientation(?:\s{0,9}=\s{0,9}[\"']|\s{0,9}>)\s{0,9}([1-8])\s{0,9}[\"'<]")


def upright(blocks: Sequence[bytes], xmp: bytes) -> int:
    """The orientation, 1 to 8, that the first EXIF block states, else the XMP packet, else 1.

    Blocks begin with their TIFF header. Cameras and editors write many broken ones, and none of
    them is a reason to refuse the picture.
    """
    for block in blocks[:_MOST_BLOCKS]:
        stated = _stated(block)
        if stated:
            return stated
    found = _XMP.search(xmp, 0, _MOST_XMP)
    return int(found[1]) if found else 1


def _stated(block: bytes) -> int:
    """TIFF 6.0 section 2, EXIF 2.3 section 4.6.4. 0 for a block that is malformed or silent."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 0
    try:
        (offset,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, offset)
        # Entries are 12 bytes: tag, type, number of values, and the value itself if it is short.
        for entry in range(offset + 2, offset + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 0
    except struct.error:
        pass  # an offset or a count that points outside the block
    return 0
