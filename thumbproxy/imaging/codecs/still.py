"""The last step of every decoder of still images."""

from __future__ import annotations

from PIL import Image

from thumbproxy.imaging.alpha import without_idle_alpha
from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header


def scaled(width: int, height: int, eighths: int) -> tuple[int, int]:
    """A size as decoders scale it: sides are rounded up."""
    return -(-width * eighths // 8), -(-height * eighths // 8)


def decoded(picture: Image.Image, header: Header, eighths: int = 8) -> Decoded:
    """What a library has made of a file, with nothing that is not to be in the output."""
    size = scaled(header.width, header.height, eighths)
    if picture.size != size:
        picture = picture.crop((0, 0, *size))
    picture = without_idle_alpha(picture)
    # Whatever is left here, Pillow would write into the output: comments, profiles, palettes' keys.
    picture.info = {}
    return Decoded(picture, eighths, icc=header.icc)
