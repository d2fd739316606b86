"""A header is read without a decoder, and nothing over the limits reaches one."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import (
    encoded,
    exif,
    landscape,
    opened,
    png_chunk,
    quadrants,
    turned,
    with_chunk,
    with_segment,
)
from PIL import Image, ImageSequence

from thumbproxy.core.errors import BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.exif import upright
from thumbproxy.imaging.headers import MOST_FRAMES, MOST_SCANS, Header, read_header

LIMITS = Limits()
PICTURE = quadrants(81, 47)
CLEAR = PICTURE.convert("RGBA")
CLEAR.putalpha(128)
HOLED = PICTURE.convert("RGBA")
HOLED.putalpha(Image.linear_gradient("L").resize(HOLED.size).point(lambda v: 255 * (v > 99)))
FRAMES = [quadrants(40, 30).rotate(30 * n) for n in range(3)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:], "duration": 50}
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"


def with_prefixed_exif(webp: bytes) -> bytes:
    """The WebP with the six bytes before its EXIF block that only JPEG asks for.

    Some programs write them all the same; Pillow takes them away.
    """
    start = webp.index(b"EXIF")
    block = b"Exif\0\0" + webp[start + 8 :]
    chunks = webp[8:start] + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def read(source: bytes, limits: Limits = LIMITS) -> Header:
    return read_header(source, limits)


@pytest.mark.parametrize(
    ("source", "format", "has_alpha"),
    [
        (encoded(PICTURE), Format.JPEG, False),
        (encoded(PICTURE.convert("L")), Format.JPEG, False),
        (encoded(PICTURE.convert("CMYK")), Format.JPEG, False),
        (encoded(PICTURE, progressive=True), Format.JPEG, False),
        (encoded(PICTURE, "PNG"), Format.PNG, False),
        (encoded(CLEAR, "PNG"), Format.PNG, True),
        (encoded(CLEAR.convert("LA"), "PNG"), Format.PNG, True),
        (encoded(PICTURE.convert("P"), "PNG"), Format.PNG, False),
        (encoded(PICTURE.convert("P"), "PNG", transparency=0), Format.PNG, True),
        (encoded(PICTURE.convert("1"), "PNG"), Format.PNG, False),
        (encoded(PICTURE.convert("P"), "GIF"), Format.GIF, False),
        (encoded(HOLED, "GIF"), Format.GIF, True),
        (encoded(PICTURE, "WEBP"), Format.WEBP, False),
        (encoded(CLEAR, "WEBP"), Format.WEBP, True),
        (encoded(PICTURE, "WEBP", lossless=True), Format.WEBP, False),
        (encoded(CLEAR, "WEBP", lossless=True), Format.WEBP, True),
    ],
)
def test_size_format_and_alpha_are_told(source: bytes, format: Format, has_alpha: bool) -> None:
    header = read(source)
    assert (header.format, header.width, header.height) == (format, 81, 47)
    assert header.has_alpha is has_alpha
    assert (header.frames, header.orientation) == (1, 1)


def test_only_blocks_up_to_its_end_are_frames_of_a_gif() -> None:
    """What looks like a block in the colour table is none; nor is what follows the end."""
    source = encoded(Image.linear_gradient("L").convert("P"), "GIF")
    blocks = source[13 + 3 * 256 :]
    assert read(source).frames == 1
    assert read(source + blocks).frames == 1


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_frames_are_counted(format: str) -> None:
    assert read(encoded(FRAMES[0], format, **ANIMATED)).frames == 3


def test_the_still_picture_before_an_animated_png_is_no_frame() -> None:
    source = encoded(PICTURE, "PNG", save_all=True, append_images=FRAMES, default_image=True)
    assert len(list(ImageSequence.Iterator(opened(source)))) == 4
    assert read(source).frames == len(FRAMES) == 3


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_is_upright_in_every_format_that_has_exif(turn: int, order: str) -> None:
    block = exif(turn, order)
    sources = [
        with_segment(encoded(PICTURE), 0xE1, b"Exif\0\0" + block),
        with_chunk(encoded(PICTURE, "PNG"), b"eXIf", block),
        encoded(PICTURE, "WEBP", exif=block),
        with_prefixed_exif(encoded(PICTURE, "WEBP", exif=block)),
    ]
    for source in sources:
        info = read(source).info
        assert info.orientation == turn
        assert (info.width, info.height) == ((47, 81) if turn >= 5 else (81, 47))


def test_a_preview_within_the_exif_block_is_not_the_picture() -> None:
    preview = encoded(quadrants(20, 10))
    header = read(with_segment(encoded(PICTURE), 0xE1, b"Exif\0\0" + exif(6) + preview))
    assert (header.width, header.height, header.orientation) == (81, 47, 6)


def test_xmp_has_the_marker_of_exif_and_does_not_hide_it() -> None:
    plain = encoded(PICTURE)
    assert read(turned(with_segment(plain, 0xE1, XMP), 6)).orientation == 6
    assert read(with_segment(turned(plain, 6), 0xE1, XMP)).orientation == 6


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0",
        b"XX*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        exif(6)[:19],
        exif(0),
        exif(9),
        b"MM\0*" + exif(6)[4:],
        exif(6).replace(struct.pack("<HH", 0x0112, 3), struct.pack("<HH", 0x0112, 2)),
        struct.pack("<4sIH", b"II*\0", 8, 65_535),
    ],
)
def test_malformed_exif_means_upright(block: bytes) -> None:
    assert upright([block], b"") == 1
    assert read(with_segment(encoded(PICTURE), 0xE1, b"Exif\0\0" + block)).orientation == 1


@given(st.binary(max_size=80))
@example(exif(6))
def test_no_exif_block_raises(block: bytes) -> None:
    assert 1 <= upright([block], b"") <= 8


def test_a_profile_in_several_segments_is_put_together() -> None:
    profile = bytes(n % 251 for n in range(150_000))
    assert read(encoded(PICTURE, icc_profile=profile)).icc == profile


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_profile_that_lacks_a_part_is_none(lost: int) -> None:
    source = encoded(PICTURE, icc_profile=bytes(150_000))
    start = source.index(b"ICC_PROFILE\0" + bytes([lost, 3]))
    assert read(source[: start + 4] + b"X" + source[start + 5 :]).icc == b""
    assert read(source).icc == bytes(150_000)


def test_other_segments_with_the_marker_of_a_profile_are_none() -> None:
    """Cameras list the further pictures of a file in one of them."""
    assert read(with_segment(encoded(PICTURE), 0xE2, b"MPF\0" + bytes(40))).icc == b""


def test_stray_bytes_and_fill_bytes_between_segments_are_skipped() -> None:
    source = encoded(PICTURE)
    for stray in (b"\0\0\0", b"\xff\xff\xff", b"hello"):
        header = read(source[:2] + b"\xff\xe0\0\x02" + stray + source[2:])
        assert (header.width, header.height) == (81, 47)


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\xff\xd8",
        b"GIF88a" + bytes(20),
        b"RIFF\0\0\0\0WAVE",
        b"BM" + bytes(60),
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"II*\0" + bytes(60),
        b"<!doctype html><p>not found",
    ],
)
def test_what_is_no_allowed_format_by_its_first_bytes_is_unsupported(source: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        read(source)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_header_that_is_cut_short_is_broken(format: str) -> None:
    source = encoded(PICTURE, format)
    with pytest.raises(BrokenImage):
        read(source[: 14 if format != "GIF" else 9])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_limits_of_pixels_and_sides_count_and_say_the_figures(format: str) -> None:
    source = encoded(PICTURE, format)
    assert read(source, Limits(source_pixels=81 * 47, source_side=81))
    with pytest.raises(BrokenImage, match=r"81 x 47 pixels.* 3806 ") as caught:
        read(source, Limits(source_pixels=81 * 47 - 1))
    assert caught.value.log == "81 x 47 pixels; max_source_pixels is 3806"
    with pytest.raises(BrokenImage, match=r"81 x 47 pixels.* 80 on a side") as caught:
        read(source, Limits(source_side=80))
    assert caught.value.log == "81 x 47 pixels; max_source_side is 80"


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP"])
def test_all_frames_count_against_the_limit(format: str) -> None:
    source = encoded(FRAMES[0], format, **ANIMATED)
    assert read(source, Limits(source_pixels=40 * 30 * 3))
    with pytest.raises(BrokenImage, match="in 3 frames"):
        read(source, Limits(source_pixels=40 * 30 * 3 - 1))


def test_a_small_file_that_promises_a_huge_picture_is_refused() -> None:
    huge = struct.pack("<I", 0xFFFFFF)[:3]
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + huge + huge
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 2**31, 2**31, 8, 2, 0, 0, 0)
    )
    gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\0;"
    for source in (b"RIFF" + struct.pack("<I", len(webp)) + webp, png, gif):
        with pytest.raises(BrokenImage, match="on a side"):
            read(source)


def test_a_picture_without_pixels_is_broken() -> None:
    source = encoded(PICTURE)
    start = source.index(b"\xff\xc0")
    with pytest.raises(BrokenImage, match="no pixels"):
        read(source[: start + 5] + bytes(4) + source[start + 9 :])


def test_more_frames_than_anyone_draws_are_refused() -> None:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    assert read(head + frame * MOST_FRAMES + b";").frames == MOST_FRAMES
    with pytest.raises(BrokenImage, match="frames"):
        read(head + frame * (MOST_FRAMES + 1) + b";")


def test_a_jpeg_with_scans_without_end_is_refused() -> None:
    """Each of them would pass over the whole picture again."""
    source = encoded(landscape(64, 64), progressive=True)
    scan = source[source.rindex(b"\xff\xda") : -2]
    with pytest.raises(BrokenImage, match="scans"):
        read(source[:-2] + scan * MOST_SCANS + source[-2:])


def test_a_jpeg_that_is_not_progressive_can_have_scans_without_end_too() -> None:
    source = encoded(landscape(64, 64))
    start = source.index(b"\xff\xda")
    # one component of three, and of it everything
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)
    with pytest.raises(BrokenImage, match="scans"):
        read(source[:start] + scan * (MOST_SCANS + 1) + source[-2:])


def test_what_looks_like_scans_in_a_segment_does_not_count() -> None:
    looks = b"\xff\xda" * (MOST_SCANS + 10)
    assert read(with_segment(encoded(PICTURE), 0xEB, looks)).width == 81


@pytest.mark.parametrize(
    "filling", [b"\xff" * 4_000_000, b"\xff\xd0" * 2_000_000, b"\xff\xe0\0\x02" * 1_000_000]
)
def test_a_header_without_end_costs_next_to_nothing(filling: bytes) -> None:
    started = time.process_time()
    with pytest.raises(BrokenImage):
        read(b"\xff\xd8" + filling)
    assert time.process_time() - started < 0.5


@given(data=st.data())
def test_no_damage_to_a_header_raises_anything_else(data: st.DataObject) -> None:
    source = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 6))):
        source[data.draw(st.integers(4, min(len(source) - 1, 300)))] = data.draw(
            st.integers(0, 255)
        )
    end = data.draw(st.integers(8, len(source)))
    try:
        header = read(bytes(source[:end]))
    except (BrokenImage, UnsupportedImage):
        return
    assert 0 < header.width * header.height * header.frames <= LIMITS.source_pixels


SAMPLES = [
    turned(encoded(PICTURE, icc_profile=b"profile" * 9), 6),
    encoded(PICTURE, "PNG", exif=exif(5)),
    encoded(FRAMES[0], "PNG", **ANIMATED),
    encoded(FRAMES[0], "GIF", **ANIMATED),
    encoded(FRAMES[0], "WEBP", **ANIMATED),
    encoded(PICTURE, "WEBP", exif=exif(5)),
]


def test_files_that_are_all_structure_are_refused() -> None:
    """Walking through them would cost more than reading any picture."""
    gif = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    png += png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    webp = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(10)
    for source in (
        gif + b"\x21\xf9\x00" * 100_000,
        gif + b"\x21\xfe" + b"\x01x" * 100_000,
        png + png_chunk(b"tEXt", b"") * 50_000,
        png + png_chunk(b"IDAT", b"") + png_chunk(b"tEXt", b"") * 50_000,
        webp + b"JUNK\0\0\0\0" * 50_000,
    ):
        with pytest.raises(BrokenImage, match="parts"):
            read(source)


def test_comments_that_pillow_would_choke_on_are_refused() -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
    block = b"\xff" + b"c" * 255
    with pytest.raises(BrokenImage, match="comments"):
        read(gif + b"\x21\xfe" + block * 1100 + b"\0")
    with pytest.raises(BrokenImage, match="comments"):
        read(gif + (b"\x21\xfe" + block * 100 + b"\0") * 11)
    animated = encoded(FRAMES[0], "GIF", **ANIMATED)
    assert read(animated[:-1] + b"\x21\xfe" + block * 100 + b"\0;").frames == 3
