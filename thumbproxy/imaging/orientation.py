"""Turning a picture from how it lies in its file to how a person sees it (EXIF 2.3, 4.6.4)."""

from __future__ import annotations

from PIL import Image

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """`image`, which lies as the EXIF orientation 1 to 8 says; the same if that is 1."""
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])
