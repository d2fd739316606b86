"""Colours come out as they went in, whatever the mode, the transparency or the profile."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    landscape,
    opened,
    quadrants,
    swapping_profile,
)
from PIL import Image

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())
UPRIGHT = [RED, GREEN, BLUE, WHITE]


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    image = opened(ENGINE.render(source, Options.read(options), format).body)
    if image.mode == "P":  # how a picture of few colours may be written
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def test_grey_stays_grey() -> None:
    source = encoded(landscape(400, 300).convert("L"))
    for format in (Format.JPEG, Format.PNG):
        assert rendered(source, "w_100", format).mode == "L"


@pytest.mark.parametrize(
    "source",
    [
        encoded(quadrants().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        encoded(quadrants().convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
        encoded(quadrants().convert("RGBA"), "PNG"),
        encoded(quadrants().convert("CMYK"), quality=95),
        encoded(quadrants(), progressive=True),
        encoded(quadrants(), subsampling=0),
        encoded(quadrants(), subsampling=1),
        encoded(quadrants(), keep_rgb=True),
    ],
)
def test_colours_survive_whatever_mode_the_file_has(source: bytes) -> None:
    for options in ("_", "w_40", "w_20"):
        for format in (Format.PNG, Format.JPEG):
            assert corners(rendered(source, options, format)) == UPRIGHT


def test_palettes_and_bilevel_pictures_are_smoothed_when_resized() -> None:
    lines = Image.new("1", (80, 80))
    lines.paste(1, (0, 0, 41, 80))
    for image in (lines, lines.convert("P")):
        colours = rendered(encoded(image, "PNG"), "w_8").convert("L").getcolors()
        assert colours is not None
        assert len(colours) > 2


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = (np.arange(256 * 16).reshape(16, 256) % 256 * 257).astype(np.uint16)
    image = rendered(encoded(Image.fromarray(ramp), "PNG"))
    assert image.getpixel((0, 8)) == 0
    assert image.getpixel((128, 8)) == 128
    assert image.getpixel((255, 8)) == 255


def test_a_colour_key_becomes_transparency_before_resizing() -> None:
    keyed = encoded(quadrants(), "PNG", transparency=RED)
    image = rendered(keyed, "w_40")
    assert image.mode == "RGBA"
    assert pixel(image, 5, 5)[3] == 0
    assert pixel(image, 35, 5) == (*GREEN, 255)
    assert corners(rendered(keyed, "w_40", Format.JPEG))[0] == WHITE


def half_clear() -> bytes:
    """Red at the left, nothing at the right; the nothing is black where alpha is ignored."""
    image = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 40, 60))
    return encoded(image, "PNG")


@pytest.mark.parametrize(
    ("options", "format", "right"),
    [
        ("w_40", Format.JPEG, (255, 255, 255)),
        ("w_40,bg_0000ff", Format.JPEG, (0, 0, 255)),
        ("w_40", Format.PNG, (0, 0, 0, 0)),
        ("w_40", Format.WEBP, (0, 0, 0, 0)),
        ("w_40,bg_0000ff", Format.PNG, (0, 0, 255)),
        ("w_40,bg_0000ff80", Format.PNG, (0, 0, 255, 128)),
        ("w_40,bg_0000ff80", Format.JPEG, (127, 127, 255)),
    ],
)
def test_alpha_is_kept_or_shown_on_the_background(
    options: str, format: Format, right: tuple[int, ...]
) -> None:
    image = rendered(half_clear(), options, format)
    assert pixel(image, 35, 15)[3:] == right[3:]
    if right[3:] != (0,):
        assert pixel(image, 35, 15)[:3] == pytest.approx(right[:3], abs=3)
    assert pixel(image, 5, 15)[:3] == pytest.approx(RED, abs=3)


def test_grey_with_alpha_is_shown_on_the_background_too() -> None:
    clear_black = encoded(Image.new("LA", (40, 30), (0, 0)), "PNG")
    assert pixel(rendered(clear_black, "_", Format.JPEG).convert("RGB"), 5, 5) == WHITE


def test_gif_keeps_full_transparency() -> None:
    image = rendered(half_clear(), "w_40", Format.GIF).convert("RGBA")
    assert pixel(image, 5, 15) == (*RED, 255)
    assert pixel(image, 35, 15)[3] == 0


@pytest.mark.parametrize(
    ("source", "options", "format", "edge"),
    [
        (encoded(quadrants()), "w_60,h_60,fit_pad", Format.PNG, WHITE),
        (encoded(quadrants()), "w_60,h_60,fit_pad,bg_ff0000", Format.PNG, RED),
        (encoded(quadrants()), "w_60,h_60,fit_pad,bg_ff000080", Format.PNG, (*RED, 128)),
        (encoded(quadrants()), "w_60,h_60,fit_pad,bg_ff000080", Format.JPEG, (255, 127, 127)),
        (half_clear(), "w_60,h_60,fit_pad", Format.PNG, (0, 0, 0, 0)),
        (half_clear(), "w_60,h_60,fit_pad", Format.JPEG, WHITE),
        (half_clear(), "w_60,h_60,fit_pad,bg_00ff00", Format.PNG, GREEN),
    ],
)
def test_pad_fills_with_background_white_or_nothing(
    source: bytes, options: str, format: Format, edge: tuple[int, ...]
) -> None:
    image = rendered(source, options, format)
    assert image.size == (60, 60)
    assert pixel(image, 30, 2) == pytest.approx(edge, abs=3)


def test_pad_around_a_picture_with_alpha_shows_the_picture() -> None:
    image = rendered(half_clear(), "w_60,h_60,fit_pad")
    assert pixel(image, 10, 30) == (*RED, 255)
    assert pixel(image, 50, 30)[3] == 0


def test_pad_places_the_picture_where_gravity_says() -> None:
    image = rendered(encoded(quadrants()), "w_40,h_60,fit_pad,g_s")
    assert pixel(image, 10, 10) == WHITE
    assert pixel(image, 10, 33) == pytest.approx(RED, abs=4)


def test_a_colour_profile_is_converted_to_srgb() -> None:
    icc = swapping_profile()
    expected = [GREEN, RED, BLUE, WHITE]
    for source in (
        encoded(quadrants(), icc_profile=icc),
        encoded(quadrants(), "PNG", icc_profile=icc),
        encoded(quadrants().convert("RGBA"), "PNG", icc_profile=icc),
        encoded(quadrants(), "WEBP", quality=95, icc_profile=icc),
    ):
        for format in (Format.PNG, Format.JPEG):
            assert corners(rendered(source, "w_60", format)) == expected


@pytest.mark.parametrize("icc", [b"nonsense", swapping_profile()[:200], bytes(128)])
def test_a_profile_that_cannot_be_read_is_ignored(icc: bytes) -> None:
    assert corners(rendered(encoded(quadrants(), icc_profile=icc), "w_40")) == UPRIGHT


def test_a_profile_of_another_kind_of_colour_is_ignored() -> None:
    source = encoded(quadrants().convert("L"), icc_profile=swapping_profile())
    assert rendered(source, "w_40").convert("L").getpixel((30, 25)) == pytest.approx(255, abs=3)
