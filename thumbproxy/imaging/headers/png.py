"""The header of a PNG, and which of its chunks a decoder needs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from thumbproxy.imaging.exif import upright
from thumbproxy.imaging.headers.facts import (
    MOST_BLOCKS,
    MOST_PROFILE,
    MOST_XMP,
    Header,
    inflated,
    too_many_parts,
)
from thumbproxy.imaging.profiles import coded_profile, gamma_profile
from thumbproxy.media import Format

_XMP = b"XML:com.adobe.xmp\0"
# What is read here, if it comes before the pixels and its checksum is right.
_COLOURS = {b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP"}
_SIGNATURE = 8
# All that pixels are made from; the last three are an animation's.
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
_GREY_TYPES = (0, 4)
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


@dataclass(slots=True)
class _Found:
    """What the chunks said so far."""

    colours: dict[bytes, bytes] = field(default_factory=dict)
    exif: bytes = b""
    xmp: bytes = b""
    frames: int = 0
    cover: bool = False
    pixels: bool = False


def read_png(source: bytes) -> Header:
    """PNG third edition, section 11."""
    width = height = colour_type = 0
    depth = 8
    found = _Found()
    for kind, at, length in _chunks(source):
        if kind == b"IHDR" and not width:
            width, height, depth, colour_type = struct.unpack_from(">IIBB", source, at)
        else:
            _note(found, source, kind, at, length)
    transparent = found.colours.get(b"tRNS", b"")
    # Grey and colour pictures name one colour; the length tells whether they do.
    key = _samples(transparent) if len(transparent) == {0: 2, 2: 6}.get(colour_type) else ()
    return Header(
        Format.PNG,
        width,
        height,
        # A picture for viewers that do not animate comes before the animation.
        max(found.frames + found.cover, 1),
        upright([found.exif], _xmp_text(found.xmp)),
        has_alpha=colour_type in (4, 6) or bool(key) or (colour_type == 3 and bool(transparent)),
        icc=_profile(found.colours, colour_type in _GREY_TYPES),
        key=key,
        depth=depth,
        cover=found.cover,
        exif=found.exif,
    )


def _note(found: _Found, source: bytes, kind: bytes, at: int, length: int) -> None:
    if kind == b"IDAT":
        found.pixels = True
    elif kind == b"acTL" and not found.pixels:
        (found.frames,) = struct.unpack_from(">I", source, at)
        found.cover = True
    elif kind == b"fcTL" and not found.pixels:
        found.cover = False
    elif kind in _COLOURS and not found.pixels and kind not in found.colours:
        if length <= MOST_PROFILE and _sound(source, at, length):
            found.colours[kind] = source[at : at + length]
    elif kind == b"eXIf" and not found.exif:
        found.exif = source[at : at + length]
    elif kind == b"iTXt" and not found.xmp and source.startswith(_XMP, at):
        found.xmp = source[at + len(_XMP) : at + min(length, MOST_XMP)]


def _sound(source: bytes, at: int, length: int) -> bool:
    """Whether the checksum of a chunk is right. Browsers pass over side chunks where it is not."""
    told = source[at + length : at + length + 4]
    return told == zlib.crc32(source[at - 4 : at + length]).to_bytes(4, "big")


def _samples(body: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(body) // 2}H", body)


def _xmp_text(body: bytes) -> bytes:
    """The text of an iTXt chunk, from its compression flag on (section 11.3.3.4)."""
    _, _, rest = body[2:].partition(b"\0")  # the language
    _, _, text = rest.partition(b"\0")  # the translated keyword
    return inflated(text, MOST_XMP) if body[:1] == b"\1" else text


def _profile(colours: dict[bytes, bytes], grey: bool) -> bytes:
    """The profile that the chunks describe, in the order of precedence of section 4.3.

    Empty for none, which means sRGB. As browsers do: chromaticities alone mean nothing.
    """
    coded = colours.get(b"cICP", b"")
    profile = coded_profile(coded[0], coded[1], grey=grey) if coded[2:] == b"\0\1" else None
    if profile is not None:
        return profile
    if b"iCCP" in colours:
        _, _, stream = colours[b"iCCP"].partition(b"\0")
        return inflated(stream[1:], MOST_PROFILE)
    if b"sRGB" in colours or len(colours.get(b"gAMA", b"")) != 4:
        return b""
    (gamma,) = struct.unpack(">I", colours[b"gAMA"])
    primaries = colours.get(b"cHRM", b"")
    points = struct.unpack(">8I", primaries) if len(primaries) == 32 else None
    return gamma_profile(gamma, points, grey=grey)


def _chunks(source: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length) of every chunk, as a decoder will walk through them.

    A file that ends within or between chunks after the pixels have begun, ends there: whether all
    of the pixels are in it, the decoder knows.
    """
    at = _SIGNATURE
    pixels = False
    for _ in range(MOST_BLOCKS):
        if at >= len(source) or (pixels and at + 8 > len(source)):
            return
        length, kind = struct.unpack_from(">I4s", source, at)
        pixels |= kind == b"IDAT"
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise too_many_parts()


def essential_png(source: bytes, header: Header) -> bytes:
    """The PNG without text, profiles and whatever else is no pixel, nor a still picture's key.

    Pillow would inflate texts and profiles, refuse a picture for a wrong checksum in them, and
    misread a colour key of less or more than 8 bits.
    """
    parts = [source[:_SIGNATURE]]
    palette = True
    for kind, at, length in _chunks(source):
        if kind not in _NEEDED or kind == b"IEND":
            continue
        if kind == b"IHDR":
            palette = source[at + 9] == 3
        elif kind == b"tRNS":
            wanted = palette or (header.key and header.frames > 1)
            if not wanted or not _sound(source, at, length):
                continue
        parts.append(source[at - 8 : at + length + 4])
        if at + length + 4 > len(source):
            return b"".join(parts)  # an end in the middle of a chunk would be taken for its data
    return b"".join((*parts, _END))
