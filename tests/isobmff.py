"""Boxes of ISO media files, written by hand: what no encoder at hand would write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from thumbproxy.imaging.codecs.isobmff import File, read_items


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def stream_of(avif: bytes) -> tuple[bytes, bytes]:
    """The AV1 stream of a still AVIF's primary item, and the body of its av1C."""
    file = File(avif)
    [meta] = [one for one in file.boxes(0, len(avif)) if one.kind == b"meta"]
    items = read_items(file, meta)
    av1c = items.all[items.primary].property(b"av1C")
    assert av1c is not None
    return items.data(avif, items.primary, len(avif)), file.body(av1c)


def grid(
    tiles: Sequence[bytes],
    rows: int,
    columns: int,
    tile: tuple[int, int],
    size: tuple[int, int],
    *,
    said: tuple[int, int] | None = None,
) -> bytes:
    """A still AVIF that is put together of other ones, row after row.

    tiles  AVIFs of the size `tile`. said: rows and columns as the grid has them, if they are others
    """
    streams = [stream_of(one)[0] for one in tiles]
    rows_said, columns_said = said or (rows, columns)
    head = bytes([0, 0, rows_said - 1, columns_said - 1]) + struct.pack(">HH", *size)
    numbers = range(2, 2 + len(streams))
    kinds = [full(b"infe", struct.pack(">HH4s", 1, 0, b"grid"), b"\0", version=2)]
    kinds += [full(b"infe", struct.pack(">HH4s", number, 0, b"av01"), b"\0", version=2)
              for number in numbers]  # fmt: skip
    properties = box(
        b"ipco",
        full(b"ispe", struct.pack(">II", *size)),
        full(b"ispe", struct.pack(">II", *tile)),
        box(b"av1C", stream_of(tiles[0])[1]),
        full(b"pixi", bytes([3, 8, 8, 8])),
    )
    named = struct.pack(">HBBB", 1, 2, 1, 4)
    named += b"".join(struct.pack(">HBBBB", number, 3, 2, 0x83, 4) for number in numbers)
    refers = box(b"dimg", struct.pack(">HH", 1, len(streams)),
                 b"".join(struct.pack(">H", number) for number in numbers))  # fmt: skip

    def meta(at: int) -> bytes:
        places = [struct.pack(">HHHII", 1, 0, 1, at, len(head))]
        after = at + len(head)
        for number, stream in zip(numbers, streams, strict=True):
            places.append(struct.pack(">HHHII", number, 0, 1, after, len(stream)))
            after += len(stream)
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(12), b"\0"),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", struct.pack(">BBH", 0x44, 0, len(places)), *places),
            full(b"iinf", struct.pack(">H", len(kinds)), *kinds),
            box(b"iprp", properties, full(b"ipma", struct.pack(">I", 1 + len(streams)), named)),
            full(b"iref", refers),
        )

    begin = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    at = len(begin) + len(meta(0)) + 8
    return begin + meta(at) + box(b"mdat", head, *streams)
