"""Every kind of still source that browsers show comes out as they show it.

Figures that are said to be a browser's are what Chromium 156 draws on a canvas.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np
import pytest
from handmade import plain_jpeg
from pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    exif,
    landscape,
    opened,
    png_chunk,
    png_of,
    quadrants,
    turned,
    with_chunk,
    with_segment,
)
from PIL import Image

from thumbproxy.core.errors import BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.decode import Decoded, decode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

LIMITS = Limits()
ENGINE = PillowEngine(LIMITS)
UPRIGHT = [RED, GREEN, BLUE, WHITE]
# What orientation 6 turns into quadrants() again.
LYING = quadrants().transpose(Image.Transpose.ROTATE_90)
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    return opened(ENGINE.render(source, Options.read(options), format).body)


def unpacked(source: bytes, options: str = "_") -> Decoded:
    header = read_header(source, LIMITS)
    return decode(source, header, plan(header.info, Options.read(options), LIMITS))


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.convert("RGBA").getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def psnr(one: Image.Image, other: Image.Image) -> float:
    pair = (np.asarray(image.convert("RGB"), np.float32) for image in (one, other))
    error = float(np.mean(np.subtract(*pair) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))


def at_end(png: bytes, kind: bytes, body: bytes) -> bytes:
    """The PNG with one more chunk behind its pixels."""
    return png[:-12] + png_chunk(kind, body) + png[-12:]


# --- which way up


def xmp(orientation: int, form: str = 'tiff:Orientation="{}"') -> bytes:
    head = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
    return head + form.format(orientation).encode() + b"/></x:xmpmeta>"


def text_chunk(packet: bytes, *, compressed: bool) -> bytes:
    text = zlib.compress(packet) if compressed else packet
    return b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"en\0keyword\0" + text


def with_xmp(packet: bytes) -> list[bytes]:
    png = encoded(LYING, "PNG")
    return [
        with_segment(encoded(LYING), 0xE1, XMP_HEAD + packet),
        encoded(LYING, "WEBP", quality=90, xmp=packet),
        with_chunk(png, b"iTXt", text_chunk(packet, compressed=False)),
        with_chunk(png, b"iTXt", text_chunk(packet, compressed=True)),
        at_end(png, b"iTXt", text_chunk(packet, compressed=True)),
    ]


@pytest.mark.parametrize(
    "form",
    [
        'tiff:Orientation="{}"',
        "tiff:Orientation = '{}'",
        "><tiff:Orientation>{}</tiff:Orientation><a",
        "><tiff:Orientation> {} </tiff:Orientation><a",
    ],
)
def test_xmp_says_which_way_up_when_exif_does_not(form: str) -> None:
    for source in with_xmp(xmp(6, form)):
        assert corners(rendered(source)) == UPRIGHT


def test_exif_counts_before_xmp() -> None:
    for source in (
        with_segment(turned(encoded(LYING), 6), 0xE1, XMP_HEAD + xmp(3)),
        turned(with_segment(encoded(LYING), 0xE1, XMP_HEAD + xmp(3)), 6),
        encoded(LYING, "WEBP", quality=90, exif=exif(6), xmp=xmp(3)),
        with_chunk(
            at_end(encoded(LYING, "PNG"), b"eXIf", exif(6)),
            b"iTXt",
            text_chunk(xmp(3), compressed=False),
        ),
    ):
        assert corners(rendered(source)) == UPRIGHT


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    assert corners(rendered(at_end(encoded(LYING, "PNG"), b"eXIf", exif(6)))) == UPRIGHT


@pytest.mark.parametrize("form", ['tiff:Orientation="9"', 'tiff:Orientation="66"', "Orientation"])
def test_xmp_that_says_nothing_means_upright(form: str) -> None:
    for source in with_xmp(xmp(6, form)):
        assert read_header(source, LIMITS).orientation == 1


# --- depths, palettes, keys


@pytest.mark.parametrize(
    ("depth", "row", "shades"),
    [
        (1, b"\x40", [0, 255]),
        (2, b"\x1b", [0, 85, 170, 255]),
        (4, b"\x01\x8f", [0, 17, 136, 255]),
        (8, b"\0\x40\x80\xff", [0, 64, 128, 255]),
        (16, b"\0\xff\x40\x01\x80\0\xff\xff", [0, 64, 128, 255]),
    ],
)
def test_grey_of_every_depth_has_its_shades(depth: int, row: bytes, shades: list[int]) -> None:
    image = rendered(png_of((len(shades), 1), depth, 0, row))
    assert [pixel(image, x, 0) for x in range(len(shades))] == [(s, s, s, 255) for s in shades]


@pytest.mark.parametrize(
    ("depth", "row", "key"),
    [
        (1, b"\x40", 1),
        (2, b"\x1b", 1),
        (4, b"\x01\x8f", 1),
        (8, b"\0\x40\x80\xff", 0x40),
        (16, b"\0\xff\x40\x01\x40\0\xff\xff", 0x4001),
    ],
)
def test_the_colour_key_of_a_grey_png_is_in_its_own_depth(depth: int, row: bytes, key: int) -> None:
    width = 2 if depth == 1 else 4
    image = rendered(png_of((width, 1), depth, 0, row, (b"tRNS", struct.pack(">H", key))))
    alphas = [pixel(image, x, 0)[3] for x in range(width)]
    assert alphas == [255, 0, 255, 255][:width]


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colour_key_of_a_colour_png_counts_to_its_last_bit(depth: int) -> None:
    one = 1 << (depth - 8)
    colours = [(9, 8, 7), (9 + 1 / one, 8, 7), (9, 8, 7 + 1 / one)]
    letter = "B" if depth == 8 else "H"
    samples = [round(value * one) for colour in colours for value in colour]
    key = struct.pack(">3H", *samples[:3])
    image = rendered(png_of((3, 1), depth, 2, struct.pack(f">9{letter}", *samples), (b"tRNS", key)))
    assert [pixel(image, x, 0)[3] for x in range(3)] == [0, 255, 255]
    assert pixel(image, 1, 0)[2] == 7


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\1", b"\0\1\0\2", bytes(7)])
def test_a_colour_key_of_the_wrong_length_is_none(body: bytes) -> None:
    source = png_of((1, 1), 8, 2, b"\1\2\3", (b"tRNS", body))
    assert pixel(rendered(source), 0, 0) == (1, 2, 3, 255)
    assert not read_header(source, LIMITS).has_alpha


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_keep_colours_and_half_transparency(depth: int) -> None:
    palette = (b"PLTE", bytes([*RED, *GREEN]))
    row = bytes([1 << (8 - 2 * depth)]) if depth < 8 else b"\0\1"
    image = rendered(png_of((2, 1), depth, 3, row, palette, (b"tRNS", b"\x80")))
    assert pixel(image, 0, 0) == (*RED, 128)
    assert pixel(image, 1, 0) == (*GREEN, 255)


def test_interlaced_pngs_are_read() -> None:
    """Seven passes over three pixels a side: three of them have pixels in the first row."""
    raw = b"\0\x0a" + b"\0\x0b" + b"\0\x0c\x0d" + b"\0\x0e" + b"\0\x0f" + b"\0\x01\x02\x03"
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1))
    source = (
        b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )  # fmt: skip
    shades = np.asarray(rendered(source).convert("L"))
    assert shades.tolist() == [[10, 14, 11], [1, 2, 3], [12, 15, 13]]


def test_grey_with_alpha_of_8_and_16_bits_is_kept() -> None:
    for depth, row in ((8, b"\x30\x80"), (16, b"\x30\x55\x80\x99")):
        assert pixel(rendered(png_of((1, 1), depth, 4, row)), 0, 0) == (48, 48, 48, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("width", [7, 20, 33])
def test_transparent_pixels_do_not_colour_their_neighbours(mode: str, width: int) -> None:
    """White on black nothing: a resize of colours apart from alpha would give it a dark rim."""
    image = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (13, 17, 61, 59))
    made = np.asarray(rendered(encoded(image.convert(mode), "PNG"), f"w_{width}").convert("RGBA"))
    seen = made[made[..., 3] > 8]
    assert seen[:, :3].min() >= 250


# --- JPEG of every kind


def stray(jpeg: bytes) -> bytes:
    """The JPEG with bytes that belong to nothing before a marker, as some cameras write it."""
    start = jpeg.index(b"\xff\xdb")
    return jpeg[:start] + bytes(5) + jpeg[start:]


@pytest.mark.parametrize(
    "components",
    [
        [(1, 1, 200)],
        [(2, 2, 200)],  # the factors of a single channel mean nothing
        [(1, 1, 76), (1, 1, 85), (1, 1, 255)],
        [(2, 1, 76), (1, 1, 85), (1, 1, 255)],
        [(1, 2, 76), (1, 1, 85), (1, 1, 255)],
        [(2, 2, 76), (1, 1, 85), (1, 1, 255)],
        [(4, 1, 76), (1, 1, 85), (1, 1, 255)],
        [(4, 2, 76), (1, 1, 85), (1, 1, 255)],
        [(1, 4, 76), (1, 1, 85), (1, 1, 255)],
        [(2, 2, 76), (1, 2, 85), (2, 1, 255)],
        [(1, 1, 76), (2, 2, 85), (2, 2, 255)],
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (49, 31), (200, 130)])
def test_jpegs_of_any_subsampling_and_size(
    components: list[tuple[int, int, int]], size: tuple[int, int]
) -> None:
    source = plain_jpeg(size, components)
    colour = (254, 0, 0) if len(components) == 3 else (200, 200, 200)
    for options in ("_", "w_20", "w_5,h_5", "w_1"):
        image = rendered(source, options)
        assert pixel(image, image.width // 2, image.height // 2)[:3] == pytest.approx(colour, abs=2)


def test_jpegs_without_a_transform_of_colours() -> None:
    source = plain_jpeg((40, 30), [(1, 1, 250), (1, 1, 10), (1, 1, 20)], adobe=0)
    assert pixel(rendered(source), 9, 9)[:3] == pytest.approx((250, 10, 20), abs=1)


def test_cmyk_as_adobe_writes_it_plain_and_as_ycck() -> None:
    """Ink is 0 and paper is 255; a browser takes that for granted without the Adobe segment too."""
    ink = [(1, 1, 255), (1, 1, 0), (1, 1, 0), (1, 1, 255)]
    ycck = [(2, 2, 179), (1, 1, 171), (1, 1, 0), (2, 2, 255)]
    for source in (
        plain_jpeg((60, 40), ink, adobe=0),
        plain_jpeg((60, 40), ink),
        plain_jpeg((60, 40), ycck, adobe=2),
        plain_jpeg((60, 40), [(2, 1, 179), (1, 1, 171), (1, 2, 0), (2, 2, 255)], adobe=2),
    ):
        for options in ("_", "w_20", "w_9"):
            assert pixel(rendered(source, options), 2, 2)[:3] == pytest.approx(RED, abs=2)


@pytest.mark.parametrize(
    "options", ["w_40", "w_100", "w_110,h_60,fit_cover", "crop_9x9x222x111,w_30"]
)
def test_what_only_pillow_decodes_is_decoded_at_a_scale_too(options: str) -> None:
    """Sizes and positions are those of a whole decode."""
    image = landscape(403, 301)
    usual = encoded(image, subsampling=2)
    odd = stray(usual)
    assert unpacked(odd, options).lease is None  # which is the strict decoder's
    assert unpacked(odd, options).eighths == unpacked(usual, options).eighths < 8
    assert psnr(rendered(odd, options), rendered(usual, options)) > 38
    whole = encoded(opened(usual), "PNG")
    assert psnr(rendered(odd, options), rendered(whole, options)) > 34


@pytest.mark.parametrize(("sof", "precision"), [(0xC1, 12), (0xC3, 8), (0xC5, 8), (0xCB, 8)])
def test_jpegs_that_no_browser_shows_are_refused_with_a_sentence(sof: int, precision: int) -> None:
    source = plain_jpeg((40, 30), [(1, 1, 9)], sof=sof, precision=precision)
    with pytest.raises(UnsupportedImage, match=r"JPEG"):
        rendered(source)


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_jpegs_of_other_numbers_of_channels_are_refused(channels: int) -> None:
    source = plain_jpeg((40, 30), [(1, 1, 9)] * channels) if channels else plain_jpeg(
        (40, 30), [(1, 1, 9)]
    ).replace(b"\x1e\0\x28\1\1\x11\0", b"\x1e\0\x28\0\1\x11\0")  # fmt: skip
    with pytest.raises(UnsupportedImage, match=f"{channels} channels"):
        rendered(source)


# 16 x 16 pixels of quadrants(), made with `jpegtran -arithmetic`.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJ"
    "DRENDg8QEBEQCgwSExIQEw8QEBD/2wBDAQMDAwQDBAgEBAgQCwkLEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ"
    "EBAQEBAQEBAQEBAQEBAQEBAQEBD/yQARCAAQABADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANlJ"
    "HFQSonTeZL+bZisUoWVjWOpLKfZCyaD/2Q=="
)


def test_arithmetic_coding_is_read_or_told_to_be_broken() -> None:
    """It depends on how libjpeg was built, as it does for browsers."""
    try:
        image = rendered(ARITHMETIC)
    except BrokenImage:
        return
    assert corners(image) == UPRIGHT


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [{}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 2}])
def test_progressive_jpegs_and_restart_markers(progressive: bool, restart: dict[str, int]) -> None:
    source = encoded(quadrants(), progressive=progressive, **restart)
    for options in ("_", "w_40", "w_10"):
        assert corners(rendered(source, options)) == UPRIGHT


def multi_picture(first: bytes, *others: bytes) -> bytes:
    """As phones write them: further pictures after the first, told in an MPF segment of it."""
    entries = b"".join(
        struct.pack(">IIIHH", 0x030000 if n == 0 else 0, len(body), 0 if n == 0 else 9999, 0, 0)
        for n, body in enumerate((first, *others))
    )
    count = 1 + len(others)
    ifd = struct.pack(
        ">H HHI4s HHII HHII I",
        3, 0xB000, 7, 4, b"0100", 0xB001, 4, 1, count, 0xB002, 7, 16 * count, 50, 0,
    )  # fmt: skip
    return with_segment(
        first, 0xE2, b"MPF\0MM\0*" + struct.pack(">I", 8) + ifd + entries
    ) + b"".join(others)


@pytest.mark.parametrize("progressive", [False, True])
def test_of_files_with_several_pictures_the_main_one_is_taken(progressive: bool) -> None:
    """MPO, Ultra HDR (a gain map behind the picture), videos behind it, previews before it."""
    main = encoded(quadrants(), progressive=progressive)
    gain = encoded(Image.new("L", (20, 15), 90))
    preview = encoded(Image.new("RGB", (32, 24), (9, 9, 9)))
    hdr = XMP_HEAD + b'<rdf:Description hdrgm:Version="1.0"/>'
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda\x01" * 999 + b"\xff\xd9" * 9
    for source in (
        multi_picture(main, gain),
        multi_picture(with_segment(main, 0xE1, hdr), gain, preview),
        multi_picture(main, gain)[:-9],
        multi_picture(stray(main), gain),  # which only Pillow decodes
        main + video,
        with_segment(main, 0xE1, b"Exif\0\0" + exif(1) + preview),
        with_segment(main, 0xED, preview),
    ):
        info = ENGINE.inspect(source)
        assert (info.width, info.height, info.frames) == (80, 60, 1)
        for options in ("_", "w_30"):
            assert corners(rendered(source, options)) == UPRIGHT


def test_a_header_of_megabytes_is_no_obstacle() -> None:
    source = turned(encoded(LYING), 6)
    for number in range(60):
        source = with_segment(source, 0xE1, b"Exif\0\0" + bytes([number]) * 60_000)
    assert corners(rendered(source, "w_40")) == UPRIGHT


# --- WebP


def test_webp_of_every_kind_is_read() -> None:
    clear = quadrants().convert("RGBA")
    clear.putalpha(200)
    for parameters in ({"quality": 90}, {"lossless": True}, {"quality": 90, "exif": exif(1)}):
        assert corners(rendered(encoded(quadrants(), "WEBP", **parameters), "w_40")) == UPRIGHT
        image = rendered(encoded(clear, "WEBP", **parameters), "w_40")
        assert pixel(image, 5, 5)[3] == 200


def test_headers_tell_what_a_decoder_gives() -> None:
    """No two readers of a file disagree about its size."""
    for source in (encoded(landscape(31, 17), name) for name in ("JPEG", "PNG", "GIF", "WEBP")):
        header: Header = read_header(source, LIMITS)
        assert unpacked(source).image.size == (header.width, header.height)
