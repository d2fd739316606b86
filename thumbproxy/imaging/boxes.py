"""Rectangles, and where they lie in the two coordinate systems of a picture. Pure.

The *sensor* is the picture as it lies in the file; *upright* is what a person sees, after the EXIF
orientation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from thumbproxy.core.errors import BadOptions

Size = tuple[int, int]
# Turning back what orientation 6 turns is what orientation 8 does; the others undo themselves.
_INVERSE = {6: 8, 8: 6}


class Box(NamedTuple):
    """A rectangle; left and top are inside, right and bottom are its far edges. Pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def moved(self, x: float, y: float) -> Box:
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


def half_up(length: float) -> int:
    """The nearest whole number, the higher of two. What is half by the numbers of a URL may be a
    little less as a float; no other sum of theirs comes as near to a half."""
    return math.floor(length + 0.5 + 1e-7)


def crop_box(crop: tuple[float, ...] | None, width: int, height: int) -> Box:
    """`crop` in whole pixels, cut off at the picture's edges and at least one pixel large."""
    if crop is None:
        return Box(0, 0, width, height)
    left, right = _span(crop[0], crop[2], width)
    top, bottom = _span(crop[1], crop[3], height)
    if left >= width or top >= height:
        raise BadOptions(f"crop lies outside the picture, which is {width} x {height} pixels.")
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def to_sensor(box: Box, orientation: int, upright: Size) -> Box:
    """The same region in the sensor's coordinates; `upright` is the upright picture's size."""
    width, height = upright
    left, top, right, bottom = box
    mirrored_x = (width - right, width - left)
    mirrored_y = (height - bottom, height - top)
    # In which upright direction the sensor's x axis runs, and its y axis.
    along_x, along_y = {
        1: ((left, right), (top, bottom)),
        2: (mirrored_x, (top, bottom)),
        3: (mirrored_x, mirrored_y),
        4: ((left, right), mirrored_y),
        5: ((top, bottom), (left, right)),
        6: ((top, bottom), mirrored_x),
        7: (mirrored_y, mirrored_x),
        8: (mirrored_y, (left, right)),
    }[orientation]
    return Box(along_x[0], along_y[0], along_x[1], along_y[1])


def to_upright(box: Box, orientation: int, sensor: Size) -> Box:
    """The same region in upright coordinates; `sensor` is the size of the picture in the file."""
    return to_sensor(box, _INVERSE.get(orientation, orientation), sensor)


def _span(start: float, length: float, side: int) -> tuple[int, int]:
    """First and past-the-last pixel of one direction of a crop; a float is a fraction of it."""
    # A fraction lies inside the picture by its meaning, and rounding must not push it out.
    first = min(start * side, side - 1) if isinstance(start, float) else start
    extent = length * side if isinstance(length, float) else length
    return half_up(first), min(half_up(first + extent), side)
