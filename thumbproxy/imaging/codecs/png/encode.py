"""Pixels to PNG: docs/encoders.md tells what was chosen and why."""

from __future__ import annotations

import zlib

from PIL import Image

from thumbproxy.core.formats import Encoding
from thumbproxy.imaging.codecs.indexed import bits, compact, is_drawing
from thumbproxy.imaging.codecs.plugins import saved


def encode_png(image: Image.Image, encoding: Encoding) -> bytes:
    """Every pixel as it is, with a palette if that is exact."""
    level = encoding.compression_png
    picture = compact(image)
    if picture.mode == "P":
        return saved(picture, "PNG", compress_level=level, bits=bits(picture))
    strategy = zlib.Z_DEFAULT_STRATEGY if level == 0 or is_drawing(picture) else zlib.Z_RLE
    return saved(picture, "PNG", compress_level=level, compress_type=strategy)
