"""Transparency: which images have it, and compositing."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

_PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA")


def without_idle_alpha(image: Image.Image) -> Image.Image:
    """The same picture without an alpha channel in which all is opaque."""
    idle = has_alpha(image) and image.getchannel("A").getextrema()[0] == 255
    return image.convert(image.mode[:-1]) if idle else image


def on(colour: tuple[int, int, int, int], image: Image.Image) -> Image.Image:
    """`image` on a ground of one colour: RGB if that is opaque, else RGBA."""
    ground = Image.new("RGBA", image.size, colour)
    ground.alpha_composite(image.convert("RGBA"))
    return ground if colour[3] < 255 else ground.convert("RGB")


def premultiplied(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What `change` makes of an image, with colours that count as much as they are seen.

    Filters mix neighbours; without this the unseen colour of a transparent pixel would shine into
    those beside it.
    """
    mode = _PREMULTIPLIED.get(image.mode)
    if mode is None:
        return change(image)
    return change(image.convert(mode)).convert(image.mode)
