"""Pictures that were made to do harm: bombs, loops, lies, and files that are two things at once."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from handmade import matrix_profile, plain_jpeg, press_profile, profile, segment
from pictures import (
    encoded,
    exif,
    landscape,
    png_chunk,
    quadrants,
    turned,
    with_chunk,
    with_segment,
)
from PIL import Image

# The largest square that the default limits allow, and what is far over them.
SIDE = 7_000
SCRIPT = b"<script>alert(document.domain)</script>"
PICTURE = quadrants()
JPEG, PNG, GIF, WEBP = (encoded(PICTURE, name) for name in ("JPEG", "PNG", "GIF", "WEBP"))
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


class Case(NamedTuple):
    """A file, and what is answered to a request for it.

    statuses  those that are right; several where decoders may differ
    size      of the picture that is answered with 200
    options   of the request, but for its format
    """

    make: Callable[[], bytes]
    statuses: tuple[int, ...]
    size: tuple[int, int] = (0, 0)
    format: str = "jpg"
    options: dict[str, Any] = {"width": 40}  # noqa: RUF012 - nobody changes it


def shown(make: Callable[[], bytes], size: tuple[int, int] = (40, 30), **options: Any) -> Case:
    return Case(make, (200,), size, options.pop("format", "jpg"), options or {"width": 40})


def broken(make: Callable[[], bytes], **options: Any) -> Case:
    return Case(make, (422,), format=options.pop("format", "jpg"), options=options or {"width": 40})


def either(make: Callable[[], bytes], size: tuple[int, int] = (40, 30)) -> Case:
    """Decoders may show it or not; what they show has the promised size."""
    return Case(make, (200, 422), size)


# --- parts


def zeros(count: int) -> bytes:
    """A zlib stream of `count` zeros, put together from the stream of one million."""
    million, rest = 1_000_000, count % 1_000_000
    squeezer = zlib.compressobj(9, wbits=-15)
    block = squeezer.compress(bytes(million)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    # RFC 1950: the checksum of zeros counts them.
    end = last.compress(bytes(rest)) + last.flush() + struct.pack(">HH", count % 65_521, 1)
    return b"\x78\xda" + block * (count // million) + end


def ihdr(width: int, height: int, depth: int = 8, kind: int = 2, interlaced: int = 0) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    return png_chunk(b"IHDR", fields)


def black_png(side: int, depth: int, kind: int, *chunks: bytes) -> bytes:
    """A PNG that is all zeros: of a thousandth of its size as pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    pixels = zeros(((side * depth * channels + 7) // 8 + 1) * side)
    data = png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return PNG_HEAD + ihdr(side, side, depth, kind) + b"".join(chunks) + data


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)


def three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def webp_file(*chunks: bytes) -> bytes:
    return riff(b"RIFF", b"WEBP" + b"".join(chunks))


def flat_webp(side: int) -> bytes:
    """38 bytes; a picture of one colour says nothing of its size but in its header."""
    one = bytearray(encoded(Image.new("RGBA", (16, 16), (9, 9, 9, 9)), "WEBP", lossless=True))
    (bits,) = struct.unpack_from("<I", one, 21)
    struct.pack_into("<I", one, 21, bits & ~0xFFFFFFF | (side - 1) << 14 | side - 1)
    return bytes(one)


def moving_webp(frames: int, canvas: int) -> bytes:
    """Frames of one pixel on a canvas."""
    still = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = riff(b"ANMF", three(0) * 4 + three(50) + b"\0" + still)
    head = riff(b"VP8X", b"\2\0\0\0" + three(canvas - 1) * 2) + riff(b"ANIM", bytes(6))
    return webp_file(head, frame * frames)


def moving_gif(frames: int, width: int, height: int) -> bytes:
    """Frames of one pixel on a canvas."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + bytes(6) + frame * frames + b";"


def moving_png(told: int, frames: int, side: int = 64) -> bytes:
    """Frames of one pixel after a whole one; `told` is how many it says that there are."""
    parts = [PNG_HEAD, ihdr(side, side), png_chunk(b"acTL", struct.pack(">II", told, 0))]
    control = struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 20, 0, 0)
    parts += [png_chunk(b"fcTL", control), png_chunk(b"IDAT", zeros((side * 3 + 1) * side))]
    pixel = zlib.compress(bytes(4))
    for number in range(1, 2 * frames - 1, 2):
        control = struct.pack(">IIIIIHHBB", number, 1, 1, 0, 0, 1, 20, 0, 0)
        parts.append(png_chunk(b"fcTL", control))
        parts.append(png_chunk(b"fdAT", struct.pack(">I", number + 1) + pixel))
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def resized_jpeg(jpeg: bytes, width: int, height: int) -> bytes:
    """Another size in the header than its pixels have."""
    start = next(jpeg.index(kind) for kind in (b"\xff\xc0", b"\xff\xc2") if kind in jpeg)
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]


def scanned(side: int, scans: int) -> bytes:
    """A progressive JPEG of one colour with its last scan again and again."""
    source = encoded(Image.new("RGB", (side, side), "teal"), progressive=True)
    last = source[source.rindex(b"\xff\xda") : -2]
    return source[:-2] + last * (scans - source.count(b"\xff\xda")) + source[-2:]


# --- bombs: small files that are large pictures, or nearly endless ones


def bombs() -> Iterator[tuple[str, Case]]:
    square = (40, 40)
    yield "PNG of 64 bits", shown(lambda: black_png(SIDE, 16, 6), square)
    yield (
        "PNG of 48 bits with a colour key",
        shown(lambda: black_png(SIDE, 16, 2, png_chunk(b"tRNS", bytes(6))), square, format="png"),
    )
    yield "PNG of 1 bit", shown(lambda: black_png(SIDE, 1, 0), square)
    yield "PNG over the limit", broken(lambda: black_png(8_000, 1, 0))
    yield (
        "PNG with more pixels than it says",
        shown(lambda: PNG_HEAD + ihdr(40, 30, 8, 0) + png_chunk(b"IDAT", zeros(10**9)), (40, 30)),
    )
    yield "WebP in 38 bytes", shown(lambda: flat_webp(SIDE), square)
    yield "WebP over the limit in 38 bytes", broken(lambda: flat_webp(16_384))
    yield "WebP that moves, in 90 bytes", shown(lambda: moving_webp(1, SIDE), square)
    yield "WebP that moves, over the limit", broken(lambda: moving_webp(1, 16_384))
    yield "WebP of 16 million a side", broken(lambda: moving_webp(1, 1 << 24))
    yield (
        "GIF of one colour",
        shown(lambda: encoded(Image.new("P", (SIDE, SIDE)), "GIF"), square),
    )
    yield "GIF with a large canvas in 35 bytes", shown(lambda: moving_gif(1, SIDE, SIDE), square)
    yield "GIF of 65535 a side in 35 bytes", broken(lambda: moving_gif(1, 65_535, 65_535))
    yield "GIF without pixels", broken(lambda: moving_gif(1, 0, 0)[:24] + b"\0\0" + bytes(9))
    yield "JPEG of 65500 a side", broken(lambda: resized_jpeg(JPEG, 65_500, 65_500))
    yield "JPEG with more rows than data", either(lambda: resized_jpeg(JPEG, SIDE, SIDE), square)
    yield "JPEG of 50 scans", shown(lambda: scanned(2_000, 50), square)
    yield "JPEG of 5000 scans", broken(lambda: scanned(64, 5_000))
    yield "JPEG that restarts after each block", shown(restarting)
    yield "JPEG whose height comes after its pixels", broken(lambda: resized_jpeg(JPEG, 80, 0))
    yield (
        "JPEG of a size that no file has",
        broken(lambda: plain_jpeg((40, 30), [(4, 4, 9), (4, 4, 9), (4, 4, 9)])),
    )
    yield "more bytes than a source may have", Case(lambda: PNG + bytes(31 << 20), (413,))


def restarting() -> bytes:
    """And whose last restarts are missing, for the interval says nothing of them."""
    source = encoded(PICTURE, restart_marker_blocks=1)
    return source[:-2] + b"\xff\xd0" * 9_000 + source[-2:]


def crowds() -> Iterator[tuple[str, Case]]:
    """Frames without end."""
    for count in (10_001, 100_000):
        yield f"GIF of {count} frames", broken(lambda count=count: moving_gif(count, 9, 9))
        yield f"WebP of {count} frames", broken(lambda count=count: moving_webp(count, 9))
        yield f"PNG of {count} frames", broken(lambda count=count: moving_png(count, count))
    yield "PNG that hides 100000 frames", broken(lambda: moving_png(3, 100_000), format="webp")
    yield "PNG that promises 100000 frames", broken(lambda: moving_png(100_000, 3))
    yield (
        "PNG that promises frames that are not there",
        broken(lambda: moving_png(500, 3), width=40, format="webp"),
    )
    yield "GIF of frames that are too many pixels", broken(lambda: moving_gif(9_000, 4_000, 4_000))
    last = {"width": 40, "page": 9_999}
    yield "the last of 9999 frames, GIF", shown(lambda: moving_gif(9_999, 64, 64), (40, 40), **last)
    yield "the last of 9999 frames, WebP", shown(lambda: moving_webp(9_999, 64), (40, 40), **last)
    yield "the last of 9999 frames, PNG", shown(lambda: moving_png(9_999, 9_999), (40, 40), **last)
    yield (
        "more frames than are written",
        broken(lambda: moving_gif(501, 9, 9), width=9, format="webp"),
    )
    yield "a page that is not there", Case(lambda: GIF, (400,), options={"page": 2})


# --- profiles


def profiles() -> Iterator[tuple[str, Case]]:
    """Whatever is wrong with a profile, the picture is shown without it."""
    for name, make in PROFILES.items():
        yield (
            f"JPEG with a profile {name}",
            shown(lambda make=make: encoded(PICTURE, icc_profile=make())),
        )
        yield (
            f"PNG with a profile {name}",
            shown(lambda make=make: with_chunk(
                PNG, b"iCCP", b"x\0\0" + zlib.compress(make()))),
        )  # fmt: skip


def rgb_profile() -> bytes:
    columns = [(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)]
    return matrix_profile(columns, 2.2)


def with_tag(icc: bytes, name: bytes, content: bytes) -> bytes:
    """The profile with its first tag replaced."""
    entry = name + struct.pack(">II", len(icc), len(content))
    made = icc[:132] + entry + icc[144:] + content
    return struct.pack(">I", len(made)) + made[4:]


def chain(steps: int) -> bytes:
    """Curves after curves, all of them the same few bytes (ICC.1:2022 section 10.16)."""
    line = b"curf\0\0\0\0" + struct.pack(">HH", 1, 0) + b"parf" + bytes(8)
    line += struct.pack(">4f", 1.01, 1, 0, 0)
    curves = b"cvst\0\0\0\0" + struct.pack(">HH", 3, 3) + struct.pack(">II", 36, len(line)) * 3
    element = curves + line
    place = struct.pack(">II", 16 + 8 * steps, len(element))
    return b"mpet\0\0\0\0" + struct.pack(">HHI", 3, 3, steps) + place * steps + element


def put(icc: bytes, at: int, value: bytes) -> bytes:
    return icc[:at] + value + icc[at + len(value) :]


def overlapping(icc: bytes) -> bytes:
    """All tags are one place: the table itself."""
    (count,) = struct.unpack_from(">I", icc, 128)
    for entry in range(count):
        icc = put(icc, 132 + 12 * entry + 4, struct.pack(">II", 128, len(icc) - 128))
    return icc


def long_curve() -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">I", 0xFFFFFFFF) + bytes(100)


PROFILES: dict[str, Callable[[], bytes]] = {
    "that is empty": lambda: b"",
    "of zeros": lambda: bytes(4_000),
    "that ends in its header": lambda: rgb_profile()[:100],
    "that ends in a tag": lambda: rgb_profile()[:-40],
    "that says it is 4 GB": lambda: put(rgb_profile(), 0, b"\xff" * 4),
    "that says it has 4 billion tags": lambda: put(rgb_profile(), 128, b"\xff" * 4),
    "of 300000 tags": lambda: put(rgb_profile(), 128, struct.pack(">I", 300_000))
    + b"rXYZ\0\0\0\x80\0\0\0\x14" * 300_000,
    "whose tags lie outside": lambda: put(rgb_profile(), 136, b"\xff\xff\xff\x00"),
    "whose tags are its table": lambda: overlapping(rgb_profile()),
    "of a curve without end": lambda: with_tag(rgb_profile(), b"rTRC", long_curve()),
    "of 300000 steps": lambda: with_tag(rgb_profile(), b"D2B1", chain(300_000)),
    "of a device link": lambda: put(rgb_profile(), 12, b"link"),
    "of named colours": lambda: put(rgb_profile(), 12, b"nmcl"),
    "of abstract colours": lambda: put(rgb_profile(), 12, b"abst"),
    "of 15 channels": lambda: put(rgb_profile(), 16, b"FCLR"),
    "of a press": press_profile,
    "connected by itself": lambda: put(rgb_profile(), 20, b"RGB "),
    "with a table of 255 steps": lambda: profile(
        b"RGB ", b"Lab ", {b"A2B0": b"mft1\0\0\0\0\3\3\xff\0" + bytes(99), b"wtpt": bytes(20)}
    ),
    "without any tag": lambda: profile(b"RGB ", b"XYZ ", {}),
    "that is not a number": lambda: put(rgb_profile(), 68, struct.pack(">3I", *[0x7FFFFFFF] * 3)),
}  # fmt: skip


# --- EXIF and texts


def blocks() -> Iterator[tuple[str, Case]]:
    for name, block in EXIF.items():
        size = (30, 40) if name == "of which the second half turns" else (40, 30)
        options = {"width": size[0]}
        exif_block = b"Exif\0\0" + block
        yield (
            f"JPEG with EXIF {name}",
            shown(lambda block=exif_block: with_segment(JPEG, 0xE1, block), size, **options),
        )
        yield (
            f"PNG with EXIF {name}",
            shown(lambda block=block: with_chunk(PNG, b"eXIf", block), size, **options),
        )
        yield (
            f"facts of a JPEG with EXIF {name}",
            shown(lambda block=exif_block: with_segment(JPEG, 0xE1, block), size,
                  format="json", **options),
        )  # fmt: skip
    yield (
        "JPEG turned by each of 500 blocks",
        shown(lambda: JPEG[:2] + turned(JPEG, 6)[2:38] * 500 + JPEG[2:], (40, 53)),
    )


def directory(*entries: tuple[int, int, int, int], then: int = 0) -> bytes:
    """An EXIF block of (tag, type, count, value), and where the next directory is."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<4sIH", b"II*\0", 8, len(entries)) + body + struct.pack("<I", then)


EXIF: dict[str, bytes] = {
    "whose directory comes after itself": directory((0x10F, 2, 4, 0), then=8),
    "whose parts are itself": directory(
        (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), then=8
    ),
    "that begins outside": struct.pack("<4sI", b"II*\0", 0xFFFFFFF0),
    "whose values lie outside": directory((0x10F, 2, 0xFFFFFFFF, 0xFFFFFFF0), (0x829A, 5, 9, 6)),
    "of 65535 entries": struct.pack("<4sIH", b"II*\0", 8, 65_535)
    + struct.pack("<HHII", 0x10F, 2, 1, 0) * 5_000,
    "of 65535 entries that are not there": struct.pack("<4sIH", b"II*\0", 8, 65_535),
    "turned by 0": exif(0),
    "turned by 9": exif(9),
    "turned by 65535": exif(65_535),
    "turned by a text": directory((0x112, 2, 1, 6)),
    "of fractions of nothing": directory((0x829A, 5, 1, 8), (0x920A, 5, 1, 8)),
}


def texts() -> Iterator[tuple[str, Case]]:
    """Texts and pictures beside the picture, of which nothing is read or little."""
    bomb = zeros(200_000_000)
    for kind, head in (
        (b"zTXt", b"Comment\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"),
        (b"iCCP", b"profile\0\0"),
    ):
        texts = png_chunk(kind, head + bomb) * 60
        yield (
            f"PNG with 60 {kind.decode()} of 200 MB",
            shown(lambda texts=texts: PNG[:33] + texts + PNG[33:]),
        )
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation='" * 3_000
    yield "JPEG with XMP that begins again", shown(lambda: with_segment(JPEG, 0xE1, xmp))
    entities = b"<!DOCTYPE a [<!ENTITY b '" + b"&b;" * 9_000 + b"'>]><a>&b;</a>"
    packet = b"http://ns.adobe.com/xap/1.0/\0" + entities
    yield "JPEG with XMP that refers to itself", shown(lambda: with_segment(JPEG, 0xE1, packet))
    yield (
        "JPEG that is all comments",
        broken(lambda: JPEG[:2] + segment(0xFE, b"") * 100_000 + JPEG[2:]),
    )
    comment = b"\x21\xfe" + (b"\xff" + b"c" * 255) * 40_000 + b"\0"
    yield "GIF with 10 MB of comments", broken(lambda: GIF[:-1] + comment + b";")


# --- two things at once


def polyglots() -> Iterator[tuple[str, Case]]:
    """A picture that is also something else is a picture; the something else is not sent."""
    yield "JPEG and HTML", shown(lambda: with_segment(JPEG, 0xFE, SCRIPT) + SCRIPT)
    script = b"=1;alert(1);" + SCRIPT
    yield (
        "GIF and JavaScript",
        shown(lambda: GIF[:-1] + b"\x21\xfe" + bytes([len(script)]) + script + b"\0;" + script),
    )
    yield "PNG and ZIP", shown(lambda: PNG + b"PK\3\4" + SCRIPT + b"PK\5\6" + bytes(18))
    yield "PNG and PHP", shown(lambda: with_chunk(PNG, b"tEXt", b"a\0<?php " + SCRIPT))
    yield "PNG and JPEG", shown(lambda: PNG + JPEG)
    yield "WebP and PDF", shown(lambda: WEBP + b"%PDF-1.7" + SCRIPT)
    several = landscape(80, 60)
    yield (
        "JPEG of several pictures",
        shown(lambda: encoded(several, "MPO", save_all=True, append_images=[several] * 20)),
    )
    yield "SVG that begins as a JPEG", broken(lambda: b"\xff\xd8\xff<svg>" + SCRIPT + b"</svg>")
    yield "HTML that begins as a GIF", broken(lambda: b"GIF89a<html>" + SCRIPT)
    yield "HTML that begins as a PNG", broken(lambda: PNG_HEAD + SCRIPT * 9)
    yield "HTML in a RIFF", broken(lambda: webp_file(SCRIPT))


# --- contradictions


def contradictions() -> Iterator[tuple[str, Case]]:
    palette = png_chunk(b"PLTE", bytes(6))
    dots = zlib.compress((b"\0" + bytes(range(256))[:80]) * 60)
    body, end = png_chunk(b"IDAT", dots), png_chunk(b"IEND", b"")
    head = PNG_HEAD + ihdr(80, 60, 8, 3)
    yield "PNG with colours out of its palette", either(lambda: head + palette + body + end)
    yield "PNG without its palette", either(lambda: head + body + end)
    yield "PNG with its palette too late", either(lambda: head + body + palette + end)
    yield (
        "PNG with a palette of 4 bytes",
        either(lambda: head + png_chunk(b"PLTE", bytes(4)) + body + end),
    )
    for name, chunk in (("more", bytes(256)), ("none", b""), ("odd", bytes(3))):
        clear = png_chunk(b"tRNS", chunk)
        yield (
            f"PNG with {name} transparency",
            either(lambda clear=clear: head + palette + clear + body + end),
        )
        yield (
            f"PNG of alpha with {name} transparency",
            either(
                lambda chunk=chunk: with_chunk(
                    encoded(PICTURE.convert("RGBA"), "PNG"), b"tRNS", chunk
                )
            ),
        )
    yield "PNG with two headers", either(lambda: with_chunk(PNG, b"IHDR", ihdr(9_000, 9_000)[8:21]))
    yield "PNG that ends at once", broken(lambda: PNG[:33] + end + PNG[33:])
    yield "PNG with a chunk of 4 GB", either(lambda: PNG[:33] + b"\xff\xff\xff\xfftEXt" + PNG[33:])
    yield (
        "PNG with a chunk amid its pixels",
        either(
            lambda: PNG[:33] + png_chunk(b"IDAT", b"\x78") + png_chunk(b"tEXt", b"a\0b") + PNG[33:]
        ),
    )
    yield (
        "PNG of a depth that there is none",
        broken(lambda: PNG_HEAD + ihdr(80, 60, 13) + PNG[33:]),
    )
    yield (
        "WebP that says another size",
        either(lambda: webp_file(riff(b"VP8X", bytes(4) + three(79) + three(58)), WEBP[12:])),
    )
    yield "WebP with two pictures", either(lambda: WEBP + WEBP[12:])


CASES: dict[str, Case] = {
    name: case
    for family in (
        bombs, crowds, profiles, blocks, texts, polyglots, contradictions,
    )
    for name, case in family()
}  # fmt: skip
