"""The pixels of one PNG, of every depth and kind of colour, in a mode that resizing understands.

Stills and the frames of an APNG are decoded alike.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.headers import Header

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_BAND = 256  # rows
_AFTER_PIXELS = 4 + 4 + 12  # checksums of the stream and of its chunk, and the chunk of the end


def decode_png(png: bytes, header: Header) -> Image.Image:
    """L, LA, RGB or RGBA, as the file has channels; without metadata.

    png     nothing but tables, pixels and the end: see headers.png.essential_png
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
        if image.width > header.width or image.height > header.height:
            # Two readers disagree about the size, and only one of them was held to the limits.
            raise BrokenImage(log=f"Pillow reads {image.size}, the header says otherwise")
        image.load()
        picture = _keyed(image, png, header) if header.key else resizable(image)
    picture = in_channels(picture, header.channels)
    picture.info = {}
    return picture


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """A picture that was made RGB for want of a mode (grey of 16 bits with alpha) is grey again.

    What a colour profile means depends on the channels that the file has.
    """
    if channels == 1 and image.mode in ("RGB", "RGBA"):
        return image.convert("LA" if image.mode == "RGBA" else "L")
    return image


def resizable(image: Image.Image) -> Image.Image:
    """The same picture in a mode that keeps its meaning when it is resized.

    Palettes and bilevel pictures would be resized without any smoothing, colour keys would be
    smoothed away, and 16 bits would be clipped to 8 instead of scaled.
    """
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        opaque = image.mode in ("P", "L", "RGB") and "transparency" not in image.info
        return image.convert("RGB" if opaque else "RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBX", "RGBA", "CMYK"):
        return image.copy() if image.readonly else image
    return image.convert("RGB")


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
