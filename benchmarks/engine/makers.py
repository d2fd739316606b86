"""How the engines that are Python libraries are asked for one picture, all for the same work."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import NamedTuple

# Read by libvips when it is loaded: our budget is CPU time, so all have one thread.
os.environ["VIPS_CONCURRENCY"] = "1"

import PIL
import pyvips
from PIL import Image

from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

QUALITIES = {Format.JPEG: 80, Format.WEBP: 82, Format.AVIF: 65}
NAMES = {Format.JPEG: "JPEG", Format.WEBP: "WebP", Format.AVIF: "AVIF", Format.PNG: "PNG"}
WEBP_EFFORT = 4  # of 0 to 6; libwebp calls it method
# libvips and sharp count effort from 0, which is speed 9 of libaom.
AVIF_SPEED, AVIF_EFFORT = 9, 0
PNG_LEVEL = 1  # only to look at pixels
OURS = PillowEngine(
    Limits(source_pixels=200_000_000),
    Encoding(
        quality_jpg=QUALITIES[Format.JPEG],
        quality_webp=QUALITIES[Format.WEBP],
        quality_avif=QUALITIES[Format.AVIF],
        effort_webp=WEBP_EFFORT,
        speed_avif=AVIF_SPEED,
        compression_png=PNG_LEVEL,
    ),
)

pyvips.cache_set_max(0)


class Task(NamedTuple):
    """An output: the longest side, and the format."""

    side: int
    format: Format


Make = Callable[[bytes, Task], bytes]


def ours(source: bytes, task: Task) -> bytes:
    options = Options(width=task.side, height=task.side)
    return OURS.render(source, options, task.format).body


_PILLOW_PARAMETERS: dict[Format, dict[str, object]] = {
    Format.JPEG: {"quality": QUALITIES[Format.JPEG]},
    Format.WEBP: {"quality": QUALITIES[Format.WEBP], "method": WEBP_EFFORT},
    Format.AVIF: {"quality": QUALITIES[Format.AVIF], "speed": AVIF_SPEED, "max_threads": 1},
    Format.PNG: {"compress_level": PNG_LEVEL},
}


def with_pillow(source: bytes, task: Task) -> bytes:
    """As people write it: `thumbnail()` lets the JPEG decoder scale by itself."""
    image = Image.open(io.BytesIO(source))
    image.thumbnail((task.side, task.side), Image.Resampling.LANCZOS)
    image.info = {}  # some of its encoders would copy the metadata
    image.getexif().clear()
    buffer = io.BytesIO()
    image.save(buffer, task.format.name, **_PILLOW_PARAMETERS[task.format])
    return buffer.getvalue()


_LIBVIPS_SUFFIXES = {
    Format.JPEG: f".jpg[Q={QUALITIES[Format.JPEG]},keep=none]",
    Format.WEBP: f".webp[Q={QUALITIES[Format.WEBP]},effort={WEBP_EFFORT},keep=none]",
    Format.AVIF: f".avif[Q={QUALITIES[Format.AVIF]},effort={AVIF_EFFORT},bitdepth=8,keep=none]",
    Format.PNG: f".png[compression={PNG_LEVEL},keep=none]",
}


def with_libvips(source: bytes, task: Task) -> bytes:
    image = pyvips.Image.thumbnail_buffer(source, task.side, height=task.side, size="down")
    return bytes(image.write_to_buffer(_LIBVIPS_SUFFIXES[task.format]))


# Pillow-SIMD marks its releases as successors of Pillow's.
PILLOW = "Pillow-SIMD" if ".post" in PIL.__version__ else "Pillow"
MAKERS: dict[str, Make] = {"ours": ours, PILLOW: with_pillow, "libvips": with_libvips}
