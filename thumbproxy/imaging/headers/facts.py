"""What is known of a picture before it is decoded, and how much of a file is read to know it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from thumbproxy.errors import BrokenImage
from thumbproxy.media import Format, ImageInfo

# A frame can be as short as a dozen bytes, and every one of them costs time.
MOST_FRAMES = 10_000
# Usual progressive JPEGs have about 10 scans; each one passes over the whole picture again, which
# is 40 ms at 50 megapixels.
MOST_SCANS = 50
# A profile takes up to 255 segments, and everything else a few dozen; animations have more.
MOST_SEGMENTS = 4_000
MOST_BLOCKS = 4 * MOST_FRAMES + MOST_SEGMENTS
# Pillow appends each sub-block of a comment to all before it: 8 MB of comments took 44 s.
MOST_COMMENT = 256 * 1024
# The profiles of printing presses have up to 3 MB; those of cameras and screens a few KB.
MOST_PROFILE = 4 * 1024 * 1024
# Blocks of text that may say which way up the picture is. Editors write a few KB of XMP.
MOST_XMP = 256 * 1024
# Cameras write up to 64 KB, with a preview and notes of their own.
MOST_EXIF = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a header; `width` and `height` as they lie in the file, not yet upright.

    channels  of a JPEG: 1 grey, 3 colour, 4 CMYK
    icc       the colour profile, put together, inflated, or made from a PNG's gAMA, cHRM and cICP
    one_scan  a JPEG that has all of its picture in one scan
    key       of a PNG without palette: the samples that mean transparent, 16 bits each
    depth     bits per sample of a PNG
    animated  a WebP that is stored as an animation, be it of one frame
    exif      the first EXIF block, from its TIFF header on; empty for one that is far too long
    cover     the first frame is a picture for viewers that do not animate, no part of the animation
    """

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False
    channels: int = 0
    icc: bytes = b""
    one_scan: bool = False
    key: tuple[int, ...] = ()
    depth: int = 8
    cover: bool = False
    animated: bool = False
    exif: bytes = b""

    def __post_init__(self) -> None:
        if len(self.exif) > MOST_EXIF:
            object.__setattr__(self, "exif", b"")

    @property
    def info(self) -> ImageInfo:
        width, height = self.width, self.height
        if self.orientation >= 5:
            width, height = height, width
        return ImageInfo(self.format, width, height, self.frames, self.orientation, self.has_alpha)


def too_many_parts() -> BrokenImage:
    """For files that are all structure: reading it would cost more than reading a picture."""
    return BrokenImage("The source image has far more parts than pictures have.")


def inflated(stream: bytes, most: int) -> bytes:
    """A zlib stream's content; nothing of one that is damaged or has more than `most` bytes.

    However much a stream would give, no more than `most` bytes are ever made of it.
    """
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(stream, most)
    except zlib.error:
        return b""
    return content if inflater.eof else b""
