"""A small copy of an image, as an array for analysis."""

from __future__ import annotations

from PIL import Image


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """`picture` (L, LA, RGB, RGBX or RGBA) as RGB or RGBA of at most `side` px on its longer side.

    Every pixel of the picture counts, with the share that it covers; transparent ones do not
    colour their neighbours. A picture that is small enough keeps its size.
    """
    clear = picture.mode in ("LA", "RGBA")
    scale = side / max(picture.size)
    if scale < 1:
        # Averaging twice over, first in whole steps, costs a third of doing it in one go. It is
        # done to the premultiplied picture, because resize() would forget the gap otherwise.
        whole = picture.convert("RGBA") if picture.mode == "LA" else picture
        whole = whole.convert("RGBa") if clear else whole
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = whole.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        return small.convert("RGBA" if clear else "RGB")
    return picture.convert("RGBA" if clear else "RGB")
