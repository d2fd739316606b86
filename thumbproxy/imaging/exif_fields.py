"""The EXIF fields that the info document may contain, if the configuration lists them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from PIL import ExifTags, Image

# A field longer than that is no fact about a picture.
_LONGEST_VALUE = 1000
_LONGEST_TUPLE = 16
# Bytes of a value, by its TIFF type.
_WIDTHS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
# Fields that only say where another block begins: of positions, of a maker's notes.
_BLOCKS = frozenset(ExifTags.IFD)
EXIF_NAMES = frozenset(ExifTags.TAGS.values())


def exif_values(block: bytes, names: Sequence[str]) -> dict[str, Any]:
    """The fields of those names in an EXIF block, as far as they are plain: numbers and texts.

    Positions, thumbnails and makers' notes are not. A block that cannot be read has no fields.
    """
    try:
        if not _modest(block):
            return {}
        exif = Image.Exif()
        exif.load(block)
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:
        # Whatever a hostile block leads the reader to, it is no reason to refuse the picture.
        return {}
    by_name = {ExifTags.TAGS.get(tag): value for tag, value in tags.items() if tag not in _BLOCKS}
    values = {name: _plain(by_name.get(name)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _modest(block: bytes) -> bool:
    """Whether what the two directories name fits into the block. Pillow copies the value of each
    entry, and thousands may name the same megabytes (TIFF 6.0 section 2)."""
    order = "<" if block.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", block, 4)
    named = 0
    for _ in range(2):
        (count,) = struct.unpack_from(order + "H", block, at)
        following = 0
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHII", block, entry)
            named += number * _WIDTHS.get(kind, 1)
            following = value if tag == ExifTags.IFD.Exif else following
        if not following:
            break
        at = following
    return named <= 2 * len(block)


def _plain(value: Any) -> Any:
    """A value of EXIF as JSON has it; None for what is no plain fact."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        return value.replace("\0", "").strip()[:_LONGEST_VALUE] or None
    if isinstance(value, tuple) and len(value) <= _LONGEST_TUPLE:
        return [_plain(part) for part in value]
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
