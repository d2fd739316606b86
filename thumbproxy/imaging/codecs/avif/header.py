"""The header of an AVIF: a picture of AV1 in the boxes of HEIF, or a sequence of them."""

from __future__ import annotations

import struct

from thumbproxy.core.errors import BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.avif.sequence import BEGINNING, largest_frame
from thumbproxy.imaging.codecs.canvas import Place
from thumbproxy.imaging.codecs.header import MOST_FRAMES, MOST_PROFILE, Header
from thumbproxy.imaging.codecs.isobmff import FULL, Box, File, Item, Items, brands, read_items
from thumbproxy.imaging.profiles import coded_profile

_STILL, _SEQUENCE = b"avif", b"avis"
_ALPHA = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0",
    b"urn:mpeg:hevc:2015:auxid:1\0",
)
# Anticlockwise quarter turns, and then the axis of a mirror, as EXIF has them; None for no mirror.
# `imir` 0 exchanges top and bottom, 1 left and right (ISO/IEC 23008-12:2022 section 6.5.12).
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip

Size = tuple[int, int]


def is_avif(source: bytes) -> bool:
    """By its brands, which stand in the first bytes."""
    return not {_STILL, _SEQUENCE}.isdisjoint(brands(source))


def read_avif(source: bytes) -> Header:
    """AVIF 1.1.0. The orientation is that of the boxes; the one in EXIF data has no say
    (ISO/IEC 23008-12 annex A.3), and browsers do the same.

    Raises struct.error, IndexError, BrokenImage, and UnsupportedImage for what is put together
    otherwise than of one picture or of a grid.
    """
    file = File(source)
    boxes = {box.kind: box for box in file.boxes(0, len(source))}
    # As libavif does: what calls itself a sequence in the first place is shown as one.
    if source[8:12] == _SEQUENCE and b"moov" in boxes:
        return _sequence(file, boxes[b"moov"])
    if b"meta" not in boxes:
        raise BrokenImage(log="an AVIF that describes no picture")
    items = read_items(file, boxes[b"meta"])
    picture = items.all.get(items.primary)
    if picture is None:
        raise BrokenImage(log="an AVIF without a primary item")
    width, height = size = _size(file, picture)
    hidden = _coded(file, items, items.primary, size) - width * height
    alpha = _alpha(file, items)
    if alpha is not None:
        hidden += max(0, _coded(file, items, alpha, size) - width * height)
    return Header(
        Format.AVIF, width, height,
        orientation=_orientation(file, picture.properties),
        has_alpha=alpha is not None,
        channels=1 if _is_grey(file, items) else 3,
        icc=_profile(file, picture.properties),
        hidden=max(0, hidden),
        exif=_exif(file, items),
    )  # fmt: skip


def _size(file: File, item: Item) -> Size:
    ispe = item.property(b"ispe")
    if ispe is None:
        raise BrokenImage(log="an AVIF that does not say how large it is")
    width, height = struct.unpack_from(">II", file.source, ispe.start + FULL)
    return width, height


def _coded(file: File, items: Items, number: int, size: Size) -> int:
    """How many pixels are decoded for an item of `size`.

    A decoder allocates by what the stream says. None of it may be larger than what the boxes say.
    """
    kind = items.all[number].kind
    if kind == b"av01":
        coded = largest_frame(items.data(file.source, number, BEGINNING))
        if coded[0] > size[0] or coded[1] > size[1]:
            raise BrokenImage(log=f"AV1 frames of {coded} in a picture of {size}")
        return coded[0] * coded[1]
    if kind != b"grid":
        raise UnsupportedImage("The source image is an AVIF of a kind that browsers do not show.")
    last_row, last_column = struct.unpack_from("2xBB", items.data(file.source, number, 4))
    rows, columns = last_row + 1, last_column + 1
    tiles = items.all[number].parts.get(b"dimg", [])
    if len(tiles) != rows * columns:
        raise BrokenImage(log=f"a grid of {rows} x {columns} with {len(tiles)} tiles")
    pixels = 0
    for tile in tiles:
        if tile not in items.all or items.all[tile].kind != b"av01":
            raise BrokenImage(log="a grid of what is no picture")
        across, down = _size(file, items.all[tile])
        # A tile that begins outside of the picture would be decoded for nothing.
        if across * (columns - 1) >= size[0] or down * (rows - 1) >= size[1]:
            raise BrokenImage(log=f"tiles of {across} x {down} in a picture of {size}")
        pixels += _coded(file, items, tile, (across, down))
    return pixels


def _alpha(file: File, items: Items) -> int | None:
    """The number of the item that is the picture's alpha."""
    for number, item in items.all.items():
        box = item.property(b"auxC")
        told = b"" if box is None else file.body(box)[FULL:]
        if items.primary in item.parts.get(b"auxl", []) and told.startswith(_ALPHA):
            return number
    return None


def _orientation(file: File, properties: list[Box]) -> int:
    turned, mirrored = 0, None
    for box in properties:
        if box.kind == b"irot":
            turned = file.source[box.start] & 3
        elif box.kind == b"imir":
            mirrored = file.source[box.start] & 1
    return _ORIENTATIONS[turned, mirrored]


def _is_grey(file: File, items: Items) -> bool:
    """Whether all of the picture is monochrome, as its first tile says."""
    picture = items.all[items.primary]
    tiles = picture.parts.get(b"dimg", []) if picture.kind == b"grid" else []
    first = items.all.get(tiles[0], picture) if tiles else picture
    return _monochrome(file, first.property(b"av1C"))


def _monochrome(file: File, av1c: Box | None) -> bool:
    return av1c is not None and bool(file.source[av1c.start + 2] & 0x10)


def _profile(file: File, properties: list[Box]) -> bytes:
    """An ICC profile goes before code points, as in HEIF (section 6.5.5.1)."""
    coded = b""
    for box in properties:
        if box.kind != b"colr":
            continue
        kind = file.source[box.start : box.start + 4]
        if kind in (b"prof", b"rICC") and box.end - box.start <= MOST_PROFILE:
            return file.source[box.start + 4 : box.end]
        if kind == b"nclx" and not coded:
            primaries, transfer = struct.unpack_from(">HH", file.source, box.start + 4)
            coded = coded_profile(primaries, transfer, grey=False) or b""
    return coded


def _exif(file: File, items: Items) -> bytes:
    for number, item in items.all.items():
        if item.kind == b"Exif" and items.primary in item.parts.get(b"cdsc", []):
            block = items.data(file.source, number, 1 << 20)
            # Before the TIFF header stands how far it is away.
            return block[4 + int.from_bytes(block[:4], "big") :]
    return b""


# --- sequences (ISO/IEC 14496-12 section 8)


def _sequence(file: File, moov: Box) -> Header:
    tracks = [box for box in file.inside(moov) if box.kind == b"trak"]
    pictures = next((track for track in tracks if _handler(file, track) == b"pict"), None)
    if pictures is None:
        raise BrokenImage(log="an AVIF sequence without pictures")
    number, size, entry, coded = _track(file, pictures)
    frames = _samples(file, pictures)
    alpha = next((track for track in tracks if _is_alpha_of(file, track, number)), None)
    hidden = 0
    if alpha is not None:
        _, _, _, clear = _track(file, alpha)
        hidden = max(0, clear[0] * clear[1] - size[0] * size[1]) * frames
    if coded[0] > size[0] or coded[1] > size[1]:
        raise BrokenImage(log=f"AV1 frames of {coded} in a sequence of {size}")
    properties = list(file.inside(entry, 78))
    av1c = next((box for box in properties if box.kind == b"av1C"), None)
    # One that cannot be moved by a frame more is a still picture.
    places = [Place((0, 0, *size), over=False, opaque=alpha is None)] * min(frames, MOST_FRAMES + 1)
    return Header(
        Format.AVIF, *size, max(frames, 1),
        orientation=_orientation(file, properties),
        has_alpha=alpha is not None,
        channels=1 if _monochrome(file, av1c) else 3,
        icc=_profile(file, properties),
        places=tuple(places) if frames > 1 else (),
        hidden=hidden,
    )  # fmt: skip


def _handler(file: File, track: Box) -> bytes:
    box = file.first(track, b"mdia", b"hdlr")
    return b"" if box is None else file.source[box.start + 8 : box.start + 12]


def _is_alpha_of(file: File, track: Box, number: int) -> bool:
    box = file.first(track, b"tref", b"auxl")
    return box is not None and file.body(box)[:4] == number.to_bytes(4, "big")


def _table(file: File, track: Box, kind: bytes) -> Box:
    box = file.first(track, b"mdia", b"minf", b"stbl", kind)
    if box is None:
        raise BrokenImage(log=f"a track without {kind.decode()}")
    return box


def _samples(file: File, track: Box) -> int:
    count: int
    (count,) = struct.unpack_from(">I", file.source, _table(file, track, b"stsz").start + 8)
    return count


def _track(file: File, track: Box) -> tuple[int, Size, Box, Size]:
    """Its number, the size of its frames, what describes them, and what the stream says of it."""
    tkhd = file.first(track, b"tkhd")
    if tkhd is None:
        raise BrokenImage(log="a track without a header")
    # Times of 32 or 64 bits stand before the number.
    number_at = tkhd.start + (20 if file.source[tkhd.start] == 1 else 12)
    (number,) = struct.unpack_from(">I", file.source, number_at)
    width, height = struct.unpack_from(">II", file.source, tkhd.end - 8)
    table = _table(file, track, b"stsd")
    entry = next(file.inside(table, FULL + 4), None)
    if entry is None or entry.kind != b"av01":
        raise UnsupportedImage("The source image is a sequence of what is not AV1.")
    return number, (width >> 16, height >> 16), entry, _first_frame(file, track)


def _first_frame(file: File, track: Box) -> Size:
    stbl = file.first(track, b"mdia", b"minf", b"stbl")
    for kind, size in ((b"stco", 4), (b"co64", 8)):
        box = file.first(stbl, kind) if stbl else None
        if box is not None and box.end - box.start >= 8 + size:
            at = int.from_bytes(file.source[box.start + 8 : box.start + 8 + size], "big")
            return largest_frame(file.source[at : at + BEGINNING])
    raise BrokenImage(log="a track without frames")
