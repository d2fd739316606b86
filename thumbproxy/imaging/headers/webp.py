"""The header and the chunks of a WebP."""

from __future__ import annotations

import struct

from thumbproxy.imaging.exif import upright
from thumbproxy.imaging.headers.facts import (
    MOST_BLOCKS,
    MOST_FRAMES,
    MOST_PROFILE,
    Header,
    too_many_parts,
)
from thumbproxy.media import Format


def read_webp(source: bytes) -> Header:
    """RFC 9649 section 2; the simple formats: RFC 6386 section 9.1 and RFC 9649 section 3.4."""
    width = height = frames = 0
    has_alpha = False
    told: dict[bytes, bytes] = {}
    at = 12
    for _ in range(MOST_BLOCKS):
        if at + 8 > len(source) or frames > MOST_FRAMES:
            break
        kind, length = struct.unpack_from("<4sI", source, at)
        body = at + 8
        if kind == b"VP8X" and not width:
            flags = source[body]
            width = int.from_bytes(source[body + 4 : body + 7], "little") + 1
            height = int.from_bytes(source[body + 7 : body + 10], "little") + 1
            has_alpha = bool(flags & 0x10)
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", source, body + 6))
        elif kind == b"VP8L" and not width:
            (bits,) = struct.unpack_from("<I", source, body + 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            has_alpha = bool(bits >> 28 & 1)
        elif kind == b"ANMF":
            frames += 1
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
        max(frames, 1),
        upright([exif], told.get(b"XMP ", b"")),
        has_alpha,
        icc=told.get(b"ICCP", b""),
        animated=frames > 0,
        exif=exif,
    )
