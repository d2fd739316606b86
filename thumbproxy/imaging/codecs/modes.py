"""Pictures in modes that keep their meaning when they are resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thumbproxy.imaging.alpha import without_idle_alpha


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


def plainest(image: Image.Image) -> Image.Image:
    """Without an alpha channel that hides nothing: nobody should store or blend it."""
    return image.convert("RGB") if image.mode == "RGBX" else without_idle_alpha(image)


def coloured(image: Image.Image) -> Image.Image:
    """RGB or RGBA, without what an encoder would write besides pixels."""
    if image.mode in ("RGB", "RGBA") and not image.info:
        return image
    plain = image.convert("RGBA" if "A" in image.mode else "RGB")
    plain.info = {}
    return plain
