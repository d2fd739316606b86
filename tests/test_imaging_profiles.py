"""Colour profiles: what they mean is shown, and what they are costs next to nothing.

Figures that are said to be a browser's are what Chromium 156 draws on a canvas.
"""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from handmade import grey_profile, matrix_profile, press_profile, profile
from pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    landscape,
    opened,
    png_chunk,
    png_of,
    quadrants,
    swapping_profile,
    with_chunk,
)
from PIL import Image, ImageCms

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging import colour
from thumbproxy.imaging.codecs.header import MOST_PROFILE, inflated
from thumbproxy.imaging.colour import to_srgb
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

LIMITS = Limits()
ENGINE = PillowEngine(LIMITS)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# XYZ of red, green and blue under D50.
SRGB_COLUMNS = [(0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]
DISPLAY_P3 = matrix_profile(
    [(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)], 2.2
)
ADOBE = matrix_profile(
    [(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)], 563 / 256
)
PROPHOTO = matrix_profile([(0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)],
                          1.8)  # fmt: skip
PHOTO = landscape(240, 160)


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    return opened(ENGINE.render(source, Options.read(options), format).body)


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.convert("RGBA").getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def by_little_cms(image: Image.Image, icc: bytes) -> Image.Image:
    made = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert made is not None
    return made


def differences(one: Image.Image, other: Image.Image) -> np.ndarray:  # type: ignore[type-arg]
    return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))


@pytest.mark.parametrize("icc", [DISPLAY_P3, ADOBE, PROPHOTO, swapping_profile()])
@pytest.mark.parametrize("mode", ["RGB", "RGBX", "RGBA"])
def test_colours_are_those_of_little_cms(icc: bytes, mode: str) -> None:
    image = PHOTO.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    made = to_srgb(image, icc)
    assert made.mode in (mode, "RGB")
    assert differences(made.convert("RGB"), by_little_cms(PHOTO, icc)).mean() < 0.5
    assert np.percentile(differences(made.convert("RGB"), by_little_cms(PHOTO, icc)), 99.5) <= 4
    if mode == "RGBA":
        assert made.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert not made.info


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_embedded_profiles_are_followed_in_every_format(format: str) -> None:
    lossy = {} if format == "PNG" else {"quality": 95}
    for icc in (DISPLAY_P3, ADOBE, PROPHOTO):
        source = encoded(
            Image.new("RGB", (40, 30), (180, 90, 60)), format, icc_profile=icc, **lossy
        )
        expected = by_little_cms(Image.new("RGB", (1, 1), (180, 90, 60)), icc)
        assert pixel(rendered(source, "w_9"), 2, 2)[:3] == pytest.approx(
            pixel(expected, 0, 0)[:3], abs=4
        )


def test_converting_after_the_resize_differs_little_from_before() -> None:
    """It is done so because there are so many fewer pixels then."""
    image = landscape(900, 600)
    for icc, most in ((DISPLAY_P3, 1.5), (ADOBE, 1.5), (PROPHOTO, 2.6)):
        after = rendered(encoded(image, "PNG", icc_profile=icc), "w_225").convert("RGB")
        before = by_little_cms(image, icc).resize(after.size, Image.Resampling.LANCZOS)
        assert differences(after, before).mean() < most


def test_linear_light_is_resized_as_it_lies_and_then_converted() -> None:
    """Which is right for light. Fine light lines come out lighter than a browser shows them."""
    dark = Image.fromarray((np.asarray(landscape(300, 200)) // 4).astype(np.uint8))
    source = with_chunk(encoded(dark, "PNG"), b"gAMA", struct.pack(">I", 100_000))
    after = rendered(source, "w_75").convert("RGB")
    whole = rendered(source).convert("RGB").resize(after.size, Image.Resampling.LANCZOS)
    assert differences(after, whole).mean() < 6


def test_srgb_is_told_by_its_numbers_and_not_by_its_name() -> None:
    named = matrix_profile(
        [SRGB_COLUMNS[1], SRGB_COLUMNS[0], SRGB_COLUMNS[2]], 2.2, "sRGB IEC61966"
    )
    made = to_srgb(quadrants(), named)
    assert corners(made) == [GREEN, RED, BLUE, WHITE]
    image = PHOTO.convert("RGBX")
    assert to_srgb(image, SRGB) is image


def test_grey_profiles_count_for_grey_pictures_with_and_without_alpha() -> None:
    icc = grey_profile(1.0)
    grey = Image.new("L", (40, 30), 64)
    for source in (encoded(grey, icc_profile=icc), encoded(grey, "PNG", icc_profile=icc)):
        assert pixel(rendered(source, "w_20"), 5, 5) == (137, 137, 137, 255)
    clear = Image.new("LA", (40, 30), (64, 100))
    made = rendered(encoded(clear, "PNG", icc_profile=icc), "w_20")
    assert pixel(made, 5, 5) == pytest.approx((137, 137, 137, 100), abs=2)


def test_a_grey_picture_follows_the_curve_of_a_colour_profile_as_in_browsers() -> None:
    source = encoded(Image.new("L", (40, 30), 20), "PNG", icc_profile=swapping_profile())
    assert pixel(rendered(source), 5, 5) == (12, 12, 12, 255)


@pytest.mark.parametrize(
    ("mode", "icc"), [("RGB", grey_profile(1.0)), ("RGB", press_profile()), ("L", press_profile())]
)
def test_a_profile_of_another_kind_of_colour_is_ignored(mode: str, icc: bytes) -> None:
    image = Image.new(mode, (40, 30), 64 if mode == "L" else (64, 64, 64))
    made = pixel(rendered(encoded(image, icc_profile=icc)), 5, 5)
    assert made[:3] == pytest.approx((64,) * 3, abs=1)


def test_cmyk_follows_its_profile_and_black_is_black() -> None:
    inks = Image.new("CMYK", (40, 30), (255, 0, 0, 0))
    inks.paste((0, 0, 255, 0), (20, 0, 40, 15))
    inks.paste((0, 0, 0, 0), (0, 15, 20, 30))
    inks.paste((0, 0, 0, 255), (20, 15, 40, 30))
    for icc, cyan, yellow in (
        (press_profile(), (0, 151, 218), (246, 225, 0)),
        (press_profile(swap=True), (246, 225, 0), (0, 151, 218)),
        (b"", (0, 255, 255), (255, 255, 0)),
        (swapping_profile(), (0, 255, 255), (255, 255, 0)),
    ):
        image = rendered(encoded(inks, quality=100, icc_profile=icc))
        assert pixel(image, 5, 5)[:3] == pytest.approx(cyan, abs=6)
        assert pixel(image, 35, 5)[:3] == pytest.approx(yellow, abs=6)
        assert pixel(image, 5, 25)[:3] == pytest.approx(WHITE, abs=3)
        assert pixel(image, 35, 25)[:3] == pytest.approx((0, 0, 0), abs=3)


def test_a_pillow_without_little_cms_leaves_colours_as_they_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(colour, "ImageCms", None)
    source = encoded(quadrants(), "PNG", icc_profile=swapping_profile())
    assert corners(rendered(source)) == [RED, GREEN, BLUE, WHITE]
    press = encoded(quadrants().convert("CMYK"), quality=95, icc_profile=press_profile())
    assert corners(rendered(press)) == [RED, GREEN, BLUE, WHITE]


# --- PNG's own words

SHADES = (20, 64, 128)
SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_POINTS = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def points(values: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def coded(*values: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(values)


@pytest.mark.parametrize(
    ("chunks", "shades", "red"),
    [
        ([gamma(45455)], SHADES, (128, 20, 20)),
        ([gamma(45455), points(SRGB_POINTS)], (12, 62, 129), (129, 12, 12)),
        ([gamma(100_000)], (79, 137, 188), (188, 79, 79)),
        ([gamma(100_000), points(SRGB_POINTS)], (79, 137, 188), (188, 79, 79)),
        ([gamma(55_000)], (25, 80, 146), (146, 25, 25)),
        ([points(P3_POINTS)], SHADES, (128, 20, 20)),
        ([points(P3_POINTS), gamma(45455)], (12, 62, 129), (141, 0, 0)),
        ([gamma(100_000), (b"sRGB", b"\0")], SHADES, (128, 20, 20)),
        ([gamma(100_000), coded(1, 13, 0, 1)], SHADES, (128, 20, 20)),
        ([coded(12, 13, 0, 1)], SHADES, (140, 0, 10)),
        ([coded(9, 1, 0, 1)], (7, 53, 121), (152, 0, 0)),
        ([gamma(0)], SHADES, (128, 20, 20)),
    ],
)
def test_png_colours_are_a_browsers(
    chunks: list[tuple[bytes, bytes]], shades: tuple[int, ...], red: tuple[int, ...]
) -> None:
    image = Image.new("RGB", (40, 10), (128, 20, 20))
    for number, shade in enumerate(SHADES):
        image.paste((shade,) * 3, (number * 10, 0, number * 10 + 10, 10))
    source = encoded(image, "PNG")
    for chunk in chunks:
        source = with_chunk(source, *chunk)
    made = rendered(source)
    for number, shade in enumerate(shades):
        assert pixel(made, number * 10 + 5, 5)[:3] == pytest.approx((shade,) * 3, abs=1)
    assert pixel(made, 35, 5)[:3] == pytest.approx(red, abs=2)
    grey = encoded(image.convert("L"), "PNG")
    for chunk in chunks:
        grey = with_chunk(grey, *chunk)
    assert pixel(rendered(grey), 15, 5)[:3] == pytest.approx((shades[1],) * 3, abs=1)


@pytest.mark.parametrize("transfer", [16, 18, 2, 0, 255])
def test_coded_colours_that_are_not_known_leave_the_picture_as_it_lies(transfer: int) -> None:
    """PQ and HLG are among them: they need a mapping of tones, on which nobody agrees."""
    source = with_chunk(encoded(quadrants(), "PNG"), *coded(9, transfer, 0, 1))
    assert corners(rendered(source)) == [RED, GREEN, BLUE, WHITE]
    source = with_chunk(encoded(quadrants(), "PNG", icc_profile=swapping_profile()),
                        *coded(9, transfer, 0, 1))  # fmt: skip
    assert corners(rendered(source)) == [GREEN, RED, BLUE, WHITE]


@pytest.mark.parametrize(
    "values",
    [(0,) * 8, (2**32 - 1,) * 8, (31270, 32900) * 4, (31270, 0, *SRGB_POINTS[2:])],
)  # fmt: skip
def test_chromaticities_that_no_light_has_do_no_harm(values: tuple[int, ...]) -> None:
    source = encoded(quadrants(), "PNG")
    for chunk in (gamma(55_000), points(values)):
        source = with_chunk(source, *chunk)
    assert corners(rendered(source)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", [b"iCCP", b"gAMA", b"cHRM", b"cICP", b"sRGB", b"tRNS"])
@pytest.mark.parametrize("body", [b"", b"\0", b"a\0\0", bytes(40)])
def test_malformed_chunks_of_colour_are_passed_over(kind: bytes, body: bytes) -> None:
    source = with_chunk(encoded(quadrants(), "PNG"), kind, body)
    assert corners(rendered(source)) == [RED, GREEN, BLUE, WHITE]


# --- broken, huge and hostile


def hostile_profiles() -> list[bytes]:
    press = press_profile()
    longer = bytearray(swapping_profile())
    longer[0:4] = b"\xff\xff\xff\xf0"
    crowded = bytearray(swapping_profile())
    crowded[128:132] = b"\0\0\xff\xff"
    grid = bytearray(press)
    grid[grid.index(b"mft1") + 10] = 255
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0x7FFFFFFF) + bytes(40)
    tags = {b"rXYZ": b"", b"gXYZ": bytes(3), b"bXYZ": bytes(99), b"rTRC": curve}
    return [
        b"nonsense", bytes(128), swapping_profile()[:200], bytes(longer), bytes(crowded),
        bytes(grid), profile(b"RGB ", b"XYZ ", tags), profile(b"RGB ", b"XYZ ", {}),
        profile(b"\xff\xfe\xfd\xfc", b"XYZ ", {}), press[:-700],
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_no_profile_raises(number: int, mode: str) -> None:
    icc = hostile_profiles()[number]
    made = rendered(encoded(quadrants().convert(mode), quality=95, icc_profile=icc), "w_40")
    assert made.size == (40, 30)
    if mode == "RGB":
        assert corners(made) in ([RED, GREEN, BLUE, WHITE], [GREEN, RED, BLUE, WHITE])


def test_a_profile_over_the_limit_is_ignored() -> None:
    fitting = swapping_profile() + bytes(MOST_PROFILE - len(swapping_profile()))
    for format in ("JPEG", "PNG", "WEBP"):
        ours = encoded(quadrants(), format, icc_profile=fitting, quality=90)
        assert len(read_header(ours, LIMITS).icc) == MOST_PROFILE
        over = encoded(quadrants(), format, icc_profile=fitting + b"\0", quality=90)
        assert read_header(over, LIMITS).icc == b""
        assert corners(rendered(over, "w_40")) == [RED, GREEN, BLUE, WHITE]


def test_a_profile_that_inflates_without_end_is_not_inflated() -> None:
    """400 MB out of 400 KB; what is made of it has a bound."""
    squeezer = zlib.compressobj(9)
    stream = b"".join(squeezer.compress(bytes(4_000_000)) for _ in range(100)) + squeezer.flush()
    assert inflated(stream, 1000) == b""
    source = with_chunk(encoded(quadrants(), "PNG"), b"iCCP", b"bomb\0\0" + stream)
    started = time.process_time()
    assert corners(rendered(source, "w_40")) == [RED, GREEN, BLUE, WHITE]
    assert time.process_time() - started < 5


def test_a_stream_gives_its_content_whole_or_not_at_all() -> None:
    stream = zlib.compress(b"content")
    assert inflated(stream, 7) == b"content"
    assert inflated(stream + b"after", 100) == b"content"
    for bad in (stream[:-1], stream[:-4], stream[:3], b"", b"nonsense"):
        assert inflated(bad, 100) == b""
    assert inflated(stream, 6) == b""


def test_profiles_are_prepared_once_and_only_the_last_are_kept() -> None:
    kept = colour._Conversions()
    one = kept.get(swapping_profile(), 3)
    assert one is not None
    assert kept.get(swapping_profile(), 3) is one
    assert kept.get(swapping_profile(), 4) is None
    for number in range(colour._KEPT):
        kept.get(bytes([number]), 3)
    assert len(kept._kept) == colour._KEPT
    assert kept.get(swapping_profile(), 3) is not one


@pytest.mark.parametrize("icc", [PROPHOTO, press_profile(), DISPLAY_P3])
def test_threads_share_a_conversion(icc: bytes) -> None:
    image = PHOTO.convert("CMYK") if icc == press_profile() else PHOTO
    turned = image.transpose(Image.Transpose.ROTATE_180)
    alone = {id(picture): to_srgb(picture, icc).tobytes() for picture in (image, turned)}
    seen: list[tuple[int, bytes]] = []

    def work(picture: Image.Image) -> None:
        seen.extend((id(picture), to_srgb(picture, icc).tobytes()) for _ in range(20))

    threads = [threading.Thread(target=work, args=(p,)) for p in (image, turned) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 120
    assert all(alone[which] == pixels for which, pixels in seen)


def test_a_profile_with_a_wrong_checksum_is_passed_over_as_in_browsers() -> None:
    source = bytearray(encoded(quadrants(), "PNG", icc_profile=swapping_profile()))
    start = source.index(b"iCCP")
    (length,) = struct.unpack_from(">I", source, start - 4)
    source[start + 4 + length] ^= 1
    assert png_chunk(b"iCCP", bytes(source[start + 4 : start + 4 + length])) not in source
    assert corners(rendered(bytes(source))) == [RED, GREEN, BLUE, WHITE]


# --- channels are those of the file, whatever mode a decoder has for them

GAMMA = 1.8
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
# Depth, kind of colour, and whether tRNS makes the first pixel transparent.
KINDS = [
    *((depth, GREY, clear) for depth in (2, 4, 8, 16) for clear in (False, True)),
    *((depth, COLOUR, clear) for depth in (8, 16) for clear in (False, True)),
    *((depth, PALETTE, clear) for depth in (1, 2, 4, 8) for clear in (False, True)),
    *((depth, kind, True) for depth in (8, 16) for kind in (GREY_ALPHA, COLOUR_ALPHA)),
]
GREY_ICC, COLOUR_ICC = grey_profile(GAMMA), matrix_profile(SRGB_COLUMNS, GAMMA)
CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
GAMA = (b"gAMA", struct.pack(">I", round(100_000 / GAMMA)))
ICC = {icc: (b"iCCP", b"icc\0\0" + zlib.compress(icc)) for icc in (GREY_ICC, COLOUR_ICC)}


def one_shade(
    depth: int, kind: int, clear: bool, *colours: tuple[bytes, bytes]
) -> tuple[bytes, int]:
    """A PNG of a row of one shade, after a black or transparent pixel; and that shade, 0 to 255."""
    most = (1 << depth) - 1
    half = 1 if kind == PALETTE else (most + 1) // 2 - 1
    first, other = [0] * SAMPLES[kind], [half] * SAMPLES[kind]
    if kind in (GREY_ALPHA, COLOUR_ALPHA):
        other[-1] = most
    bits = "".join(f"{sample:0{depth}b}" for sample in first + 7 * other)
    chunks = list(colours)
    if kind == PALETTE:
        chunks.append((b"PLTE", bytes([0, 0, 0, 127, 127, 127])))
    if clear and kind in (GREY, COLOUR, PALETTE):
        chunks.append((b"tRNS", b"\0" if kind == PALETTE else bytes(2 * SAMPLES[kind])))
    row = int(bits, 2).to_bytes(-(-len(bits) // 8), "big")
    return png_of((8, 1), depth, kind, row, *chunks), 127 if kind == PALETTE else half * 255 // most


def moving(png: bytes) -> bytes:
    """An APNG of twice the same picture."""
    at = png.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", png, at)
    controls = [png_chunk(b"fcTL", struct.pack(">5I2H2B", number, 8, 1, 0, 0, 1, 9, 0, 0))
                for number in (0, 1)]  # fmt: skip
    second = png_chunk(b"fdAT", struct.pack(">I", 2) + png[at + 8 : at + 8 + length])
    head = png[:33] + png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png[33:at]
    return head + controls[0] + png[at : at + 12 + length] + controls[1] + second + png[-12:]


def by_curve(shade: int, gamma: float) -> float:
    light = (shade / 255) ** gamma
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("depth", "kind", "clear"), KINDS)
def test_colours_of_a_png_are_followed_in_every_kind_and_depth(
    depth: int, kind: int, clear: bool
) -> None:
    grey = kind in (GREY, GREY_ALPHA)
    followed = {
        1.0: [((b"cICP", b"\x01\x08\0\x01"),)],
        GAMMA: [(GAMA,), (GAMA, (b"cHRM", CHROMATICITIES)), (ICC[COLOUR_ICC],)],
    }
    if grey:
        followed[GAMMA].append((ICC[GREY_ICC],))
    for gamma, ways in followed.items():
        for colours in ways:
            source, shade = one_shade(depth, kind, clear, *colours)
            for file, format in (
                (source, Format.PNG), (source, Format.JPEG),
                (moving(source), Format.WEBP), (moving(source), Format.PNG),
            ):  # fmt: skip
                made = rendered(file, "q_100,lossless" if format is Format.WEBP else "_", format)
                red, green, blue, alpha = pixel(made, 6, 0)
                assert (red, green, blue) == pytest.approx([by_curve(shade, gamma)] * 3, abs=3)
                assert alpha == 255
                if format is not Format.JPEG:
                    assert pixel(made, 0, 0)[3] == (0 if clear else 255)


@pytest.mark.parametrize(("depth", "kind", "clear"), KINDS)
def test_a_profile_of_grey_means_nothing_to_a_png_of_colours(
    depth: int, kind: int, clear: bool
) -> None:
    """A palette is one of colours, also if all of them are grey."""
    if kind in (COLOUR, PALETTE, COLOUR_ALPHA):
        source, shade = one_shade(depth, kind, clear, ICC[GREY_ICC])
        for file in (source, moving(source)):
            assert pixel(rendered(file), 6, 0) == (shade, shade, shade, 255)


def test_black_and_white_of_one_bit_have_a_curve_between_them() -> None:
    for colours in ((ICC[GREY_ICC],), (GAMA,)):
        source = png_of((8, 1), 1, GREY, b"\x55", *colours)
        assert pixel(rendered(source, "w_1"), 0, 0)[0] == pytest.approx(by_curve(127, GAMMA), abs=3)


@pytest.mark.parametrize(
    ("mode", "icc", "shade"),
    [
        ("L", GREY_ICC, by_curve(127, GAMMA)), ("L", COLOUR_ICC, by_curve(127, GAMMA)),
        ("RGB", COLOUR_ICC, by_curve(127, GAMMA)), ("RGB", GREY_ICC, 127),
    ],
)  # fmt: skip
@pytest.mark.parametrize("progressive", [False, True])
def test_colours_of_a_jpeg_are_followed_by_both_decoders(
    mode: str, icc: bytes, shade: float, progressive: bool
) -> None:
    source = encoded(Image.new(mode, (40, 30), (127,) * len(mode) if mode != "L" else 127),
                     icc_profile=icc, progressive=progressive)  # fmt: skip
    odd = source[:-2] + b"stray" + source[-2:]  # which only Pillow takes, if it is progressive
    for file in (source, odd):
        assert pixel(rendered(file), 9, 9)[:3] == pytest.approx([shade] * 3, abs=3)
