"""The header and the blocks of a GIF."""

from __future__ import annotations

import re
import struct

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.headers.facts import (
    MOST_BLOCKS,
    MOST_COMMENT,
    MOST_FRAMES,
    MOST_SEGMENTS,
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
    for _ in range(MOST_BLOCKS):
        found = _BLOCK.search(source, at)
        if found is None or found[0] == b"\x3b" or frames > MOST_FRAMES:
            break
        at = found.start()
        if found[0] == b"\x21":  # an extension
            if source[at + 1] == 0xF9 and source[at + 3] & 1:
                has_alpha = True
            after = _after_blocks(source, at + 2)
            comments += after - at if source[at + 1] == 0xFE else 0
            at = after
        else:
            frames += 1
            left, top, right, bottom, flags = struct.unpack_from("<HHHHB", source, at + 1)
            # As browsers and Pillow do: a frame that is larger than the screen enlarges it.
            width, height = max(width, left + right), max(height, top + bottom)
            at = _after_blocks(source, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    else:
        raise too_many_parts()
    if comments > MOST_COMMENT:
        raise BrokenImage("The source image has far longer comments than pictures have.")
    return Header(Format.GIF, width, height, frames, has_alpha=has_alpha)


def _after_blocks(source: bytes, at: int) -> int:
    """The position after a run of sub-blocks, or the end of a file that ends within one."""
    end = len(source)
    # Sub-blocks have 255 bytes, but for the last; of shorter ones there cannot be too many.
    for _ in range(end // 32 + MOST_SEGMENTS):
        if at >= end:
            return at
        length = source[at]
        at += 1 + length
        if not length:
            return at
    raise too_many_parts()
