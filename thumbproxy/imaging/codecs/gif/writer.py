"""Pictures to an animated GIF (GIF89a) of few bytes that shows the right picture at every instant.

A frame holds only the pixels that differ from what is shown already; the others are transparent.
Pillow compresses them, but writes none of the structure: its own writer merges frames, chooses
palettes and disposes in ways that show.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageChops

from thumbproxy.imaging.codecs.gif.palette import Palette, Palettes, shared_palette

# What no eye sees beside the error of 255 colours, and what repeated dithering makes of one colour.
_TOLERANCE = 3
_DIFFERS = [0] * (_TOLERANCE + 1) + [255] * (255 - _TOLERANCE)
_KEEP, _CLEAR = 1, 2
# Browsers show frames of 1/100 s for ten times as long.
_SHORTEST = 2
_LONGEST = 65_535
_HALF = 128  # of an alpha channel
_SOLID = [0] * _HALF + [255] * (256 - _HALF)

Box = tuple[int, int, int, int]


class _Picture(NamedTuple):
    """`opaque` (L) is 255 where `pixels` (RGB) count, 0 where there is nothing."""

    pixels: Image.Image
    opaque: Image.Image


@dataclass(slots=True)
class _Part:
    """What is drawn for a frame. A frame that equals the one before makes that one last longer.

    sparse  it has a transparent index, and pixels that are not drawn
    """

    box: Box
    indices: Image.Image
    palette: Palette
    sparse: bool
    disposal: int = _KEEP
    centiseconds: int = 0


def write_gif(frames: Sequence[Image.Image], durations: Sequence[int], loop: int) -> bytes:
    """`frames` (L, LA, RGB, RGBX or RGBA; of one size; at least one), each for so many ms, played
    `loop` times; 0 for ever.

    Times are rounded to 1/100 s so that their sum stays right. What is less than half there is
    transparent, and the rest is shown on white.
    """
    size = frames[0].size
    timed = _timed(durations)
    shared = shared_palette((_picture(frames[number]) for number, _ in timed), len(timed))
    pictures = ((_picture(frames[number]), time) for number, time in timed)
    body = [_head(size, shared, loop)]
    # Some readers take an animation for opaque if its first frame names no transparent index.
    holes = any(_has_holes(frame) for frame in frames)
    for part in _parts(pictures, size, Palettes(shared)):
        part.sparse |= holes
        body.extend(_written(part, shared))
    return b"".join(body) + b";"


def _timed(durations: Sequence[int]) -> list[tuple[int, int]]:
    """(number of the frame, 1/100 s) of every frame that a GIF has the time to show.

    Of frames that are faster than that the later one is shown, so that the speed stays.
    """
    timed: list[tuple[int, int]] = []
    elapsed = began = 0
    for number, duration in enumerate(durations):
        elapsed += duration
        time = round(elapsed / 10) - began
        if time < _SHORTEST and number < len(durations) - 1:
            continue
        if time < _SHORTEST and timed:
            _, before = timed.pop()
            began, time = began - before, before + time
        time = min(max(time, _SHORTEST), _LONGEST)
        timed.append((number, time))
        began += time
    return timed


def _picture(image: Image.Image) -> _Picture:
    if "A" not in image.mode:
        return _Picture(image.convert("RGB"), Image.new("L", image.size, 255))
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    opaque = picture.getchannel("A").point(_SOLID)
    pixels = Image.alpha_composite(white, picture).convert("RGB")
    pixels.paste(0, mask=ImageChops.invert(opaque))
    return _Picture(pixels, opaque)


def _has_holes(image: Image.Image) -> bool:
    return "A" in image.mode and image.getchannel("A").point(_SOLID).getextrema() != (255, 255)


def _parts(
    pictures: Iterator[tuple[_Picture, int]], size: tuple[int, int], palettes: Palettes
) -> Iterator[_Part]:
    """What to draw, one after the other. The last part is held back: the next may change it."""
    canvas = _Picture(Image.new("RGB", size), Image.new("L", size))
    part: _Part | None = None
    for picture, time in pictures:
        gone = ImageChops.subtract(canvas.opaque, picture.opaque).getbbox()
        if part is not None and gone:
            _clear(part, gone, canvas)
        missing = _missing(picture, canvas)
        box = missing.getbbox()
        if part is not None:
            if not box and not gone and part.centiseconds + time <= _LONGEST:
                part.centiseconds += time
                continue
            yield part
        canvas.pixels.paste(picture.pixels, mask=missing)
        canvas.opaque.paste(picture.opaque, mask=missing)
        part = _drawn(picture, missing, box or (0, 0, 1, 1), palettes)
        part.centiseconds = time
    if part is not None:
        yield part


def _missing(picture: _Picture, canvas: _Picture) -> Image.Image:
    """255 where the picture has a pixel that the canvas does not show."""
    red, green, blue = ImageChops.difference(picture.pixels, canvas.pixels).split()
    differs = ImageChops.lighter(ImageChops.lighter(red, green), blue).point(_DIFFERS)
    new = ImageChops.lighter(differs, ImageChops.invert(canvas.opaque))
    return ImageChops.darker(new, picture.opaque)


def _clear(part: _Part, gone: Box, canvas: _Picture) -> None:
    """Make the end of `part` remove all pixels in `gone` and in what it has drawn itself."""
    left, top, right, bottom = part.box
    box = min(left, gone[0]), min(top, gone[1]), max(right, gone[2]), max(bottom, gone[3])
    indices = Image.new("L", (box[2] - box[0], box[3] - box[1]), part.palette.clear)
    indices.paste(part.indices, (left - box[0], top - box[1]))
    part.indices, part.box, part.sparse, part.disposal = indices, box, True, _CLEAR
    canvas.opaque.paste(0, box)


def _drawn(picture: _Picture, missing: Image.Image, box: Box, palettes: Palettes) -> _Part:
    drawn = missing.crop(box)
    palette, indices = palettes.choose(picture.pixels.crop(box), drawn)
    sparse = drawn.getextrema() != (255, 255)
    if sparse:
        indices.paste(palette.clear, mask=ImageChops.invert(drawn))
    return _Part(box, indices, palette, sparse)


# The file


def _head(size: tuple[int, int], shared: Palette, loop: int) -> bytes:
    screen = struct.pack("<6sHHBBB", b"GIF89a", *size, 0xF0 | shared.bits, 0, 0)
    if loop == 1:
        return screen + shared.table
    # The block counts the repetitions after the first time, and 0 is for ever.
    times = max(0, min(loop, _LONGEST + 1) - 1)
    return (
        screen
        + shared.table
        + struct.pack("<3s11sBBHB", b"\x21\xff\x0b", b"NETSCAPE2.0", 3, 1, times, 0)
    )


def _written(part: _Part, shared: Palette) -> Iterator[bytes]:
    left, top, right, bottom = part.box
    traits = part.disposal << 2 | part.sparse
    yield struct.pack("<3sBHBB", b"\x21\xf9\x04", traits, part.centiseconds, part.palette.clear, 0)
    own = part.palette is not shared
    yield struct.pack(
        "<BHHHHB", 0x2C, left, top, right - left, bottom - top, own and 0x80 | part.palette.bits
    )
    if own:
        yield part.palette.table
    yield _compressed(part.indices)


def _compressed(indices: Image.Image) -> bytes:
    """The pixels as in a still GIF that Pillow has written: all between descriptor and trailer."""
    buffer = io.BytesIO()
    indices.info = {}
    indices.save(buffer, "GIF", optimize=False, interlace=0)
    still = buffer.getvalue()
    return still[13 + (3 << (still[10] & 7) + 1) + 10 : -1]
