"""What a picture should look like, found without thumbproxy's own code and without Pillow.

Sources are decoded, turned upright and brought to sRGB by libvips; sizes and regions come from
exact fractions; and the resize is a plain formula: Lanczos of three lobes as a matrix for each
direction, over premultiplied colours, in floating point. Nothing is stored: every reference is
made when it is needed.

Pixels are arrays of height x width x 4, float32: red, green, blue and alpha, 0 to 255 each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pyvips
from reference_sizes import Size, wanted

from thumbproxy.urls.options import Options

Pixels = np.ndarray[Any, np.dtype[np.float32]]
Errors = np.ndarray[Any, np.dtype[np.floating[Any]]]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


# --- pixels


def decoded(file: bytes) -> Pixels:
    """A still picture, or the first of several, as libvips sees it: upright and in sRGB."""
    return pixels(pyvips.Image.new_from_buffer(file, "").autorot())


def decoded_frames(file: bytes) -> tuple[list[Pixels], list[int], int]:
    """The frames of an animation as libvips sees them, their durations in ms, and how many times
    they are played (0 for ever)."""
    strip = pyvips.Image.new_from_buffer(file, "", n=-1)
    height = strip.get("page-height")
    stack = pixels(strip)
    frames = [stack[top : top + height] for top in range(0, stack.shape[0], height)]
    return frames, list(strip.get("delay")), strip.get("loop")


def pixels(image: pyvips.Image) -> Pixels:
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform(
            "srgb", embedded=True, intent="relative", black_point_compensation=True
        )
    array = image.numpy().astype(np.float32)
    array = array[:, :, None] if array.ndim == 2 else array
    if image.interpretation in ("rgb16", "grey16"):
        array /= 257
    if image.interpretation == "cmyk":
        # Without a profile it is arithmetic: every ink takes its share of the light.
        inks = 255 - array
        array = inks[:, :, :3] * inks[:, :, 3:] / 255
    alpha = array[:, :, -1:] if array.shape[2] in (2, 4) else np.full_like(array[:, :, :1], 255)
    colours = array[:, :, :3] if array.shape[2] >= 3 else array[:, :, :1].repeat(3, 2)
    return np.concatenate((colours, alpha), 2)


def resampled(picture: Pixels, region: Sequence[Fraction], size: Size) -> Pixels:
    """`region` of a picture, resized. What lies around the region counts at its edges."""
    across = _lanczos(picture.shape[1], float(region[0]), float(region[2]), size[0])
    down = _lanczos(picture.shape[0], float(region[1]), float(region[3]), size[1])
    share = picture[:, :, 3:] / 255
    flat: Pixels = np.concatenate((picture[:, :, :3] * share, picture[:, :, 3:]), 2)
    # Column by column and row by row: of larger products numpy would make many threads' work.
    columns = down @ flat.transpose(1, 0, 2)
    made = np.clip(across @ columns.transpose(1, 0, 2), 0, 255)
    alpha = made[:, :, 3:]
    colours = np.divide(made[:, :, :3] * 255, alpha, out=np.zeros_like(made[:, :, :3]),
                        where=alpha > 0)  # fmt: skip
    return np.concatenate((np.clip(colours, 0, 255), alpha), 2).astype(np.float32)


def _lanczos(length: int, start: float, end: float, count: int) -> Pixels:
    """What each pixel of a side counts, down, for each of the `count` from `start` to `end`."""
    step = (end - start) / count
    stretch = max(step, 1.0)
    middles = start + (np.arange(count) + 0.5) * step
    x = (np.arange(length) + 0.5 - middles[:, None]) / stretch
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def over(ground: Sequence[float], picture: Pixels) -> Pixels:
    """A picture on an opaque ground of one colour."""
    share = picture[:, :, 3:] / 255
    colours = picture[:, :, :3] * share + np.array(ground, np.float32) * (1 - share)
    return np.concatenate((colours, np.full_like(share, 255)), 2)


def reference(picture: Pixels, options: Options, *, clear: bool) -> Pixels:
    """What the options of geometry, and `bg`, make of an upright picture in sRGB.

    clear  transparency stays where nothing is said about a background
    """
    numbers = wanted((picture.shape[1], picture.shape[0]), options)
    left, top, right, bottom = numbers.crop
    part = [n - at for n, at in zip(numbers.region, (left, top, left, top), strict=True)]
    made = resampled(picture[top:bottom, left:right], part, numbers.size)
    transparent = bool((picture[:, :, 3] < 255).any())
    ground = WHITE if options.background is None else tuple(bytes.fromhex(options.background))
    canvas = np.zeros((numbers.canvas[1], numbers.canvas[0], 4), np.float32)
    if not (transparent and clear):
        canvas[:] = (*ground, 255)
    x, y = numbers.offset
    canvas[y : y + made.shape[0], x : x + made.shape[1]] = made
    canvas = np.rot90(canvas, -options.rotate // 90)
    if options.flip:
        canvas = canvas[:: -1 if "v" in options.flip else 1, :: -1 if "h" in options.flip else 1]
    return canvas if clear and options.background is None else over(ground, canvas)


# --- comparing


class Difference(NamedTuple):
    """How far a picture is from its reference, at its worst on white and on black.

    light   PSNR of the luma, dB
    colour  PSNR of red, green and blue averaged over blocks of 4 x 4 pixels, dB
    flat    the largest difference of a channel where the reference is of one colour: where no
            pixel at most 8 away differs by more than 2
    """

    light: float
    colour: float
    flat: float


def difference(made: Pixels, expected: Pixels) -> Difference:
    opaque = made[:, :, 3].min() == expected[:, :, 3].min() == 255
    grounds = [BLACK] if opaque else [BLACK, WHITE]
    found = [_difference(over(c, made), over(c, expected)) for c in grounds]
    return Difference(
        min(d.light for d in found), min(d.colour for d in found), max(d.flat for d in found)
    )


def _difference(made: Pixels, expected: Pixels) -> Difference:
    error = (made - expected)[:, :, :3]
    height, width = (max(1, n // 4) for n in error.shape[:2])
    blocks = error[: height * 4, : width * 4]
    if min(error.shape[:2]) >= 4:
        blocks = blocks.reshape(height, 4, width, 4, 3).mean((1, 3))
    flat = _flat(expected[:, :, :3])
    most = float(np.abs(error[flat]).max()) if flat.any() else 0.0
    return Difference(psnr((error * LUMA).sum(2)), psnr(blocks), most)


def psnr(error: Errors) -> float:
    return 10 * math.log10(255**2 / max(float(np.mean(error**2)), 1e-4))


def _flat(picture: Pixels) -> np.ndarray[Any, np.dtype[np.bool_]]:
    high = low = np.pad(picture, ((8, 8), (8, 8), (0, 0)), "edge")
    for reach in (1, 2, 4, 8, 1):  # 17 in all, the pixel itself counted
        high = np.maximum(high[reach:], high[:-reach])
        high = np.maximum(high[:, reach:], high[:, :-reach])
        low = np.minimum(low[reach:], low[:-reach])
        low = np.minimum(low[:, reach:], low[:, :-reach])
    return np.asarray((high - low).max(2) <= 2)
