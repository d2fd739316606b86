"""JPEGs and colour profiles that no program at hand writes, put together byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Component = tuple[int, int, int]
D50 = (0.9642, 1.0, 0.8249)


def plain_jpeg(
    size: tuple[int, int],
    components: Sequence[Component],
    *,
    sof: int = 0xC0,
    precision: int = 8,
    adobe: int | None = None,
) -> bytes:
    """A JPEG of one colour (ISO 10918-1 annex B).

    components  (horizontal factor, vertical factor, sample 0 to 255) of each
    adobe       the transform that an Adobe segment tells: 0 none, 1 YCbCr, 2 YCCK
    """
    width, height = size
    frame = struct.pack(">BHHB", precision, height, width, len(components))
    scan = bytes([len(components)])
    for number, (across, down, _) in enumerate(components, 1):
        frame += bytes([number, across << 4 | down, 0])
        scan += bytes([number, 0])
    # Nine lengths of a DC difference, of four bits each; of AC only the end of a block, one bit.
    dc = b"\0" + bytes([0, 0, 0, 9, *[0] * 12]) + bytes(range(9))
    ac = b"\x10" + bytes([1, *[0] * 15]) + b"\0"
    parts = [
        b"\xff\xd8",
        b"" if adobe is None else segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)),
        segment(0xDB, b"\0" + bytes([8] * 64)),
        segment(sof, frame),
        segment(0xC4, dc + ac),
        segment(0xDA, scan + bytes([0, 63, 0])),
        _entropy(size, components),
        b"\xff\xd9",
    ]  # fmt: skip
    return b"".join(parts)


def _entropy(size: tuple[int, int], components: Sequence[Component]) -> bytes:
    if len(components) == 1:
        components = [(1, 1, components[0][2])]
    wide, tall = max(c[0] for c in components), max(c[1] for c in components)
    units = -(-size[0] // (8 * wide)) * -(-size[1] // (8 * tall))
    same = "00000"  # no difference, end of block
    first = "".join(
        _difference(value - 128) + "0" + same * (across * down - 1)
        for across, down, value in components
    )
    bits = first + same * sum(c[0] * c[1] for c in components) * (units - 1)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _difference(value: int) -> str:
    length = abs(value).bit_length()
    coded = value if value >= 0 else value + (1 << length) - 1
    return f"{length:04b}" + (f"{coded:0{length}b}" if length else "")


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def matrix_profile(
    columns: Sequence[Sequence[float]], gamma: float, name: str = "test", kind: bytes = b"mntr"
) -> bytes:
    """An RGB profile of XYZ columns (under D50) and one gamma (ICC.1:2001, version 2)."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": _described(name), b"wtpt": _xyz(D50)}
    for letter, column in zip(b"rgb", columns, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(column)
        tags[bytes([letter]) + b"TRC"] = curve
    return profile(b"RGB ", b"XYZ ", tags, kind)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return profile(b"GRAY", b"XYZ ", {b"desc": _described("grey"), b"wtpt": _xyz(D50),
                                      b"kTRC": curve})  # fmt: skip


def press_profile(swap: bool = False, grid: int = 2) -> bytes:
    """A CMYK profile: a table of Lab values between which to interpolate (`lut8Type`).

    Its paper is white, its black is black, and its colours are roughly a press's; `swap` makes cyan
    and yellow change places, so that nobody can take it for arithmetic.
    """
    lab = {
        (0, 0, 0): (255, 128, 128), (1, 0, 0): (140, 91, 78), (0, 1, 0): (122, 202, 125),
        (0, 0, 1): (227, 122, 221), (1, 1, 0): (61, 150, 82), (1, 0, 1): (128, 60, 155),
        (0, 1, 1): (120, 196, 176), (1, 1, 1): (58, 128, 128),
    }  # fmt: skip
    table = bytearray()
    for number in range(grid**4):
        digits = [number // grid**power % grid for power in (3, 2, 1, 0)]
        cyan, magenta, yellow, black = (round(digit / (grid - 1)) for digit in digits)
        inks = (yellow, magenta, cyan) if swap else (cyan, magenta, yellow)
        table += bytes((0, 128, 128) if black else lab[inks])
    identity = [0x10000 if row == column else 0 for row in range(3) for column in range(3)]
    lut = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0]) + struct.pack(">9i", *identity)
    lut += bytes(range(256)) * 4 + bytes(table) + bytes(range(256)) * 3
    tags = {b"desc": _described("press"), b"wtpt": _xyz(D50), b"A2B0": lut, b"A2B1": lut}
    return profile(b"CMYK", b"Lab ", tags, b"prtr")


def profile(space: bytes, link: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """A profile of any tags; `link` is the space that it is connected by."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += padded
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02200000, kind, space, link)
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(_fixed(value) for value in D50)
    return head.ljust(128, b"\0") + table + body


def _described(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
