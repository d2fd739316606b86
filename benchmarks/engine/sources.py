"""The pictures that are measured: a folder's photos, and the same in other formats."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from thumbproxy.core.formats import Format

# Of PNG and WebP, which nobody serves at the size of a camera.
_PIXELS = 5_000_000
_WEBP_QUALITY = 90

Pictures = dict[str, bytes]


def photos(folder: Path, most: int | None = None) -> Pictures:
    """The JPEG files of a folder by name; `most` of them, spread over it."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    if most is not None and len(paths) > most:
        paths = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, most).round()]
    return {path.stem: path.read_bytes() for path in paths}


def converted(pictures: Pictures, format: Format) -> Pictures:
    """The pictures at 5 megapixels as PNG or WebP."""
    return {name: _converted(body, format) for name, body in pictures.items()}


def megapixels(body: bytes) -> float:
    with Image.open(io.BytesIO(body)) as image:
        return image.width * image.height / 1e6


def _converted(body: bytes, format: Format) -> bytes:
    with Image.open(io.BytesIO(body)) as image:
        scale = min(1.0, (_PIXELS / (image.width * image.height)) ** 0.5)
        size = round(image.width * scale), round(image.height * scale)
        picture = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format.name, quality=_WEBP_QUALITY)
    return buffer.getvalue()
