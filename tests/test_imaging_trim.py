"""`trim` cuts the border, all of it and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import BLUE, RED, WHITE, encoded, landscape, opened
from PIL import Image, ImageDraw

from thumbproxy.imaging.trim import content_box

BOX = (30, 20, 150, 90)
SIZE = (200, 130)
MODES = ["L", "LA", "RGB", "RGBX", "RGBA"]


def framed(colour: Any = WHITE, box: tuple[int, int, int, int] = BOX) -> Image.Image:
    """A picture with corners unlike any border in a border of one colour."""
    picture = Image.new("RGB", SIZE, colour)
    content = landscape(box[2] - box[0], box[3] - box[1])
    ImageDraw.Draw(content).rectangle(
        (0, 0, content.width - 1, content.height - 1), outline=(90, 120, 60)
    )
    picture.paste(content, box[:2])
    return picture


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("colour", [WHITE, (0, 0, 0), (200, 30, 90)])
def test_a_border_of_one_colour_is_cut_in_every_mode(mode: str, colour: Any) -> None:
    assert content_box(framed(colour).convert(mode), 5) == BOX


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 260), st.integers(1, 200)),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_any_box_is_found_to_the_pixel(size: Any, edges: Any) -> None:
    left, right = sorted(int(edge * (size[0] - 1)) for edge in edges[:2])
    top, bottom = sorted(int(edge * (size[1] - 1)) for edge in edges[2:])
    picture = Image.new("L", size, 255)
    picture.paste(0, (left, top, right + 1, bottom + 1))
    touched = {(0, 0), (0, size[1] - 1), (size[0] - 1, 0), (size[0] - 1, size[1] - 1)} & {
        (x, y) for x in (left, right) for y in (top, bottom)
    }
    if not touched:
        assert content_box(picture, 0) == (left, top, right + 1, bottom + 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_one_colour_stays_whole(mode: str) -> None:
    assert content_box(Image.new(mode, (70, 50), 128), 0) == (0, 0, 70, 50)
    assert content_box(Image.new(mode, (1, 1)), 255) == (0, 0, 1, 1)


def test_a_picture_without_a_border_stays_whole() -> None:
    assert content_box(landscape(200, 130), 3) == (0, 0, 200, 130)


def test_the_tolerance_is_the_largest_difference_of_any_channel() -> None:
    picture = Image.new("RGB", (60, 40), (100, 100, 100))
    picture.putpixel((10, 10), (100, 108, 100))
    picture.putpixel((40, 30), (92, 100, 100))
    assert content_box(picture, 7) == (10, 10, 41, 31)
    assert content_box(picture, 8) == (0, 0, 60, 40)


def test_at_the_greatest_tolerance_everything_is_border() -> None:
    assert content_box(framed(), 255) == (0, 0, *SIZE)


@pytest.mark.parametrize("quality", [40, 75, 92])
def test_a_border_survives_the_noise_of_jpeg(quality: int) -> None:
    left, top, right, bottom = content_box(opened(encoded(framed(), quality=quality)), 12)
    # The noise of an edge reaches to the end of its block, which is 16 px with reduced colour.
    assert BOX[0] - 16 <= left <= BOX[0]
    assert BOX[1] - 16 <= top <= BOX[1]
    assert BOX[2] <= right <= BOX[2] + 16
    assert BOX[3] <= bottom <= BOX[3] + 16


def test_transparent_pixels_are_equal_whatever_their_colour() -> None:
    picture = landscape(*SIZE).convert("RGBA")
    alpha = Image.new("L", SIZE)
    alpha.paste(255, BOX)
    picture.putalpha(alpha)
    assert content_box(picture, 0) == BOX
    grey = picture.convert("LA")
    assert content_box(grey, 0) == BOX


def test_a_black_subject_on_a_transparent_ground_is_no_border() -> None:
    picture = Image.new("RGBA", SIZE)
    picture.paste((0, 0, 0, 255), BOX)
    assert content_box(picture, 10) == BOX


def test_the_fourth_byte_of_rgbx_means_nothing() -> None:
    picture = framed().convert("RGBX")
    bands = list(picture.split())
    bands[3] = Image.linear_gradient("L").resize(SIZE)
    assert content_box(Image.merge("RGBX", bands), 0) == BOX


def test_the_dark_band_of_a_scan_is_cut_and_then_the_margin_of_the_page() -> None:
    picture = framed(box=(30, 50, 150, 100))
    ImageDraw.Draw(picture).rectangle((0, 0, SIZE[0], 24), (20, 20, 22))
    assert content_box(picture, 10) == (30, 50, 150, 100)


def test_bands_of_two_colours_above_and_below_are_cut() -> None:
    picture = Image.new("RGB", SIZE, (12, 12, 12))
    picture.paste(WHITE, (0, 65, *SIZE))
    picture.paste(landscape(SIZE[0], 60), (0, 30))
    left, top, right, bottom = content_box(picture, 2)
    assert (left, top, right, bottom) == (0, 30, SIZE[0], 90)


def test_a_subject_in_a_corner_keeps_both_sides_of_that_corner() -> None:
    picture = framed(box=(80, 60, *SIZE))
    assert content_box(picture, 5) == (80, 60, *SIZE)
    assert content_box(picture.transpose(Image.Transpose.ROTATE_180), 5) == (0, 0, 120, 70)


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
@pytest.mark.parametrize("colours", [(RED, WHITE, BLUE), (WHITE, RED)])
def test_a_flag_stays_whole(colours: Any, turn: Any) -> None:
    picture = Image.new("RGB", (120, 90))
    step = 90 // len(colours)
    for number, colour in enumerate(colours):
        picture.paste(colour, (0, step * number, 120, step * (number + 1)))
    picture = picture.transpose(turn) if turn is not None else picture
    assert content_box(picture, 10) == (0, 0, *picture.size)


def test_only_one_border_is_cut() -> None:
    """A frame within a margin is part of the picture."""
    picture = Image.new("RGB", SIZE, WHITE)
    picture.paste((0, 0, 0), BOX)
    picture.paste(RED, (50, 40, 100, 70))
    assert content_box(picture, 10) == BOX


def test_a_border_wider_than_a_band_is_found_to_the_pixel() -> None:
    picture = Image.new("RGB", (700, 500), WHITE)
    picture.paste(RED, (333, 257, 334, 258))
    assert content_box(picture, 10) == (333, 257, 334, 258)


def test_the_picture_is_left_as_it_was() -> None:
    picture = framed().convert("RGBA")
    before = picture.tobytes()
    content_box(picture, 10)
    assert picture.tobytes() == before
