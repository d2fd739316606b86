"""The values that travel through a request: formats, sources, renditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """An image format, named by its file extension in URLs and cache files."""

    JPEG = "jpg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    GIF = "gif"

    def __init__(self, extension: str) -> None:
        self.extension = extension
        self.content_type = "image/" + ("jpeg" if extension == "jpg" else extension)
        self.has_alpha = extension != "jpg"


# The encoders' defaults, chosen by eye and by size on photos of 720 px: WebP looks like the JPEG at
# 70 % of its bytes, AVIF is a little softer at 60 %. PNG and GIF know no quality.
QUALITIES: Mapping[Format, int] = {Format.JPEG: 80, Format.WEBP: 78, Format.AVIF: 50}


@dataclass(frozen=True, slots=True)
class Validators:
    """What an origin gave to recognise a copy by (RFC 9110 section 8.8), as header values."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an encoded picture says; width and height are upright (EXIF applied)."""

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the engine made it. Times are seconds."""

    body: bytes
    format: Format
    width: int
    height: int
    render_seconds: float = 0.0
    encode_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rendition:
    """A picture as it is served.

    modified      unix seconds; with the length it makes the ETag, as in nginx
    cache_status  the parameters of RFC 9211 after the cache's name
    timings       (name, seconds) pairs for Server-Timing
    storable      False: the origin forbids to keep it (private, no-store)
    immutable     True: this URL will never show another picture
    """

    body: bytes
    format: Format
    modified: int
    cache_status: str
    timings: tuple[tuple[str, float], ...] = ()
    storable: bool = True
    immutable: bool = False
