"""The header and the chunks of a WebP."""

from __future__ import annotations

import struct

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.canvas import Disposal, Place, shows_through
from thumbproxy.imaging.codecs.header import (
    MOST_BLOCKS,
    MOST_FRAMES,
    MOST_PROFILE,
    Header,
    too_many_parts,
)
from thumbproxy.imaging.exif import upright


def read_webp(source: bytes) -> Header:
    """RFC 9649 section 2; the simple formats: RFC 6386 section 9.1 and RFC 9649 section 3.4."""
    width = height = 0
    has_alpha = animated = False
    places: list[Place] = []
    end = 8 + int.from_bytes(source[4:8], "little")
    told: dict[bytes, bytes] = {}
    at = 12
    for _ in range(MOST_BLOCKS):
        if at + 8 > len(source) or len(places) > MOST_FRAMES:
            break
        kind, length = struct.unpack_from("<4sI", source, at)
        body = at + 8
        if kind == b"VP8X" and not width:
            flags = source[body]
            width = int.from_bytes(source[body + 4 : body + 7], "little") + 1
            height = int.from_bytes(source[body + 7 : body + 10], "little") + 1
            has_alpha, animated = bool(flags & 0x10), bool(flags & 0x02)
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", source, body + 6))
        elif kind == b"VP8L" and not width:
            (bits,) = struct.unpack_from("<I", source, body + 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            has_alpha = bool(bits >> 28 & 1)
        elif kind == b"ANMF" and animated and at < end:
            places.append(_place(source, body))
        elif kind in (b"ICCP", b"EXIF", b"XMP ") and kind not in told and length <= MOST_PROFILE:
            told[kind] = source[body : body + length]
        at = body + length + (length & 1)
    else:
        raise too_many_parts()
    exif = told.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    return Header(
        Format.WEBP,
        width,
        height,
        max(len(places), 1),
        upright([exif], told.get(b"XMP ", b"")),
        # Frames may leave some of the canvas empty although the file announces no transparency.
        has_alpha or (bool(places) and shows_through(places, (width, height))),
        icc=told.get(b"ICCP", b""),
        places=tuple(places),
        exif=exif,
    )


def _place(source: bytes, at: int) -> Place:
    """What the ANMF chunk whose body is at `at` says; as if the frame were opaque."""
    left, top, width, height = (
        int.from_bytes(source[edge : edge + 3], "little") for edge in range(at, at + 12, 3)
    )
    left, top, flags = 2 * left, 2 * top, source[at + 15]
    disposal = Disposal.CLEAR if flags & 1 else Disposal.KEEP
    return Place((left, top, left + width + 1, top + height + 1), disposal)
