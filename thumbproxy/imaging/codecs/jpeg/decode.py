"""JPEG to pixels that can be resized.

It goes through libjpeg-turbo (simplejpeg), which is twice as fast as Pillow's decoder, strict
about damage, and scales while it decodes. What it refuses gets a second opinion from Pillow,
because cameras write files that are odd but whole; a file that is cut short, both refuse.
"""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import simplejpeg
from PIL import Image

from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.jpeg.header import essential_jpeg
from thumbproxy.imaging.codecs.modes import resizable
from thumbproxy.imaging.codecs.plugins import check_size
from thumbproxy.imaging.codecs.still import decoded, scaled
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.scratch import borrow, give_back

_MODES = {1: "L", 3: "RGBX", 4: "CMYK"}
_COLOURS = {"L": "GRAY"}
_END = b"\xff\xd9"
# Within a scan 0xFF is stuffed, repeated to fill, or begins a marker to restart at.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def decode_jpeg(source: bytes, header: Header, plan: Plan) -> Decoded:
    try:
        return _strictly(source, header, plan)
    except ValueError:
        # All there but for the end, which not all programs write, or which is damaged: with the end
        # in its place, the strict decoder tells such a file from one that is cut short. (A
        # progressive one it would take for whole that has lost its last scans.)
        if header.scan:
            found = _AFTER_SCAN.search(source, header.scan)
            whole = source[: found.start() if found else None] + _END
            with contextlib.suppress(ValueError):
                return _strictly(whole, header, plan)
    return _with_pillow(source, header, plan)


def _strictly(source: bytes, header: Header, plan: Plan) -> Decoded:
    """Raises ValueError for all that libjpeg-turbo has so much as a warning about."""
    mode = _MODES[header.channels]
    # The decoder rounds a scaled side up; asking for exactly that size selects the scale.
    width, height = scaled(header.width, header.height, plan.eighths)
    memory = borrow(width * (height + 1) * len(mode))
    try:
        pixels = simplejpeg.decode_jpeg(
            source,
            _COLOURS.get(mode, mode),
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


def _with_pillow(source: bytes, header: Header, plan: Plan) -> Decoded:
    with Image.open(io.BytesIO(essential_jpeg(source)), formats=("JPEG",)) as image:
        check_size(image, header)
        # It is never asked for a frame: seeking in one that holds several (MPO) has a history of
        # memory faults.
        eighths = _scale(image, header, plan.eighths)
        image.load()
        picture = resizable(image)
    return decoded(picture, header, eighths)


def _scale(image: Image.Image, header: Header, eighths: int) -> int:
    """Have Pillow decode a JPEG at `eighths`, if it will; the scale that it took."""
    by = 8 // eighths
    if by > 1 and min(header.width, header.height) >= by:
        image.draft(None, (header.width // by, header.height // by))
        if image.size == scaled(header.width, header.height, eighths):
            return eighths
    return 8
