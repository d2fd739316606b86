"""Details of renders that nothing else would show to be broken."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures import BLUE, GREEN, encoded, landscape, opened
from PIL import Image

from thumbproxy.core.errors import BadOptions, BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import ImageInfo
from thumbproxy.imaging.boxes import Box
from thumbproxy.imaging.encode import encode as encoded_as
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.job import Job, Level
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.pyramid import Pyramid
from thumbproxy.imaging.scratch import borrow, give_back
from thumbproxy.imaging.steps import resize
from thumbproxy.imaging.watermark import Watermark
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", ["w_2900", "crop_0x0.1x1.0x0.9,w_2950,h_2600,fit_cover"])
def test_a_large_resize_is_done_in_bands_that_nobody_can_see(mode: str, options: str) -> None:
    """Within 1 of 255 (2 for RGBA) of a resize in one go, also in the last rows and columns."""
    image = Image.effect_noise((3000, 3000), 80).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    asked = Options.read(options)
    numbers = plan(ImageInfo(Format.PNG, *image.size), asked, Limits())
    job = Job(Level(image, Box(0, 0, *image.size)), numbers, asked, Format.PNG)
    whole = image.crop(tuple(int(edge) for edge in numbers.region))  # type: ignore[arg-type]
    box = numbers.box.moved(-numbers.region.left, -numbers.region.top)
    once = whole.resize(numbers.size, Image.Resampling.LANCZOS, box)
    ours = resize(image, job)
    assert (ours.size, ours.mode) == (once.size, once.mode)
    assert ours.size[0] * 3000 * len(mode) > 24 * 1024 * 1024  # else there are no bands
    # Colours count as much as they are seen.
    premultiplied = "RGBa" if mode == "RGBA" else mode
    first, second = (np.asarray(made.convert(premultiplied), np.int16) for made in (ours, once))
    assert np.abs(first - second).max() <= (2 if mode == "RGBA" else 1)


@pytest.mark.parametrize(
    "options", ["w_1000,h_100,fit_stretch", "w_100,h_1000,fit_stretch", "w_1000"]
)
def test_the_direction_that_shrinks_least_says_how_far_the_decoder_may_scale(options: str) -> None:
    info = ImageInfo(Format.JPEG, 4000, 3900)
    assert plan(info, Options.read(options), Limits()).eighths == 4


@pytest.mark.parametrize("by", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_a_box_does_not_hold_what_is_beyond_one_of_its_sides(by: tuple[int, int]) -> None:
    box = Box(10, 20, 30, 40)
    assert box.holds(box)
    assert not box.holds(box.moved(*by))


@pytest.mark.parametrize(
    ("copy", "options"),
    [((200, 100), "w_40,h_100,fit_stretch"), ((100, 200), "w_100,h_40,fit_stretch")],
)
def test_a_copy_serves_only_if_it_has_enough_pixels_in_both_directions(
    copy: tuple[int, int], options: str
) -> None:
    info = ImageInfo(Format.JPEG, 400, 400)
    ladder = Pyramid(Level(Image.new("RGB", (400, 400)), Box(0, 0, 400, 400)))
    ladder.add(Level(Image.new("RGB", copy), Box(0, 0, 400, 400)))
    assert ladder.nearest(plan(info, Options.read(options), Limits())) is ladder.top
    smaller = Options.read("w_40,h_40,fit_stretch")
    assert ladder.nearest(plan(info, smaller, Limits())) is not ladder.top


@pytest.mark.parametrize("position", [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_a_watermark_is_seen_whole_and_not_distorted(position: tuple[float, float]) -> None:
    mark = Image.new("RGBA", (40, 20), (*BLUE, 255))
    mark.paste((*GREEN, 255), (0, 10, 40, 20))
    engine = PillowEngine(Limits(), watermarks={"logo": Watermark(mark, position, 0.2, 0)})
    plain = encoded(Image.new("RGB", (200, 100), (255, 0, 0)), "PNG")
    image = opened(engine.render(plain, Options(watermark="logo"), Format.PNG).body)
    left, top = (round(room * at) for room, at in zip((160, 80), position, strict=True))
    shown = image.crop((left, top, left + 40, top + 20)).convert("RGB")
    assert shown.tobytes() == mark.convert("RGB").tobytes()


@pytest.mark.parametrize("format", [Format.WEBP, Format.AVIF])
def test_the_quality_of_an_animation_is_what_is_asked(format: Format) -> None:
    if format not in ENGINE.outputs:
        pytest.skip("no encoder")
    frames = [landscape(120, 80).rotate(5 * number) for number in range(3)]
    source = encoded(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=90, lossless=True
    )
    low, usual, high = (
        len(ENGINE.render(source, Options(quality=quality), format).body)
        for quality in (10, None, 98)
    )
    assert low < usual < high


def test_a_progressive_jpeg_that_lost_its_last_scan_and_its_end_is_refused() -> None:
    whole = encoded(landscape(160, 120), progressive=True)
    cut = whole[: whole.rindex(b"\xff\xda")]
    assert whole.count(b"\xff\xda") > 3
    with pytest.raises(BrokenImage):
        ENGINE.render(cut, Options(width=60), Format.PNG)


def test_all_frames_of_an_output_together_have_a_limit() -> None:
    frames = [Image.new("RGB", (20, 10), (0, 0, shade)) for shade in (0, 100, 200)]
    source = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=90)
    engine = PillowEngine(Limits(source_pixels=1000))
    assert engine.render(source, Options.read("w_20"), Format.WEBP).width == 20
    for format in (Format.WEBP, Format.GIF):
        with pytest.raises(BadOptions, match="3 frames of 40 x 20 pixels"):
            engine.render(source, Options.read("w_40,up"), format)


def test_memory_is_used_again_but_not_that_of_rare_large_pictures() -> None:
    small, large = borrow(1000), np.empty((64 << 20) + 1, np.uint8)
    give_back(large)
    assert borrow(1) is not large
    give_back(small)
    assert borrow(900) is small


@pytest.mark.parametrize("format", [Format.GIF, Format.WEBP])
def test_two_frames_are_an_animation(format: Format) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (BLUE, GREEN)]
    source = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=90)
    made = Image.open(io.BytesIO(ENGINE.render(source, Options(), format).body))
    assert getattr(made, "n_frames", 1) == 2


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("corner", [(0, 0), (40, 20)])
def test_the_part_of_a_scaled_level_is_what_shows_the_region(
    corner: tuple[int, int], shared: bool
) -> None:
    """The level has half the scale of the picture, and may itself begin inside of it."""
    pixels = np.arange(81 * 100, dtype=np.uint32).astype(np.uint8).reshape(81, 100)
    image = Image.fromarray(pixels[:80])
    box = Box(0, 0, 200, 160).moved(*corner)
    level = Level(image, box, b"icc", pixels.reshape(-1) if shared else None)
    part = level.within(Box(20, 30, 120, 100).moved(*corner))
    assert part.box == Box(20, 30, 120, 100).moved(*corner)
    assert part.icc == b"icc"
    assert part.image.tobytes() == image.crop((10, 15, 60, 50)).tobytes()
    assert level.within(Box(0, 0, 500, 500)) is level


def test_a_palette_of_opaque_colours_has_no_alpha() -> None:
    picture = Image.new("RGB", (8, 8), (1, 2, 3))
    picture.paste((200, 100, 50), (0, 0, 4, 4))
    body = encoded_as(picture, Format.PNG)
    assert body[25] == 3  # the colour type of IHDR: a palette
    assert b"tRNS" not in body
