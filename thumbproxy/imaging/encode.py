"""Pixels to encoded bytes, always in memory and without metadata."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.media import Format

with contextlib.suppress(ImportError):
    # Registers AVIF with a Pillow that has none of its own (Pillow-SIMD).
    import pillow_avif  # noqa: F401

# CPU ms and KB of a photo of 720 px, the mean of eight. A rendition is made once and sent often,
# so a few ms for 4 % fewer bytes are well spent, but not 40.
_AVIF_SPEED = 9  # 17 ms, 41 KB; 8: 60 ms, 39 KB
_WEBP_METHOD = 4  # 26 ms, 46 KB; 2: 12 ms, 48 KB
_PNG_LEVEL = 4  # 44 ms, 563 KB; 6: 92 ms, 558 KB


def available() -> frozenset[Format]:
    """The formats that this installation can write."""
    Image.init()
    optional = {Format.WEBP: "WEBP", Format.AVIF: "AVIF"}
    missing = {format for format, name in optional.items() if name not in Image.SAVE}
    return frozenset(Format) - missing


def encode(image: Image.Image, format: Format, quality: int) -> bytes:
    """`image` (L, LA, RGB, RGBX or RGBA; sRGB) as a file. `quality` is 1 to 100, where it counts.

    A JPEG takes L, RGB and RGBX only: alpha must have been flattened.
    """
    return _ENCODERS[format](image, quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    pixels = np.asarray(image)
    if image.mode == "L":
        return _encoded(pixels[..., np.newaxis], quality, "GRAY", "Gray")
    return _encoded(pixels, quality, image.mode, "420")


def _encoded(pixels: object, quality: int, colours: str, subsampling: str) -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels, quality, colours, subsampling))


def _png(image: Image.Image, quality: int) -> bytes:
    return _saved(_opaque(image), "PNG", compress_level=_PNG_LEVEL)


def _webp(image: Image.Image, quality: int) -> bytes:
    return _saved(_opaque(image), "WEBP", quality=quality, method=_WEBP_METHOD)


def _avif(image: Image.Image, quality: int) -> bytes:
    # One thread: the machine's cores belong to the other renders.
    return _saved(_opaque(image), "AVIF", quality=quality, speed=_AVIF_SPEED, max_threads=1)


def _gif(image: Image.Image, quality: int) -> bytes:
    if "A" not in image.mode:
        return _saved(_opaque(image).convert("RGB").quantize(256), "GIF")
    # GIF knows no half-transparency: what is more than half there is shown on white.
    picture = image.convert("RGBA")
    alpha = picture.getchannel("A")
    white = Image.new("RGBA", picture.size, "white")
    palette = Image.alpha_composite(white, picture).convert("RGB").quantize(255)
    palette.paste(255, mask=alpha.point(lambda value: 255 if value < 128 else 0))
    return _saved(palette, "GIF", transparency=255)


def _opaque(image: Image.Image) -> Image.Image:
    return image.convert("RGB") if image.mode == "RGBX" else image


def _saved(image: Image.Image, name: str, **parameters: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **parameters)
    return buffer.getvalue()


_ENCODERS: Mapping[Format, Callable[[Image.Image, int], bytes]] = {
    Format.JPEG: _jpeg,
    Format.PNG: _png,
    Format.WEBP: _webp,
    Format.AVIF: _avif,
    Format.GIF: _gif,
}
