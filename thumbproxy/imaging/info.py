"""The info document: what a page may want to know of a picture before it loads it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from PIL import ExifTags, Image

from thumbproxy.imaging.boxes import Size
from thumbproxy.imaging.headers import Header
from thumbproxy.imaging.palette import average, dominant
from thumbproxy.imaging.thumbhash import encode as thumbhash
from thumbproxy.imaging.thumbhash import placeholder
from thumbproxy.media import Format

# Longest side of the picture that the document's colours are taken from, px.
LONGEST_SIDE = 200
# A field longer than that is no fact about a picture.
_LONGEST_VALUE = 1000
_LONGEST_TUPLE = 16


def document(
    source: bytes, header: Header, output: Size, picture: Image.Image, exif_fields: Sequence[str]
) -> bytes:
    """JSON, UTF-8.

    output       width and height of the rendition that the options of the URL describe, px
    picture      a small copy of that rendition
    exif_fields  names of EXIF fields to tell; all others stay untold
    """
    info = header.info
    facts: dict[str, Any] = {
        "source": {
            "format": info.format.extension,
            "width": info.width,
            "height": info.height,
            "bytes": len(source),
            "frames": info.frames,
            "orientation": info.orientation,
            "has_alpha": info.has_alpha,
            "version": sha256(source).hexdigest(),
        },
        "output": {"width": output[0], "height": output[1]},
        "colors": {"average": average(picture), "dominant": dominant(picture)},
        "placeholder": {
            "thumbhash": base64.b64encode(thumbhash(picture)).decode(),
            "data_uri": placeholder(picture),
        },
    }
    if exif_fields:
        facts["exif"] = exif_values(source, exif_fields, info.format)
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()


# Fields that only say where another block begins: of positions, of a maker's notes.
_BLOCKS = frozenset(ExifTags.IFD)
EXIF_NAMES = frozenset(ExifTags.TAGS.values())


def exif_values(source: bytes, names: Sequence[str], format: Format) -> dict[str, Any]:
    """The EXIF fields of those names, as far as they are plain: numbers and texts.

    Positions, thumbnails and makers' notes are not. A block that cannot be read has no fields.
    """
    try:
        with Image.open(io.BytesIO(source), formats=(format.name,)) as image:
            exif = image.getexif()
            tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:
        # Whatever a hostile block leads the reader to, it is no reason to refuse the picture.
        return {}
    by_name = {ExifTags.TAGS.get(tag): value for tag, value in tags.items() if tag not in _BLOCKS}
    values = {name: _plain(by_name.get(name)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


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
