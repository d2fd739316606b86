"""One colour for a picture: the average of its light, or the one that most of it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, landscape, opened
from PIL import Image, ImageDraw
from scenes import noise

from thumbproxy.imaging.palette import NOTHING, average, dominant

COLOURS = [average, dominant]


def levels(colour: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    assert len(colour) == 7
    assert colour[0] == "#"
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(np.int64)


def apart(one: str, other: str) -> int:
    return int(np.abs(levels(one) - levels(other)).max())


@pytest.mark.parametrize("colour_of", COLOURS)
@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#c81e5a", "#0a0b0c", "#808080"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (300, 200)])
def test_a_flat_picture_has_its_own_colour(colour_of: Any, colour: str, size: Any) -> None:
    assert colour_of(Image.new("RGB", size, colour)) == colour


@pytest.mark.parametrize("colour_of", COLOURS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBX"])
def test_opaque_modes_have_the_same_colour(colour_of: Any, mode: str) -> None:
    grey = landscape(300, 200).convert("L")
    assert colour_of(grey.convert(mode)) == colour_of(grey.convert("RGB"))
    assert colour_of(grey.convert("LA")) == colour_of(grey.convert("RGBA"))


@pytest.mark.parametrize("colour_of", COLOURS)
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_picture_that_shows_nothing_has_the_colour_of_the_page(colour_of: Any, mode: str) -> None:
    assert colour_of(Image.new(mode, (30, 20))) == NOTHING == "#ffffff"


@pytest.mark.parametrize("colour_of", COLOURS)
@pytest.mark.parametrize("side", [40, 900])
def test_transparent_pixels_do_not_count(colour_of: Any, side: int) -> None:
    picture = Image.new("RGBA", (side, side), (0, 255, 0, 0))
    picture.paste((200, 30, 90, 255), (0, 0, side // 4, side // 4))
    assert apart(colour_of(picture), "#c81e5a") <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=1, max_size=12))
def test_any_few_pixels_have_colours_between_theirs(colours: list[tuple[int, ...]]) -> None:
    picture = Image.new("RGBA", (len(colours), 1))
    picture.putdata(colours)
    shown = np.array([colour[:3] for colour in colours if colour[3]] or [(255, 255, 255)])
    for colour_of in COLOURS:
        found = levels(colour_of(picture))
        assert (found >= shown.min(0) - 1).all()
        assert (found <= shown.max(0) + 1).all()


def test_the_average_is_that_of_light() -> None:
    """Half black and half white send out half the light of white, which is #bcbcbc, not #808080."""
    picture = Image.new("L", (200, 100))
    picture.paste(255, (100, 0, 200, 100))
    assert average(picture) == "#bcbcbc"


def test_the_average_counts_pixels_by_their_opacity() -> None:
    picture = Image.new("RGBA", (200, 100), (0, 0, 0, 255))
    picture.paste((255, 255, 255, 85), (100, 0, 200, 100))
    quarter_of_the_light = Image.new("L", (200, 100))
    quarter_of_the_light.paste(255, (150, 0, 200, 100))
    assert apart(average(picture), average(quarter_of_the_light)) <= 1


def test_the_dominant_colour_is_one_that_is_there() -> None:
    picture = Image.new("RGB", (300, 100), (220, 30, 40))
    picture.paste((20, 160, 60), (180, 0, 300, 100))
    assert dominant(picture) == "#dc1e28"


def test_the_dominant_colour_has_many_shades() -> None:
    """A sea from light to dark blue is one thing; a lemon of one shade is smaller."""
    shades = Image.linear_gradient("L").resize((300, 200)).point(lambda level: 60 + level // 4)
    picture = Image.merge(
        "RGB", [shades.point(lambda level: level // 4), shades, shades.point(lambda v: v + 90)]
    )
    ImageDraw.Draw(picture).ellipse((100, 50, 220, 170), (240, 220, 40))
    red, green, blue = levels(dominant(picture))
    assert blue > green > red


@pytest.mark.parametrize("seed", range(5))
def test_the_dominant_colour_withstands_noise_and_size(seed: int) -> None:
    picture = noise((600, 400), 30, (180, 150, 110), (210, 190, 150), seed)
    ImageDraw.Draw(picture).rectangle((50, 50, 240, 200), (30, 60, 120))
    colour = dominant(picture)
    assert apart(dominant(opened(encoded(picture, quality=60))), colour) <= 6
    assert apart(dominant(picture.resize((250, 167))), colour) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_the_average_withstands_noise_and_size(seed: int) -> None:
    picture = noise((600, 400), 30, (20, 150, 110), (210, 190, 50), seed)
    colour = average(picture)
    assert apart(average(opened(encoded(picture, quality=60))), colour) <= 3
    assert apart(average(picture.resize((250, 167))), colour) <= 3
