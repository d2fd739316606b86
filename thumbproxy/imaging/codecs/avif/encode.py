"""Pixels to AVIF: docs/encoders.md tells what was chosen and why."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence

from PIL import Image

from thumbproxy.core.formats import Encoding
from thumbproxy.imaging.codecs.modes import coloured
from thumbproxy.imaging.codecs.plugins import saved, saved_all

with contextlib.suppress(ImportError):
    # Registers AVIF with a Pillow that has none of its own (Pillow-SIMD).
    import pillow_avif  # noqa: F401

GROWTH = (2.8, 4, 5.9, 8.6, 13, 20, 28, 38, 52, 77, 108, 216)
_CONTAINERS = (b"moov", b"trak", b"edts", b"mdia")


def encode_avif(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    sampling = "400" if image.mode == "L" else encoding.subsampling_avif
    return saved(
        image,
        "AVIF",
        quality=quality,
        speed=encoding.speed_avif,
        subsampling=":".join(sampling),
        max_threads=1,  # the machine's cores belong to the other renders
    )


def animate_avif(
    frames: Sequence[Image.Image],
    durations: Sequence[int],
    loop: int,
    quality: int,
    encoding: Encoding,
    *,
    lossless: bool,
) -> bytes:
    """See base.AnimationWriter."""
    file = saved_all(
        [coloured(frame) for frame in frames],
        "AVIF",
        duration=list(durations),
        quality=quality,
        speed=encoding.speed_avif,
        subsampling=":".join(encoding.subsampling_avif),
        max_threads=1,
    )
    return _played(file, loop, sum(durations))


# What the AVIF encoder is given no way to say (ISO 14496-12, sections 8.2.2, 8.3.2, 8.6.6)


def _played(avif: bytes, loop: int, duration: int) -> bytes:
    """`avif`, played `loop` times; it was written to be played for ever. Times are ms, as Pillow
    has them. The time of its making is removed, so that the same frames make the same bytes."""
    file = bytearray(avif)
    whole = struct.pack(">Q", duration * loop)
    for kind, at in _time_boxes(avif, 0, len(avif)):
        if kind == b"elst" and loop == 1:
            file[at + 3] &= 0xFE  # no repetition
        if kind in (b"mvhd", b"tkhd", b"mdhd") and file[at] == 1:
            file[at + 4 : at + 20] = bytes(16)
        if loop and kind in (b"mvhd", b"tkhd") and file[at] == 1:
            place = at + (24 if kind == b"mvhd" else 28)
            file[place : place + 8] = whole
    return bytes(file)


def _time_boxes(file: bytes, at: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(type, position of the body) of all boxes that tell about time."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", file, at)
        yield kind, at + 8
        if kind in _CONTAINERS:
            yield from _time_boxes(file, at + 8, at + size)
        if size < 8:  # to the end of the file, or longer than 4 GB
            return
        at += size
