"""Encoded bytes to pixels that can be resized.

JPEG goes through libjpeg-turbo (simplejpeg), which is twice as fast as Pillow's decoder, strict
about damage, and scales while it decodes. What it refuses gets a second opinion from Pillow,
because cameras write files that are odd but whole; a file that is cut short, both refuse. WebP
stills go to libwebp, and what is stored as parts of a canvas (GIF, APNG, animated WebP) is put
together by the code that makes animations.
Pillow is given the picture alone: what it would read besides can only cost time or be wrong.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.errors import BadOptions, BrokenImage, ThumbproxyError
from thumbproxy.imaging import webp
from thumbproxy.imaging.alpha import without_idle_alpha
from thumbproxy.imaging.animation.frames import decode_frames
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.headers import Header
from thumbproxy.imaging.headers.jpeg import essential_jpeg
from thumbproxy.imaging.headers.png import essential_png
from thumbproxy.imaging.png import decode_png, resizable
from thumbproxy.imaging.scratch import Memory, borrow, give_back
from thumbproxy.media import Format

_JPEG_MODES = {1: "L", 3: "RGBX", 4: "CMYK"}
_JPEG_COLOURS = {"L": "GRAY"}
_END_OF_JPEG = b"\xff\xd9"
# Within a scan 0xFF is stuffed, repeated to fill, or begins a marker to restart at.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as they lie in the file, in a mode that resizing understands.

    image    L, LA, RGB, RGBX, RGBA or CMYK, without metadata; alpha only where something is clear
    eighths  the scale at which it was decoded
    icc      its colour profile; empty for none
    lease    memory that `image` points into, row after row and a row more, if it does; to be given
             back when it is no longer needed
    """

    image: Image.Image
    eighths: int = 8
    icc: bytes = b""
    lease: Memory | None = None

    def release(self) -> None:
        """Give the pixels' memory to the next decode. `image` must not be used after it."""
        if self.lease is not None:
            give_back(self.lease)


def decode(source: bytes, header: Header, plan: Plan, page: int = 1) -> Decoded:
    """The pixels of frame `page`. Raises BrokenImage for whatever a decoder dislikes, and
    MemoryError."""
    if page > header.frames:
        frames = "1 frame" if header.frames == 1 else f"{header.frames} frames"
        raise BadOptions(f"page {page} does not exist: the picture has only {frames}.")
    try:
        if header.format is Format.JPEG:
            return _jpeg(source, header, plan)
        if header.in_parts:
            return _put_together(source, header, page)
        if header.format is Format.PNG:
            return _png(source, header)
        if webp.available:
            return _webp(source, header)
        return _with_pillow(source, header, plan)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error and whatever
        # else a hostile file leads them to. All of it is the file's fault.
        raise BrokenImage(log=f"{type(error).__name__}: {error}") from error


def _jpeg(source: bytes, header: Header, plan: Plan) -> Decoded:
    try:
        return _strictly(source, header, plan)
    except ValueError:
        # All there but for the end, which not all programs write, or which is damaged: with the end
        # in its place, the strict decoder tells such a file from one that is cut short. (A
        # progressive one it would take for whole that has lost its last scans.)
        if header.scan:
            found = _AFTER_SCAN.search(source, header.scan)
            whole = source[: found.start() if found else None] + _END_OF_JPEG
            with contextlib.suppress(ValueError):
                return _strictly(whole, header, plan)
    return _with_pillow(source, header, plan)


def _strictly(source: bytes, header: Header, plan: Plan) -> Decoded:
    """Raises ValueError for all that libjpeg-turbo has so much as a warning about."""
    mode = _JPEG_MODES[header.channels]
    # The decoder rounds a scaled side up; asking for exactly that size selects the scale.
    width, height = _scaled(header.width, header.height, plan.eighths)
    memory = borrow(width * (height + 1) * len(mode))
    try:
        pixels = simplejpeg.decode_jpeg(
            source,
            _JPEG_COLOURS.get(mode, mode),
            fastupsample=plan.fast_chroma,
            min_width=width,
            min_height=height,
            buffer=memory,
        )
        if pixels.shape[:2] != (height, width):
            raise ValueError(f"{pixels.shape} instead of {width} x {height}")
    except ValueError:
        give_back(memory)
        raise
    if mode == "CMYK":
        # Adobe writes paper as 255, and every program has followed.
        np.invert(pixels, out=pixels)
    image = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    return Decoded(image, plan.eighths, header.icc, memory)


def _scaled(width: int, height: int, eighths: int) -> tuple[int, int]:
    return -(-width * eighths // 8), -(-height * eighths // 8)


def _webp(source: bytes, header: Header) -> Decoded:
    memory = borrow(header.width * (header.height + 1) * 4)
    try:
        image = webp.decode_webp(
            source, header.width, header.height, memory, alpha=header.has_alpha
        )
    except BrokenImage:
        give_back(memory)
        raise
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
        image = Image.frombuffer("RGBX", image.size, memory, "raw", "RGBX", 0, 1)
    return Decoded(image, icc=header.icc, lease=memory)


def _with_pillow(source: bytes, header: Header, plan: Plan) -> Decoded:
    eighths = 8
    if header.format is Format.JPEG:
        source = essential_jpeg(source)
    with Image.open(io.BytesIO(source), formats=(header.format.name,)) as image:
        if image.width > header.width or image.height > header.height:
            # Two readers disagree about the size, and only one of them was held to the limits.
            raise BrokenImage(log=f"Pillow reads {image.size}, the header says otherwise")
        # A JPEG is never asked for a frame: seeking in one that holds several (MPO) has a history
        # of memory faults.
        if header.format is Format.JPEG:
            eighths = _scale(image, header, plan.eighths)
        image.load()
        picture = resizable(image)
    return _decoded(picture, header, eighths)


def _png(source: bytes, header: Header) -> Decoded:
    return _decoded(decode_png(essential_png(source), header), header)


def _put_together(source: bytes, header: Header, page: int) -> Decoded:
    *_, frame = decode_frames(source, header, page).frames
    return _decoded(frame.image, header)


def _decoded(picture: Image.Image, header: Header, eighths: int = 8) -> Decoded:
    size = _scaled(header.width, header.height, eighths)
    if picture.size != size:
        picture = picture.crop((0, 0, *size))
    picture = without_idle_alpha(picture)
    # Whatever is left here, Pillow would write into the output: comments, profiles, palettes' keys.
    picture.info = {}
    return Decoded(picture, eighths, icc=header.icc)


def _scale(image: Image.Image, header: Header, eighths: int) -> int:
    """Have Pillow decode a JPEG at `eighths`, if it will; the scale that it took."""
    by = 8 // eighths
    if by > 1 and min(header.width, header.height) >= by:
        image.draft(None, (header.width // by, header.height // by))
        if image.size == _scaled(header.width, header.height, eighths):
            return eighths
    return 8
