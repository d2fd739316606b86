"""The header of a JPEG, and which of its segments a decoder needs."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from thumbproxy.core.errors import BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.header import (
    MOST_PROFILE,
    MOST_SCANS,
    MOST_SEGMENTS,
    Header,
    too_many_parts,
)
from thumbproxy.imaging.exif import upright

# What begins a segment. Fill bytes, stuffed bytes and the markers without a body (TEM, RSTn, SOI)
# are passed over at the speed of the search, however many there are.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_START_OF_SCAN, _END = 0xDA, 0xD9
# Baseline, extended and progressive, with Huffman or arithmetic coding. The other kinds of frame
# are lossless or hierarchical, which no browser shows either.
_SHOWN = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
# Huffman-coded and not progressive. Of an arithmetic-coded one that ends early, the decoder makes
# a whole picture without a word: zeros are as good as any data to it.
_SEQUENTIAL = {0xC0, 0xC1}
# A few bits can stand for many arithmetic decisions: a scan takes six times as long as one of
# Huffman's. jpegtran writes 10 of them.
_ARITHMETIC, _MOST_ARITHMETIC_SCANS = {0xC9, 0xCA}, 16
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
# The tables, the frame, and what says how its channels are coded (JFIF and Adobe).
_NEEDED = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xE0, 0xEE}


def read_jpeg(source: bytes) -> Header:
    """ISO 10918-1 annex B; the APP2 segments of a profile: ICC.1:2022 annex B.4."""
    width = height = channels = 0
    blocks: list[bytes] = []
    xmp = b""
    profile: dict[int, bytes] = {}
    one_scan, scan, told, most_scans = False, len(source), 0, MOST_SCANS
    for marker, start, end in _segments(source):
        if marker == 0xE1 and source.startswith(b"Exif\0\0", start):
            blocks.append(source[start + 6 : end])
        elif marker == 0xE1 and not xmp and source.startswith(_XMP, start):
            xmp = source[start + len(_XMP) : end]
        elif marker == 0xE2 and source.startswith(b"ICC_PROFILE\0", start):
            number, told = source[start + 12], source[start + 13]
            profile[number] = source[start + 14 : end]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, channels = struct.unpack_from(">BHHB", source, start)
            _refuse_rare(marker, precision, channels)
            one_scan = marker in _SEQUENTIAL
            if marker in _ARITHMETIC:
                most_scans = _MOST_ARITHMETIC_SCANS
        elif marker == _START_OF_SCAN:
            one_scan &= source[start] == channels
            scan = end
    if not one_scan:
        _refuse_many_scans(source, scan, most_scans)
    turned = upright(blocks, xmp)
    icc = _whole(profile, told)
    return Header(
        Format.JPEG, width, height, orientation=turned, channels=channels, icc=icc,
        scan=scan if one_scan else 0, exif=next(iter(blocks), b""),
    )  # fmt: skip


def _whole(profile: dict[int, bytes], told: int) -> bytes:
    """The profile, if all of its parts are there, as browsers demand."""
    if sorted(profile) != list(range(1, told + 1)):
        return b""
    icc = b"".join(profile[number] for number in range(1, told + 1))
    return icc if len(icc) <= MOST_PROFILE else b""


def _refuse_rare(marker: int, precision: int, channels: int) -> None:
    if marker not in _SHOWN:
        raise UnsupportedImage("The source image is a lossless or hierarchical JPEG.")
    if precision != 8:
        raise UnsupportedImage(f"The source image is a JPEG of {precision} bits per sample, not 8.")
    if channels not in (1, 3, 4):
        raise UnsupportedImage(f"The source image is a JPEG of {channels} channels.")


def _refuse_many_scans(source: bytes, start: int, most: int) -> None:
    """`start` is where the data of the first scan begins."""
    # Inside a scan an 0xFF is always stuffed, so that this finds all starts of scans at the speed
    # of a search. It also finds what looks like one in previews and videos after the picture, so
    # that only a file with many is walked through.
    if source.count(b"\xff\xda", start) < most:
        return
    scans = 1
    for marker, _, _ in _segments(source, start, through_scans=True):
        scans += marker == _START_OF_SCAN
        if scans > most:
            raise BrokenImage(f"The source image has more than {most} scans.")


def _segments(
    source: bytes, at: int = 2, *, through_scans: bool = False
) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the body of every segment up to the first scan's, or to the end.

    Stray bytes between segments are skipped.
    """
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(source, at)
        if found is None or found[1][0] == _END:
            return
        at = found.end()
        (length,) = struct.unpack_from(">H", source, at)
        length = max(length, 2)
        yield found[1][0], at + 2, at + length
        if found[1][0] == _START_OF_SCAN and not through_scans:
            return
        at += length
    raise too_many_parts()


def essential_jpeg(source: bytes) -> bytes:
    """The JPEG without metadata, previews, and stray bytes between its segments.

    For a decoder that would read more of it than the picture.
    """
    parts = [b"\xff\xd8"]
    after = 2
    for marker, start, end in _segments(source):
        after = end
        if marker in _NEEDED:
            parts.append(source[start - 4 : end])
    parts.append(source[after:])
    return b"".join(parts)
