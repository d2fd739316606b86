"""What is known of an image before it is decoded, and how much of a file is read for it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from thumbproxy.core.errors import BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.core.media import ImageInfo
from thumbproxy.imaging.codecs.canvas import Place

# A frame can be as short as a dozen bytes, and every one of them costs time.
MOST_FRAMES = 10_000
# Usual progressive JPEGs have about 10 scans; each one passes over the whole picture again, which
# is 40 ms at 50 megapixels.
MOST_SCANS = 50
# A profile takes up to 255 segments, and everything else a few dozen; animations have more.
MOST_SEGMENTS = 4_000
MOST_BLOCKS = 4 * MOST_FRAMES + MOST_SEGMENTS
# Programs write a line or two.
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

    channels  1 grey, 3 colour, 4 CMYK; as the file has them, whatever a decoder makes of them
    icc       the colour profile, put together, inflated, or made from a PNG's gAMA, cHRM and cICP
    scan      of a JPEG that has all of its picture in one scan: where the data of that begin
    key       of a PNG without palette: the samples that mean transparent, 16 bits each
    depth     bits per sample of a PNG
    places    where the parts lie of what is stored as parts of a canvas, be it a single one: GIF,
              APNG, animated WebP
    hidden    pixels that must be decoded although they lie outside of the canvas
    exif      the first EXIF block, from its TIFF header on; empty for one that is far too long
    """

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False
    channels: int = 3
    icc: bytes = b""
    scan: int = 0
    key: tuple[int, ...] = ()
    depth: int = 8
    places: tuple[Place, ...] = ()
    hidden: int = 0
    exif: bytes = b""

    def __post_init__(self) -> None:
        if len(self.exif) > MOST_EXIF:
            object.__setattr__(self, "exif", b"")

    @property
    def in_parts(self) -> bool:
        """Whether it has to be put together from parts."""
        return bool(self.places)

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
