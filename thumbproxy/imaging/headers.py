"""What the headers of pictures say, read without a decoder.

Decoders allocate by what a header says: an animated WebP of 186 bytes makes one reserve 2 GB. So
the header is read here first, and a picture over the limits never reaches a decoder. The format
is decided by the first bytes alone, never by a name or a content type.
"""

from __future__ import annotations

import struct

from thumbproxy.core.errors import BrokenImage
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.header import MOST_FRAMES, MOST_SCANS, Header
from thumbproxy.imaging.codecs.registry import codec_for

__all__ = ["MOST_FRAMES", "MOST_SCANS", "Header", "read_header"]


def read_header(source: bytes, limits: Limits) -> Header:
    """The header of an encoded picture.

    Raises UnsupportedImage when the first bytes are of no allowed format, or of a kind of JPEG
    that nobody shows; BrokenImage when the header cannot be read or describes a picture over
    `limits`.
    """
    read = codec_for(source).read_header
    try:
        header = read(source)
    except (struct.error, IndexError) as error:
        raise BrokenImage(log=f"header cut short: {error}") from error
    _check(header, limits)
    return header


def _check(header: Header, limits: Limits) -> None:
    width, height, frames = header.width, header.height, header.frames
    if not width or not height or not frames:
        raise BrokenImage("The source image has no pixels.")
    if max(width, height) > limits.source_side:
        raise BrokenImage(
            f"The source image is {width} x {height} pixels; "
            f"at most {limits.source_side} on a side are allowed.",
            log=f"{width} x {height} pixels; max_source_side is {limits.source_side}",
        )
    if frames > MOST_FRAMES:
        raise BrokenImage(f"The source image has more than {MOST_FRAMES} frames.")
    if width * height * frames + header.hidden > limits.source_pixels:
        in_frames = f" in {frames} frames" if frames > 1 else ""
        in_frames += f", and {header.hidden} outside of them" if header.hidden else ""
        raise BrokenImage(
            f"The source image has {width} x {height} pixels{in_frames}; "
            f"at most {limits.source_pixels} altogether are allowed.",
            log=f"{width} x {height} pixels{in_frames}; "
            f"max_source_pixels is {limits.source_pixels}",
        )
