"""`g_smart` keeps the subject, whatever the ratio, the size and the format."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, landscape, opened
from PIL import Image, ImageDraw
from scenes import PLACES, SCENES, SIZES, Place, Scene, ball, cropped, face, flower, kept, window

from thumbproxy.imaging.saliency import focal_point

RATIOS = (1.0, 16 / 9, 9 / 16, 4.0)
CENTRE = (0.5, 0.5)
MODES = ["L", "LA", "RGB", "RGBX", "RGBA"]
Maker = Callable[[tuple[int, int], Place], Scene]


def share_kept(scene: Scene, ratio: float) -> float:
    part = window(scene.picture.size, ratio)
    return kept(scene.subject, cropped(focal_point(scene.picture, part), part))


@pytest.mark.parametrize("make", SCENES, ids=lambda make: make.__name__)
def test_the_subject_is_in_the_crop(make: Maker) -> None:
    shares = []
    for size in SIZES:
        for at in PLACES:
            scene = make(size, at)
            shares += [share_kept(scene, ratio) for ratio in RATIOS]
    assert mean(shares) > 0.93
    assert mean(share > 0.97 for share in shares) > 0.7


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (60, 40), (1200, 800)])
def test_a_flat_picture_gives_the_centre(mode: str, size: tuple[int, int]) -> None:
    for colour in (0, 128, 255):
        picture = Image.new(mode, size, colour)
        assert focal_point(picture, (0.4, 1.0)) == CENTRE
        assert focal_point(picture, (1.0, 0.4)) == CENTRE


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_a_camera_is_no_subject(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(128, 3, (600, 900, 3))
    picture = Image.fromarray(noise.astype(np.uint8))
    x, y = focal_point(picture, (0.5, 1.0))
    assert abs(x - 0.5) < 0.1
    assert y == 0.5


@pytest.mark.parametrize("make", [ball, face, flower])
@pytest.mark.parametrize("at", PLACES)
def test_all_widths_and_formats_of_a_picture_are_cropped_alike(make: Maker, at: Place) -> None:
    picture = make((1200, 800), at).picture
    part = window(picture.size, 1.0)
    x, y = focal_point(picture, part)
    others = [picture.resize((width, width * 2 // 3)) for width in (900, 600, 450)]
    others += [opened(encoded(picture, quality=70)), opened(encoded(picture, "WEBP", quality=60))]
    for other in others:
        other_x, other_y = focal_point(other.convert("RGB"), part)
        assert abs(other_x - x) < 0.05
        assert abs(other_y - y) < 0.05


@pytest.mark.parametrize("at", PLACES)
def test_a_mirrored_picture_is_cropped_the_other_way_round(at: Place) -> None:
    picture = face((900, 600), at).picture
    part = window(picture.size, 9 / 16)
    x, _ = focal_point(picture, part)
    mirrored, _ = focal_point(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), part)
    assert mirrored == pytest.approx(1 - x, abs=0.02)


def test_opaque_modes_of_the_same_colours_are_cropped_alike() -> None:
    grey = flower((900, 600), PLACES[0]).picture.convert("L")
    points = {focal_point(grey.convert(mode), (0.5, 1.0)) for mode in MODES}
    assert len(points) == 1
    assert points.pop()[0] < 0.4


def test_what_is_transparent_draws_no_attention() -> None:
    picture = landscape(900, 600).convert("RGBA")
    alpha = Image.new("L", picture.size)
    ImageDraw.Draw(alpha).ellipse((600, 100, 800, 300), 255)
    picture.putalpha(alpha)
    x, _ = focal_point(picture, window(picture.size, 1.0))
    assert x == pytest.approx(2 / 3, abs=0.01)
    _, y = focal_point(picture, window(picture.size, 4.0))
    assert y == pytest.approx(1 / 3, abs=0.09)


@pytest.mark.parametrize("colour", ["black", "white", "gray", "red"])
def test_a_flat_subject_on_a_transparent_ground_is_seen(colour: str) -> None:
    picture = Image.new("RGBA", (900, 600))
    ImageDraw.Draw(picture).ellipse((50, 400, 200, 550), colour)
    assert focal_point(picture, (0.4, 1.0))[0] < 0.25
    assert focal_point(picture, (1.0, 0.4))[1] > 0.7


@pytest.mark.parametrize("between", range(160, 800, 80))
def test_things_are_in_or_out_but_not_cut(between: int) -> None:
    """Of two discs, both are in the crop whole if they fit, and else one whole and one not."""
    picture = Image.new("RGB", (1000, 250), (190, 190, 185))
    discs = [(100, 200), (100 + between, 200 + between)]
    for left, right in discs:
        ImageDraw.Draw(picture).ellipse((left, 75, right, 175), (60, 70, 160))
    x, _ = focal_point(picture, (0.45, 1.0))
    shares = [
        max(0, min(right, x * 1000 + 225) - max(left, x * 1000 - 225)) / 100
        for left, right in discs
    ]
    assert max(shares) > 0.97
    assert min(shares) > 0.97 if between + 100 <= 450 else min(shares) < 0.1


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_window_lies_within_the_picture(width: float, height: float) -> None:
    for part in ((width, 1.0), (1.0, height), (width, height)):
        point = focal_point(PICTURE, part)
        for middle, length in zip(point, part, strict=True):
            assert length / 2 - 0.0001 <= middle <= 1 - length / 2 + 0.0001


PICTURE = ball((300, 200), PLACES[0]).picture


def test_a_window_as_large_as_the_picture_is_in_its_middle() -> None:
    assert focal_point(PICTURE, (1.0, 1.0)) == CENTRE


def test_the_same_picture_gives_the_same_point_and_is_left_as_it_was() -> None:
    picture = landscape(900, 600)
    before = picture.tobytes()
    assert focal_point(picture, (0.4, 1.0)) == focal_point(picture.copy(), (0.4, 1.0))
    assert picture.tobytes() == before
