"""Pictures to one encoded animation, always in memory and without metadata."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image

from thumbproxy.errors import BadOptions
from thumbproxy.imaging.animation.gif_writer import write_gif
from thumbproxy.imaging.animation.parts import MOST_PLAYS
from thumbproxy.imaging.encode import LOSSLESS, LOSSLESS_EFFORT
from thumbproxy.media import Encoding, Format

# Times in WebP are added up to a signed number of 32 bits, and one of them has 24.
_MOST_ELAPSED, _LONGEST = 2**31 - 1, 2**24 - 1
# More is half as fast for 4 to 6 % fewer bytes, and here it is paid for each frame.
_LOSSLESS_METHOD = 2
_CONTAINERS = (b"moov", b"trak", b"edts", b"mdia")


def encode_animation(
    frames: Sequence[Image.Image],
    durations: Sequence[int],
    loop: int,
    format: Format,
    quality: int,
    encoding: Encoding,
    *,
    lossless: bool = False,
) -> bytes:
    """`frames` (L, LA, RGB, RGBX or RGBA; sRGB; all of one size; at least one) as one file.

    durations  for how many ms each frame is shown, 11 or more: see parts.shown
    loop       how many times it is played, 0 for ever; a file can say 65535 at most
    format     one of media.ANIMATED that encode.available() has
    quality    1 to 100; GIF has none
    lossless   every pixel as it is, in WebP. GIF ignores it; AVIF raises BadOptions

    At every instant the file shows the frame of that instant. Equal frames one after the other
    may become one that lasts longer. GIF rounds times to 1/100 s and shows nothing for less than
    two of them, so there frames of less than 15 ms can be left out.
    """
    if lossless and format not in LOSSLESS and format is not Format.GIF:
        raise BadOptions(f"{format.extension} cannot be lossless; webp can.")
    longest = min(_LONGEST, _MOST_ELAPSED // len(frames))
    durations = [min(duration, longest) for duration in durations]
    loop = min(loop, MOST_PLAYS)
    if format is Format.GIF:
        return write_gif(frames, durations, loop)
    plain = [_plain(frame) for frame in frames]
    if format is Format.AVIF:
        return _avif(plain, durations, loop, quality, encoding)
    if lossless:
        quick = replace(encoding, effort_webp=min(encoding.effort_webp, _LOSSLESS_METHOD))
        return _webp(plain, durations, loop, LOSSLESS_EFFORT, quick, lossless=True, exact=True)
    return _webp(plain, durations, loop, quality, encoding)


def _plain(image: Image.Image) -> Image.Image:
    """RGB or RGBA, without what an encoder would write besides pixels."""
    if image.mode in ("RGB", "RGBA") and not image.info:
        return image
    plain = image.convert("RGBA" if "A" in image.mode else "RGB")
    plain.info = {}
    return plain


def _webp(
    frames: list[Image.Image],
    durations: list[int],
    loop: int,
    quality: int,
    encoding: Encoding,
    **parameters: object,
) -> bytes:
    # No key frames but the first: each would repeat what stands still, which made a file 2.6 times
    # as large, and nobody winds forward in these.
    file = _saved(
        frames,
        "WEBP",
        duration=durations,
        loop=loop,
        quality=quality,
        method=encoding.effort_webp,
        kmin=0,
        kmax=0,
        **parameters,
    )
    if frames[0].mode == "RGBA" and file.startswith(b"VP8X", 12):
        # The encoder cuts what is empty off the frames, and forgets that the canvas shows through.
        return file[:20] + bytes([file[20] | 0x10]) + file[21:]
    return file


def _avif(
    frames: list[Image.Image], durations: list[int], loop: int, quality: int, encoding: Encoding
) -> bytes:
    file = _saved(
        frames,
        "AVIF",
        duration=durations,
        quality=quality,
        speed=encoding.speed_avif,
        subsampling=":".join(encoding.subsampling_avif),
        max_threads=1,  # the machine's cores belong to the other renders
    )
    return _played(file, loop, sum(durations))


def _saved(frames: list[Image.Image], name: str, **parameters: object) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, name, save_all=True, append_images=frames[1:], **parameters)
    return buffer.getvalue()


# What the AVIF encoder is given no way to say (ISO 14496-12, sections 8.2.2, 8.3.2, 8.6.6)


def _played(avif: bytes, loop: int, duration: int) -> bytes:
    """`avif`, played `loop` times; it was written to be played for ever. Times are ms, as Pillow
    has them. The time of its making is removed, so that the same frames make the same bytes."""
    file = bytearray(avif)
    whole = struct.pack(">Q", duration * loop)
    for kind, at in _boxes(avif, 0, len(avif)):
        if kind == b"elst" and loop == 1:
            file[at + 3] &= 0xFE  # no repetition
        if kind in (b"mvhd", b"tkhd", b"mdhd") and file[at] == 1:
            file[at + 4 : at + 20] = bytes(16)
        if loop and kind in (b"mvhd", b"tkhd") and file[at] == 1:
            place = at + (24 if kind == b"mvhd" else 28)
            file[place : place + 8] = whole
    return bytes(file)


def _boxes(file: bytes, at: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(type, position of the body) of all boxes that tell about time."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", file, at)
        yield kind, at + 8
        if kind in _CONTAINERS:
            yield from _boxes(file, at + 8, at + size)
        if size < 8:  # to the end of the file, or longer than 4 GB
            return
        at += size
