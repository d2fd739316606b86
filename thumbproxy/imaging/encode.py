"""Pixels to encoded bytes, always in memory and without metadata.

What is chosen here, and what it costs: docs/encoders.md.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.errors import BadOptions
from thumbproxy.imaging.alpha import without_idle_alpha
from thumbproxy.imaging.fitting import fit
from thumbproxy.imaging.indexed import bits, close, compact, exact
from thumbproxy.imaging.scratch import Memory, borrow, give_back
from thumbproxy.media import Encoding, Format

with contextlib.suppress(ImportError):
    # Registers AVIF with a Pillow that has none of its own (Pillow-SIMD).
    import pillow_avif  # noqa: F401

# AVIF is not among them: its encoder is given no way to skip the conversion to YCbCr, which rounds
# colours by up to 3 of 255 even at quality 100.
LOSSLESS = frozenset({Format.PNG, Format.WEBP})

_DEFAULT = Encoding()
# How hard libwebp tries when nothing may be lost; the method is the setting.
LOSSLESS_EFFORT = 75
# From this quality on, full colour costs fewer bytes than a higher quality that looks as good.
_FULL_COLOUR = 90
# Bands of rows that stand for the whole picture. Deflate looks back 32 KB, which is 15 rows of a
# picture of 720 px: from bands of fewer rows it could not learn what repeats.
_BANDS, _BAND_ROWS = 3, 24
_HALF = 128  # of an alpha channel


def available() -> frozenset[Format]:
    """The formats that this installation can write."""
    Image.init()
    optional = {Format.WEBP: "WEBP", Format.AVIF: "AVIF"}
    missing = {format for format, name in optional.items() if name not in Image.SAVE}
    return frozenset({*_WITH_QUALITY, *_WITHOUT_QUALITY}) - missing


def encode(
    image: Image.Image,
    format: Format,
    quality: int | None = None,
    *,
    encoding: Encoding = _DEFAULT,
    lossless: bool = False,
    most_bytes: int | None = None,
    closely: bool = True,
) -> bytes:
    """`image` (L, LA, RGB, RGBX or RGBA; sRGB) as a file.

    A JPEG takes L, RGB and RGBX only: alpha must have been flattened.

    quality     1 to 100; None is the format's default in `encoding`. PNG and GIF have none
    lossless    every pixel as it is, for the formats in LOSSLESS, also the colours of pixels that
                are wholly transparent. GIF ignores it; JPEG and AVIF raise BadOptions
    most_bytes  the quality is lowered until the file has no more bytes: see imaging.fitting.fit.
                A file without a quality (PNG, GIF, lossless) is made as small as it gets anyway,
                and may be larger
    closely     False: of the qualities that fit, any near the highest will do
    """
    if lossless and format not in LOSSLESS and format is not Format.GIF:
        raise BadOptions(f"{format.extension} cannot be lossless; png and webp can.")
    picture = image if format is Format.JPEG else _plainest(image)
    as_it_is = _WITHOUT_QUALITY.get(format)
    if as_it_is is not None and (lossless or format not in _WITH_QUALITY):
        return as_it_is(picture, encoding)
    write = partial(_WITH_QUALITY[format], picture, encoding)
    quality = quality or encoding.quality(format) or 1
    return (
        write(quality)
        if most_bytes is None
        else fit(write, format, quality, most_bytes, closely=closely)
    )


def _plainest(image: Image.Image) -> Image.Image:
    """Without an alpha channel that hides nothing: nobody should store or blend it."""
    return image.convert("RGB") if image.mode == "RGBX" else without_idle_alpha(image)


def _jpeg(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    sampling = "444" if quality >= _FULL_COLOUR else encoding.subsampling_jpg
    memory = borrow(image.width * image.height * 4)
    colours = ("GRAY", "Gray") if image.mode == "L" else ("RGBX", sampling)
    body = bytes(simplejpeg.encode_jpeg(_raw(image, memory), quality, *colours))
    give_back(memory)
    # Pillow writes a progressive JPEG into a buffer of a byte for each pixel and fails if it is too
    # small, as it may be for much noise in high quality. The plain file tells, in a fifth of the
    # time.
    if not encoding.progressive_jpg or len(body) > 0.9 * max(1 << 16, image.width * image.height):
        return body
    return _saved(image, "JPEG", quality=quality, progressive=True, subsampling=":".join(sampling))


def _raw(image: Image.Image, memory: Memory) -> Memory:
    """The pixels as they lie in Pillow, a byte or four for each, where an encoder can read them."""
    mode = "L" if image.mode == "L" else "RGBX"
    shape = (image.height, image.width, len(mode))
    if image.mode != mode:
        return np.frombuffer(image.tobytes("raw", mode), np.uint8).reshape(shape)
    # Painted into memory that is there, which takes half the time of having it made.
    pixels: Memory = np.ndarray(shape, np.uint8, memory)
    canvas = Image.frombuffer(mode, image.size, pixels, "raw", mode, 0, 1)
    canvas.readonly = 0  # else Pillow would paint on a copy
    canvas.paste(image)
    return pixels


def _webp(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    return _saved(image, "WEBP", quality=quality, method=encoding.effort_webp)


def _webp_lossless(image: Image.Image, encoding: Encoding) -> bytes:
    return _saved(
        image,
        "WEBP",
        lossless=True,
        exact=True,  # else colours under alpha 0 would be changed
        quality=LOSSLESS_EFFORT,
        method=encoding.effort_webp,
    )


def _avif(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    sampling = "400" if image.mode == "L" else encoding.subsampling_avif
    return _saved(
        image,
        "AVIF",
        quality=quality,
        speed=encoding.speed_avif,
        subsampling=":".join(sampling),
        max_threads=1,  # the machine's cores belong to the other renders
    )


def _png(image: Image.Image, encoding: Encoding) -> bytes:
    level = encoding.compression_png
    picture = compact(image)
    if picture.mode == "P":
        return _saved(picture, "PNG", compress_level=level, bits=bits(picture))
    strategy = zlib.Z_DEFAULT_STRATEGY if level == 0 or is_drawing(picture) else zlib.Z_RLE
    return _saved(picture, "PNG", compress_level=level, compress_type=strategy)


def _gif(image: Image.Image, encoding: Encoding) -> bytes:
    if image.mode not in ("LA", "RGBA"):
        return _saved(_palette(image.convert("RGB"), 256), "GIF", interlace=0)
    # GIF knows no half-transparency: what is more than half there is shown on white.
    clear = image.getchannel("A").point(lambda value: 255 * (value < _HALF))
    picture = Image.new("RGBA", image.size, "white")
    picture.alpha_composite(image.convert("RGBA"))
    opaque = picture.convert("RGB")
    opaque.paste((255, 255, 255), mask=clear)
    made = _palette(opaque, 255)
    colours = made.getpalette() or []
    transparent = len(colours) // 3
    made.putpalette([*colours, 255, 255, 255])
    made.paste(transparent, mask=clear)
    return _saved(made, "GIF", transparency=transparent, interlace=0)


def _palette(image: Image.Image, most: int) -> Image.Image:
    """`image` (RGB) with at most `most` colours; exact if it has no more."""
    return exact(image, most) or close(image, most, is_drawing(image))


def is_drawing(image: Image.Image) -> bool:
    """Whether the picture repeats itself, as drawings, texts and screenshots do and photos do not.

    That is what deflate finds besides runs; a few rows of the picture are compressed to see.
    Photos gain less than a tenth by it, or even lose, and take twice the time.
    """
    rows = _BANDS * _BAND_ROWS
    sample = image
    if image.height > 2 * rows:
        sample = Image.new(image.mode, (image.width, rows))
        for band in range(_BANDS):
            top = (band + 1) * image.height // (_BANDS + 1)
            rows_of_band = image.crop((0, top, image.width, top + _BAND_ROWS))
            sample.paste(rows_of_band, (0, band * _BAND_ROWS))
    runs = _saved(sample, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    repeats = _saved(sample, "PNG", compress_level=4, compress_type=zlib.Z_DEFAULT_STRATEGY)
    return len(repeats) < 0.9 * len(runs)


def _saved(image: Image.Image, name: str, **parameters: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **parameters)
    return buffer.getvalue()


_WITH_QUALITY: Mapping[Format, Callable[[Image.Image, Encoding, int], bytes]] = {
    Format.JPEG: _jpeg,
    Format.WEBP: _webp,
    Format.AVIF: _avif,
}
_WITHOUT_QUALITY: Mapping[Format, Callable[[Image.Image, Encoding], bytes]] = {
    Format.PNG: _png,
    Format.GIF: _gif,
    Format.WEBP: _webp_lossless,
}
