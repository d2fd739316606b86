"""The info document: what a page may want to know of an image before it loads it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from PIL import Image

from thumbproxy.imaging.boxes import Size
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.exif_fields import exif_values
from thumbproxy.imaging.palette import average, dominant
from thumbproxy.imaging.thumbhash import encode as thumbhash
from thumbproxy.imaging.thumbhash import placeholder

# Longest side of the picture that the document's colours are taken from, px.
LONGEST_SIDE = 200


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
        facts["exif"] = exif_values(header.exif, exif_fields)
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode()
