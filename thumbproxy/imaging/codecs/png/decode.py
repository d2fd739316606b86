"""The pixels of one PNG, of every depth and kind of colour, in a mode that resizing understands.

Stills and the frames of an APNG are decoded alike.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.modes import in_channels, resizable
from thumbproxy.imaging.codecs.plugins import check_size
from thumbproxy.imaging.codecs.png.header import essential_png
from thumbproxy.imaging.codecs.still import decoded
from thumbproxy.imaging.geometry import Plan

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_BAND = 256  # rows
_AFTER_PIXELS = 4 + 4 + 12  # checksums of the stream and of its chunk, and the chunk of the end


def decode_png(source: bytes, header: Header, plan: Plan) -> Decoded:
    """A still PNG. Raises BrokenImage, and what Pillow raises."""
    return decoded(pixels_of(essential_png(source), header), header)


def pixels_of(png: bytes, header: Header) -> Image.Image:
    """L, LA, RGB or RGBA, as the file has channels; without metadata.

    png     nothing but tables, pixels and the end: see header.essential_png
    header  of the file that it is from; its key becomes alpha
    """
    try:
        return _decoded(png, header)
    except OSError:
        # A wrong checksum at the end of the stream of pixels, which browsers ignore, or pixels that
        # are damaged: without the checksum the decoder tells the one from the other.
        return _decoded(png[:-_AFTER_PIXELS], header)


def _decoded(png: bytes, header: Header) -> Image.Image:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        check_size(image, header)
        image.load()
        picture = _keyed(image, png, header) if header.key else resizable(image)
    picture = in_channels(picture, header.channels)
    picture.info = {}
    return picture


def _keyed(image: Image.Image, png: bytes, header: Header) -> Image.Image:
    """The picture of a PNG with its colour key as alpha; all bits of the samples count."""
    key = header.key
    if header.depth < 8:
        key = tuple(value * 255 // ((1 << header.depth) - 1) for value in key)  # as Pillow has them
    low = _low_bytes(png) if header.depth == 16 and len(key) == 3 else None
    alpha = Image.new("L", image.size, 255)
    # In bands: of a whole picture, what is compared would take more memory than the picture.
    for top in range(0, image.height, _BAND):
        box = (0, top, image.width, min(top + _BAND, image.height))
        if low is None:
            clear = _matching(image.crop(box), key)
        else:
            clear = _matching(image.crop(box), tuple(value >> 8 for value in key))
            clear &= _matching(low.crop(box), tuple(value & 255 for value in key))
        alpha.paste(0, box, Image.fromarray(clear))
    del low  # as large as the picture itself
    picture = resizable(image)
    picture.putalpha(alpha)
    return picture


def _matching(image: Image.Image, colour: tuple[int, ...]) -> Mask:
    """Where a picture has a colour."""
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    channels = samples.reshape(*samples.shape[:2], -1)
    same: Mask = channels[..., 0] == colour[0]
    for channel in range(1, len(colour)):
        same &= channels[..., channel] == colour[channel]
    return same


def _low_bytes(png: bytes) -> Image.Image:
    """The less significant halves of the samples of a PNG of 16 bits, which Pillow leaves out."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        # As if the order of bytes were the other one, the lower half comes first.
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        image.load()
        return image
