"""The formats of images: names, first bytes and capabilities.

A format is an entry here, and a package in imaging/codecs that reads or writes it. What a URL may
ask for, what is negotiated, and which files lie in the cache, follow from what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class _Facts(NamedTuple):
    """content_type  its media type
    magic         what a file begins with: pairs of a position and bytes
    has_alpha     it can be transparent
    animated      it can hold an animation, and is written as one where the source is one
    lossless      it can be written so that every pixel stays as it is
    is_image      False: it tells about a picture
    is_output     URLs can ask for it; the others are sources alone
    scaled        decoding it at 1/2, 1/4 or 1/8 of its size costs less
    also          other extensions that its files have
    sandboxed     as a source it is decoded in a render process alone, never in one that has keys
    """

    content_type: str
    magic: tuple[tuple[int, bytes], ...]
    has_alpha: bool = True
    animated: bool = False
    lossless: bool = False
    is_image: bool = True
    is_output: bool = True
    scaled: bool = False
    sandboxed: bool = False
    also: tuple[str, ...] = ()


_FACTS = {
    "jpg": _Facts(
        "image/jpeg",
        ((0, b"\xff\xd8\xff"),),
        has_alpha=False,
        scaled=True,
        also=("jpeg", "jpe", "jfif"),
    ),
    "png": _Facts("image/png", ((0, b"\x89PNG\r\n\x1a\n"),), lossless=True, also=("apng",)),
    "webp": _Facts("image/webp", ((0, b"RIFF"), (8, b"WEBP")), animated=True, lossless=True),
    # Its encoder is given no way to skip the conversion to YCbCr, which rounds colours by up to 3
    # of 255 even at quality 100: so it is not lossless.
    "avif": _Facts("image/avif", ((4, b"ftypavi"),), animated=True, sandboxed=True),
    "gif": _Facts("image/gif", ((0, b"GIF8"),), animated=True),
    "json": _Facts("application/json", ((0, b"{"),), is_image=False),
}


class Format(Enum):
    """A format, named by its file extension in URLs and cache files.

    JSON is the info document; all others are pictures.
    """

    JPEG = "jpg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    GIF = "gif"
    JSON = "json"

    def __init__(self, extension: str) -> None:
        self.extension = extension
        facts = _FACTS[extension]
        self.content_type = facts.content_type
        self.magic = facts.magic
        self.has_alpha = facts.has_alpha
        self.animated = facts.animated
        self.lossless = facts.lossless
        self.is_image = facts.is_image
        self.is_output = facts.is_output
        self.scaled = facts.scaled
        self.sandboxed = facts.sandboxed

    def begins(self, body: bytes) -> bool:
        """Whether `body` begins as files of this format do."""
        return all(body[at : at + len(magic)] == magic for at, magic in self.magic)


# What URLs can ask for, by its extension.
OUTPUTS = {format.extension: format for format in Format if format.is_output}
# What files are called that may be sources, without the dot. What they are, their bytes decide.
SOURCE_EXTENSIONS = frozenset(
    name
    for extension, facts in _FACTS.items()
    for name in (extension, *facts.also)
    if facts.is_image
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How outputs are written. The defaults are chosen by measure: see docs/encoders.md.

    quality_jpg       1 to 100; the default of `q`
    quality_webp      1 to 100; the default of `q`
    quality_avif      1 to 100; the default of `q`
    progressive_jpg   True: a JPEG builds up while it loads; smaller, slower to write. Pictures of
                      more than 0.9 bytes a pixel stay as they are
    subsampling_jpg   "420", "422" or "444": how coarse a JPEG's colours are below quality 90;
                      from there on they are never coarse
    effort_webp       0 to 6: more is smaller and slower
    speed_avif        0 to 10: less is smaller and slower
    subsampling_avif  "420", "422" or "444": how coarse an AVIF's colours are
    compression_png   0 to 9, zlib's level for drawings: more is smaller and slower. What looks
                      like a photo is written the same way at any level but 0
    """

    quality_jpg: int = 80
    quality_webp: int = 82
    quality_avif: int = 65
    progressive_jpg: bool = False
    subsampling_jpg: str = "420"
    effort_webp: int = 4
    speed_avif: int = 9
    subsampling_avif: str = "420"
    compression_png: int = 6

    def quality(self, format: Format) -> int | None:
        """The default quality of `format`; None for PNG and GIF, which have none."""
        quality: int | None = getattr(self, f"quality_{format.extension}", None)
        return quality
