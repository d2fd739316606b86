"""Animations put together byte by byte, and what they look like, worked out pixel by pixel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pictures import encoded, png_chunk
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
KEEP, CLEAR, RESTORE = "keep", "clear", "restore"


@dataclass(frozen=True)
class Drawn:
    """One frame: pixels (height x width x RGBA) at a place, laid over the canvas or replacing."""

    pixels: Pixels
    at: tuple[int, int] = (0, 0)
    disposal: str = KEEP
    over: bool = True


def composed(frames: Iterable[Drawn], size: tuple[int, int]) -> list[Pixels]:
    """The canvas at each frame; what is wholly transparent is 0 in all channels."""
    canvas = np.zeros((size[1], size[0], 4))
    shown = []
    for frame in frames:
        (left, top), (height, width) = frame.at, frame.pixels.shape[:2]
        region = np.s_[top : top + height, left : left + width]
        before = canvas.copy()
        new, old = frame.pixels / 255, canvas[region]
        if frame.over:
            alpha, below = new[..., 3:], old[..., 3:] * (1 - new[..., 3:])
            whole = alpha + below
            mixed = (new[..., :3] * alpha + old[..., :3] * below) / np.where(whole, whole, 1)
            new = np.concatenate([mixed, whole], -1)
        canvas[region] = np.where(new[..., 3:] > 0, new, 0)
        shown.append(np.rint(canvas * 255).astype(np.uint8))
        if frame.disposal == CLEAR:
            canvas[region] = 0
        elif frame.disposal == RESTORE:
            canvas = before
    return shown


# GIF


@dataclass(frozen=True)
class GifFrame:
    """indices      height x width
    palette      colours of its own; none for those of the file
    transparent  the index that is not drawn
    """

    indices: Pixels
    at: tuple[int, int] = (0, 0)
    palette: Sequence[tuple[int, int, int]] = ()
    transparent: int | None = None
    disposal: int = 0
    delay: int = 10
    interlaced: bool = False
    control: bool = True

    def drawn(self, shared: Sequence[tuple[int, int, int]]) -> Drawn:
        table = np.array([(*colour, 255) for colour in self.palette or shared], np.uint8)
        if self.control and self.transparent is not None:
            table[self.transparent, 3] = 0
        disposals = {2: CLEAR, 3: RESTORE, 4: RESTORE}
        disposal = disposals.get(self.disposal, KEEP) if self.control else KEEP
        return Drawn(table[self.indices], self.at, disposal)


@dataclass(frozen=True)
class Gif:
    """loop is what the block of repetitions says; None is without it."""

    size: tuple[int, int]
    frames: Sequence[GifFrame]
    palette: Sequence[tuple[int, int, int]] = ((255, 0, 0), (0, 0, 255))
    loop: int | None = None
    name: bytes = b"NETSCAPE2.0"

    def shown(self) -> list[Pixels]:
        return composed((frame.drawn(self.palette) for frame in self.frames), self.size)

    def file(self) -> bytes:
        bits, table = _table(self.palette)
        parts = [b"GIF89a", struct.pack("<HHBBB", *self.size, 0x80 | bits, 1, 0), table]
        if self.loop is not None:
            parts.append(b"!\xff\x0b" + self.name + struct.pack("<BBHB", 3, 1, self.loop, 0))
        return b"".join(parts) + b"".join(map(_gif_frame, self.frames)) + b";"


def _gif_frame(frame: GifFrame) -> bytes:
    height, width = frame.indices.shape
    traits = frame.disposal << 2 | (frame.transparent is not None)
    key = frame.transparent or 0
    control = struct.pack("<3sBHBB", b"!\xf9\x04", traits, frame.delay, key, 0)
    bits, table = _table(frame.palette) if frame.palette else (0, b"")
    flags = (0x80 if table else 0) | 0x40 * frame.interlaced | bits
    place = struct.pack("<BHHHHB", 0x2C, *frame.at, width, height, flags)
    rows = list(range(height))
    if frame.interlaced:
        rows = [*rows[::8], *rows[4::8], *rows[2::4], *rows[1::2]]
    pixels = _lzw(frame.indices[rows].ravel().tolist())
    return (control if frame.control else b"") + place + table + pixels


def _table(colours: Sequence[tuple[int, int, int]]) -> tuple[int, bytes]:
    bits = max(1, (len(colours) - 1).bit_length()) - 1
    return bits, bytes(level for colour in colours for level in colour).ljust(6 << bits, b"\0")


def _lzw(indices: Sequence[int]) -> bytes:
    """GIF89a appendix F, without any compression: the table is cleared before codes get longer."""
    codes = []
    for number, index in enumerate(indices):
        codes += [256, index] if number % 250 == 0 else [index]
    codes.append(257)
    bits = sum(code << 9 * place for place, code in enumerate(codes))
    body = bits.to_bytes((9 * len(codes) + 7) // 8, "little")
    blocks = [body[at : at + 255] for at in range(0, len(body), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


# PNG


@dataclass(frozen=True)
class Apng:
    """delays  (numerator, denominator) of each frame
    cover   a picture that is no part of the animation
    """

    size: tuple[int, int]
    frames: Sequence[Drawn]
    delays: Sequence[tuple[int, int]]
    plays: int = 0
    mode: str = "RGBA"
    cover: Image.Image | None = None

    def file(self) -> bytes:
        number = 0
        header = struct.pack(">IIBBBBB", *self.size, 8, {"RGBA": 6, "RGB": 2}[self.mode], 0, 0, 0)
        chunks = [(b"IHDR", header), (b"acTL", struct.pack(">II", len(self.frames), self.plays))]
        if self.cover:
            chunks.append((b"IDAT", _rows(self.cover.convert(self.mode))))
        for frame, delay in zip(self.frames, self.delays, strict=True):
            picture = Image.fromarray(frame.pixels).convert(self.mode)
            disposal = {KEEP: 0, CLEAR: 1, RESTORE: 2}[frame.disposal]
            control = struct.pack(">IIHHBB", *frame.at, *delay, disposal, frame.over)
            chunks.append((b"fcTL", struct.pack(">III", number, *picture.size) + control))
            number += 1
            if number == 1 and not self.cover:
                chunks.append((b"IDAT", _rows(picture)))
            else:
                chunks.append((b"fdAT", struct.pack(">I", number) + _rows(picture)))
                number += 1
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            png_chunk(kind, body) for kind, body in [*chunks, (b"IEND", b"")]
        )


def _rows(picture: Image.Image) -> bytes:
    rows = np.asarray(picture).reshape(picture.height, -1)
    return zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())


# WebP


@dataclass(frozen=True)
class Webp:
    """`alpha` is what the header says. Places are even."""

    size: tuple[int, int]
    frames: Sequence[Drawn]
    delays: Sequence[int]
    loop: int = 0
    alpha: bool = True
    chunks: Sequence[tuple[bytes, bytes]] = field(default=())

    def file(self) -> bytes:
        wide, high = (_three(side - 1) for side in self.size)
        flags = bytes([2 | 0x10 * self.alpha, 0, 0, 0])
        body = _riff(b"VP8X", flags + wide + high)
        body += _riff(b"ANIM", struct.pack("<IH", 0xFF00FF00, self.loop))
        for frame, delay in zip(self.frames, self.delays, strict=True):
            picture = Image.fromarray(frame.pixels)
            place = b"".join(_three(edge // 2) for edge in frame.at)
            place += b"".join(_three(side - 1) for side in picture.size) + _three(delay)
            flags = bytes([(frame.disposal == CLEAR) | 2 * (not frame.over)])
            still = encoded(picture, "WEBP", lossless=True, exact=True)
            body += _riff(b"ANMF", place + flags + still[12:])
        return _riff(b"RIFF", b"WEBP" + body)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
