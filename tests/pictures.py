"""Pictures made in code, and how to write and read them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(width: int = 80, height: int = 60) -> Image.Image:
    """Red and green above blue and white: every turn and mirroring looks different."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    middle, half = width // 2, height // 2
    draw.rectangle((0, 0, middle - 1, half - 1), RED)
    draw.rectangle((middle, 0, width, half - 1), GREEN)
    draw.rectangle((0, half, middle - 1, height), BLUE)
    return image


def landscape(width: int, height: int) -> Image.Image:
    """Something like a photo: soft shades with fine lines, no two parts alike."""
    shades = Image.merge(
        "RGB",
        (
            Image.linear_gradient("L").resize((width, height)),
            Image.radial_gradient("L").resize((width, height)),
            Image.linear_gradient("L").rotate(90).resize((width, height)),
        ),
    )
    draw = ImageDraw.Draw(shades)
    for number in range(1, 24):
        x, y = width * number // 24, height * (number * 7 % 24) // 24
        draw.line((x, 0, width - x, y), (number * 10, 255 - number * 9, 120), 2)
        draw.ellipse((x, y, x + width // 30, y + height // 20), outline=(20, number * 9, 200))
    return shades


def encoded(image: Image.Image, format: str = "JPEG", **parameters: Any) -> bytes:
    buffer = io.BytesIO()
    if format == "JPEG":
        parameters = {"quality": 92, **parameters}
    image.save(buffer, format, **parameters)
    return buffer.getvalue()


def opened(body: bytes) -> Image.Image:
    """The picture in `body`, loaded: a file that is cut short raises here.

    What a file keeps as a palette or as bits is given in the plain mode that has all of it.
    """
    image = Image.open(io.BytesIO(body))
    image.load()
    modes = {"P": "RGBA" if "transparency" in image.info else "RGB", "1": "L"}
    plain = image.convert(modes[image.mode]) if image.mode in modes else image
    plain.format = image.format
    return plain


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours near the four corners (left top, right top, left bottom, right bottom), coarse.

    Coarse means rounded to 0 or 255, which is what is left of pure colours after lossy coding.
    """
    colours = image.convert("RGB")
    width, height = colours.size
    spots = [(x, y) for y in (height // 5, height * 4 // 5) for x in (width // 5, width * 4 // 5)]
    pixels = [colours.getpixel(spot) for spot in spots]
    return [tuple(255 * (value > 127) for value in pixel) for pixel in pixels]  # type: ignore[union-attr]


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block, from its TIFF header on, that says nothing but the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its start."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def turned(jpeg: bytes, orientation: int) -> bytes:
    return with_segment(jpeg, 0xE1, b"Exif\0\0" + exif(orientation))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(
    size: tuple[int, int], depth: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG of unfiltered rows, as they lie in the file."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))
    body = b"".join(png_chunk(kind, content) for kind, content in chunks)
    row = len(rows) // size[1]
    raw = b"".join(b"\0" + rows[n * row : (n + 1) * row] for n in range(size[1]))
    return (
        b"\x89PNG\r\n\x1a\n" + head + body + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )  # fmt: skip


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return png[:33] + png_chunk(kind, body) + png[33:]


def swapping_profile() -> bytes:
    """An RGB profile whose red is sRGB's green and the other way round (ICC.1:2001, matrix/TRC)."""
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = b"swapped\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78 + 4)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags = {
        b"desc": desc + bytes(-len(desc) % 4),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(green), b"gXYZ": xyz(red), b"bXYZ": xyz(blue),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02200000, b"mntr", b"RGB ",
                       b"XYZ ")  # fmt: skip
    head += bytes(12) + b"acsp" + bytes(28)
    head += b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + body
