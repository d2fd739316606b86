"""The header and the blocks of a GIF."""

from __future__ import annotations

import re
import struct

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.headers.facts import (
    MOST_BLOCKS,
    MOST_COMMENT,
    MOST_FRAMES,
    Header,
    too_many_parts,
)
from thumbproxy.media import Format

# What begins a block: an extension, an image, the end.
_BLOCK = re.compile(rb"[\x21\x2c\x3b]")


def read_gif(source: bytes) -> Header:
    """GIF89a sections 18 to 23."""
    width, height, flags = struct.unpack_from("<HHB", source, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    frames, comments, has_alpha = 0, 0, False
    # Sub-blocks have 255 bytes, but for the last of a run; of shorter ones there cannot be many.
    spare = len(source) // 32 + 2 * MOST_BLOCKS
    for _ in range(MOST_BLOCKS):
        found = _BLOCK.search(source, at)
        if found is None or found[0] == b"\x3b" or frames > MOST_FRAMES:
            break
        at = found.start()
        if found[0] == b"\x21":  # an extension
            if source[at + 1] == 0xF9 and source[at + 3] & 1:
                has_alpha = True
            after, spare = _after_blocks(source, at + 2, spare)
            comments += after - at if source[at + 1] == 0xFE else 0
            at = after
        else:
            frames += 1
            left, top, right, bottom, flags = struct.unpack_from("<HHHHB", source, at + 1)
            # As browsers and Pillow do: a frame that is larger than the screen enlarges it.
            width, height = max(width, left + right), max(height, top + bottom)
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
            at, spare = _after_blocks(source, at, spare)
    else:
        raise too_many_parts()
    if comments > MOST_COMMENT:
        raise BrokenImage("The source image has far longer comments than pictures have.")
    return Header(Format.GIF, width, height, frames, has_alpha=has_alpha)


def _after_blocks(source: bytes, at: int, most: int) -> tuple[int, int]:
    """The position after a run of sub-blocks, or the end of a file that ends within one; and how
    many of `most` sub-blocks are left for the rest of the file."""
    end = len(source)
    for passed in range(most):
        if at >= end:
            return at, most - passed
        length = source[at]
        at += 1 + length
        if not length:
            return at, most - passed
    raise too_many_parts()
