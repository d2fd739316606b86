"""What the encoders promise: exactness, sizes that fit, and settings that count."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import RED, encoded, landscape, opened, quadrants
from PIL import Image, ImageDraw

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.imaging.codecs.indexed import is_drawing
from thumbproxy.imaging.codecs.registry import encoder_of
from thumbproxy.imaging.encode import encode, written
from thumbproxy.imaging.fitting import fit

LOSSLESS = {format for format in Format if format.lossless}
MODES = ("L", "LA", "RGB", "RGBX", "RGBA")
LOSSY = sorted(written() & {Format.JPEG, Format.WEBP, Format.AVIF}, key=str)
needs_avif = pytest.mark.skipif(Format.AVIF not in written(), reason="AVIF is an extra")


def kept(body: bytes) -> Image.Image:
    """The picture in `body` in the mode that the file has."""
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def noise(mode: str, width: int = 61, height: int = 43) -> Image.Image:
    """Every value of every channel at random, alpha too; a part is wholly transparent."""
    random = np.random.default_rng(7)
    pixels = random.integers(0, 256, (height, width, 4), np.uint8)
    pixels[: height // 2, :, 3] = 0
    picture = Image.fromarray(pixels)
    if mode == "LA":
        return Image.merge("LA", (picture.getchannel("R"), picture.getchannel("A")))
    return picture.convert("RGB").convert(mode) if mode != "RGBA" else picture


def photo(width: int = 300, height: int = 200) -> Image.Image:
    """Soft shades with the grain of a camera: no two rows alike."""
    grain = np.random.default_rng(3).normal(0, 6, (height, width, 3))
    soft = np.asarray(landscape(width, height), np.float64)
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))


def text(width: int = 300, height: int = 200) -> Image.Image:
    """Lines of print, resized, so that it has more than 256 colours."""
    image = Image.new("RGB", (width * 3, height * 3), "#f2f4f8")
    draw = ImageDraw.Draw(image)
    for line in range(height // 8):
        for letter in range(line % 5 + 9):
            left, top = 20 + letter * 28, 10 + line * 24
            draw.ellipse((left, top, left + 18, top + 18), outline="#a02040", width=4)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def of_colours(count: int, mode: str = "RGB", size: int = 64) -> Image.Image:
    """Exactly `count` colours; with alpha in the modes that have it, but for one of one colour."""
    numbers = np.arange(size * size) % count
    channels = [numbers % 256, numbers * 7 % 251, numbers // 256 * 50 + numbers % 3, numbers % 256]
    pixels = np.stack(channels, -1).astype(np.uint8).reshape(size, size, 4)
    return Image.fromarray(pixels if mode == "RGBA" else pixels[..., :3].copy())


def same(one: Image.Image, other: Image.Image) -> bool:
    """Equal in every pixel, also in the colours of those that are transparent."""
    return (
        one.size == other.size and one.convert("RGBA").tobytes() == other.convert("RGBA").tobytes()
    )


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        (format, mode)
        for format in sorted(written(), key=str)
        for mode in MODES
        if format.has_alpha or mode not in ("LA", "RGBA")  # flattened before it gets here
    ],
)
def test_every_mode_and_odd_size_is_written(format: Format, mode: str) -> None:
    for size in ((1, 1), (7, 5), (61, 43)):
        body = encode(noise(mode, *size), format)
        assert opened(body).size == size
        assert body == encode(noise(mode, *size), format)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", sorted(LOSSLESS, key=str))
def test_lossless_means_every_pixel_even_under_full_transparency(format: Format, mode: str) -> None:
    image = noise(mode)
    assert same(opened(encode(image, format, lossless=True)), image)


@pytest.mark.parametrize("format", [Format.JPEG, Format.AVIF])
def test_formats_that_cannot_be_lossless_say_so(format: Format) -> None:
    with pytest.raises(BadOptions, match="png and webp"):
        encode(quadrants(), format, lossless=True)


def test_a_gif_is_the_same_with_lossless() -> None:
    assert encode(photo(), Format.GIF, lossless=True) == encode(photo(), Format.GIF)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("make", [photo, text, quadrants])
def test_a_png_is_exact_at_every_level(make: type, level: int) -> None:
    image = make()
    body = encode(image, Format.PNG, encoding=Encoding(compression_png=level))
    assert same(opened(body), image)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 255, 256, 257])
def test_a_png_of_at_most_256_colours_has_a_palette_and_is_exact(count: int, mode: str) -> None:
    image = of_colours(count, mode)
    body = encode(image, Format.PNG)
    made = kept(body)
    assert same(made, image)
    assert (made.mode == "P") == (count <= 256)
    if count <= 16:
        bits = body[24]
        assert bits == (1 if count <= 2 else 2 if count <= 4 else 4)


def test_greys_are_written_as_grey() -> None:
    grey = landscape(90, 60).convert("L")
    for image in (grey, grey.convert("RGB"), grey.convert("LA"), grey.convert("RGBA")):
        made = kept(encode(image, Format.PNG))
        assert made.mode == "L"
        assert same(made, grey)
    assert opened(encode(grey, Format.JPEG)).mode == "L"


def test_an_alpha_channel_that_hides_nothing_is_left_out() -> None:
    image = photo()
    for format in LOSSLESS | (written() & {Format.AVIF}):
        with_alpha = encode(image.convert("RGBA"), format)
        assert with_alpha == encode(image, format)
        assert opened(with_alpha).mode == "RGB"


def test_a_png_is_never_noticeably_larger_than_pillows() -> None:
    for image in (photo(), text(), photo().convert("L"), noise("RGBA", 300, 200)):
        assert len(encode(image, Format.PNG)) <= 1.02 * len(encoded(image, "PNG"))


def test_photos_and_drawings_are_told_apart() -> None:
    assert is_drawing(text(720, 480))
    assert is_drawing(text(200, 100))
    assert not is_drawing(photo(720, 480))
    assert not is_drawing(photo(200, 100))


@pytest.mark.parametrize("count", [1, 2, 200, 256])
def test_a_gif_of_at_most_256_colours_is_exact(count: int) -> None:
    for image in (of_colours(count), landscape(90, 60).convert("L")):
        assert same(opened(encode(image, Format.GIF)), image)


@pytest.mark.parametrize("colours", [3, 254, 255, 256, 4096])
def test_what_is_transparent_in_a_gif_is_what_is_more_than_half(colours: int) -> None:
    image = of_colours(colours).convert("RGBA")
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    image.putalpha(Image.fromarray(alpha))
    shown = np.asarray(opened(encode(image, Format.GIF)).convert("RGBA"))[..., 3]
    assert ((shown == 255) == (alpha >= 128)).all()
    assert set(np.unique(shown)) == {0, 255}


def test_a_cut_out_of_few_colours_keeps_them_in_a_gif() -> None:
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 60))
    made = opened(encode(image, Format.GIF)).convert("RGBA")
    assert made.getpixel((30, 10)) == (*RED, 255)
    assert made.getpixel((10, 10))[3] == 0  # type: ignore[index]


def test_a_rare_bright_colour_survives_in_the_gif_of_a_photo() -> None:
    image = photo(400, 300).convert("L").convert("RGB")
    grain = np.asarray(image) // 2 + np.random.default_rng(1).integers(0, 40, (300, 400, 3))
    image = Image.fromarray(grain.astype(np.uint8))
    image.paste((250, 20, 90), (200, 150, 206, 156))
    made = opened(encode(image, Format.GIF)).convert("RGB").crop((200, 150, 206, 156))
    assert np.abs(np.asarray(made).mean((0, 1)) - (250, 20, 90)).max() < 25


@pytest.mark.parametrize("format", LOSSY)
def test_without_a_quality_the_formats_default_is_used(format: Format) -> None:
    encoding = Encoding(quality_jpg=33, quality_webp=44, quality_avif=55)
    quality = encoding.quality(format)
    assert quality in (33, 44, 55)
    assert encode(photo(), format, encoding=encoding) == encode(photo(), format, quality)
    assert Encoding().quality(Format.PNG) is None


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.25])
def test_a_limit_of_bytes_gives_the_highest_quality_that_fits(format: Format, share: float) -> None:
    image = photo()
    sizes = [len(encode(image, format, quality)) for quality in range(1, 86)]
    most = round(sizes[-1] * share)
    body = encode(image, format, 85, most_bytes=most)
    assert len(body) <= most
    assert any(
        body == encode(image, format, quality)
        for quality, (size, larger) in enumerate(pairwise([*sizes, most + 1]), 1)
        if size <= most < larger
    )


@pytest.mark.parametrize("format", LOSSY)
def test_a_limit_that_nothing_fits_gives_quality_1(format: Format) -> None:
    assert encode(photo(), format, 80, most_bytes=10) == encode(photo(), format, 1)
    assert encode(photo(), format, 1, most_bytes=10) == encode(photo(), format, 1)


def test_files_without_a_quality_ignore_a_limit() -> None:
    for format in (Format.PNG, Format.GIF):
        assert encode(photo(), format, most_bytes=10) == encode(photo(), format)
    exact = encode(photo(), Format.WEBP, lossless=True)
    assert encode(photo(), Format.WEBP, lossless=True, most_bytes=10) == exact


@given(
    sizes=st.lists(st.integers(1, 2000), min_size=100, max_size=100),
    rising=st.booleans(),
    quality=st.integers(1, 100),
    most=st.integers(1, 2000),
    format=st.sampled_from([Format.JPEG, Format.WEBP, Format.AVIF]),
)
def test_whatever_the_sizes_are_the_next_quality_was_tried_and_does_not_fit(
    sizes: list[int], rising: bool, quality: int, most: int, format: Format
) -> None:
    """Also where sizes go up and down: the result fits if quality 1 does, in at most 13 tries."""
    sizes = sorted(sizes) if rising else sizes
    tried = []

    def write(quality: int) -> bytes:
        tried.append(quality)
        return b"%3d" % quality + bytes(sizes[quality - 1])

    body = fit(write, encoder_of(format).growth, quality, most + 3)
    chosen = int(body[:3])
    assert len(tried) == len(set(tried)) <= 13
    if len(body) > most + 3:
        assert chosen == 1
    elif chosen < quality:
        assert chosen + 1 in tried
        assert sizes[chosen] > most


@pytest.mark.parametrize("format", LOSSY)
def test_few_encodes_are_needed_to_fit(format: Format) -> None:
    image, tries = photo(), []

    def write(quality: int) -> bytes:
        tries.append(quality)
        return encode(image, format, quality)

    for most in range(6_000, 30_000, 4_000):
        tries.clear()
        fit(write, encoder_of(format).growth, 90, most)
        assert len(tries) <= 9


def sampling(jpeg: bytes) -> list[tuple[int, int]]:
    return [layer[1:3] for layer in opened(jpeg).layer]  # type: ignore[attr-defined]


@pytest.mark.parametrize("progressive", [False, True])
def test_how_coarse_a_jpegs_colours_are_is_the_setting_below_quality_90(progressive: bool) -> None:
    steps = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
    for name, step in steps.items():
        encoding = Encoding(subsampling_jpg=name, progressive_jpg=progressive)
        for quality, expected in ((40, step), (89, step), (90, (1, 1)), (100, (1, 1))):
            body = encode(photo(), Format.JPEG, quality, encoding=encoding)
            assert sampling(body) == [expected, (1, 1), (1, 1)]


def test_a_progressive_jpeg_is_smaller_and_shows_the_same() -> None:
    encoding = Encoding(progressive_jpg=True)
    for image in (photo(), photo().convert("L"), photo().convert("RGBX")):
        plain = encode(image, Format.JPEG)
        progressive = encode(image, Format.JPEG, encoding=encoding)
        assert b"\xff\xc0" in plain[:700]
        assert b"\xff\xc2" in progressive[:700]
        assert len(progressive) < len(plain)
        errors = [error(opened(body), image) for body in (plain, progressive)]
        assert errors[1] == pytest.approx(errors[0], rel=0.02)


def test_a_progressive_jpeg_is_made_of_noise_too() -> None:
    """Pillow's buffer would be too small; then it is an ordinary JPEG."""
    encoding = Encoding(progressive_jpg=True, subsampling_jpg="444")
    for quality in (50, 80, 89, 90, 95, 100):
        for image in (noise("RGB", 400, 300), noise("L", 400, 300), photo()):
            assert opened(encode(image, Format.JPEG, quality, encoding=encoding)).size == image.size


def error(made: Image.Image, image: Image.Image) -> float:
    """Mean distance of the channels' values."""
    pixels = np.asarray(image.convert(made.mode), float)
    return float(np.abs(np.asarray(made, float) - pixels).mean())


def test_the_fourth_byte_of_a_pixel_without_alpha_means_nothing() -> None:
    image = photo()
    junk = np.dstack([np.asarray(image), np.asarray(noise("L", 300, 200))])
    other = Image.frombytes("RGBX", image.size, junk.tobytes())
    for format in written():
        assert encode(other, format) == encode(image, format)


def test_a_lossy_webp_keeps_its_transparency_exactly() -> None:
    image = photo().convert("RGBA")
    image.putalpha(noise("L", *image.size))
    made = opened(encode(image, Format.WEBP, 10))
    assert made.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_more_effort_makes_smaller_files() -> None:
    slow, fast = Encoding(effort_webp=4), Encoding(effort_webp=0)
    for lossless in (False, True):
        sizes = [
            len(encode(text(), Format.WEBP, encoding=e, lossless=lossless)) for e in (slow, fast)
        ]
        assert sizes[0] < sizes[1]
    levels = [encode(text(), Format.PNG, encoding=Encoding(compression_png=n)) for n in (9, 1, 0)]
    assert len(levels[0]) < len(levels[1]) < len(levels[2])


@needs_avif
def test_the_settings_of_avif_count() -> None:
    image = photo()
    sizes = {
        len(encode(image, Format.AVIF, 60, encoding=encoding))
        for encoding in (
            Encoding(),
            Encoding(speed_avif=6),
            Encoding(subsampling_avif="422"),
            Encoding(subsampling_avif="444"),
        )
    }
    assert len(sizes) == 4


@needs_avif
def test_a_grey_avif_stays_grey() -> None:
    red, green, blue = opened(encode(photo().convert("L"), Format.AVIF)).convert("RGB").split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()


def test_formats_that_can_be_written_are_formats_of_pictures() -> None:
    assert {Format.JPEG, Format.PNG, Format.GIF, Format.WEBP} <= written()
    for format in written():
        assert Image.open(io.BytesIO(encode(quadrants(), format))).size == (80, 60)
