"""Every kind of source, in every output format, with every fit, against an independent reference.

References are made by libvips and plain formulas (see references.py) from the same encoded source,
each time the tests run; nothing is stored. Outputs are read by libvips too. The thresholds of a
format are stated in `LEAST`; each is a little below what was measured over the whole matrix.

PNG meets every source with every fit, the other formats a quarter of these cells, so that each
still meets every source and every fit. With WHOLE_MATRIX=1 in the environment, all cells are made.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import pyvips
from PIL import Image
from reference_sizes import wanted
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
)
from specimens import ANIMATIONS, DRAWN, LOOPS, SIZE, SOURCES, TIMES, clear, eight_bits, scene

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())


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
    Format.WEBP: Difference(39, 31, 5),
    Format.AVIF: Difference(39, 41, 10),
    Format.GIF: Difference(32, 41, 64),
}
# Where neighbours are black and white, Lanczos leaves the range; whether what is beyond is cut off
# between the two directions or after both makes a difference.
LEAST_HARD = Difference(29, 39, 10)
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
    png = ENGINE.render(source(name), Options(width=90, lossless=True), Format.PNG)
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

# Pillow does not smooth what AVIF has at half the resolution, as libvips does.
LEAST_MOVING = LEAST | {Format.AVIF: Difference(39, 39, 10)}
ANIMATED_FITS = (
    "w_100",
    "w_90,h_90,fit_cover,g_se",
    "w_110,h_90,fit_pad,bg_336699",
    "crop_31x17x150x101,w_75",
)
MOVING = [format for format in OUTPUTS if format.animated]


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
