"""The average and the dominant colour of an image, for pages to show until it arrives."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from thumbproxy.imaging.reduced import reduced

Pixels = np.ndarray[Any, np.dtype[np.float32]]

# What shines through a picture that shows nothing at all: a page is white.
NOTHING = "#ffffff"
_AVERAGED_SIDE = 256
_CLUSTERED_SIDE = 64
# The cells in which colours are counted, as levels of luma and of the two chroma channels, and the
# reach of a cluster around its middle. Light and shade on one thing change its luma far more than
# its chroma, so a cluster is long in luma and narrow in chroma.
_CELL = np.array([36, 8, 8], np.float32)
_REACH = np.array([56, 12, 12], np.float32)
_CELLS = tuple(int(cells) for cells in np.ceil(256 / _CELL))
_SHIFTS = 6


def average(picture: Image.Image) -> str:
    """The mean colour as `#rrggbb`, as if the picture (L, LA, RGB, RGBX, RGBA; sRGB) were seen
    from far away. Pixels count by their opacity; `NOTHING` for a picture without any.

    The mean is taken in linear light (IEC 61966-2-1), because that is what the eye averages: the
    mean of the numbers in the file is darker than what a page of the picture looks like, and
    muddy where complementary colours meet. Detail below 1/256 of a side is averaged as numbers.
    """
    colours, opacity = _pixels(picture, _AVERAGED_SIDE)
    total = float(opacity.sum())
    if not total:
        return NOTHING
    light = opacity @ _LINEAR[colours] / total
    low = light * 12.92
    values = np.where(light <= 0.0031308, low, 1.055 * light ** (1 / 2.4) - 0.055)
    return _hex(values * 255)


def dominant(picture: Image.Image) -> str:
    """The colour that most of the picture (L, LA, RGB, RGBX, RGBA; sRGB) has, as `#rrggbb`.

    It is the middle of the largest cluster of colours, so it is a colour that is there, unlike
    the average of red and green. Pixels count by their opacity; `NOTHING` without any.
    """
    colours, opacity = _pixels(picture, _CLUSTERED_SIDE)
    if not opacity.any():
        return NOTHING
    rgb = colours.astype(np.float32)
    points = rgb @ _YCC + (0, 128, 128)
    middle = _fullest(points, opacity)
    near = opacity
    # From the fullest cell to the middle of the cluster around it, which does not depend on where
    # the cells' edges happen to be.
    for _ in range(_SHIFTS):
        distance = (((points - middle) / _REACH) ** 2).sum(1)
        near = opacity * np.maximum(0, 1 - distance)
        middle = near @ points / near.sum()
    return _hex(near @ rgb / near.sum())


def _fullest(points: Pixels, opacity: Pixels) -> Pixels:
    """The mean of what is in the cell that, with its neighbours, holds the most pixels."""
    cells = (points / _CELL).astype(np.intp)
    flat = np.ravel_multi_index(tuple(cells.T), _CELLS, mode="clip")
    counts = np.bincount(flat, opacity, np.prod(_CELLS)).reshape(_CELLS)
    crowd = counts
    for axis in range(3):
        padded = np.pad(crowd, [(1, 1) if n == axis else (0, 0) for n in range(3)])
        first, middle, last = (
            np.take(padded, range(n, n + crowd.shape[axis]), axis) for n in range(3)
        )
        crowd = first + 2 * middle + last
    # An empty cell may have the fullest neighbours, but there is no colour in it to begin with.
    inside = opacity * (flat == np.where(counts, crowd, 0).argmax())
    mean: Pixels = inside @ points / inside.sum()
    return mean


def _pixels(picture: Image.Image, side: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Pixels]:
    """The colours, one a row, and how much each counts (0 to 1)."""
    pixels = np.asarray(reduced(picture, side))
    pixels = pixels.reshape(-1, pixels.shape[2])
    if pixels.shape[1] == 3:
        return pixels, np.ones(len(pixels), np.float32)
    return pixels[:, :3], (pixels[:, 3] / 255).astype(np.float32)


def _hex(values: Pixels) -> str:
    red, green, blue = (int(value) for value in np.clip(np.rint(values), 0, 255))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _linear() -> Pixels:
    values = np.arange(256) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


_LINEAR = _linear()
# JFIF's luma and chroma, one column each.
_YCC = np.array(
    [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32
)
