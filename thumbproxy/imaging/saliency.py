"""The focal point of `g_smart`. The method is described in docs/smart.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from thumbproxy.imaging.reduced import reduced

# One value for each pixel of the small picture; colours have Y, Cb and Cr in a third dimension.
Map = np.ndarray[Any, np.dtype[np.floating[Any]]]

# Whatever size a picture is decoded at, it is looked at in about this many pixels, and in a side of
# whole steps, which rounded ratios hardly ever change: all widths of a srcset are cropped alike.
_PIXELS = 6400
_STEP = 16
_LONGEST = 320
# The middles of the window that are tried, an odd number, so that one of them is the centre's.
_POSITIONS = 65

# Blurs are in pixels of the small picture.
_GRAIN = 0.7  # what this takes away is fine detail
_SURROUNDINGS = 30.0  # what colours are compared with: wider than most subjects
_DENSITY = 2  # detail is what a spot of 5 px has of it
_FOCUS = 3  # and a spot of 7 px is in focus or not

# What each kind of attention is worth. Skin counts most: where there is a face, it is the subject.
_DETAIL, _COLOUR, _SKIN, _SATURATION, _UNLIKE_BORDER = 0.5, 2.6, 1.4, 0.5, 0.6

# The mean skin in Cb and Cr around 0, of all complexions, which differ in Y, and its spread.
_SKIN_CB, _SKIN_CR, _SKIN_CB_SPREAD, _SKIN_CR_SPREAD = -18, 22, 14, 11

# What lies at an edge of the window, within this share of half a window, counts against it: things
# should be in or out, but not cut.
_BAND, _CUT = 0.3, 0.3
_UPPER = 0.3  # how much more the top of the picture counts than the bottom
_CENTRE = 0.25  # how much the middle of the picture is preferred
_QUIET = 0.005  # attention below which a picture has no subject


def focal_point(picture: Image.Image, window: tuple[float, float]) -> tuple[float, float]:
    """Where the middle of a crop should be: fractions of `picture` from its left and its top.

    `picture` is L, LA, RGB, RGBX or RGBA in sRGB, of any size. `window` is the width and the
    height of the crop as fractions of the picture, above 0 and at most 1. The window around the
    answer always lies within the picture. A picture without anything in it gives the centre.
    """
    attention = _attention(picture)
    height, width = attention.shape
    xs, across = _kernel(width, window[0])
    ys, down = _kernel(height, window[1])
    score = np.linalg.multi_dot([down, attention, across.T])
    score /= attention.mean() + _QUIET
    score -= _CENTRE * ((xs - 0.5) ** 2 + (ys[:, np.newaxis] - 0.5) ** 2)
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return round(float(xs[column]), 4), round(float(ys[row]), 4)


def _kernel(length: int, window: float) -> tuple[Map, Map]:
    """The middles that a window can have along one side of the picture, and for each of them
    what each of the `length` pixels of that side counts."""
    if window >= 1:
        return np.array([0.5], np.float32), np.full((1, length), 1 / length, np.float32)
    middles = np.linspace(window / 2, 1 - window / 2, _POSITIONS, dtype=np.float32)
    pixels = (np.arange(length, dtype=np.float32) + 0.5) / length
    half = window / 2
    # 0 in the middle of the window, -1 and 1 at its edges.
    away = (pixels - middles[:, np.newaxis]) / half
    value = np.where(np.abs(away) <= 1, 1 - 0.35 * away**2, 0)
    for edge, room in ((-1, middles - half), (1, 1 - half - middles)):
        # What the picture's own edge cuts is not cut by the window.
        cut = _CUT * np.minimum(1, room / (_BAND * half))[:, np.newaxis]
        value -= cut * np.maximum(0, 1 - np.abs(away - edge) / _BAND)
    return middles, value / length


def _attention(picture: Image.Image) -> Map:
    """How much each pixel of the small picture draws the eye."""
    small, opacity = _opaque(reduced(picture, _side(picture)))
    if 1 in small.size:
        # A line has nothing to look at, and Pillow-SIMD's blurs change the colours of lines.
        return np.zeros(small.size[::-1], np.float32)
    fine, near, far = (
        np.asarray(blurred.convert("YCbCr"), np.float32)
        for blurred in (
            small,
            small.filter(ImageFilter.GaussianBlur(_GRAIN)),
            small.filter(ImageFilter.GaussianBlur(_SURROUNDINGS)),
        )
    )
    grain = np.abs(fine[..., 0] - near[..., 0])
    kinds = (
        (_DETAIL, _detail(grain)),
        (_COLOUR, _unlike_surroundings(near, far)),
        (_SKIN, _skin(near)),
        (_SATURATION, _saturation(near)),
        (_UNLIKE_BORDER, _unlike_border(near)),
    )
    # What is everywhere, like the leaves of a wood or the skin of a macro, says nothing.
    total = sum(weight * (1 - float(kind.mean())) ** 2 * kind for weight, kind in kinds)
    # What has no fine detail at all is out of focus, or the sky.
    focus = _spread(grain, _FOCUS)
    attention: Map = (total * (focus + 0.1) / (focus + 4)) ** 1.5 * opacity
    # What a third of the picture has less of is its ground.
    attention = np.maximum(attention - np.quantile(attention, 0.3), 0)
    # Heads are at the upper end of what they belong to.
    down = (np.arange(small.height, dtype=np.float32) + 0.5) / small.height
    return attention * (1 + _UPPER * (0.5 - down[:, np.newaxis]))


def _side(picture: Image.Image) -> int:
    side = math.sqrt(_PIXELS * max(picture.size) / min(picture.size))
    return min(_LONGEST, _STEP * round(side / _STEP))


def _detail(grain: Map) -> Map:
    density = _spread(grain, _DENSITY)
    detail: Map = density / (density + 3 + 6 * density.mean())
    return detail


def _unlike_surroundings(near: Map, far: Map) -> Map:
    """Mostly by colour: by lightness, every shadow would be unlike its surroundings."""
    squares = (near - far) ** 2
    contrast: Map = np.sqrt(squares @ np.array([0.06, 2, 2], np.float32))
    unlike: Map = contrast / (contrast + 12 + 8 * contrast.mean())
    return unlike


def _skin(near: Map) -> Map:
    cb = (near[..., 1] - (128 + _SKIN_CB)) / _SKIN_CB_SPREAD
    cr = (near[..., 2] - (128 + _SKIN_CR)) / _SKIN_CR_SPREAD
    likely: Map = np.exp((cb**2 + cr**2) / -2) * np.clip((near[..., 0] - 40) / 60, 0, 1)
    return likely


def _saturation(near: Map) -> Map:
    chroma = np.hypot(near[..., 1] - 128, near[..., 2] - 128)
    saturation: Map = chroma / (chroma + 40) * np.clip(near[..., 0] / 60, 0, 1)
    return saturation


def _unlike_border(near: Map) -> Map:
    """The border is seldom the subject; the more colours it has, the less it says."""
    height, width = near.shape[:2]
    edge = max(1, min(height, width) // 12)
    sides = (near[:edge], near[-edge:], near[:, :edge], near[:, -edge:])
    border = np.concatenate([side.reshape(-1, 3) for side in sides])
    spread = border.var(0) + np.array([200, 60, 60], np.float32)
    distance = ((near - border.mean(0)) ** 2 / spread).sum(-1)
    unlike: Map = distance / (distance + 9)
    return unlike


def _spread(values: Map, reach: int) -> Map:
    """The mean over the square of `reach` px to each side; the edges are repeated outwards."""
    size = 2 * reach + 1
    padded = np.pad(values, (reach + 1, reach), mode="edge")
    sums = padded.cumsum(0).cumsum(1)
    corners = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    means: Map = corners / size**2
    return means


def _opaque(small: Image.Image) -> tuple[Image.Image, Map | float]:
    """The picture on a ground that is unlike it, and how opaque each pixel was (0 to 1)."""
    if small.mode == "RGB":
        return small, 1.0
    alpha = small.getchannel("A")
    opacity = np.asarray(alpha, np.float32) / 255
    lightness = np.asarray(small.convert("L"), np.float32)
    light = float((lightness * opacity).sum()) > 128 * float(opacity.sum())
    ground = Image.new("RGB", small.size, "black" if light else "white")
    ground.paste(small.convert("RGB"), mask=alpha)
    return ground, opacity
