"""Placeholders: a few bytes that look like the image, for a page to show until it arrives."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from thumbproxy.imaging.reduced import reduced

Plane = np.ndarray[Any, np.dtype[np.float64]]

_HASHED_SIDE = 100
_PLACEHOLDER_SIDE = 32
_PLACEHOLDER_BLUR = 0.7
_PLACEHOLDER_QUALITY = 50
# Below this, a difference in light is the noise of floating-point sums.
_NOISE = 1e-9


def encode(picture: Image.Image) -> bytes:
    """The ThumbHash of `picture` (L, LA, RGB, RGBX, RGBA; sRGB): 17 to 25 bytes, which hold the
    colours, the opacity and about the ratio of the sides. Scripts for browsers decode it.

    The format is Evan Wallace's (https://evanw.github.io/thumbhash/). A picture over 100 px is
    first scaled to that by averaging, which other encoders may do in another way.
    """
    planes, clear = _planes(reduced(picture, _HASHED_SIDE))
    height, width = planes[0].shape
    most = 5 if clear else 7
    across, down = (_half_up(most * side / max(width, height)) for side in (width, height))
    light, light_rest, light_scale = _waves(planes[0], max(3, across), max(3, down))
    warm, warm_rest, warm_scale = _waves(planes[1], 3, 3)
    red, red_rest, red_scale = _waves(planes[2], 3, 3)
    wide = width > height
    head = [
        (_half_up(63 * light), 6),
        (_half_up(31.5 + 31.5 * warm), 6),
        (_half_up(31.5 + 31.5 * red), 6),
        (_half_up(31 * light_scale), 5),
        (int(clear), 1),
        (max(1, down if wide else across), 3),
        (_half_up(63 * warm_scale), 6),
        (_half_up(63 * red_scale), 6),
        (int(wide), 1),
    ]
    rest = light_rest + warm_rest + red_rest
    if clear:
        opacity, opacity_rest, opacity_scale = _waves(planes[3], 5, 5)
        head += [(_half_up(15 * opacity), 4), (_half_up(15 * opacity_scale), 4)]
        rest += opacity_rest
    return _packed([*head, *((value, 4) for value in rest)])


def placeholder(picture: Image.Image) -> str:
    """A `data:` URI of a blurred WebP of at most 32 px, to be stretched to the picture's size.

    It needs no script. Opacity is kept, and there is no metadata.
    """
    small = reduced(picture, _PLACEHOLDER_SIDE)
    if 1 not in small.size:  # Pillow-SIMD's blurs change the colours of lines
        small = small.filter(ImageFilter.GaussianBlur(_PLACEHOLDER_BLUR))
    small.info = {}
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=_PLACEHOLDER_QUALITY, alpha_quality=50, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _planes(picture: Image.Image) -> tuple[list[Plane], bool]:
    """Lightness, yellow against blue, red against green, and opacity, each 0..1 or -1..1; and
    whether anything is transparent. What shines through is the mean colour, so that the outline
    of the opacity is not repeated in the colours."""
    pixels = np.asarray(picture.convert("RGBA"), np.float64) / 255
    colours, opacity = pixels[..., :3], pixels[..., 3]
    total = opacity.sum()
    clear = bool(total < opacity.size)
    if clear:
        weighted = colours * opacity[..., None]
        mean = weighted.sum((0, 1)) / (total or 1)
        colours = weighted + mean * (1 - opacity[..., None])
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    planes = [(red + green + blue) / 3, (red + green) / 2 - blue, red - green, opacity]
    return planes, clear


def _waves(plane: Plane, across: int, down: int) -> tuple[float, list[int], float]:
    """The mean of `plane`, its other cosine coefficients of the lower triangle as 0..15, row by
    row from the lowest frequency, and the largest of their sizes, by which they are scaled."""
    height, width = plane.shape
    table = _cosines(height, down).T @ plane @ _cosines(width, across) / (width * height)
    values = [
        float(table[y, x])
        for y in range(down)
        for x in range(across)
        if (x or y) and x * down < across * (down - y)
    ]
    scale = max(abs(value) for value in values)
    if scale < _NOISE:
        return float(table[0, 0]), [0] * len(values), 0.0
    return (
        float(table[0, 0]),
        [_half_up(15 * (0.5 + 0.5 * value / scale)) for value in values],
        scale,
    )


def _cosines(length: int, number: int) -> Plane:
    """The first `number` cosine waves over `length` samples, one a column."""
    at = (np.arange(length) + 0.5) * (np.pi / length)
    return np.cos(np.outer(at, np.arange(number)))


def _half_up(value: float) -> int:
    # The noise is added so that what is half in theory is rounded alike by every processor.
    return int(np.floor(value + 0.5 + _NOISE))


def _packed(fields: list[tuple[int, int]]) -> bytes:
    """(value, bits) one after the other, the lowest bit first."""
    number = used = 0
    for value, bits in fields:
        number |= value << used
        used += bits
    return number.to_bytes(-(-used // 8), "little")
