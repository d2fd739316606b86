"""Pixels to JPEG: docs/encoders.md tells what was chosen and why."""

from __future__ import annotations

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.core.formats import Encoding
from thumbproxy.imaging.codecs.plugins import saved
from thumbproxy.imaging.scratch import Memory, borrow, give_back

GROWTH = (7.5, 12, 17, 21, 25, 28.5, 32, 39, 49, 74, 110, 241)
# From this quality on, full colour costs fewer bytes than a higher quality that looks as good.
_FULL_COLOUR = 90


def encode_jpeg(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    """image: L, RGB or RGBX; alpha must have been flattened."""
    sampling = "444" if quality >= _FULL_COLOUR else encoding.subsampling_jpg
    memory = borrow(image.width * image.height * 4)
    colours = ("GRAY", "Gray") if image.mode == "L" else ("RGBX", sampling)
    body = bytes(simplejpeg.encode_jpeg(_raw(image, memory), quality, *colours))
    give_back(memory)
    # Pillow writes a progressive JPEG into a buffer of a byte for each pixel and fails if it is too
    # small, as it may be for much noise in high quality. The plain file tells, in a fifth of the
    # time.
    if not encoding.progressive_jpg or len(body) > 0.9 * max(1 << 16, image.width * image.height):
        return body
    return saved(image, "JPEG", quality=quality, progressive=True, subsampling=":".join(sampling))


def _raw(image: Image.Image, memory: Memory) -> Memory:
    """The pixels as they lie in Pillow, a byte or four for each, where an encoder can read them."""
    mode = "L" if image.mode == "L" else "RGBX"
    shape = (image.height, image.width, len(mode))
    if image.mode != mode:
        return np.frombuffer(image.tobytes("raw", mode), np.uint8).reshape(shape)
    # Painted into memory that is there, which takes half the time of having it made.
    pixels: Memory = np.ndarray(shape, np.uint8, memory)
    canvas = Image.frombuffer(mode, image.size, pixels, "raw", mode, 0, 1)
    canvas.readonly = 0  # else Pillow would paint on a copy
    canvas.paste(image)
    return pixels
