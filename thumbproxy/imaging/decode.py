"""Encoded bytes to pixels that can be resized.

JPEG goes through libjpeg-turbo (simplejpeg), which is twice as fast as Pillow's decoder, strict
about damage, and scales while it decodes. What it refuses gets a second opinion from Pillow,
because cameras write files that are odd but whole; a file that is cut short, both refuse.
"""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.errors import BadOptions, BrokenImage, ThumbproxyError
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.headers import Header
from thumbproxy.media import Format

_PILLOW_NAMES = {
    Format.JPEG: "JPEG",
    Format.PNG: "PNG",
    Format.GIF: "GIF",
    Format.WEBP: "WEBP",
}
_JPEG_MODES = {1: "L", 3: "RGBX"}
# Decoding into memory that was used before saves the kernel from clearing fresh pages: 5 to 10 %
# of the decode. Shared by all threads, so that what stays allocated depends on how many decode at
# once and not on how many threads have ever decoded.
# 64 MiB are 16 megapixels; larger pictures are rare enough to pay for fresh memory.
_SCRATCH_BYTES = 64 * 1024 * 1024
Memory = np.ndarray[Any, np.dtype[np.uint8]]
_scratch: deque[Memory] = deque(maxlen=4)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as they lie in the file, in a mode that resizing understands.

    image    L, LA, RGB, RGBX, RGBA or CMYK, without metadata
    eighths  the scale at which it was decoded
    icc      its colour profile; empty for none
    lease    memory that `image` may point into, to be given back when it is no longer needed
    """

    image: Image.Image
    eighths: int = 8
    icc: bytes = b""
    lease: Memory | None = None

    def release(self) -> None:
        """Give the pixels' memory to the next decode. `image` must not be used after it."""
        if self.lease is not None:
            _give_back(self.lease)


def decode(source: bytes, header: Header, plan: Plan, page: int = 1) -> Decoded:
    """The pixels of frame `page`. Raises BrokenImage for whatever a decoder dislikes."""
    if page > header.frames:
        frames = "1 frame" if header.frames == 1 else f"{header.frames} frames"
        raise BadOptions(f"page {page} does not exist: the picture has only {frames}.")
    try:
        if header.format is Format.JPEG and header.channels in _JPEG_MODES:
            return _jpeg(source, header, plan)
        return _with_pillow(source, header, page)
    except ThumbproxyError:
        raise
    except Exception as error:
        # Decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, MemoryError
        # and whatever else a hostile file leads them to. All of it is the file's fault.
        raise BrokenImage(log=f"{type(error).__name__}: {error}") from error


def _jpeg(source: bytes, header: Header, plan: Plan) -> Decoded:
    mode = _JPEG_MODES[header.channels]
    # The decoder rounds a scaled side up; asking for exactly that size selects the scale.
    eighths = plan.eighths
    width, height = -(-header.width * eighths // 8), -(-header.height * eighths // 8)
    memory = _borrow(width * height * len(mode))
    try:
        pixels = simplejpeg.decode_jpeg(
            source,
            "GRAY" if mode == "L" else mode,
            fastupsample=plan.fast_chroma,
            min_width=width,
            min_height=height,
            buffer=memory,
        )
        if pixels.shape[:2] != (height, width):
            raise ValueError(f"{pixels.shape} instead of {width} x {height}")
    except ValueError:
        _give_back(memory)
        return _with_pillow(source, header, 1)
    image = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    return Decoded(image, eighths, header.icc, memory)


def _borrow(size: int) -> Memory:
    try:
        memory = _scratch.pop()
    except IndexError:
        return np.empty(size, np.uint8)
    return memory if memory.nbytes >= size else np.empty(size, np.uint8)


def _give_back(memory: Memory) -> None:
    if memory.nbytes <= _SCRATCH_BYTES:
        _scratch.append(memory)


def _with_pillow(source: bytes, header: Header, page: int) -> Decoded:
    with Image.open(io.BytesIO(source), formats=(_PILLOW_NAMES[header.format],)) as image:
        if image.width > header.width or image.height > header.height:
            # Two readers disagree about the size, and only one of them was held to the limits.
            raise BrokenImage(log=f"Pillow reads {image.size}, the header says otherwise")
        # A JPEG is never asked for a frame: seeking in one that holds several (MPO) has a history
        # of memory faults.
        if page > 1 and header.format is not Format.JPEG:
            image.seek(page - 1)
        image.load()
        icc = image.info.get("icc_profile") or b""
        picture = _resizable(image)
    if picture.size != (header.width, header.height):
        picture = picture.crop((0, 0, header.width, header.height))
    # Whatever is left here, Pillow would write into the output: comments, profiles, palettes' keys.
    picture.info = {}
    return Decoded(picture, icc=icc)


def _resizable(image: Image.Image) -> Image.Image:
    """The same picture in a mode that keeps its meaning when it is resized.

    Palettes and bilevel pictures would be resized without any smoothing, colour keys would be
    smoothed away, and 16 bits would be clipped to 8 instead of scaled.
    """
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        opaque = image.mode in ("P", "L", "RGB") and "transparency" not in image.info
        return image.convert("RGB" if opaque else "RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBX", "RGBA", "CMYK"):
        return image.copy() if image.readonly else image
    return image.convert("RGB")
