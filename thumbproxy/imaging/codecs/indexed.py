"""Pictures of at most 256 colours: exact where they have no more, close where they have."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from PIL import Image

from thumbproxy.imaging.codecs.plugins import saved

# Up to here PNG packs two or more pixels into a byte, which is less than any grey picture takes.
_FEW = 16
# Drawings have fewer, antialiased as they are.
_MANY = 1 << 16

Colours = np.ndarray[Any, np.dtype[np.uint8]]
Numbers = np.ndarray[Any, np.dtype[np.uint32]]
# Bands of rows that stand for the whole picture. Deflate looks back 32 KB, which is 15 rows of a
# picture of 720 px: from bands of fewer rows it could not learn what repeats.
_BANDS, _BAND_ROWS = 3, 24


def compact(image: Image.Image) -> Image.Image:
    """The same pixels in as few bytes each as PNG can have: mode P, or L for greys, or as it was.

    `image` is L, LA, RGB or RGBA. Transparent pixels keep their colours. Costs microseconds for a
    photo, because counting stops at the 257th colour.
    """
    if image.getcolors(_FEW if image.mode == "L" else 256) is None:
        return image
    pixels, colours = _colours(image)
    if len(colours) > _FEW and _grey(colours):
        return image.getchannel(0)
    return _indexed(image.size, pixels, colours)


def exact(image: Image.Image, most: int) -> Image.Image | None:
    """The same pixels with a palette, mode P; None if `image` has more than `most` colours."""
    if image.getcolors(most) is None:
        return None
    return _indexed(image.size, *_colours(image))


def bits(image: Image.Image) -> int:
    """How many bits an index of `image` (P) takes: 1, 2, 4 or 8."""
    # Pillow counts by itself, but three bytes for each colour also where there are four.
    palette = image.palette
    colours = len(palette.palette) // len(palette.mode) if palette else 256
    return next(bits for bits in (1, 2, 4, 8) if colours <= 1 << bits)


def close(image: Image.Image, most: int, drawing: bool) -> Image.Image:
    """`image` (RGB) with a palette of at most `most` colours that come close.

    Drawings keep their flat areas flat. Photos are dithered, because without it skies show bands;
    the octree finds the rare bright colours that the median cut drops, and is six times as fast.
    """
    # The median cut takes 1 us for each colour: 16 s for what has as many as pixels.
    if drawing and image.getcolors(_MANY) is not None:
        return image.quantize(most, Image.Quantize.MEDIANCUT)
    palette = image.quantize(most, Image.Quantize.FASTOCTREE)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _colours(image: Image.Image) -> tuple[Numbers, Colours]:
    """The pixels as numbers, and their colours as rows of red, green, blue and alpha, ascending.

    `image` has at most 256 colours.
    """
    picture = image.convert("RGBA")
    pixels = np.frombuffer(picture.tobytes(), np.uint32)
    colours = np.array([colour for _, colour in picture.getcolors(256) or ()], np.uint8)
    return pixels, np.sort(colours.view(np.uint32), axis=0).view(np.uint8)


def _grey(colours: Colours) -> bool:
    """Whether all are opaque greys."""
    return bool((colours[:, :1] == colours[:, 1:3]).all() and (colours[:, 3] == 255).all())


def _indexed(size: tuple[int, int], pixels: Numbers, colours: Colours) -> Image.Image:
    numbers = np.searchsorted(colours.view(np.uint32).ravel(), pixels)
    made = Image.frombytes("P", size, numbers.astype(np.uint8).tobytes())
    if (colours[:, 3] == 255).all():
        made.putpalette(colours[:, :3].tobytes())
    else:
        made.putpalette(colours.tobytes(), "RGBA")
    return made


def is_drawing(image: Image.Image) -> bool:
    """Whether the picture repeats itself, as drawings, texts and screenshots do and photos do not.

    That is what deflate finds besides runs; a few rows of the picture are compressed to see.
    Photos gain less than a tenth by it, or even lose, and take twice the time.
    """
    rows = _BANDS * _BAND_ROWS
    sample = image
    if image.height > 2 * rows:
        sample = Image.new(image.mode, (image.width, rows))
        for band in range(_BANDS):
            top = (band + 1) * image.height // (_BANDS + 1)
            rows_of_band = image.crop((0, top, image.width, top + _BAND_ROWS))
            sample.paste(rows_of_band, (0, band * _BAND_ROWS))
    runs = saved(sample, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    repeats = saved(sample, "PNG", compress_level=4, compress_type=zlib.Z_DEFAULT_STRATEGY)
    return len(repeats) < 0.9 * len(runs)
