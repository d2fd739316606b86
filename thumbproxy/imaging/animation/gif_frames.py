"""GIF89a to the parts of an animation."""

from __future__ import annotations

import re
import struct
from functools import partial

from PIL import Image

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.animation.parts import (
    MOST_PLAYS,
    Animation,
    Disposal,
    Part,
    composed,
    count,
    opened,
    shown,
)
from thumbproxy.imaging.headers import Header

_BLOCK = re.compile(rb"[\x21\x2c\x3b]")
_LOOPS = (b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01")
# Browsers read 4 as 3: early writers took the field for flags.
_DISPOSALS = {2: Disposal.CLEAR, 3: Disposal.RESTORE, 4: Disposal.RESTORE}


def read_gif(source: bytes, header: Header) -> Animation:
    """See frames.decode_frames."""
    loop, parts, control = 1, [], b"\0\0\0\0"
    shared, at = _palette(source, 13, source[10])
    while (found := _BLOCK.search(source, at)) and found[0] != b"\x3b":
        at = found.start()
        if found[0] == b"\x2c":
            part, at = _part(source, at, shared, control)
            parts.append(part)
            control = b"\0\0\0\0"  # it is for one frame
            continue
        if source.startswith(_LOOPS, at + 2):
            # The repetitions after the first time.
            (times,) = struct.unpack_from("<H", source, at + 16)
            loop = min(times + 1, MOST_PLAYS) if times else 0
        elif source[at + 1] == 0xF9:
            control = source[at + 3 : at + 7]
        at = _after_blocks(source, at + 2)
    count(len(parts), header)
    for left, top, right, bottom in (part.box for part in parts):
        # What lies outside of the canvas is cut off, but first it would have to be decoded.
        if right - left > header.width or bottom - top > header.height:
            raise BrokenImage(log="a frame is larger than the canvas")
    return Animation(composed(parts, (header.width, header.height)), loop)


def _part(source: bytes, at: int, shared: bytes, control: bytes) -> tuple[Part, int]:
    """The frame whose image descriptor is at `at`, and the position after it."""
    left, top, width, height, flags = struct.unpack_from("<HHHHB", source, at + 1)
    palette, start = _palette(source, at + 10, flags)
    end = _after_blocks(source, start + 1)
    traits, delay, key = struct.unpack("<BHB", control)
    transparent = key if traits & 1 else None
    size, interlaced = (width, height), flags & 0x40
    return Part(
        box=(left, top, left + width, top + height),
        duration=round(shown(delay * 10)),
        disposal=_DISPOSALS.get(traits >> 2 & 7, Disposal.KEEP),
        over=True,
        opaque=transparent is None,
        decode=partial(
            _pixels, memoryview(source)[start:end], size, interlaced, palette or shared, transparent
        ),
    ), end


def _pixels(
    pixels: memoryview,
    size: tuple[int, int],
    interlaced: int,
    palette: bytes,
    transparent: int | None,
) -> Image.Image:
    """A frame, decoded as a still GIF of its own."""
    if not size[0] or not size[1]:  # nothing is drawn, but it takes its time
        return Image.new("RGBA", size)
    table = 0x80 | (len(palette) // 3).bit_length() - 2 if palette else 0
    screen = struct.pack("<HHBBB", *size, table, 0, 0)
    place = struct.pack("<HHHHB", 0, 0, *size, interlaced)
    image = opened(b"".join((b"GIF89a", screen, palette, b",", place, pixels, b";")), "GIF")
    if transparent is None:
        return image.convert("RGB")
    image.info["transparency"] = transparent
    return image.convert("RGBA")


def _palette(source: bytes, at: int, flags: int) -> tuple[bytes, int]:
    """The colour table at `at`, if the flags before it say that there is one; where it ends."""
    size = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    palette = source[at : at + size]
    if len(palette) != size:
        raise BrokenImage(log="a colour table is cut short")
    return palette, at + size


def _after_blocks(source: bytes, at: int) -> int:
    """The position after a run of sub-blocks."""
    while length := source[at]:
        at += 1 + length
    return at + 1
