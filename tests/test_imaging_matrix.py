"""Every kind of source, in every output format, with every fit, against an independent reference.

References are made by libvips and plain formulas (see references.py) from the same encoded source,
each time the tests run; nothing is stored. Outputs are read by libvips too. The thresholds of a
format are stated in `LEAST`; each is a little below what was measured over the whole matrix.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import pyvips
from handmade import grey_profile, matrix_profile, press_profile
from pictures import encoded, exif, turned, with_chunk
from PIL import Image
from references import (
    WHITE,
    Difference,
    Pixels,
    decoded,
    decoded_frames,
    difference,
    over,
    pixels,
    reference,
    resampled,
    wanted,
)

from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.limits import Limits
from thumbproxy.media import ANIMATED, Format
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
    light = np.asarray(PHOTO, np.float32)
    most = light.max(2, keepdims=True)
    plates = np.concatenate((255 * (most - light) / most, 255 - most), 2)
    picture = Image.fromarray(np.round(plates).astype(np.uint8), "CMYK")
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


# What is asked of the lossy encoders here: so much that what is wrong before them shows.
QUALITY = {Format.JPEG: 95, Format.WEBP: 95, Format.AVIF: 90}
# The least PSNR of light and of colour, and the most that a flat field may be off; see
# references.Difference. WebP halves the resolution of colour at every quality. GIF has 256 colours:
# what it makes of a shade is a pattern of its neighbours, with single pixels far off.
LEAST = {
    Format.PNG: Difference(40, 41.5, 2.2),
    Format.JPEG: Difference(38, 41.5, 3),
    Format.WEBP: Difference(40, 32, 5),
    Format.AVIF: Difference(40, 41, 8),
    Format.GIF: Difference(32, 41, 64),
}
# Where neighbours are black and white, Lanczos leaves the range; whether what is beyond is cut off
# between the two directions or after both makes a difference.
LEAST_HARD = Difference(29, 39, 8)
HARD = ("png 1 bit", "png grey 2 bit")
# All cells for PNG; of the other formats a quarter, so that each meets every source and every fit.
WHOLE = os.environ.get("WHOLE_MATRIX") == "1"
OUTPUTS = [format for format in LEAST if format in ENGINE.outputs]


@cache
def source(name: str) -> bytes:
    return SOURCES[name]()


@cache
def upright(name: str) -> Pixels:
    return decoded(source(name))


@cache
def expected(name: str, options: str, clear: bool) -> Pixels:
    return reference(upright(name), Options.read(options), clear=clear)


def fits(name: str, format: Format) -> tuple[str, ...]:
    if WHOLE or format is Format.PNG:
        return FITS
    return FITS[list(SOURCES).index(name) % 4 :: 4]


def asked(options: str, format: Format) -> Options:
    return replace(Options.read(options), quality=QUALITY.get(format))


def compared(made: Pixels, like: Pixels, format: Format) -> Difference:
    """The difference from a reference as far as the format can say it.

    In GIF, a pixel is there or not, and what is there lies on white. Of those that are as good as
    half there, either is right.
    """
    if format is Format.GIF:
        alpha = like[:, :, 3:]
        like = np.where(np.abs(alpha - 128) < 8, made, over(WHITE, like) * (alpha >= 128))
    return difference(made, like)


def faults(found: Difference, least: Difference) -> list[str]:
    return [
        *([f"light {found.light:.1f} dB"] if found.light < least.light else []),
        *([f"colour {found.colour:.1f} dB"] if found.colour < least.colour else []),
        *([f"flat fields off by {found.flat:.1f}"] if found.flat > least.flat else []),
    ]


# --- stills


@pytest.mark.parametrize("format", OUTPUTS, ids=lambda format: format.extension)
@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_close_to_its_reference_with_every_fit(name: str, format: Format) -> None:
    wrong = []
    for options in fits(name, format):
        made = ENGINE.render(source(name), asked(options, format), format)
        picture = decoded(made.body)
        size = wanted(SIZE, Options.read(options)).output
        if not (picture.shape[1::-1] == (made.width, made.height) == size):
            wrong.append((options, f"{picture.shape[1::-1]} px instead of {size}"))
            continue
        like = expected(name, options, format.has_alpha)
        least = LEAST_HARD if name in HARD else LEAST[format]
        wrong += [(options, fault) for fault in faults(compared(picture, like, format), least)]
    assert not wrong


@pytest.mark.parametrize("name", SOURCES)
def test_a_lossless_webp_has_the_very_pixels_of_a_png(name: str) -> None:
    png = ENGINE.render(source(name), Options(width=90), Format.PNG)
    webp = ENGINE.render(source(name), Options(width=90, lossless=True), Format.WEBP)
    assert np.array_equal(decoded(webp.body), decoded(png.body))


@pytest.mark.parametrize("number", range(2, 9))
def test_a_turned_photo_differs_from_the_upright_one_by_rounding_alone(number: int) -> None:
    """Blocks of 8 x 8 are the same ones, turned; so nothing but the sums differs."""
    for options in ("_", "w_96", "w_90,h_90,fit_cover,g_se", "crop_30x16x150x101"):
        bodies = [
            ENGINE.render(source(name), Options.read(options), Format.PNG).body
            for name in ("jpeg 4:4:4", f"jpeg turned {number}")
        ]
        assert difference(*map(decoded, bodies)).light > 45


# --- the yardstick


def test_the_reference_resizes_as_libvips_does() -> None:
    image = pyvips.Image.new_from_buffer(source("png"), "").cast("float")
    theirs = pixels(image.resize(0.4, kernel="lanczos3"))
    ours = expected("png", "w_96", True)
    assert difference(np.clip(theirs, 0, 255), ours).light > 48


def test_the_reference_is_the_picture_that_was_drawn() -> None:
    drawn = np.dstack([eight_bits(scene()), np.full(SIZE[::-1], 255)]).astype(np.float32)
    for name in ("png", "png turned 6", "png interlaced", "webp lossless", "webp turned 8"):
        assert np.array_equal(upright(name), drawn)
    for name in (
        "png 16 bit",
        "jpeg 4:4:4",
        "jpeg CMYK",
        *(f"jpeg turned {n}" for n in range(2, 9)),
    ):
        assert difference(upright(name), drawn).light > 40


@pytest.mark.parametrize("format", OUTPUTS, ids=lambda format: format.extension)
def test_half_a_pixel_is_enough_to_miss_a_threshold(format: Format) -> None:
    like = expected("png", "w_100", True)
    moved = resampled(upright("png"), (Fraction(6, 5), 0, SIZE[0] + Fraction(6, 5), SIZE[1]),  # type: ignore[arg-type]
                      (100, 67))  # fmt: skip
    assert faults(difference(moved, like), LEAST[format])


# --- animations

TIMES = [50, 120, 200, 80]
LOOPS = {"gif transparent": 3, "webp alpha": 3, "png alpha": 3}  # all others for ever
# Pillow does not smooth what AVIF has at half the resolution, as libvips does.
LEAST_MOVING = LEAST | {Format.AVIF: Difference(40, 39, 8)}
ANIMATED_FITS = ("w_100", "w_90,h_90,fit_cover,g_se", FITS[8], "crop_31x17x150x99")
DRAWN = [Image.fromarray(eight_bits(scene(shift=0.06 * n))) for n in range(4)]


def animated(frames: list[Image.Image], name: str, **parameters: Any) -> bytes:
    return encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=TIMES,
                   **parameters)  # fmt: skip


CLEAR = [clear(frame, hard=True) for frame in DRAWN]
ANIMATIONS: dict[str, Callable[[], bytes]] = {
    "gif": lambda: animated(DRAWN, "GIF", loop=0),
    "gif transparent": lambda: animated(CLEAR, "GIF", loop=2, disposal=2),
    "webp": lambda: animated(DRAWN, "WEBP", loop=0, lossless=True),
    "webp alpha": lambda: animated([clear(f) for f in DRAWN], "WEBP", loop=3, quality=90),
    "png": lambda: animated(DRAWN, "PNG", loop=0),
    "png alpha": lambda: animated([clear(f) for f in DRAWN], "PNG", loop=3, disposal=1),
}
ANIMATED_FITS = (
    "w_100",
    "w_90,h_90,fit_cover,g_se",
    "w_110,h_90,fit_pad",
    "crop_31x17x150x101,w_75",
)
MOVING = [format for format in OUTPUTS if format in ANIMATED]


@cache
def frames_of(name: str) -> list[Pixels]:
    """libvips reads no animated PNG; there, what was drawn is what must be seen."""
    body = ANIMATIONS[name]()
    if not name.startswith("png"):
        return decoded_frames(body)[0]
    drawn = DRAWN if name == "png" else [clear(frame) for frame in DRAWN]
    return [np.asarray(frame.convert("RGBA"), np.float32) for frame in drawn]


def by_pillow(body: bytes) -> tuple[list[Pixels], list[int], int]:
    """libvips reads no sequences of AVIF."""
    with Image.open(io.BytesIO(body)) as image:
        seen, times = [], []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            seen.append(np.asarray(image.convert("RGBA"), np.float32))
            times.append(round(image.info["duration"]))
    return seen, times, 0


@pytest.mark.parametrize("format", MOVING, ids=lambda format: format.extension)
@pytest.mark.parametrize("name", ANIMATIONS)
def test_every_frame_of_an_animation_is_close_to_its_reference(name: str, format: Format) -> None:
    body, least, wrong = ANIMATIONS[name](), LEAST_MOVING[format], []
    for options in ANIMATED_FITS:
        made = ENGINE.render(body, asked(options, format), format)
        read = by_pillow if format is Format.AVIF else decoded_frames
        seen, times, loop = read(made.body)
        assert times == TIMES
        assert format is Format.AVIF or loop == LOOPS.get(name, 0)
        for number, (frame, like) in enumerate(zip(seen, frames_of(name), strict=True)):
            right = reference(like, Options.read(options), clear=True)
            assert frame.shape == right.shape
            found = faults(compared(frame, right, format), least)
            wrong += [(options, number, fault) for fault in found]
    assert not wrong


@pytest.mark.parametrize("name", ANIMATIONS)
def test_a_still_of_an_animation_is_its_first_frame_or_the_one_asked_for(name: str) -> None:
    body = ANIMATIONS[name]()
    for number, options in enumerate(("w_100", "w_100,page_2", "w_100,page_3", "w_100,page_4")):
        made = decoded(ENGINE.render(body, Options.read(options), Format.PNG).body)
        right = reference(frames_of(name)[number], Options.read("w_100"), clear=True)
        assert not faults(difference(made, right), LEAST[Format.PNG])
