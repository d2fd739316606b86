"""The pixels of an AVIF from libavif, through the module of Pillow or of pillow-avif-plugin.

Pillow's own reader would copy them once more, and take a thread for each processor, all of which
belong to other renders; how many it takes is a setting of the whole process, which is not ours
alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.animation import Animation, Frame, shown
from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.modes import in_channels
from thumbproxy.imaging.codecs.still import decoded
from thumbproxy.imaging.geometry import Plan

_module: Any = None
with contextlib.suppress(ImportError):
    from PIL import _avif as _module
with contextlib.suppress(ImportError):
    from pillow_avif import _avif as _module  # type: ignore[no-redef]

_BANDS = {1: "L", 3: "RGB", 4: "RGBA"}


def available() -> bool:
    """Whether this installation can read AVIF."""
    return _module is not None and "dec" in _module.codec_versions()


def decode_avif(source: bytes, header: Header, plan: Plan) -> Decoded:
    """A still AVIF. Raises BrokenImage, and what libavif's module raises."""
    picture, _ = _frame(_decoder(source, header), 0, header)
    return decoded(in_channels(picture, header.channels), header)


def avif_frames(source: bytes, header: Header, most: int) -> Animation:
    """The first `most` frames of a sequence, all in one mode, played for ever."""
    return Animation(_frames(_decoder(source, header), header, most))


def _frames(decoder: Any, header: Header, most: int) -> Iterator[Frame]:
    for number in range(most):
        picture, duration = _frame(decoder, number, header)
        yield Frame(picture, round(shown(duration)))


def _decoder(source: bytes, header: Header) -> Any:
    if hasattr(_module, "VERSION"):  # pillow-avif-plugin's takes a way of upsampling, too
        decoder = _module.AvifDecoder(source, "auto", "auto", 1)
        size, frames = decoder.get_info()[:2], decoder.get_info()[2]
    else:
        decoder = _module.AvifDecoder(source, "auto", 1)
        size, frames = decoder.get_info()[:2]
    if tuple(size) != (header.width, header.height) or frames < header.frames:
        # Two readers disagree, and only one of them was held to the limits.
        raise BrokenImage(log=f"libavif reads {frames} frames of {size}")
    return decoder


def _frame(decoder: Any, number: int, header: Header) -> tuple[Image.Image, float]:
    """Frame `number`, and its duration in ms."""
    pixels, scale, _, duration = decoder.get_frame(number)
    size = (header.width, header.height)
    bands, rest = divmod(len(pixels), size[0] * size[1])
    if rest or bands not in _BANDS:
        raise BrokenImage(log=f"libavif gave {len(pixels)} bytes for {size}")
    mode = _BANDS[bands]
    image = Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)
    return image, 1000 * duration / scale
