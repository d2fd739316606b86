"""The header, the blocks and the images of a GIF."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from thumbproxy.core.errors import BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.canvas import Disposal, Place, shows_through
from thumbproxy.imaging.codecs.header import (
    MOST_BLOCKS,
    MOST_COMMENT,
    MOST_FRAMES,
    Header,
    too_many_parts,
)

# What begins a block: an extension, an image, the end.
_BLOCK = re.compile(rb"[\x21\x2c\x3b]")
_IMAGE, _END = b",", b";"
_CONTROL, _COMMENT = 0xF9, 0xFE
_CODE_SIZES = range(1, 13)
# Browsers read 4 as 3: early writers took the field for flags.
_DISPOSALS = {2: Disposal.CLEAR, 3: Disposal.RESTORE, 4: Disposal.RESTORE}


@dataclass(frozen=True, slots=True)
class GifImage:
    """One image as it lies in the file, and what the block before it says.

    box          left, top, right and bottom; it may reach beyond the canvas
    delay        1/100 s
    transparent  the index that is not drawn; None for none
    table        the bounds of its own colour table; empty for that of the file
    pixels       the bounds of its compressed pixels; the file may end within
    """

    box: tuple[int, int, int, int]
    disposal: Disposal
    delay: int
    transparent: int | None
    interlaced: bool
    table: slice
    pixels: slice

    def place(self, size: tuple[int, int]) -> Place:
        """Where it is seen, on a canvas of that size; what lies outside is cut off."""
        left, right = (min(edge, size[0]) for edge in self.box[::2])
        top, bottom = (min(edge, size[1]) for edge in self.box[1::2])
        return Place((left, top, right, bottom), self.disposal, opaque=self.transparent is None)


def is_gif(source: bytes) -> bool:
    """By its first six bytes, of which there are two kinds."""
    return source.startswith((b"GIF87a", b"GIF89a"))


def read_gif(source: bytes) -> Header:
    """GIF89a sections 18 to 23."""
    width, height = struct.unpack_from("<HH", source, 6)
    images = list(gif_images(source))
    if images:
        # As browsers do: a first image that is larger than the screen enlarges it, no other does.
        _, _, right, bottom = images[0].box
        width, height = max(width, right), max(height, bottom)
    places = [image.place((width, height)) for image in images]
    return Header(
        Format.GIF,
        width,
        height,
        len(images),
        has_alpha=not all(place.opaque for place in places)
        or shows_through(places, (width, height)),
        places=tuple(places),
        hidden=sum(map(_hidden, images, places)),
    )


def _hidden(image: GifImage, place: Place) -> int:
    """How many pixels are decoded though nobody sees them; nothing is of an image without any."""
    shown = _area(place.box)
    return _area(image.box) - shown if shown else 0


def _area(box: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def gif_images(source: bytes) -> Iterator[GifImage]:
    """The images of a GIF, as far as the file has them; their pixels may be cut short."""
    traits, delay, index = nothing = 0, 0, 0
    for start, body, end in gif_blocks(source):
        if source.startswith(_IMAGE, start):
            left, top, width, height, flags = struct.unpack_from("<4HB", source, start + 1)
            yield GifImage(
                (left, top, left + width, top + height),
                _DISPOSALS.get(traits >> 2 & 7, Disposal.KEEP),
                delay,
                index if traits & 1 else None,
                bool(flags & 0x40),
                slice(start + 10, body),
                slice(body, end),
            )
            traits, delay, index = nothing  # they are for one image
        elif source[start + 1] == _CONTROL and body + 5 <= len(source):
            traits, delay, index = struct.unpack_from("<BHB", source, body + 1)


def gif_blocks(source: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, body, end) of every extension and image.

    The body of an extension is its sub-blocks, that of an image its LZW code size and sub-blocks.
    Once there is an image, whatever is no block ends the file, as in browsers; so does a block that
    has only begun. Thus a trailer that is missing or damaged does no harm, nor what follows it.
    """
    end, images, comments = 13 + table_size(source[10]), 0, 0
    # Sub-blocks have 255 bytes, but for the last of a run; of shorter ones there cannot be many.
    spare = len(source) // 32 + 2 * MOST_BLOCKS
    for _ in range(MOST_BLOCKS):
        found = _BLOCK.match(source, end) if images else _BLOCK.search(source, end)
        if found is None or found[0] == _END or images > MOST_FRAMES:
            return
        start, is_image = found.start(), found[0] == _IMAGE
        body = _image_body(source, start) if is_image else start + 2
        if body + is_image >= len(source) or (is_image and source[body] not in _CODE_SIZES):
            return
        end, spare = _after_blocks(source, body + is_image, spare)
        images += is_image
        comments += end - start if source[start + 1] == _COMMENT and not is_image else 0
        if comments > MOST_COMMENT:
            raise BrokenImage("The source image has far longer comments than pictures have.")
        yield start, body, end
    raise too_many_parts()


def _image_body(source: bytes, start: int) -> int:
    """What follows the descriptor of the image at `start` and its colour table."""
    flags = source[start + 9 : start + 10]
    return start + 10 + (table_size(flags[0]) if flags else 0)


def table_size(flags: int) -> int:
    """How many bytes a colour table has, by the flags before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(source: bytes, at: int, most: int) -> tuple[int, int]:
    """The position after a run of sub-blocks, or beyond the end of a file that ends within one; and
    how many of `most` sub-blocks are left for the rest of the file."""
    end = len(source)
    for passed in range(most):
        if at >= end:
            return at, most - passed
        length = source[at]
        at += 1 + length
        if not length:
            return at, most - passed
    raise too_many_parts()
