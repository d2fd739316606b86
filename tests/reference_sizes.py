"""The rules of sizes and regions in exact fractions, written down a second time.

Lengths are rounded to whole pixels half up, and no side is ever 0.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from thumbproxy.urls.options import Options

Size = tuple[int, int]
Region = tuple[Fraction, Fraction, Fraction, Fraction]
HALF = Fraction(1, 2)
_PLACES = {"n": (1, 0), "ne": (2, 0), "e": (2, 1), "se": (2, 2), "s": (1, 2), "sw": (0, 2),
           "w": (0, 1), "nw": (0, 0), "c": (1, 1)}  # fmt: skip


class Wanted(NamedTuple):
    """The geometry of an output by the rules of the options, in coordinates of the upright picture.

    crop    what `crop` leaves, whole pixels
    region  the part of the picture that is shown
    size    what the region is resized to
    canvas  the size before `rot`
    offset  of the resized region on the canvas
    output  the size after `rot`
    """

    crop: tuple[int, int, int, int]
    region: Region
    size: Size
    canvas: Size
    offset: tuple[int, int]
    output: Size


def half_up(length: Fraction) -> int:
    return math.floor(length + HALF)


def side(length: Fraction) -> int:
    return max(1, half_up(length))


def exact(number: float) -> Fraction:
    """The number as it is written in a URL."""
    return Fraction(str(number))


def wanted(picture: Size, options: Options, most: int = 4096) -> Wanted:
    """The geometry of what `options` make of an upright picture of this size.

    most  the longest side that an output may have
    """
    spans = [(0, length) for length in picture]
    if options.crop is not None:
        x, y, width, height = options.crop
        spans = [_span(x, width, picture[0]), _span(y, height, picture[1])]
    (left, right), (top, bottom) = spans
    size = (Fraction(right - left), Fraction(bottom - top))
    part, resized, canvas, offset = _fitted(size, options, Fraction(most))
    region = (left + part[0], top + part[1], left + part[2], top + part[3])
    output = canvas[::-1] if options.rotate in (90, 270) else canvas
    return Wanted((left, top, right, bottom), region, resized, canvas, offset, output)


def _span(start: float, length: float, whole: int) -> tuple[int, int]:
    first = exact(start) * whole if isinstance(start, float) else Fraction(start)
    if isinstance(start, float):
        first = min(first, Fraction(whole - 1))
    extent = exact(length) * whole if isinstance(length, float) else Fraction(length)
    begin = half_up(first)
    return begin, max(begin + 1, min(half_up(first + extent), whole))


def _fitted(
    size: tuple[Fraction, Fraction], options: Options, most: Fraction
) -> tuple[Region, Size, Size, tuple[int, int]]:
    """Region, its size, canvas and offset."""
    zero, one, dpr = Fraction(0), Fraction(1), exact(options.dpr)
    width, height = size
    everything = (zero, zero, width, height)
    asked = [None if n is None else Fraction(n) for n in (options.width, options.height)]
    if None in asked or options.fit == "inside":
        scales = [most / width, most / height]
        scales += [n * dpr / s for n, s in zip(asked, size, strict=True) if n is not None]
        if asked == [None, None] or not options.enlarge:
            scales.append(one)
        made = (side(width * min(scales)), side(height * min(scales)))
        return everything, made, made, (0, 0)
    across, down = (n or one for n in asked)
    by = min(dpr, most / across, most / down)
    box = (side(across * by), side(down * by))
    if options.fit == "stretch":
        shrink = one if options.enlarge else min(one, width / box[0], height / box[1])
        made = (side(box[0] * shrink), side(box[1] * shrink))
        return everything, made, made, (0, 0)
    focus = _focus(options.gravity)
    if options.fit == "pad":
        scale = min(box[0] / width, box[1] / height)
        scale = scale if options.enlarge else min(scale, one)
        made = (side(width * scale), side(height * scale))
        offset = tuple(half_up((b - m) * f) for b, m, f in zip(box, made, focus, strict=True))
        return everything, made, box, (offset[0], offset[1])
    return _covered(size, box, options.enlarge, focus)


def _covered(
    size: tuple[Fraction, Fraction], box: Size, enlarge: bool, focus: tuple[Fraction, Fraction]
) -> tuple[Region, Size, Size, tuple[int, int]]:
    scale = max(box[0] / size[0], box[1] / size[1])
    lengths = (box[0] / scale, box[1] / scale)
    made = box
    whole = scale >= 1 and not enlarge
    if whole:
        made = (side(lengths[0]), side(lengths[1]))
        lengths = (Fraction(made[0]), Fraction(made[1]))
    starts = [
        min(max(f * s - length / 2, Fraction(0)), s - length)
        for f, s, length in zip(focus, size, lengths, strict=True)
    ]
    if whole:
        starts = [Fraction(half_up(start)) for start in starts]
    left, top = starts
    return (left, top, left + lengths[0], top + lengths[1]), made, made, (0, 0)


def _focus(gravity: str | tuple[float, float]) -> tuple[Fraction, Fraction]:
    if isinstance(gravity, str):
        across, down = _PLACES[gravity]
        return Fraction(across, 2), Fraction(down, 2)
    return exact(gravity[0]), exact(gravity[1])
