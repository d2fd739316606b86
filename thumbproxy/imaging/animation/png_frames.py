"""APNG (PNG third edition, section 11.3.6) to the parts of an animation."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.animation.parts import (
    HASTY,
    MOST_PLAYS,
    Animation,
    Disposal,
    Part,
    composed,
    count,
    opened,
    shown,
)
from thumbproxy.imaging.headers import Header

_DISPOSALS = {1: Disposal.CLEAR, 2: Disposal.RESTORE}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class _Frame:
    """What an fcTL chunk says, and the chunks that hold its pixels, all without their numbers."""

    control: bytes
    pixels: list[memoryview]


def read_png(source: bytes, header: Header) -> Animation:
    """The animation alone: a first picture that is no part of it is not among the frames."""
    kept: dict[bytes, bytes] = {}
    frames: list[_Frame] = []
    loop = 0
    for kind, body in _in_sequence(_chunks(source)):
        if kind == b"fcTL":
            frames.append(_Frame(bytes(body), []))
        elif kind == b"fdAT" or (kind == b"IDAT" and frames):
            frames[-1].pixels.append(body)
        elif kind == b"acTL":
            loop = min(int.from_bytes(body[4:8], "big"), MOST_PLAYS)
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            kept[kind] = bytes(body)
    count(len(frames) + header.cover, header)
    parts = _parts(frames, kept)
    if any(part.box[2] > header.width or part.box[3] > header.height for part in parts):
        raise BrokenImage(log="a frame lies outside of the canvas")
    return Animation(composed(parts, (header.width, header.height)), loop, header.icc)


def _chunks(source: bytes) -> Iterator[tuple[bytes, memoryview]]:
    at, view = 8, memoryview(source)
    while at < len(source):
        length, kind = struct.unpack_from(">I4s", source, at)
        end = at + 12 + length
        if end > len(source):
            raise BrokenImage(log=f"chunk {kind!r} is cut short")
        yield kind, view[at + 8 : end - 4]
        if kind == b"IEND":
            return
        at = end


def _in_sequence(
    chunks: Iterator[tuple[bytes, memoryview]],
) -> Iterator[tuple[bytes, memoryview]]:
    """The same without the numbers of the animation's chunks."""
    number = 0
    for kind, body in chunks:
        numbered = kind in (b"fcTL", b"fdAT")
        if numbered and int.from_bytes(body[:4], "big") != number:
            raise BrokenImage(log=f"chunk {number} of the animation is missing")
        number += numbered
        yield kind, body[4:] if numbered else body


def _parts(frames: list[_Frame], kept: dict[bytes, bytes]) -> list[Part]:
    opaque = kept[b"IHDR"][9] in (0, 2, 3) and b"tRNS" not in kept
    parts, elapsed = [], 0.0
    for frame in frames:
        width, height, left, top, delay, per_second, disposal, over = struct.unpack(
            ">4IHHBB", frame.control
        )
        started, elapsed = elapsed, elapsed + shown(1000 * delay / (per_second or 100))
        parts.append(
            Part(
                box=(left, top, left + width, top + height),
                # Rounded so that the sum is right: 30 frames of 1/30 s take one second.
                duration=max(round(elapsed) - round(started), HASTY),
                disposal=_DISPOSALS.get(disposal, Disposal.KEEP),
                over=over == 1,
                opaque=opaque,
                decode=partial(_pixels, frame, kept),
            )
        )
    return parts


def _pixels(frame: _Frame, kept: dict[bytes, bytes]) -> Image.Image:
    """A part, decoded as the still PNG that its chunks make."""
    chunks = [(b"IHDR", frame.control[:8] + kept[b"IHDR"][8:])]
    chunks += [(kind, kept[kind]) for kind in (b"PLTE", b"tRNS") if kind in kept]
    chunks += [(b"IDAT", b"".join(frame.pixels)), (b"IEND", b"")]
    still = b"".join(
        struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    image = opened(_SIGNATURE + still, "PNG")
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    clear = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    return image.convert("RGBA" if clear else "RGB")
