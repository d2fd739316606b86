"""Every kind of source, in every output format, with every fit, against an independent reference.

References are made by libvips and plain formulas (see references.py) from the same encoded source,
each time the tests run; nothing is stored. Outputs are read by libvips too. The thresholds of a
format are stated in `LEAST`; each is a little below what was measured over the whole matrix.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import pyvips
from handmade import grey_profile, matrix_profile, press_profile
from pictures import encoded, exif, turned, with_chunk
from PIL import Image
from references import Difference, Pixels, decoded, difference, reference, wanted

from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.limits import Limits
from thumbproxy.media import Format
from thumbproxy.options import Options

ENGINE = PillowEngine(Limits())
SIZE = (240, 160)
ADOBE = matrix_profile(
    [(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)], 563 / 256
)
Samples = np.ndarray[Any, Any]


# --- the picture


def scene(width: int = SIZE[0], height: int = SIZE[1], shift: float = 0.0) -> Samples:
    """Soft shades, a disc, slanted stripes, bars and flat fields, no two corners alike: 0 to 1.

    Edges are as soft as a lens makes them. `shift` moves the disc, as a share of the width.
    """
    down, across = np.mgrid[0:height, 0:width]
    x, y = (across + 0.5) / width, (down + 0.5) / height
    picture = np.stack((0.25 + 0.5 * x, 0.35 + 0.3 * y, 0.7 - 0.4 * x * y), -1)

    def paint(inside: Samples, colour: tuple[float, float, float]) -> None:
        share = np.clip(inside * width / 1.5 + 0.5, 0, 1)[..., None]
        picture[:] = picture * (1 - share) + np.array(colour) * share

    def field(left: float, top: float, right: float, bottom: float) -> Samples:
        ratio = height / width
        return np.minimum.reduce([x - left, right - x, (y - top) * ratio, (bottom - y) * ratio])

    paint(field(-1, -1, 0.22, 0.3), (0.75, 0.2, 0.15))
    paint(field(0.8, -1, 2, 0.3), (0.2, 0.55, 0.25))
    paint(field(-1, 0.7, 0.22, 2), (0.15, 0.25, 0.6))
    paint(field(0.8, 0.7, 2, 2), (0.92, 0.9, 0.86))
    stripes = np.sin((x * 1.5 + y) * 60) / 60
    paint(np.minimum(stripes, field(0.3, 0.65, 0.7, 0.95)), (0.1, 0.1, 0.12))
    paint(0.1 - np.hypot(x - 0.5 - shift, (y - 0.35) * height / width), (0.95, 0.8, 0.3))
    for number in range(6):
        left = 0.3 + number * 0.07
        paint(field(left, 0.04, left + 0.015 + number * 0.006, 0.12), (0.95, 0.95, 0.95))
    return picture


def eight_bits(samples: Samples) -> Samples:
    return np.round(np.clip(samples, 0, 1) * 255).astype(np.uint8)


PHOTO = Image.fromarray(eight_bits(scene()))


def clear(picture: Image.Image, hard: bool = False) -> Image.Image:
    """With a soft-edged oval of opacity, which is half-transparent on one side."""
    down, across = np.mgrid[0 : picture.height, 0 : picture.width]
    x, y = across / picture.width - 0.5, down / picture.height - 0.5
    alpha = np.clip((0.47 - np.hypot(x, y)) * 30, 0, 1) * np.where(x > 0.2, 0.6, 1)
    alpha = (alpha > 0.5) if hard else alpha
    made = picture.copy()
    made.putalpha(Image.fromarray(eight_bits(alpha)))
    return made


# --- sources


def vips(samples: Samples, interpretation: str, **parameters: Any) -> bytes:
    """A PNG of a kind that Pillow does not write."""
    image = pyvips.Image.new_from_array(samples).copy(interpretation=interpretation)
    return bytes(image.pngsave_buffer(strip=True, **parameters))


def deep(picture: Samples) -> Samples:
    return np.round(picture * 65535).astype(np.uint16)


def grey(picture: Samples) -> Samples:
    return np.asarray(picture @ np.array((0.299, 0.587, 0.114)))


def sensor(orientation: int) -> Image.Image:
    """The picture as a camera held that way stores it."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    return PHOTO.transpose(turns[orientation])


def jpeg(**parameters: Any) -> bytes:
    return encoded(PHOTO, quality=95, **parameters)


def inks(**parameters: Any) -> bytes:
    red, green, blue = (np.asarray(channel, np.int16) for channel in PHOTO.split())
    black = 255 - np.maximum.reduce([red, green, blue])
    plates = [255 - channel - black for channel in (red, green, blue)] + [black]
    picture = Image.fromarray(np.stack(plates, -1).astype(np.uint8), "CMYK")
    return encoded(picture, quality=95, subsampling=0, **parameters)


SOURCES: dict[str, Callable[[], bytes]] = {
    "jpeg 4:4:4": lambda: jpeg(subsampling=0),
    "jpeg 4:2:2": lambda: jpeg(subsampling=1),
    "jpeg 4:2:0": lambda: jpeg(subsampling=2),
    "jpeg progressive": lambda: jpeg(progressive=True),
    "jpeg grey": lambda: encoded(PHOTO.convert("L"), quality=95),
    "jpeg grey, linear profile": lambda: encoded(
        PHOTO.convert("L"), quality=95, icc_profile=grey_profile(1.8)
    ),
    "jpeg Adobe RGB": lambda: jpeg(subsampling=0, icc_profile=ADOBE),
    "jpeg CMYK": inks,
    "jpeg CMYK with a profile": lambda: inks(icc_profile=press_profile()),
    **{
        f"jpeg turned {number}": lambda number=number: turned(  # type: ignore[misc]
            encoded(sensor(number), quality=95, subsampling=0), number
        )
        for number in range(2, 9)
    },
    "png": lambda: encoded(PHOTO, "PNG"),
    "png turned 6": lambda: with_chunk(encoded(sensor(6), "PNG"), b"eXIf", exif(6)),
    "png 16 bit": lambda: vips(deep(scene()), "rgb16", bitdepth=16),
    "png interlaced": lambda: vips(eight_bits(scene()), "srgb", interlace=True),
    "png Adobe RGB": lambda: encoded(PHOTO, "PNG", icc_profile=ADOBE),
    "png grey": lambda: encoded(PHOTO.convert("L"), "PNG"),
    "png grey 16 bit": lambda: vips(deep(grey(scene())), "grey16", bitdepth=16),
    "png grey 4 bit": lambda: vips(eight_bits(grey(scene())), "b-w", bitdepth=4),
    "png grey 2 bit": lambda: vips(eight_bits(grey(scene())), "b-w", bitdepth=2),
    "png 1 bit": lambda: encoded(PHOTO.convert("1"), "PNG"),
    "png grey, alpha": lambda: encoded(clear(PHOTO).convert("LA"), "PNG"),
    "png alpha": lambda: encoded(clear(PHOTO), "PNG"),
    "png palette": lambda: encoded(PHOTO.quantize(64), "PNG"),
    "png palette, alpha": lambda: encoded(clear(PHOTO).quantize(64), "PNG"),
    "gif": lambda: encoded(PHOTO.quantize(128), "GIF"),
    "gif transparent": lambda: encoded(clear(PHOTO, hard=True), "GIF"),
    "webp": lambda: encoded(PHOTO, "WEBP", quality=90),
    "webp lossless": lambda: encoded(PHOTO, "WEBP", lossless=True),
    "webp alpha": lambda: encoded(clear(PHOTO), "WEBP", quality=90),
    "webp turned 8": lambda: encoded(sensor(8), "WEBP", lossless=True, exif=exif(8)),
}
FITS = (
    "_",
    "w_100",
    "h_40",
    "w_20",
    "w_90,h_90,fit_cover",
    "w_90,h_90,fit_cover,g_se",
    "w_50,h_120,fit_cover,g_0.3x0.6",
    "w_400,h_400,fit_cover",
    "w_110,h_110,fit_pad,bg_336699",
    "w_110,h_90,fit_pad,g_s",
    "w_70,h_130,fit_stretch",
    "crop_31x17x150x101,w_75",
    "crop_0.25x0.3x0.5x0.4",
    "w_300,up",
    "w_50,dpr_1.5",
    "w_90,rot_90,flip_h",
)


@cache
def source(name: str) -> bytes:
    return SOURCES[name]()


@cache
def upright(name: str) -> Pixels:
    return decoded(source(name))


@cache
def expected(name: str, options: str, clear: bool) -> Pixels:
    return reference(upright(name), Options.read(options), clear=clear)
