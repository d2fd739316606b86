"""What changes colours and shapes, against plain formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import BLUE, RED, encoded, landscape, opened, quadrants
from PIL import Image

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.profiles import coded_profile
from thumbproxy.imaging.watermark import Watermark, load_watermark
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())
COLOURS = landscape(96, 64)
PNG = encoded(COLOURS, "PNG")
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def rendered(
    source: bytes, options: str, format: Format = Format.PNG, engine: PillowEngine = ENGINE
) -> Image.Image:
    return opened(engine.render(source, Options.read(options), format).body)


def numbers(image: Image.Image) -> Numbers:
    return np.asarray(image, np.float64)


def clear(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """An opaque red disc on transparent green, which nobody should ever see."""
    y, x = np.ogrid[: size[1], : size[0]]
    disc = (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (size[1] / 3) ** 2
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[..., 1] = 255
    pixels[disc] = (255, 0, 0, 255)
    return Image.fromarray(pixels, "RGBA")


# -- colours: the CSS filters (W3C Filter Effects Module Level 1, section 13) --


def css(pixels: Numbers, brightness: int = 0, contrast: int = 0, saturation: int = 0) -> Numbers:
    """In the order of the options; every filter's result is held within 0 and 255."""
    pixels = np.clip(pixels * (1 + brightness / 100), 0, 255)
    pixels = np.clip((pixels - 127.5) * (1 + contrast / 100) + 127.5, 0, 255)
    s = 1 + saturation / 100
    matrix = np.array(
        [
            [0.2126 + 0.7874 * s, 0.7152 - 0.7152 * s, 0.0722 - 0.0722 * s],
            [0.2126 - 0.2126 * s, 0.7152 + 0.2848 * s, 0.0722 - 0.0722 * s],
            [0.2126 - 0.2126 * s, 0.7152 - 0.7152 * s, 0.0722 + 0.9278 * s],
        ]
    )
    return np.clip(pixels @ matrix.T, 0, 255)


CHANGE = st.integers(-100, 100)


@given(brightness=CHANGE, contrast=CHANGE, saturation=CHANGE)
def test_colours_change_as_by_the_css_filters(
    brightness: int, contrast: int, saturation: int
) -> None:
    options = f"bright_{brightness},contrast_{contrast},sat_{saturation}"
    expected = css(numbers(COLOURS), brightness, contrast, saturation)
    # One for each of two roundings, and what saturation makes of the first.
    allowed = 2 + abs(saturation) / 50
    assert np.abs(numbers(rendered(PNG, options).convert("RGB")) - expected).max() <= allowed


def test_ends_of_the_scales_mean_what_they_say() -> None:
    assert rendered(PNG, "bright_-100").getextrema() == ((0, 0),) * 3
    for low, high in rendered(PNG, "contrast_-100").getextrema():
        assert (low, high) in ((127, 127), (128, 128))
    grey = numbers(rendered(PNG, "sat_-100").convert("RGB"))
    assert np.ptp(grey, axis=2).max() <= 1
    assert rendered(PNG, "bright_0,contrast_0,sat_0").tobytes() == COLOURS.tobytes()


def test_gray_is_the_luminance_and_takes_one_channel() -> None:
    grey = rendered(PNG, "gray")
    assert grey.mode == "L"
    expected = numbers(COLOURS) @ [0.2126, 0.7152, 0.0722]
    assert np.abs(numbers(grey) - expected).max() <= 1
    assert opened(ENGINE.render(PNG, Options(grayscale=True), Format.JPEG).body).mode == "L"


@pytest.mark.parametrize(
    "options", ["bright_40", "contrast_-30", "sat_80", "gray", "bright_5,gray"]
)
def test_colours_change_and_transparency_stays(options: str) -> None:
    source = clear()
    image = rendered(encoded(source, "PNG"), options)
    assert image.convert("RGBA").getchannel("A").tobytes() == source.getchannel("A").tobytes()


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_pictures_stay_grey(mode: str) -> None:
    source = encoded(COLOURS.convert(mode), "PNG")
    for options in ("sat_50", "gray", "bright_20", "blur_2", "sharp_1"):
        assert rendered(source, options).mode in ("L", mode)


# -- blur and sharpen --


def gaussian(image: Image.Image, sigma: float) -> Numbers:
    """A separable Gaussian cut off at five deviations, edges repeated."""
    reach = math.ceil(5 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    pixels = numbers(image)
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(pixels.ndim)]
        padded = np.pad(pixels, pad, "edge")
        pixels = np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), axis, padded)
    return pixels


def psnr(one: Numbers, other: Numbers) -> float:
    return 10 * math.log10(255**2 / max(float(np.mean((one - other) ** 2)), 1e-9))


@pytest.mark.parametrize("sigma", [0.5, 1, 2.5, 8, 20])
def test_blur_is_a_gaussian_of_that_deviation(sigma: float) -> None:
    """Away from the edges, where one must make up what lies beyond."""
    edge = math.ceil(3 * sigma)
    image = landscape(96 + 2 * edge, 64 + 2 * edge)
    ours = numbers(rendered(encoded(image, "PNG"), f"blur_{sigma}"))
    inner = (slice(edge, -edge), slice(edge, -edge))
    assert psnr(ours[inner], gaussian(image, sigma)[inner]) > 40


def test_lengths_are_multiplied_by_dpr() -> None:
    """A picture for a dense screen looks like the other one, with more pixels."""
    source = encoded(landscape(400, 300), "PNG")
    for options in ("w_100,blur_3", "w_100,round_20", "w_100,h_100,fit_cover,round_max"):
        once, twice = (rendered(source, options + dpr).convert("RGBA") for dpr in ("", ",dpr_2"))
        assert twice.size == (once.width * 2, once.height * 2)
        page = Image.new("RGBA", once.size, "black")
        shrunk = twice.resize(once.size, Image.Resampling.BOX)
        ours, theirs = (Image.alpha_composite(page, image) for image in (shrunk, once))
        assert psnr(numbers(ours), numbers(theirs)) > 28


def test_sharpening_raises_the_contrast_of_edges_and_nothing_else() -> None:
    step = Image.new("L", (60, 20), 80)
    step.paste(160, (30, 0, 60, 20))
    plain = encoded(step, "PNG")
    row = numbers(rendered(plain, "sharp_1").convert("L"))[10]
    assert row[29] < 80
    assert row[30] > 160
    assert set(row[:25]) == {80.0}
    assert set(row[35:]) == {160.0}
    more = numbers(rendered(plain, "sharp_2").convert("L"))[10]
    assert more[29] < row[29]
    assert more[30] > row[30]


@pytest.mark.parametrize("options", ["blur_4", "sharp_3", "blur_1,sharp_5"])
def test_unseen_colours_do_not_shine_into_their_surroundings(options: str) -> None:
    image = numbers(rendered(encoded(clear(), "PNG"), options))
    seen = image[image[..., 3] > 16]
    assert seen[:, 1].max() <= 16  # the green of the transparent pixels


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 40)])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("options", ["blur_0.5", "blur_1", "blur_9", "sharp_1"])
def test_lines_keep_their_colour(size: tuple[int, int], mode: str, options: str) -> None:
    source = Image.new("RGBA", size, (200, 60, 120, 255)).convert(mode)
    image = rendered(encoded(source, "PNG"), options)
    assert image.size == size
    assert np.abs(numbers(image.convert("RGB")) - numbers(source.convert("RGB"))).max() <= 2


# -- rounded corners --


def rounded_reference(size: tuple[int, int], radius: float, times: int = 16) -> Numbers:
    """How much of each pixel is inside, by counting finer pixels."""
    width, height = size[0] * times, size[1] * times
    y, x = (np.ogrid[:height, :width][i] + 0.5 for i in (0, 1))
    r = radius * times
    dx = np.maximum(np.maximum(r - x, x - (width - r)), 0)
    dy = np.maximum(np.maximum(r - y, y - (height - r)), 0)
    inside = (dx**2 + dy**2 <= r**2).astype(np.float64)
    return inside.reshape(size[1], times, size[0], times).mean(axis=(1, 3)) * 255


@pytest.mark.parametrize(
    ("radius", "length"), [("1", 1), ("7", 7), ("20", 20), ("32", 32), ("5000", 32), ("max", 32)]
)
def test_corners_are_round_and_smooth(radius: str, length: float) -> None:
    alpha = numbers(rendered(PNG, f"round_{radius}").getchannel("A"))
    assert np.abs(alpha - rounded_reference((96, 64), length)).max() <= 30
    assert np.abs(alpha - rounded_reference((96, 64), length)).mean() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (64, 7)])
def test_any_picture_can_be_round(size: tuple[int, int]) -> None:
    source = encoded(COLOURS.resize(size), "PNG")
    for radius in ("1", "3", "max"):
        image = rendered(source, f"round_{radius}")
        assert image.size == size
        alpha = numbers(image.convert("RGBA").getchannel("A"))
        assert (alpha == alpha[::-1]).all()
        assert (alpha == alpha[:, ::-1]).all()


def test_corners_show_the_background_where_the_format_has_no_transparency() -> None:
    for format, options, corner in (
        (Format.PNG, "round_20", (0, 0, 0, 0)),
        (Format.PNG, "bg_0000ff,round_20", (0, 0, 0, 0)),
        (Format.JPEG, "round_20", (255, 255, 255, 255)),
        (Format.JPEG, "bg_0000ff,round_20", (0, 0, 255, 255)),
        (Format.JPEG, "bg_0000ff80,round_20", (127, 127, 255, 255)),
    ):
        pixel = rendered(PNG, options, format).convert("RGBA").getpixel((0, 0))
        if corner[3] == 0:
            assert pixel[3] == 0  # type: ignore[index]
        else:
            assert pixel == pytest.approx(corner, abs=16)


def test_a_round_picture_keeps_the_transparency_it_had() -> None:
    alpha = numbers(rendered(encoded(clear(), "PNG"), "round_10").getchannel("A"))
    assert alpha[20, 30] == 255
    assert alpha[20, 2] == 0
    assert alpha[0, 0] == 0


# -- watermarks --

MARK = Image.new("RGBA", (40, 20), (0, 0, 255, 255))


def marked(options: str, mark: Watermark, format: Format = Format.PNG) -> Image.Image:
    engine = PillowEngine(Limits(), watermarks={"logo": mark})
    plain = encoded(Image.new("RGB", (200, 100), RED), "PNG")
    return rendered(plain, f"wm_logo,{options}" if options else "wm_logo", format, engine)


def blue_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    blue = np.asarray(image.convert("RGB"))[..., 2] > 100
    return Image.fromarray(blue.astype(np.uint8) * 255).getbbox()


@pytest.mark.parametrize(
    ("position", "scale", "margin", "options", "box"),
    [
        ((1.0, 1.0), 0.2, 0, "", (160, 80, 200, 100)),
        ((0.0, 0.0), 0.1, 5, "", (5, 5, 25, 15)),
        ((0.5, 0.5), 0.5, 0, "", (50, 25, 150, 75)),
        ((1.0, 0.0), 1.0, 10, "", (30, 10, 190, 90)),
        ((1.0, 1.0), 0.2, 0, "w_100", (80, 40, 100, 50)),
        ((0.0, 1.0), 0.2, 4, "w_50,dpr_2", (8, 32, 28, 42)),
    ],
)
def test_a_watermark_is_where_and_as_large_as_configured(
    position: tuple[float, float], scale: float, margin: int, options: str, box: tuple[int, ...]
) -> None:
    assert blue_box(marked(options, Watermark(MARK, position, scale, margin))) == box


SIDES = st.tuples(st.integers(1, 500), st.integers(1, 500))
FRACTIONS = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(
    size=SIDES, mark=SIDES, position=FRACTIONS, scale=st.floats(0.01, 1), margin=st.integers(0, 400)
)
def test_a_watermark_is_always_inside(
    size: tuple[int, int],
    mark: tuple[int, int],
    position: tuple[float, float],
    scale: float,
    margin: int,
) -> None:
    left, top, right, bottom = Watermark(Image.new("RGBA", mark), position, scale, margin).box(
        *size, 1
    )
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_opacity_is_worked_in_when_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    MARK.save(path)
    mark = load_watermark(str(path), position=(1, 1), opacity=0.5, scale=0.2, margin=0)
    assert marked("", mark).convert("RGB").getpixel((180, 90)) == pytest.approx(
        (127, 0, 128), abs=1
    )


def test_a_watermark_is_upright_and_in_srgb_as_a_source_would_be(tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    profile = coded_profile(12, 13, grey=False)  # Display P3
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (40, 20), (200, 60, 60)).save(path, icc_profile=profile, exif=tag)
    mark = load_watermark(str(path), position=(1, 1), opacity=1, scale=0.2, margin=0).picture
    assert (mark.mode, mark.size) == ("RGBA", (20, 40))
    assert mark.getpixel((10, 20)) == pytest.approx((217, 42, 52, 255), abs=1)


@pytest.mark.parametrize("format", [Format.PNG, Format.JPEG, Format.WEBP, Format.GIF])
def test_every_format_takes_a_watermark(format: Format) -> None:
    assert blue_box(marked("w_100", Watermark(MARK, (1, 1), 0.2, 0), format)) is not None


def test_a_watermark_on_nothing_is_seen() -> None:
    engine = PillowEngine(Limits(), watermarks={"logo": Watermark(MARK, (1, 1), 0.2, 0)})
    image = rendered(encoded(Image.new("RGBA", (100, 50)), "PNG"), "wm_logo", engine=engine)
    assert image.getpixel((90, 45)) == (0, 0, 255, 255)
    assert image.getpixel((10, 10))[3] == 0  # type: ignore[index]


def test_an_unknown_watermark_is_refused() -> None:
    with pytest.raises(BadOptions, match="no watermark 'other'"):
        ENGINE.render(PNG, Options(watermark="other"), Format.PNG)


@pytest.mark.parametrize("content", [b"", b"no picture", encoded(COLOURS, "BMP"), PNG[:200]])
def test_a_watermark_that_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="source"):
        load_watermark(str(path), position=(1, 1), opacity=1, scale=0.2, margin=0)


# -- the order of things --


def test_the_backdrop_is_not_part_of_what_is_blurred() -> None:
    """`bg` behind transparency is put there after the filters, as a page would show it."""
    ours = rendered(encoded(clear(), "PNG"), "bg_0000ff,blur_3")
    over = rendered(encoded(clear(), "PNG"), "blur_3")
    page = Image.new("RGBA", over.size, BLUE)
    page.alpha_composite(over)
    assert psnr(numbers(ours.convert("RGB")), numbers(page.convert("RGB"))) > 50


def test_steps_leave_what_they_were_given_as_it_was() -> None:
    """Variants of one decoded picture share it."""
    variants = [
        (Options(width=60, **more), Format.PNG)  # type: ignore[arg-type]
        for more in (
            {}, {"radius": "max"}, {"blur": 2}, {"brightness": 40}, {"grayscale": True},
            {"background": "00ff00"}, {"watermark": "logo"},
        )
    ]  # fmt: skip
    engine = PillowEngine(Limits(), watermarks={"logo": Watermark(MARK, (1, 1), 0.2, 0)})
    for source in (PNG, encoded(clear(), "PNG"), encoded(quadrants().convert("LA"), "PNG")):
        together = engine.render_many(source, variants)
        for (options, format), made in zip(variants, together, strict=True):
            assert made.body == engine.render(source, options, format).body
