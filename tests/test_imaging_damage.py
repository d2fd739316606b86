"""What becomes of files that are damaged, hostile, or no pictures at all. See docs/sources.md."""

from __future__ import annotations

import base64
import random
import re
import struct
import time
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import simplejpeg
from handmade import plain_jpeg, press_profile, segment
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
    quadrants,
    swapping_profile,
    turned,
    with_chunk,
    with_segment,
)
from PIL import Image

from thumbproxy.core.errors import BrokenImage, SourceError, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.header import MOST_XMP
from thumbproxy.imaging.codecs.png.header import essential_png
from thumbproxy.imaging.codecs.webp import decode as webp
from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.exif import upright
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

LIMITS = Limits()
ENGINE = PillowEngine(LIMITS)
UPRIGHT = [RED, GREEN, BLUE, WHITE]
PICTURE = quadrants()
PHOTO = landscape(160, 120)
JPEG, PNG, GIF, WEBP = (encoded(PICTURE, name) for name in ("JPEG", "PNG", "GIF", "WEBP"))
PALETTE = encoded(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=b"\x80")
# A timeout, not a measurement: what takes its time takes minutes.
GENEROUS = 5.0


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    return opened(ENGINE.render(source, Options.read(options), format).body)


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def with_wrong_checksum(png: bytes, kind: bytes) -> bytes:
    start = png.index(kind)
    (length,) = struct.unpack_from(">I", png, start - 4)
    end = start + 4 + length
    return png[:end] + bytes([png[end] ^ 1]) + png[end + 1 :]


def data_end(png: bytes) -> int:
    """Where the last pixel data end."""
    start = png.rindex(b"IDAT")
    return start + 4 + int(struct.unpack_from(">I", png, start - 4)[0])


# --- damaged, but shown by browsers


@pytest.mark.parametrize(
    "source",
    [
        JPEG[:-2],
        JPEG[:-1],
        JPEG[:-2] + b"\0\0\0\0" + JPEG[-2:],
        JPEG + b"after the end",
        JPEG + JPEG[:200],
        JPEG[:2] + b"\xff\xe0\0\x04ab\0\0stray" + JPEG[2:],
        with_segment(JPEG, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        with_segment(JPEG, 0xE1, b"Exif\0\0" + exif(6)[:15]),
        with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\1\1nonsense"),
        with_segment(JPEG, 0xE2, b"MPF\0II*\0" + b"\xff" * 40),
        with_segment(JPEG, 0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 40),
        PNG[:-12],
        PNG[:-6],
        PNG[: data_end(PNG)],
        PNG[: data_end(PNG) - 4],
        PNG + b"after the end",
        with_wrong_checksum(PNG, b"IDAT"),
        with_wrong_checksum(PNG, b"IEND"),
        *(with_wrong_checksum(with_chunk(PNG, kind, b"a\0b"), kind) for kind in (b"tEXt", b"teST")),
        *(with_chunk(PNG, kind, body)
          for kind in (b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"eXIf", b"sBIT", b"bKGD", b"tIME")
          for body in (b"", b"\0", bytes(50), b"\xff" * 50)),
        with_chunk(PNG, b"zTXt", b"a\0\0nonsense"),
        with_chunk(PNG, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0nonsense"),
        GIF[:-1],
        GIF + b"after the end",
        WEBP + b"after the end",
    ],
)  # fmt: skip
def test_damage_that_no_browser_minds_does_no_harm(source: bytes) -> None:
    for options in ("_", "w_20"):
        assert corners(rendered(source, options)) == UPRIGHT


IHDR, IEND = PNG[8:33], PNG[-12:]
STREAM = PNG[PNG.index(b"IDAT") + 4 : data_end(PNG)]


@pytest.mark.parametrize(
    "end",
    [
        b"", IEND[:1], IEND[:5], IEND[:8], IEND[:-1] + b"x", b"\0\0\0\x09" + IEND[4:],
        bytes(40), b"\xff" * 40, b"garbage, and more of it; it goes on and on",
        PNG, IHDR, IHDR + IEND, IHDR[:9], IHDR[:16], b"\xff\xff\xff\xffIEND",
        *(png_chunk(kind, bytes(26)) + tail
          for kind in (b"PLTE", b"tRNS", b"ABCD", b"iend", b"acTL", b"fcTL", b"fdAT", b"IDAT")
          for tail in (b"", IEND)),
        png_chunk(b"tEXt", b"a\0b")[:9], png_chunk(b"tEXt", b"a\0b")[:-1] + b"x" + IEND,
    ],
)  # fmt: skip
def test_whatever_stands_at_the_end_of_a_png_its_pixels_are_shown(end: bytes) -> None:
    assert corners(rendered(PNG[:-12] + end)) == UPRIGHT


@pytest.mark.parametrize("stream", [STREAM[:-1] + b"x", STREAM[:-4], STREAM[:-1], STREAM + b"more"])
def test_the_checksum_of_a_stream_of_pixels_does_not_count(stream: bytes) -> None:
    source = PNG[: PNG.index(b"IDAT") - 4]
    assert corners(rendered(source + png_chunk(b"IDAT", stream) + IEND)) == UPRIGHT
    with pytest.raises(BrokenImage):
        rendered(source + png_chunk(b"IDAT", stream[: len(STREAM) // 2] + stream[-4:]) + IEND)


@pytest.mark.parametrize(
    "end",
    [
        b"", b",", b"!", b"\0", b"\x01", b"\xff", b"," + bytes(8), b"," + bytes(9), b",\0;",
        b"," + b"\xff" * 9, b"," + b"\xff" * 10, b"," + bytes(8) + b"\x80", b"!\xf9", b"!\xf9\4\0",
        b"!\xfe\5ab", b"!\xff\x0bNETSCAPE2.0\3\1", b"!" + bytes(20), bytes(20), b";,", GIF,
        b"junk, and more of it! it goes on, and on", b"! and so does this, and on it goes; so",
        b", this is not the beginning of an image, and",
    ],
)  # fmt: skip
def test_whatever_stands_at_the_end_of_a_gif_its_pixels_are_shown(end: bytes) -> None:
    assert corners(rendered(GIF[:-1] + end)) == UPRIGHT
    info = ENGINE.inspect(GIF[:-1] + end)
    assert (info.width, info.height, info.frames) == (80, 60, 1)


def test_a_gif_lacks_nothing_as_long_as_its_pixels_are_there() -> None:
    """The code of the end and the end of the blocks may be missing; the last pixel may not."""
    whole = rendered(GIF).tobytes()
    lost = []
    for length in range(len(GIF) - 12, len(GIF)):
        try:
            assert rendered(GIF[:length]).tobytes() == whole
        except BrokenImage:
            lost.append(length)
    assert lost == list(range(len(GIF) - 12, len(GIF) - 12 + len(lost)))
    assert 4 < len(lost) < 10


@pytest.mark.parametrize(
    "end",
    [
        b"", b"\xff", b"\xff\xd8", JPEG, b"\xff\xc4", b"\xff\xda\0\x08", b"\xff\xe1\x40\0ab",
        b"\0\0", b"junk", bytes(99), b"\xff" * 20, b"\xff\0\xff\0", b"\xd9", b"\0\xd9",
        b"x" * 99 + b"\xff\xd9",
    ],
)  # fmt: skip
def test_whatever_stands_at_the_end_of_a_jpeg_its_pixels_are_shown(end: bytes) -> None:
    assert corners(rendered(JPEG[:-2] + end)) == UPRIGHT


MOVING = {"save_all": True, "append_images": [PICTURE.rotate(180)], "duration": 50}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        b"", IEND[:5], IEND[:-1] + b"x", IHDR, IHDR + IEND, bytes(40),
        b"garbage that goes on and on",
        png_chunk(b"PLTE", b"abc") + IEND, png_chunk(b"ABCD", b"") + IEND,
        png_chunk(b"fcTL", bytes(26)) + IEND, png_chunk(b"tEXt", b"a\0b")[:-1] + b"x" + IEND,
    ],
)  # fmt: skip
def test_whatever_stands_at_the_end_of_an_animation_it_moves(end: bytes, hidden: bool) -> None:
    sources = [encoded(PICTURE, "PNG", default_image=hidden, **MOVING)[:-12] + end]
    sources += [encoded(PICTURE, "WEBP", **MOVING) + end] if not hidden else []
    for source in sources:
        last = ENGINE.inspect(source).frames
        assert last == 2 - hidden
        turned_over = [WHITE, BLUE, GREEN, RED]
        assert corners(rendered(source, f"page_{last}")) == turned_over
        assert corners(rendered(source)) == (turned_over if hidden else UPRIGHT)
        assert corners(rendered(source, "_", Format.WEBP)) == (turned_over if hidden else UPRIGHT)


def test_the_pixels_of_an_apng_may_lack_their_checksums() -> None:
    source = encoded(PICTURE, "PNG", **MOVING)[:-12]
    for end in (source[:-4], source[:-8], source[:-9] + b"x" + source[-8:]):
        assert corners(rendered(end, "page_2")) == [WHITE, BLUE, GREEN, RED]
    for kind in (b"IHDR", b"PLTE"):
        pictures = [picture.convert("P") for picture in (PICTURE, PICTURE.rotate(180))]
        source = encoded(pictures[0], "PNG", save_all=True, append_images=pictures[1:])
        with pytest.raises(BrokenImage):
            rendered(with_wrong_checksum(source, kind), "_", Format.WEBP)


def test_transparency_with_a_wrong_checksum_is_passed_over_as_in_browsers() -> None:
    assert rendered(PALETTE).convert("RGBA").getextrema()[3] == (128, 255)
    assert rendered(with_wrong_checksum(PALETTE, b"tRNS")).convert("RGBA").getextrema()[3] == (
        255,
        255,
    )


def test_damage_within_the_pixels_is_shown_as_browsers_show_it() -> None:
    """Nobody can tell how much of the picture it is; a browser shows the original so, too."""
    source = bytearray(encoded(PHOTO, restart_marker_rows=1))
    source[len(source) * 3 // 4] ^= 0x55
    assert rendered(bytes(source), "w_80").size == (80, 60)


# --- cut short, and broken


@pytest.mark.parametrize("parameters", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", ["_", "w_40", "w_12"])
def test_a_jpeg_that_lacks_pixels_is_refused(
    parameters: dict[str, int], mode: str, options: str
) -> None:
    source = encoded(PHOTO.convert(mode), **parameters)
    start = source.index(b"\xff\xda")
    for part in range(1, 12):
        with pytest.raises(BrokenImage):
            rendered(source[: start + (len(source) - start) * part // 12], options)
    with pytest.raises(BrokenImage):
        rendered(source[: start + 4], options)


def test_a_jpeg_filled_up_with_zeros_is_refused() -> None:
    """As an interrupted download leaves it."""
    source = encoded(PHOTO)
    for half in (source[: len(source) // 2], source[: len(source) * 4 // 5]):
        with pytest.raises(BrokenImage):
            rendered(half.ljust(len(source), b"\0"))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_other_pictures_that_lack_pixels_are_refused(format: str) -> None:
    source = encoded(PHOTO, format)
    cuts = [len(source) * part // 12 for part in range(1, 12)]
    if format == "WEBP":
        cuts += [len(source) - 1, len(source) - 4]
    for cut in cuts:
        with pytest.raises(BrokenImage):
            rendered(source[:cut], "w_40")


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_what_pixels_are_made_from_is_broken(kind: bytes) -> None:
    with pytest.raises(BrokenImage):
        rendered(with_wrong_checksum(PALETTE, kind))


@pytest.mark.parametrize(
    "source",
    [
        with_chunk(PNG, b"IHDR", PNG[16:29]),
        PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 3, 2, 0, 0, 0)) + PNG[33:],
        PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 8, 5, 0, 0, 0)) + PNG[33:],
        PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 90, 8, 2, 0, 0, 0)) + PNG[33:],
        PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 8, 6, 0, 0, 0)) + PNG[33:],
        PNG[:33] + PNG[-12:],
        PNG[:33],
        PNG.replace(b"IDAT", b"XDAT"),
        JPEG[:20],
        JPEG[:2] + JPEG[-2:],
        JPEG.replace(b"\xff\xdb", b"\xff\xfe"),
        JPEG.replace(b"\xff\xc4", b"\xff\xfe"),
        JPEG.replace(b"\xff\xda", b"\xff\xfe"),
        with_segment(JPEG, 0xC0, b"\x08\0\x01\0\x01\x01\x01\x11\0"),
        b"RIFF\x10\0\0\0WEBPVP8 \4\0\0\0\0\0\0\0",
        WEBP[:12] + b"VP8L" + WEBP[16:],
    ],
)
def test_contradictions_are_broken_or_give_the_promised_size(source: bytes) -> None:
    try:
        made = rendered(source)
    except SourceError:
        return
    info = ENGINE.inspect(source)
    assert made.size == (info.width, info.height)


# --- hostile


@cache
def squeezed(megabytes: int) -> bytes:
    squeezer = zlib.compressobj(9)
    block = bytes(1_000_000)
    return b"".join(squeezer.compress(block) for _ in range(megabytes)) + squeezer.flush()


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (b"zTXt", b"Comment\0\0"),
        (b"iTXt", b"Comment\0\1\0\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"),
        (b"zTXt", b"Raw profile type exif\0\0"),
        (b"iCCP", b"profile\0\0"),
    ],
)
@pytest.mark.parametrize("times", [1, 60])
def test_texts_that_inflate_without_end_are_not_inflated(
    kind: bytes, head: bytes, times: int
) -> None:
    """Pillow would refuse the picture for one such text, and pay for each of them."""
    bombs = png_chunk(kind, head + squeezed(200)) * times
    source = PNG[:33] + bombs + PNG[33:]
    assert seconds(lambda: rendered(source, "w_20")) < GENEROUS
    assert corners(rendered(PNG[:-12] + bombs + PNG[-12:])) == UPRIGHT


def test_a_decoder_gets_no_chunk_that_is_not_pixels() -> None:
    source = PALETTE
    for kind in (b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf", b"pHYs", b"gAMA", b"hIST"):
        source = with_chunk(source, kind, b"a\0\0" + squeezed(200)[:99])
    given = essential_png(source + b"trailer")
    kinds = re.findall(rb"IHDR|PLTE|tRNS|IDAT|IEND|[a-z][A-Z]XT|tEXt|iCCP|eXIf|pHYs|gAMA", given)
    assert kinds == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]


def test_pixels_that_inflate_to_more_than_the_header_says_are_not_kept() -> None:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    source = (
        b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", squeezed(200)) + png_chunk(b"IEND", b"")
    )
    assert seconds(lambda: rendered(source)) < GENEROUS


@pytest.mark.parametrize(
    ("part", "times"),
    [
        (b"tiff:Orientation", 5_000_000),
        (b"tiff:Orientation = '", 4_000_000),
        (b"<tiff:Orientation>   ", 4_000_000),
        (b"tiff:Orientation=" + b" " * 1_000_000, 50),
        (b"\xff", 50_000_000),
    ],
)
def test_searching_xmp_costs_little_whatever_it_says(part: bytes, times: int) -> None:
    packet = part * times
    assert seconds(lambda: upright([], packet)) < 0.5
    source = PNG[:-12] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    assert seconds(lambda: read_header(source, LIMITS)) < 1
    assert upright([], b" " * MOST_XMP + b'tiff:Orientation="6"') == 1


def test_exif_blocks_without_end_cost_little() -> None:
    entries = struct.pack("<HHII", 0x100, 3, 1, 0) * 5_000
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5_000) + entries
    source = JPEG[:2] + segment(0xE1, block) * 480 + JPEG[2:]
    assert seconds(lambda: read_header(source, LIMITS)) < 1


def test_a_hidden_end_does_not_hide_scans() -> None:
    """What looks like the end, within a segment between two scans, is none."""
    source = encoded(landscape(64, 64), progressive=True)
    start = source.rindex(b"\xff\xda")
    scan = segment(0xFE, b"\xff\xd9") + source[start:-2]
    with pytest.raises(BrokenImage, match="scans"):
        read_header(source[:-2] + scan * 60 + source[-2:], LIMITS)


def test_many_things_like_scans_behind_a_picture_are_no_scans() -> None:
    source = encoded(PICTURE, progressive=True)
    for behind in (b"\xff\xda" * 100_000, source * 30):
        assert corners(rendered(source + behind)) == UPRIGHT


@pytest.mark.parametrize("error", [RecursionError("deep"), Warning("odd"), zlib.error("data"),
                                   OverflowError(), KeyError(3)])  # fmt: skip
def test_whatever_a_decoder_raises_is_the_files_fault(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no file at hand can provoke is provoked in the place of the decoder."""

    def fail(*arguments: object, **parameters: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(webp, "_by_libwebp", fail)
    for source in (PNG, GIF, WEBP, JPEG[:-40]):
        with pytest.raises(BrokenImage) as raised:
            rendered(source)
        assert type(error).__name__ in raised.value.log
        assert "cut short" in raised.value.reason


def test_more_pixels_than_pillow_would_warn_of_are_one_of_our_errors() -> None:
    """Whether a warning is an error depends on the process that we live in."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(1501) * 12_000)
    source = b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    engine = PillowEngine(Limits(source_pixels=178_000_000))
    with pytest.raises(BrokenImage, match="pixels"):
        ENGINE.render(source, Options(width=20), Format.PNG)
    with pytest.raises(BrokenImage):
        engine.render(source, Options(width=20), Format.PNG)


# --- no pictures of ours


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
FOREIGN = {
    "TIFF": b"II*\0\x08\0\0\0" + bytes(60),
    "big TIFF": b"MM\0*\0\0\0\x08" + bytes(60),
    "BMP": b"BM" + struct.pack("<IIIIiiHH", 90, 0, 54, 40, 1, 1, 1, 24) + bytes(40),
    "PSD": b"8BPS\0\1" + bytes(80),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PDF": b"%PDF-1.7\n",
    "SVG": SVG,
    "XML": b"<?xml version='1.0'?>" + SVG,
    "ICO": b"\0\0\1\0\1\0\x10\x10" + bytes(60),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "QOI": b"qoif" + struct.pack(">IIBB", 1, 1, 3, 0) + bytes(12),
    "PPM": b"P6 1 1 255\n\1\2\3",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "text": b"not a picture\n",
    "HTML": b"<!doctype html><p>not found",
    "JSON": b'{"error": "not found"}',
    "gzip": b"\x1f\x8b\x08" + bytes(20),
    "ZIP": b"PK\3\4" + bytes(30),
    "empty": b"",
    "zeros": bytes(5000),
    "PDF with a picture in it": b"%PDF-1.7\n" + JPEG,
    "space before a picture": b" " + PNG,
    "byte order mark before a picture": b"\xef\xbb\xbf" + GIF,
    "GIF of the future": b"GIF90a" + GIF[6:],
    "half a signature": b"\x89PNG\r\n\x1a\r" + PNG[8:],
    "RIFF that is no picture": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "JPEG's first two bytes": b"\xff\xd8",
}


@pytest.fixture
def opened_by_pillow(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The formats that Pillow is asked for; any plugin of another one fails the test."""
    asked: list[tuple[str, ...]] = []
    open_image = Image.open

    def watched(fp: object, mode: str = "r", formats: tuple[str, ...] = ()) -> Image.Image:
        asked.append(tuple(formats))
        return open_image(fp, mode, formats)  # type: ignore[arg-type]

    Image.init()
    for name in set(Image.OPEN) - {"JPEG", "PNG", "GIF", "WEBP"}:

        def tripped(*arguments: object, name: str = name) -> None:
            pytest.fail(f"the decoder of {name} was asked")

        monkeypatch.setitem(Image.OPEN, name, (tripped, tripped))
    monkeypatch.setattr(Image, "open", watched)
    return asked


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_reach_no_decoder(
    name: str, opened_by_pillow: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tripped(*arguments: object, **parameters: object) -> None:
        pytest.fail("libjpeg-turbo or libwebp was asked")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", tripped)
    monkeypatch.setattr(simplejpeg, "decode_jpeg_header", tripped)
    monkeypatch.setattr(webp, "_by_libwebp", tripped)
    with pytest.raises(UnsupportedImage, match="JPEG, PNG, GIF, WebP, AVIF"):
        ENGINE.inspect(FOREIGN[name])
    with pytest.raises(UnsupportedImage):
        ENGINE.render(FOREIGN[name], Options(width=20), Format.PNG)
    assert opened_by_pillow == []


def test_pillow_is_only_asked_for_the_one_format_that_it_is(
    opened_by_pillow: list[tuple[str, ...]],
) -> None:
    odd = plain_jpeg((40, 30), [(2, 1, 9), (1, 2, 9), (1, 1, 9)])
    key = encoded(PICTURE, "PNG", transparency=RED)
    moving = encoded(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)])
    for source, name in ((PNG, "PNG"), (key, "PNG"), (GIF, "GIF"), (moving, "WEBP"), (odd, "JPEG"),
                         (PNG + JPEG, "PNG"), (GIF + b"<script>", "GIF")):  # fmt: skip
        opened_by_pillow.clear()
        header = read_header(source, LIMITS)
        decode(source, header, plan(header.info, Options(), LIMITS)).release()
        assert opened_by_pillow == [(name,)]


# --- chance

XMP = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
FRAMES = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN, BLUE)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:], "duration": 50}
SMALL = PHOTO.resize((50, 38))
WITH_ALPHA = SMALL.convert("RGBA")
WITH_ALPHA.putalpha(Image.linear_gradient("L").resize(SMALL.size))
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJ"
    "DRENDg8QEBEQCgwSExIQEw8QEBD/2wBDAQMDAwQDBAgEBAgQCwkLEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ"
    "EBAQEBAQEBAQEBAQEBAQEBAQEBD/yQARCAAQABADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANlJ"
    "HFQSonTeZL+bZisUoWVjWOpLKfZCyaD/2Q=="
)
SEEDS = {
    "jpeg": with_segment(turned(encoded(SMALL, icc_profile=swapping_profile()), 6), 0xE1, XMP),
    "progressive": encoded(SMALL, progressive=True, restart_marker_blocks=3),
    "grey jpeg": encoded(SMALL.convert("L")),
    "press": encoded(SMALL.convert("CMYK"), icc_profile=press_profile()),
    "ycck": plain_jpeg((40, 30), [(2, 2, 99), (1, 1, 80), (1, 1, 9), (2, 2, 200)], adobe=2),
    "odd factors": plain_jpeg((40, 30), [(2, 1, 99), (1, 2, 80), (1, 1, 9)]),
    "arithmetic": ARITHMETIC,
    "mpo": encoded(SMALL, "MPO", save_all=True, append_images=FRAMES[:1]),
    "png": with_chunk(encoded(SMALL, "PNG", icc_profile=swapping_profile()), b"eXIf", exif(6)),
    "clear png": encoded(WITH_ALPHA, "PNG"),
    "grey clear png": encoded(WITH_ALPHA.convert("LA"), "PNG"),
    "palette png": encoded(SMALL.convert("P"), "PNG", transparency=b"\0\x80"),
    "16 bit png": encoded(Image.fromarray(np.asarray(SMALL.convert("L"), np.uint16) * 200), "PNG"),
    "keyed png": encoded(SMALL, "PNG", transparency=(1, 2, 3)),
    "gamma png": with_chunk(encoded(SMALL, "PNG"), b"gAMA", struct.pack(">I", 60_000)),
    "apng": encoded(FRAMES[0], "PNG", **ANIMATED),
    "gif": encoded(SMALL, "GIF"),
    "moving gif": encoded(FRAMES[0], "GIF", **ANIMATED),
    "webp": encoded(SMALL, "WEBP", exif=exif(6), icc_profile=swapping_profile()),
    "clear webp": encoded(WITH_ALPHA, "WEBP"),
    "lossless webp": encoded(WITH_ALPHA, "WEBP", lossless=True),
    "moving webp": encoded(FRAMES[0], "WEBP", **ANIMATED),
}
FUZZED = PillowEngine(Limits(source_pixels=1_000_000))


def flipped(source: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randint(1, 8)):
        # Most of what matters is at the beginning.
        end = len(source) if chance.random() < 0.5 else min(len(source), 200)
        source[chance.randrange(4, end)] ^= 1 << chance.randrange(8)
    return source


def overwritten(source: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(4, len(source))
    values = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", chance.randbytes(4))
    source[at : at + 4] = chance.choice(values)
    return source


def cut(source: bytearray, chance: random.Random) -> bytearray:
    return source[: chance.randrange(len(source))]


def shortened(source: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(4, len(source))
    return source[:at] + source[at + chance.randint(1, 40) :]


def repeated(source: bytearray, chance: random.Random) -> bytearray:
    at, length = chance.randrange(4, len(source)), chance.randint(1, 400)
    return source[: at + length] + source[at:]


def swapped(source: bytearray, chance: random.Random) -> bytearray:
    """Two parts, cut where chunks and segments may begin, change places."""
    starts = [
        m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]|....[A-Za-z]{4}|[\x21\x2c]", source)
    ]
    if len(starts) < 3:
        return source
    a, b, c = sorted(chance.sample(starts, 3))
    return source[:a] + source[b:c] + source[a:b] + source[c:]


def checked(source: bytearray) -> bytes:
    """A PNG with its checksums put right, so that what is behind them is tried too."""
    at = 8
    while at + 12 <= len(source):
        (length,) = struct.unpack_from(">I", source, at)
        end = at + 8 + length
        if end + 4 > len(source):
            break
        source[end : end + 4] = zlib.crc32(source[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(source)


MUTATIONS = (flipped, overwritten, cut, shortened, repeated, swapped)
VARIANTS = [Options.read(text) for text in ("_", "w_20", "w_9,h_9,fit_cover", "w_30,h_30,fit_pad")]


def mutated(name: str, chance: random.Random) -> bytes:
    source = bytearray(SEEDS[name])
    for _ in range(chance.choice((1, 1, 2, 3))):
        if len(source) > 20:
            source = chance.choice(MUTATIONS)(source, chance)
    if name.endswith("png") and chance.random() < 0.7:
        return checked(source)
    return bytes(source)


def try_out(source: bytes, chance: random.Random) -> bool:
    """Whether `source` gave a picture. Anything but a picture or a source's error is raised."""
    options = chance.choice(VARIANTS)
    try:
        made = FUZZED.render(source, options, Format.JPEG)
    except SourceError:
        return False
    assert opened(made.body).size == (made.width, made.height)
    return True


@pytest.mark.parametrize("name", SEEDS)
def test_chance_gives_a_picture_or_a_sentence(name: str) -> None:
    """300 mutations of each kind of file; longer runs are made by hand."""
    chance = random.Random(name)
    assert try_out(SEEDS[name], chance) or name == "arithmetic"
    pictures = 0
    for number in range(300):
        source = mutated(name, chance)
        try:
            pictures += try_out(source, chance)
        except Exception as error:
            raise AssertionError(f"mutation {number}: {base64.b64encode(source)!r}") from error
    assert 0 < pictures < 300 or name == "arithmetic"
