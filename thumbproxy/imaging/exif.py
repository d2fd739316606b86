"""The one thing that a picture's EXIF block is read for: its orientation."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_SHORT = 3


def orientation(block: bytes) -> int:
    """The orientation, 1 to 8, of an EXIF block that begins with its TIFF header.

    1, which is upright, for a block that is malformed or does not say: cameras and editors write
    many broken blocks, and none of them is a reason to refuse the picture. (TIFF 6.0 section 2;
    EXIF 2.3 section 4.6.4.)
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, offset)
        # Entries are 12 bytes: tag, type, number of values, and the value itself if it is short.
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass  # an offset or a count that points outside the block
    return 1
