"""Computes all sizes and positions of a render before any pixel is processed. Pure.

Options speak of the upright picture; decoding and resizing happen on the sensor's, because turning
a small picture is cheaper than turning a large one. So the plan translates, and the steps only
follow it.

Sides are rounded half up to whole pixels, and are never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from thumbproxy.core.limits import Limits
from thumbproxy.core.media import ImageInfo
from thumbproxy.imaging.boxes import Box, Size, crop_box, half_up, to_sensor
from thumbproxy.urls.options import Options
from thumbproxy.urls.value_types import COMPASS, SMART

# How much larger than the output a picture that the JPEG decoder scales to n/8 must stay.
# Scaling in the decoder folds the finest detail back into the picture (aliasing), the more
# visibly the closer the output is. 4/8 drops what cameras hardly resolve, so 1.5 is enough;
# 2/8 and 1/8 cut into real detail. Odd eighths are missing on purpose: the decoder has no SIMD
# for them, and 5/8 to 7/8 take longer than the whole picture. See benchmarks/engine.
DECODE_MARGINS = {1: 6.0, 2: 2.5, 4: 1.5}
# From this reduction on, colour that the decoder repeats instead of interpolating is averaged out
# again: more than 50 dB, for 7 % less time on a whole decode.
FAST_CHROMA_RATIO = 1.5
# `smart` looks at a picture of this many pixels on its longest side, at least.
GLANCE = 320


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the pixels, in this order.

    eighths      the JPEG decoder may scale the sensor's picture to this many eighths; 8 is all
    fast_chroma  the JPEG decoder may repeat subsampled colour instead of interpolating it
    region       what `crop` and `trim` leave of the unscaled sensor's picture; beyond is nothing
    box          the part of it to resize, fractions of a pixel allowed
    size         (width, height) to resize `box` to, in the sensor's orientation
    orientation  EXIF orientation to undo after resizing, 1 to 8
    canvas       (width, height) of the background to put the upright picture on; None: no canvas
    offset       (x, y) of the picture on the canvas
    output       (width, height) of the result, after `rot`
    """

    eighths: int
    fast_chroma: bool
    region: Box
    box: Box
    size: Size
    orientation: int
    canvas: Size | None
    offset: tuple[int, int]
    output: Size


class Findings(NamedTuple):
    """What only the pixels can tell; see imaging.look.

    region  the upright region that `crop` and `trim` leave, px; None: what `crop` leaves
    focus   what `g_smart` keeps, in fractions of that region; None: its centre
    """

    region: Box | None = None
    focus: tuple[float, float] | None = None


NOTHING_FOUND = Findings()


class _Fit(NamedTuple):
    region: Box  # of the upright source
    size: Size  # of that region in the output, upright
    canvas: Size | None = None
    offset: tuple[int, int] = (0, 0)


@lru_cache(maxsize=1024)  # the same few sizes are asked for again and again
def plan(
    info: ImageInfo, options: Options, limits: Limits, found: Findings = NOTHING_FOUND
) -> Plan:
    """The plan for a picture whose upright size is `info.width` x `info.height`.

    No side of the output is ever 0, nor over `limits.output_side`: a larger picture is reduced to
    it with its ratio kept. `w` and `h` apply before `rot`. A focal point counts in the picture as
    `crop` and `trim` left it. Raises BadOptions when `crop` lies outside the picture.
    """
    crop = crop_box(options.crop, info.width, info.height)
    region = found.region or crop
    fit = _fit(region, options, limits.output_side, _point(found.focus or options.gravity))
    upright = (info.width, info.height)
    box = to_sensor(fit.region, info.orientation, upright)
    size = _swapped(fit.size) if info.orientation >= 5 else fit.size
    output = fit.canvas or fit.size
    reduction = min(box.width / size[0], box.height / size[1])
    return Plan(
        eighths=max(decode_eighths(reduction, upright), look_eighths(options, crop)),
        fast_chroma=reduction >= FAST_CHROMA_RATIO,
        region=to_sensor(region, info.orientation, upright),
        box=box,
        size=size,
        orientation=info.orientation,
        canvas=fit.canvas,
        offset=fit.offset,
        output=_swapped(output) if options.rotate in (90, 270) else output,
    )


def decode_eighths(reduction: float, picture: Size) -> int:
    """The smallest cheap scale, in eighths, from which `reduction` can still be resized well."""
    if max(picture) < 8:
        return 8  # two scales could round to one size, and the decoder picks by size
    return next((n for n, margin in DECODE_MARGINS.items() if reduction * n / 8 >= margin), 8)


def look_eighths(options: Options, region: Box) -> int:
    """The scale at which the pixels are looked at, if they are, in eighths.

    region: what `crop` leaves of the picture. It alone decides, so that all sizes see the same.
    """
    if options.trim is not None:
        return 8  # a border is found on exact pixels
    if not looks_for_focus(options):
        return 1
    longest = max(region.width, region.height)
    return next((n for n in (1, 2, 4) if longest * n / 8 >= GLANCE), 8)


def looks_for_focus(options: Options) -> bool:
    return options.gravity == SMART and options.fit == "cover" and None not in (
        options.width, options.height
    )  # fmt: skip


def _fit(crop: Box, options: Options, most: int, focus: tuple[float, float]) -> _Fit:
    if options.width is None or options.height is None or options.fit == "inside":
        return _inside(crop, options, most)
    target = _target(options.width, options.height, options.dpr, most)
    if options.fit == "cover":
        return _cover(crop, target, options.enlarge, focus)
    if options.fit == "pad":
        return _pad(crop, target, options.enlarge, focus)
    return _stretch(crop, target, options.enlarge)


def _inside(crop: Box, options: Options, most: int) -> _Fit:
    scales = [most / crop.width, most / crop.height]
    if options.width is not None:
        scales.append(options.width * options.dpr / crop.width)
    if options.height is not None:
        scales.append(options.height * options.dpr / crop.height)
    if len(scales) == 2 or not options.enlarge:
        scales.append(1.0)
    scale = min(scales)
    return _Fit(crop, (_whole(crop.width * scale), _whole(crop.height * scale)))


def _cover(crop: Box, target: Size, enlarge: bool, focus: tuple[float, float]) -> _Fit:
    scale = max(target[0] / crop.width, target[1] / crop.height)
    if scale >= 1 and not enlarge:
        # Cut to the ratio, pixel for pixel: a start between two pixels would only blur.
        size = (
            min(_whole(target[0] / scale), int(crop.width)),
            min(_whole(target[1] / scale), int(crop.height)),
        )
        start = _start(crop, size, focus)
        x, y = half_up(start[0]), half_up(start[1])
        return _Fit(Box(x, y, x + size[0], y + size[1]), size)
    width, height = min(target[0] / scale, crop.width), min(target[1] / scale, crop.height)
    left, top = _start(crop, (width, height), focus)
    right, bottom = min(left + width, crop.right), min(top + height, crop.bottom)
    return _Fit(Box(left, top, right, bottom), target)


def _pad(crop: Box, target: Size, enlarge: bool, focus: tuple[float, float]) -> _Fit:
    scale = min(target[0] / crop.width, target[1] / crop.height)
    if not enlarge:
        scale = min(scale, 1.0)
    size = (
        min(_whole(crop.width * scale), target[0]),
        min(_whole(crop.height * scale), target[1]),
    )
    x, y = focus
    offset = (
        half_up((target[0] - size[0]) * x),
        half_up((target[1] - size[1]) * y),
    )
    return _Fit(crop, size, target, offset)


def _stretch(crop: Box, target: Size, enlarge: bool) -> _Fit:
    scale = 1.0
    if not enlarge:
        scale = min(1.0, crop.width / target[0], crop.height / target[1])
    return _Fit(crop, (_whole(target[0] * scale), _whole(target[1] * scale)))


def _target(width: float, height: float, dpr: float, most: int) -> Size:
    scale = min(dpr, most / width, most / height)
    return _whole(width * scale), _whole(height * scale)


def _start(crop: Box, size: tuple[float, float], focus: tuple[float, float]) -> tuple[float, float]:
    """Where a region of `size` begins that has the focal point as near its middle as it can."""
    x, y = focus
    left = x * crop.width - size[0] / 2
    top = y * crop.height - size[1] / 2
    return (
        crop.left + min(max(left, 0.0), crop.width - size[0]),
        crop.top + min(max(top, 0.0), crop.height - size[1]),
    )


def _point(gravity: str | tuple[float, float]) -> tuple[float, float]:
    # `smart` is the centre until the pixels have been looked at.
    return COMPASS.get(gravity, COMPASS["c"]) if isinstance(gravity, str) else gravity


def _whole(length: float) -> int:
    """A length in whole pixels, half up, never 0."""
    return max(1, half_up(length))


def _swapped(size: Size) -> Size:
    return size[1], size[0]
