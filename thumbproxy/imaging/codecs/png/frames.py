"""APNG (PNG third edition, section 11.3.6) to the parts of an animation."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial

from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.alpha import has_alpha
from thumbproxy.imaging.codecs.animation import (
    HASTY,
    MOST_PLAYS,
    Animation,
    Part,
    composed,
    count,
    shown,
)
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.png.decode import pixels_of
from thumbproxy.imaging.codecs.png.header import SIGNATURE, png_chunk, png_chunks, png_tables


@dataclass(frozen=True, slots=True)
class _Frame:
    """An fcTL chunk, and what holds the pixels of its frame."""

    control: bytes
    pixels: list[memoryview]


def png_frames(source: bytes, header: Header, most: int) -> Animation:
    """The animation alone: a first picture that is no part of it is not among the frames."""
    frames: list[_Frame] = []
    loop = number = 0
    view = memoryview(source)
    for kind, at, length in png_chunks(source):
        body = view[at : at + length]
        if kind == b"fcTL" and len(frames) == most:
            break
        if kind in (b"fcTL", b"fdAT"):
            if int.from_bytes(body[:4], "big") != number:
                raise BrokenImage(log=f"chunk {number} of the animation is missing")
            number, body = number + 1, body[4:]
        if kind == b"fcTL":
            frames.append(_Frame(bytes(view[at : at + length]), []))
        elif kind == b"fdAT" or (kind == b"IDAT" and frames):
            frames[-1].pixels.append(body)
        elif kind == b"acTL" and not frames:
            loop = min(int.from_bytes(body[4:8], "big"), MOST_PLAYS)
    parts = _parts(source, header, frames)
    count(len(parts), most)
    return Animation(composed(parts, (header.width, header.height)), loop)


def _parts(source: bytes, header: Header, frames: list[_Frame]) -> list[Part]:
    tables = png_tables(source)
    (start,) = (chunk for chunk in tables if chunk.startswith(b"IHDR", 4))
    if start != png_chunk(b"IHDR", start[8:-4]):
        raise BrokenImage(log="the checksum of IHDR is wrong")
    others = [chunk for chunk in tables if chunk is not start]
    parts, elapsed = [], 0.0
    for place, frame in zip(header.places, frames, strict=False):
        delay, per_second = struct.unpack_from(">HH", frame.control, 20)
        began, elapsed = elapsed, elapsed + shown(1000 * delay / (per_second or 100))
        # Rounded so that the sum is right: 30 frames of 1/30 s take one second.
        duration = max(round(elapsed) - round(began), HASTY)
        head = [SIGNATURE, png_chunk(b"IHDR", frame.control[4:12] + start[16:-4]), *others]
        parts.append(Part(place, duration, partial(_pixels, head, frame.pixels, header)))
    return parts


def _pixels(head: list[bytes], pixels: list[memoryview], header: Header) -> Image.Image:
    """A frame, decoded as the still PNG that its chunks make."""
    chunks = (png_chunk(b"IDAT", b"".join(pixels)), png_chunk(b"IEND", b""))
    image = pixels_of(b"".join((*head, *chunks)), header)
    return image.convert("RGBA" if has_alpha(image) else "RGB")
