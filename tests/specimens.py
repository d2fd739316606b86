"""Sources of every kind that is read, all of one picture that is drawn by formulas.

What the picture shows is smooth, with edges as soft as a lens makes them, and flat fields in its
corners: what goes wrong with a picture shows in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyvips
from handmade import grey_profile, matrix_profile, press_profile
from pictures import encoded, exif, turned, with_chunk
from PIL import Image

SIZE = (240, 160)
ADOBE = matrix_profile(
    [(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)], 563 / 256
)
Samples = np.ndarray[Any, Any]
TIMES = [50, 120, 200, 80]
LOOPS = {"gif transparent": 3, "webp alpha": 3, "png alpha": 3}  # all others for ever


# --- the picture


def scene(width: int = SIZE[0], height: int = SIZE[1], shift: float = 0.0) -> Samples:
    """Soft shades, a disc, slanted stripes, bars and flat fields, no two corners alike: 0 to 1.

    Edges are as soft as a lens makes them. `shift` moves the disc, as a share of the width.
    """
    down, across = np.mgrid[0:height, 0:width]
    x, y = (across + 0.5) / width, (down + 0.5) / height
    picture = np.stack((0.25 + 0.5 * x, 0.35 + 0.3 * y, 0.7 - 0.4 * x * y), -1)

    def paint(inside: Samples, colour: tuple[float, float, float]) -> None:
        share = np.clip(inside * width / 1.5 + 0.5, 0, 1)[..., None]
        picture[:] = picture * (1 - share) + np.array(colour) * share

    def field(left: float, top: float, right: float, bottom: float) -> Samples:
        ratio = height / width
        edges = [x - left, right - x, (y - top) * ratio, (bottom - y) * ratio]
        return np.asarray(np.minimum.reduce(edges))

    paint(field(-1, -1, 0.22, 0.3), (0.75, 0.2, 0.15))
    paint(field(0.8, -1, 2, 0.3), (0.2, 0.55, 0.25))
    paint(field(-1, 0.7, 0.22, 2), (0.15, 0.25, 0.6))
    paint(field(0.8, 0.7, 2, 2), (0.92, 0.9, 0.86))
    stripes = np.sin((x * 1.5 + y) * 60) / 60
    paint(np.minimum(stripes, field(0.3, 0.65, 0.7, 0.95)), (0.1, 0.1, 0.12))
    paint(0.1 - np.hypot(x - 0.5 - shift, (y - 0.35) * height / width), (0.95, 0.8, 0.3))
    for number in range(6):
        left = 0.3 + number * 0.07
        paint(field(left, 0.04, left + 0.015 + number * 0.006, 0.12), (0.95, 0.95, 0.95))
    return picture


def eight_bits(samples: Samples) -> Samples:
    return np.asarray(np.round(np.clip(samples, 0, 1) * 255), np.uint8)


PHOTO = Image.fromarray(eight_bits(scene()))


def clear(picture: Image.Image, hard: bool = False) -> Image.Image:
    """With a soft-edged oval of opacity, which is half-transparent on one side."""
    down, across = np.mgrid[0 : picture.height, 0 : picture.width]
    x, y = across / picture.width - 0.5, down / picture.height - 0.5
    alpha = np.clip((0.47 - np.hypot(x, y)) * 30, 0, 1) * np.where(x > 0.2, 0.6, 1)
    alpha = (alpha > 0.5) if hard else alpha
    made = picture.copy()
    made.putalpha(Image.fromarray(eight_bits(alpha)))
    return made


# --- sources


def vips(samples: Samples, interpretation: str, **parameters: Any) -> bytes:
    """A PNG of a kind that Pillow does not write."""
    image = pyvips.Image.new_from_array(samples).copy(interpretation=interpretation)
    return bytes(image.pngsave_buffer(strip=True, **parameters))


def deep(picture: Samples) -> Samples:
    return np.asarray(np.round(picture * 65535), np.uint16)


def grey(picture: Samples) -> Samples:
    return np.asarray((picture * (0.299, 0.587, 0.114)).sum(2))


def sensor(orientation: int) -> Image.Image:
    """The picture as a camera held that way stores it."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    return PHOTO.transpose(turns[orientation])


def jpeg(**parameters: Any) -> bytes:
    return encoded(PHOTO, quality=95, **parameters)


def inks(**parameters: Any) -> bytes:
    light = np.asarray(PHOTO, np.float32)
    most = light.max(2, keepdims=True)
    plates = np.concatenate((255 * (most - light) / most, 255 - most), 2)
    picture = Image.fromarray(np.round(plates).astype(np.uint8), "CMYK")
    return encoded(picture, quality=95, subsampling=0, **parameters)


SOURCES: dict[str, Callable[[], bytes]] = {
    "jpeg 4:4:4": lambda: jpeg(subsampling=0),
    "jpeg 4:2:2": lambda: jpeg(subsampling=1),
    "jpeg 4:2:0": lambda: jpeg(subsampling=2),
    "jpeg progressive": lambda: jpeg(progressive=True),
    "jpeg grey": lambda: encoded(PHOTO.convert("L"), quality=95),
    "jpeg grey, linear profile": lambda: encoded(
        PHOTO.convert("L"), quality=95, icc_profile=grey_profile(1.8)
    ),
    "jpeg Adobe RGB": lambda: jpeg(subsampling=0, icc_profile=ADOBE),
    "jpeg CMYK": inks,
    "jpeg CMYK with a profile": lambda: inks(icc_profile=press_profile()),
    **{
        f"jpeg turned {number}": lambda number=number: turned(  # type: ignore[misc]
            encoded(sensor(number), quality=95, subsampling=0), number
        )
        for number in range(2, 9)
    },
    "png": lambda: encoded(PHOTO, "PNG"),
    "png turned 6": lambda: with_chunk(encoded(sensor(6), "PNG"), b"eXIf", exif(6)),
    "png 16 bit": lambda: vips(deep(scene()), "rgb16", bitdepth=16),
    "png interlaced": lambda: vips(eight_bits(scene()), "srgb", interlace=True),
    "png Adobe RGB": lambda: encoded(PHOTO, "PNG", icc_profile=ADOBE),
    "png grey": lambda: encoded(PHOTO.convert("L"), "PNG"),
    "png grey 16 bit": lambda: vips(deep(grey(scene())), "grey16", bitdepth=16),
    "png grey 4 bit": lambda: vips(eight_bits(grey(scene())), "b-w", bitdepth=4),
    "png grey 2 bit": lambda: vips(eight_bits(grey(scene())), "b-w", bitdepth=2),
    "png 1 bit": lambda: encoded(PHOTO.convert("1"), "PNG"),
    "png grey, alpha": lambda: encoded(clear(PHOTO).convert("LA"), "PNG"),
    "png alpha": lambda: encoded(clear(PHOTO), "PNG"),
    "png palette": lambda: encoded(PHOTO.quantize(64), "PNG"),
    "png palette, alpha": lambda: encoded(clear(PHOTO).quantize(64), "PNG"),
    "gif": lambda: encoded(PHOTO.quantize(128), "GIF"),
    "gif transparent": lambda: encoded(clear(PHOTO, hard=True), "GIF"),
    "webp": lambda: encoded(PHOTO, "WEBP", quality=90),
    "webp lossless": lambda: encoded(PHOTO, "WEBP", lossless=True),
    "webp alpha": lambda: encoded(clear(PHOTO), "WEBP", quality=90),
    "webp turned 8": lambda: encoded(sensor(8), "WEBP", lossless=True, exif=exif(8)),
}

# --- animations

DRAWN = [Image.fromarray(eight_bits(scene(shift=0.06 * n))) for n in range(4)]


def animated(frames: list[Image.Image], name: str, **parameters: Any) -> bytes:
    return encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=TIMES,
                   **parameters)  # fmt: skip


CLEAR = [clear(frame, hard=True) for frame in DRAWN]
ANIMATIONS: dict[str, Callable[[], bytes]] = {
    "gif": lambda: animated(DRAWN, "GIF", loop=0),
    "gif transparent": lambda: animated(CLEAR, "GIF", loop=2, disposal=2),
    "webp": lambda: animated(DRAWN, "WEBP", loop=0, lossless=True),
    "webp alpha": lambda: animated([clear(f) for f in DRAWN], "WEBP", loop=3, quality=90),
    "png": lambda: animated(DRAWN, "PNG", loop=0),
    "png alpha": lambda: animated([clear(f) for f in DRAWN], "PNG", loop=3, disposal=1),
}
