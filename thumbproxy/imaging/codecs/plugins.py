"""Pillow's readers and writers, of which one alone is let near a file."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.header import Header


def opened(file: bytes, name: str) -> Image.Image:
    """The still picture in `file`, of the format that Pillow calls `name`."""
    with Image.open(io.BytesIO(file), formats=(name,)) as image:
        image.load()
        return image


def check_size(image: Image.Image, header: Header) -> None:
    """Raises BrokenImage if two readers disagree about the size: one was held to the limits."""
    if image.width > header.width or image.height > header.height:
        raise BrokenImage(log=f"Pillow reads {image.size}, the header says otherwise")


def saved(image: Image.Image, name: str, **parameters: object) -> bytes:
    """A file of the format that Pillow calls `name`."""
    buffer = io.BytesIO()
    image.save(buffer, name, **parameters)
    return buffer.getvalue()


def saved_all(frames: Sequence[Image.Image], name: str, **parameters: object) -> bytes:
    """A file of all frames."""
    return saved(frames[0], name, save_all=True, append_images=list(frames[1:]), **parameters)


def can_save(name: str) -> bool:
    """Whether this Pillow writes the format that it calls `name`."""
    Image.init()
    return name in Image.SAVE
