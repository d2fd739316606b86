"""Animated WebP to frames, which libwebp puts together."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.animation import Animation, Frame, count, shown
from thumbproxy.imaging.codecs.header import Header


def webp_frames(source: bytes, header: Header, most: int) -> Animation:
    if header.has_alpha:
        # Without the flag the decoder would make black of what browsers leave transparent.
        source = source[:20] + bytes([source[20] | 0x10]) + source[21:]
    image = Image.open(io.BytesIO(source), formats=("WEBP",))
    count(getattr(image, "n_frames", 1), header.frames)
    if image.size != (header.width, header.height):
        raise BrokenImage(log=f"libwebp reads {image.size}, the header says otherwise")
    return Animation(_frames(image, most), image.info["loop"])


def _frames(image: Image.Image, most: int) -> Iterator[Frame]:
    for number in range(most):
        image.seek(number)
        image.load()
        whole = image.copy()
        whole.info = {}
        yield Frame(whole, round(shown(image.info["duration"])))
