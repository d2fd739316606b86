"""The boxes of ISO media files (ISO/IEC 14496-12), as far as pictures are described by them.

HEIF (ISO/IEC 23008-12) describes a picture as items: what kind each is, where its bytes lie, which
properties it has, and how it refers to others. All of it is read with bounds, and nothing is
decoded here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.header import too_many_parts

# A picture has a few dozen boxes; a grid of 256 tiles, each with its own, about a thousand.
_MOST_BOXES = 8_000
# A grid has 256 x 256 tiles at most, and libavif takes no more items than this.
_MOST_ITEMS = 1_000
_MOST_EXTENTS = 32
FULL = 4  # bytes of version and flags, with which some boxes begin


class Box(NamedTuple):
    """start and end are the bounds of its body."""

    kind: bytes
    start: int
    end: int


class File:
    """The boxes of a file, of which there may be so many altogether."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self._left = _MOST_BOXES

    def boxes(self, start: int, end: int) -> Iterator[Box]:
        """Those between two positions. (Section 4.2.)

        Raises struct.error for a box that ends outside of them, and BrokenImage for too many.
        """
        end = min(end, len(self.source))
        while start + 8 <= end:
            self._left -= 1
            if self._left < 0:
                raise too_many_parts()
            size, kind = struct.unpack_from(">I4s", self.source, start)
            body = start + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", self.source, body)
                body += 8
            after = start + size if size else end
            if after < body:
                raise BrokenImage(log=f"a box of {size} bytes")
            # What is cut off at the end of a file are the pixels, which the decoder will miss.
            yield Box(kind, body, min(after, end))
            start = after

    def inside(self, box: Box, skip: int = 0) -> Iterator[Box]:
        """The boxes in a box, after `skip` bytes of its body."""
        return self.boxes(box.start + skip, box.end)

    def first(self, box: Box, *path: bytes) -> Box | None:
        """The first box at the end of a path of kinds below `box`."""
        for kind in path:
            found = next((inner for inner in self.inside(box) if inner.kind == kind), None)
            if found is None:
                return None
            box = found
        return box

    def body(self, box: Box) -> bytes:
        return self.source[box.start : box.end]

    @property
    def all(self) -> Box:
        """The file as a box."""
        return Box(b"", 0, len(self.source))


def brands(source: bytes) -> set[bytes]:
    """What a file says that it can be read as; none if it is no such file. (Section 4.3.)"""
    if source[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(source[:4], "big"), 512)
    # Between the major brand and the compatible ones stands a version.
    return {source[at : at + 4] for at in (8, *range(16, size - 3, 4))}


@dataclass(slots=True)
class Item:
    """kind        four letters, as `av01` or `grid`
    properties  in their order
    extents     where its bytes lie in the file: positions and lengths; length 0 is to the end
    parts       by the kind of reference: the numbers of other items
    """

    kind: bytes = b""
    properties: list[Box] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    parts: dict[bytes, list[int]] = field(default_factory=dict)

    def property(self, kind: bytes) -> Box | None:
        """The first of its kind."""
        return next((box for box in self.properties if box.kind == kind), None)


@dataclass(slots=True)
class Items:
    """What a `meta` box describes: the number of the primary item, and all of them."""

    primary: int = 0
    all: dict[int, Item] = field(default_factory=dict)

    def data(self, source: bytes, number: int, most: int) -> bytes:
        """The first `most` bytes of an item."""
        data = b""
        for start, length in self.all[number].extents:
            end = start + length if length else len(source)
            data += source[start : min(end, start + most - len(data))]
            if len(data) >= most:
                break
        return data


def read_items(file: File, meta: Box) -> Items:
    """ISO/IEC 14496-12 section 8.11. Raises struct.error, IndexError and BrokenImage."""
    boxes = {box.kind: box for box in file.inside(meta, FULL)}
    items = Items()
    if pitm := boxes.get(b"pitm"):
        wide = bool(file.source[pitm.start])
        (items.primary,) = struct.unpack_from(
            ">I" if wide else ">H", file.source, pitm.start + FULL
        )
    if iinf := boxes.get(b"iinf"):
        _read_kinds(file, iinf, items)
    if iloc := boxes.get(b"iloc"):
        _read_places(file, iloc, boxes.get(b"idat"), items)
    if iprp := boxes.get(b"iprp"):
        _read_properties(file, iprp, items)
    if iref := boxes.get(b"iref"):
        _read_references(file, iref, items)
    return items


def _read_kinds(file: File, iinf: Box, items: Items) -> None:
    for box in file.inside(iinf, FULL + (4 if file.source[iinf.start] else 2)):
        version = file.source[box.start]
        if box.kind != b"infe" or version < 2:
            continue
        layout = ">I2x4s" if version == 3 else ">H2x4s"
        number, kind = struct.unpack_from(layout, file.source, box.start + FULL)
        items.all[number] = Item(kind)
        if len(items.all) > _MOST_ITEMS:
            raise too_many_parts()


def _read_places(file: File, iloc: Box, idat: Box | None, items: Items) -> None:
    """Section 8.11.3."""
    read = _Fields(file.source, iloc.start)
    version = read.number(1)
    read.number(3)
    offset_size, length_size = read.nibbles()
    base_size, index_size = read.nibbles()
    for _ in range(read.number(4 if version == 2 else 2)):
        number = read.number(4 if version == 2 else 2)
        method = read.number(2) & 15 if version else 0
        read.number(2)  # which file: this one, or what is not taken
        base = read.number(base_size)
        if method == 1 and idat:
            base += idat.start
        count = read.number(2)
        if count > _MOST_EXTENTS or read.at > iloc.end:
            raise too_many_parts()
        for _ in range(count):
            read.number(index_size if version else 0)
            start, length = base + read.number(offset_size), read.number(length_size)
            if number in items.all and method in (0, 1):
                items.all[number].extents.append((start, length))


def _read_properties(file: File, iprp: Box, items: Items) -> None:
    """ISO/IEC 23008-12 section 9.3."""
    all: list[Box] = []
    for box in file.inside(iprp):
        if box.kind == b"ipco":
            all = list(file.inside(box))
    for box in file.inside(iprp):
        if box.kind != b"ipma":
            continue
        read = _Fields(file.source, box.start)
        version, flags = read.number(1), read.number(3)
        for _ in range(read.number(4)):
            number = read.number(4 if version else 2)
            if read.at > box.end:
                raise BrokenImage(log="more properties than their box holds")
            for _ in range(read.number(1)):
                wide = flags & 1
                index = read.number(2 if wide else 1) & (0x7FFF if wide else 0x7F)
                if number in items.all and 0 < index <= len(all):
                    items.all[number].properties.append(all[index - 1])


def _read_references(file: File, iref: Box, items: Items) -> None:
    size = 4 if file.source[iref.start] else 2
    for box in file.inside(iref, FULL):
        read = _Fields(file.source, box.start)
        number, count = read.number(size), read.number(2)
        if box.start + count * size > box.end or number not in items.all:
            continue
        items.all[number].parts.setdefault(box.kind, []).extend(
            read.number(size) for _ in range(count)
        )


class _Fields:
    """Numbers one after the other, whose widths a file itself decides."""

    def __init__(self, source: bytes, at: int) -> None:
        self._source = source
        self.at = at

    def number(self, size: int) -> int:
        """Of `size` bytes, from 0 to 15. Raises struct.error at the end of the file."""
        self.at += size
        if self.at > len(self._source):
            raise struct.error("numbers beyond the end")
        return int.from_bytes(self._source[self.at - size : self.at], "big")

    def nibbles(self) -> tuple[int, int]:
        byte = self.number(1)
        return byte >> 4, byte & 15
