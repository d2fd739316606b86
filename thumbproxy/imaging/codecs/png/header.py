"""The header of a PNG, its chunks, and the stills that a decoder is given."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.canvas import Disposal, Place, shows_through
from thumbproxy.imaging.codecs.header import (
    MOST_BLOCKS,
    MOST_PROFILE,
    MOST_XMP,
    Header,
    inflated,
    too_many_parts,
)
from thumbproxy.imaging.exif import upright
from thumbproxy.imaging.profiles import coded_profile, gamma_profile

_XMP = b"XML:com.adobe.xmp\0"
# What is read here, if it comes before the pixels and its checksum is right.
_COLOURS = {b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP"}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY_TYPES, _PALETTE, _ALPHA_TYPES = (0, 4), 3, (4, 6)
_CONTROL = struct.Struct(">4x4I4xBB")  # fcTL: sizes, places, and how a frame is drawn and removed
_DISPOSALS = {1: Disposal.CLEAR, 2: Disposal.RESTORE}


@dataclass(slots=True)
class _Found:
    """What the chunks said so far."""

    colours: dict[bytes, bytes] = field(default_factory=dict)
    exif: bytes = b""
    xmp: bytes = b""
    frames: int = 0
    controls: list[bytes] = field(default_factory=list)
    covered: bool = False
    pixels: bool = False


def read_png(source: bytes) -> Header:
    """PNG third edition, section 11."""
    width = height = colour_type = 0
    depth = 8
    found = _Found()
    for kind, at, length in png_chunks(source):
        if kind == b"IHDR" and not width:
            width, height, depth, colour_type = struct.unpack_from(">IIBB", source, at)
        else:
            _note(found, source, kind, at, length)
    transparent = found.colours.get(b"tRNS", b"")
    # Grey and colour pictures name one colour; the length tells whether they do.
    key = _samples(transparent) if len(transparent) == {0: 2, 2: 6}.get(colour_type) else ()
    grey = colour_type in _GREY_TYPES
    clear = colour_type in _ALPHA_TYPES or bool(key or (colour_type == _PALETTE and transparent))
    places = [_place(control, opaque=not clear) for control in found.controls]
    if places and not found.covered and places[0].box != (0, 0, width, height):
        places = []  # the picture can only be the first frame if it is as large
    return Header(
        Format.PNG,
        width,
        height,
        found.frames if places else 1,
        upright([found.exif], _xmp_text(found.xmp)),
        has_alpha=clear or (bool(places) and shows_through(places, (width, height))),
        channels=1 if grey else 3,
        icc=_profile(found.colours, grey),
        key=key,
        depth=depth,
        places=tuple(places),
        exif=found.exif,
    )


def _note(found: _Found, source: bytes, kind: bytes, at: int, length: int) -> None:
    if kind == b"IDAT":
        found.pixels = True
    elif kind == b"acTL" and not found.pixels:
        (found.frames,) = struct.unpack_from(">I", source, at)
    elif kind == b"fcTL" and len(found.controls) < found.frames:
        # A picture before the first of them is for viewers that do not animate, and not shown.
        found.covered |= found.pixels and not found.controls
        if length == _CONTROL.size and at + length <= len(source):
            found.controls.append(source[at : at + length])
    elif kind in _COLOURS and not found.pixels and kind not in found.colours:
        if length <= MOST_PROFILE and sound(source, at, length):
            found.colours[kind] = source[at : at + length]
    elif kind == b"eXIf" and not found.exif:
        found.exif = source[at : at + length]
    elif kind == b"iTXt" and not found.xmp and source.startswith(_XMP, at):
        found.xmp = source[at + len(_XMP) : at + min(length, MOST_XMP)]


def _place(control: bytes, *, opaque: bool) -> Place:
    """What an fcTL chunk says about its frame."""
    width, height, left, top, disposal, over = _CONTROL.unpack(control)
    box = (left, top, left + width, top + height)
    return Place(box, _DISPOSALS.get(disposal, Disposal.KEEP), over == 1, opaque)


def sound(source: bytes, at: int, length: int) -> bool:
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


def png_chunks(source: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length) of every chunk, as a decoder will walk through them.

    A file that ends within or between chunks after the pixels have begun, ends there: whether all
    of the pixels are in it, the decoder knows.
    """
    at = len(SIGNATURE)
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


def png_tables(source: bytes) -> list[bytes]:
    """The chunks before the pixels that pixels are made from: IHDR, PLTE, and tRNS of a palette.

    Pillow would inflate texts and profiles, refuse a picture for a wrong checksum in them, and
    misread a colour key of less or more than 8 bits.
    """
    tables = []
    palette = True
    for kind, at, length in png_chunks(source):
        if kind == b"IDAT":
            break
        if kind == b"IHDR":
            palette = source[at + 9 : at + 10] == b"\3"
        if kind in (b"IHDR", b"PLTE") or (
            kind == b"tRNS" and palette and sound(source, at, length)
        ):
            tables.append(source[at - 8 : at + length + 4])
    return tables


def essential_png(source: bytes) -> bytes:
    """The PNG's picture without whatever else is in the file, for a decoder of stills.

    Of what comes after the tables nothing but pixels count: what stands in the place of the end
    does no harm.
    """
    parts = [SIGNATURE, *png_tables(source)]
    for kind, at, length in png_chunks(source):
        if kind == b"IDAT":
            parts.append(source[at - 8 : at + length + 4])
            if at + length + 4 > len(source):
                return b"".join(parts)  # an end within a chunk would be taken for its data
    return b"".join((*parts, png_chunk(b"IEND", b"")))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
