"""What the headers of JPEG, PNG, GIF and WebP files say, read without a decoder.

Decoders allocate by what a header says: an animated WebP of 186 bytes makes one reserve 2 GB. So
the header is read here first, and a picture over the limits never reaches a decoder. The format
is decided by the first bytes alone, never by a name or a content type.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from thumbproxy.errors import BrokenImage, UnsupportedImage
from thumbproxy.imaging.exif import orientation
from thumbproxy.limits import Limits
from thumbproxy.media import Format, ImageInfo

# A frame can be as short as a dozen bytes, and every one of them costs time.
MOST_FRAMES = 10_000
# Usual progressive JPEGs have about 10 scans; each one passes over the whole picture again, which
# is 40 ms at 50 megapixels.
MOST_SCANS = 50
# A profile takes up to 255 segments, and everything else a few dozen; animations have more.
MOST_SEGMENTS = 4_000
MOST_BLOCKS = 4 * MOST_FRAMES + MOST_SEGMENTS
# What begins a segment of a JPEG. Fill bytes, stuffed bytes and the markers without a body (TEM,
# RSTn, SOI) are passed over at the speed of the search, however many there are.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
# Pillow appends each sub-block of a comment to all before it: 8 MB of comments took 44 s.
MOST_COMMENT = 256 * 1024
# What begins a block of a GIF: an extension, an image, the end.
_GIF_BLOCK = re.compile(rb"[\x21\x2c\x3b]")


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a header; `width` and `height` as they lie in the file, not yet upright.

    channels  of a JPEG: 1 grey, 3 colour, 4 CMYK
    icc       the colour profile of a JPEG, put together from its segments
    """

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False
    channels: int = 0
    icc: bytes = b""

    @property
    def info(self) -> ImageInfo:
        width, height = self.width, self.height
        if self.orientation >= 5:
            width, height = height, width
        return ImageInfo(self.format, width, height, self.frames, self.orientation, self.has_alpha)


def read_header(source: bytes, limits: Limits) -> Header:
    """The header of an encoded picture.

    Raises UnsupportedImage when the first bytes are of no allowed format, BrokenImage when the
    header cannot be read or describes a picture over `limits`.
    """
    read = _reader(source)
    try:
        header = read(source)
    except (struct.error, IndexError) as error:
        raise BrokenImage(log=f"header cut short: {error}") from error
    _check(header, limits)
    return header


def _reader(source: bytes) -> Callable[[bytes], Header]:
    if source.startswith(b"\xff\xd8\xff"):
        return _jpeg
    if source.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png
    if source.startswith((b"GIF87a", b"GIF89a")):
        return _gif
    if source.startswith(b"RIFF") and source[8:12] == b"WEBP":
        return _webp
    raise UnsupportedImage


def _check(header: Header, limits: Limits) -> None:
    width, height, frames = header.width, header.height, header.frames
    if not width or not height or not frames:
        raise BrokenImage("The source image has no pixels.")
    if max(width, height) > limits.source_side:
        raise BrokenImage(
            f"The source image is {width} x {height} pixels; "
            f"at most {limits.source_side} on a side are allowed."
        )
    if frames > MOST_FRAMES:
        raise BrokenImage(f"The source image has more than {MOST_FRAMES} frames.")
    if width * height * frames > limits.source_pixels:
        in_frames = f" in {frames} frames" if frames > 1 else ""
        raise BrokenImage(
            f"The source image has {width} x {height} pixels{in_frames}; "
            f"at most {limits.source_pixels} altogether are allowed."
        )


def _jpeg(source: bytes) -> Header:
    """ISO 10918-1 annex B; the APP2 segments of a profile: ICC.1:2022 annex B.4."""
    width = height = channels = 0
    turned = 1
    profile: dict[int, bytes] = {}
    one_scan = False
    for marker, body in _jpeg_segments(source):
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            turned = orientation(body[6:])
        elif marker == 0xE2 and body[:12] == b"ICC_PROFILE\0":
            profile[body[12]] = body[14:]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">xHHB", body)
            one_scan = marker <= 0xC1
        elif marker == 0xDA:
            one_scan &= body[0] == channels
    # Inside a scan an 0xFF is always stuffed, so that this finds the starts of scans (and those of
    # embedded previews, which are few). It costs a pass over the file, so usual files are spared.
    if not one_scan and source.count(b"\xff\xda") > MOST_SCANS:
        raise BrokenImage(f"The source image has more than {MOST_SCANS} scans.")
    icc = b"".join(profile[number] for number in sorted(profile))
    return Header(Format.JPEG, width, height, orientation=turned, channels=channels, icc=icc)


def _jpeg_segments(source: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of every segment up to the first scan's. Stray bytes between are skipped."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        found = _JPEG_MARKER.search(source, at)
        if found is None or found[1] == b"\xd9":
            return
        at = found.end()
        (length,) = struct.unpack_from(">H", source, at)
        yield found[1][0], source[at + 2 : at + length]
        if found[1] == b"\xda":
            return
        at += max(length, 2)
    raise _too_many_parts()


def _too_many_parts() -> BrokenImage:
    """For files that are all structure: reading it would cost more than reading a picture."""
    return BrokenImage("The source image has far more parts than pictures have.")


def _png(source: bytes) -> Header:
    """PNG third edition, section 11. What we look for comes before the pixels."""
    width = height = 0
    frames, turned, has_alpha = 0, 1, False
    first_is_frame = True
    chunks = _png_chunks(source)
    for kind, at, length in chunks:
        if kind == b"IHDR":
            width, height, colour_type = struct.unpack_from(">IIxB", source, at)
            has_alpha = colour_type in (4, 6)
        elif kind == b"tRNS":
            has_alpha = True
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", source, at)
            first_is_frame = False
        elif kind == b"fcTL":
            first_is_frame = True
        elif kind == b"eXIf":
            turned = orientation(source[at : at + length])
        elif kind == b"IDAT":
            break
    deque(chunks, maxlen=0)  # the rest is only counted
    if not first_is_frame:
        frames += 1  # a picture for viewers that do not animate, before the animation
    return Header(Format.PNG, width, height, max(frames, 1), turned, has_alpha)


def _png_chunks(source: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length) of every chunk, as a decoder will walk through them."""
    at = 8
    for _ in range(MOST_BLOCKS):
        if at >= len(source):
            return
        length, kind = struct.unpack_from(">I4s", source, at)
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise _too_many_parts()


def _gif(source: bytes) -> Header:
    """GIF89a sections 18 to 23."""
    width, height, flags = struct.unpack_from("<HHB", source, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    frames, comments, has_alpha = 0, 0, False
    for _ in range(MOST_BLOCKS):
        found = _GIF_BLOCK.search(source, at)
        if found is None or found[0] == b"\x3b" or frames > MOST_FRAMES:
            break
        at = found.start()
        if found[0] == b"\x21":  # an extension
            if source[at + 1] == 0xF9 and source[at + 3] & 1:
                has_alpha = True
            after = _after_blocks(source, at + 2)
            comments += after - at if source[at + 1] == 0xFE else 0
            at = after
        else:
            frames += 1
            left, top, right, bottom, flags = struct.unpack_from("<HHHHB", source, at + 1)
            # As browsers and Pillow do: a frame that is larger than the screen enlarges it.
            width, height = max(width, left + right), max(height, top + bottom)
            at = _after_blocks(source, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    else:
        raise _too_many_parts()
    if comments > MOST_COMMENT:
        raise BrokenImage("The source image has far longer comments than pictures have.")
    return Header(Format.GIF, width, height, frames, has_alpha=has_alpha)


def _after_blocks(source: bytes, at: int) -> int:
    """The position after a run of sub-blocks, or the end of a file that ends within one."""
    end = len(source)
    # Sub-blocks have 255 bytes, but for the last; of shorter ones there cannot be too many.
    for _ in range(end // 32 + MOST_SEGMENTS):
        if at >= end:
            return at
        length = source[at]
        at += 1 + length
        if not length:
            return at
    raise _too_many_parts()


def _webp(source: bytes) -> Header:
    """RFC 9649 section 2; the simple formats: RFC 6386 section 9.1 and RFC 9649 section 3.4."""
    width = height = frames = 0
    turned, has_alpha = 1, False
    at = 12
    for _ in range(MOST_BLOCKS):
        if at + 8 > len(source) or frames > MOST_FRAMES:
            break
        kind, length = struct.unpack_from("<4sI", source, at)
        body = at + 8
        if kind == b"VP8X" and not width:
            flags = source[body]
            width = int.from_bytes(source[body + 4 : body + 7], "little") + 1
            height = int.from_bytes(source[body + 7 : body + 10], "little") + 1
            has_alpha = bool(flags & 0x10)
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", source, body + 6))
        elif kind == b"VP8L" and not width:
            (bits,) = struct.unpack_from("<I", source, body + 1)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            has_alpha = bool(bits >> 28 & 1)
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            block = source[body : body + length]
            turned = orientation(block.removeprefix(b"Exif\0\0"))
        at = body + length + (length & 1)
    else:
        raise _too_many_parts()
    return Header(Format.WEBP, width, height, max(frames, 1), turned, has_alpha)
