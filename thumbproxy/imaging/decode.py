"""Encoded bytes to pixels that can be resized.

Each format's package in codecs reads its own; what is stored as parts of a canvas (GIF, APNG,
animations of WebP and AVIF) is read by the code that reads animations.
Decoders are given the picture alone: what they would read besides can only cost time or be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from thumbproxy.core.errors import BadOptions, BrokenImage, ThumbproxyError
from thumbproxy.imaging.codecs.animation import Animation, Frame
from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.modes import in_channels
from thumbproxy.imaging.codecs.registry import decoder_of
from thumbproxy.imaging.codecs.still import decoded
from thumbproxy.imaging.geometry import Plan

__all__ = ["Animation", "Decoded", "Frame", "decode", "decode_frames"]


def decode(source: bytes, header: Header, plan: Plan, page: int = 1) -> Decoded:
    """The pixels of frame `page`. Raises BrokenImage for whatever a decoder dislikes, and
    MemoryError."""
    if page > header.frames:
        frames = "1 frame" if header.frames == 1 else f"{header.frames} frames"
        raise BadOptions(f"page {page} does not exist: the picture has only {frames}.")
    if header.in_parts:
        *_, frame = decode_frames(source, header, page).frames
        return decoded(frame.image, header)
    still = decoder_of(header.format).still
    if still is None:
        raise BrokenImage(log="a picture without parts, of a format that has nothing else")
    try:
        return still(source, header, plan)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error


def decode_frames(source: bytes, header: Header, most: int | None = None) -> Animation:
    """The first `most` frames, or all, of a picture that is stored in parts (header.in_parts).

    Raises BrokenImage, now or while it is iterated, for whatever a decoder dislikes, and for an
    animation that has not all of the frames that are asked for; MemoryError. At any time one
    decoded frame is in memory besides the canvas, and what disposal has to restore.
    """
    most = most or header.frames
    for _, _, right, bottom in (place.box for place in header.places[:most]):
        if right > header.width or bottom > header.height:
            raise BrokenImage(log="a frame lies outside of the canvas")
    try:
        animation = _frames(source, header, most)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error
    return Animation(_guarded(animation.frames, header), animation.loop, header.icc)


def _frames(source: bytes, header: Header, most: int) -> Animation:
    frames = decoder_of(header.format).frames
    if frames is None:
        raise BrokenImage(log=f"parts in a {header.format.name}")
    return frames(source, header, most)


def _guarded(frames: Iterator[Frame], header: Header) -> Iterator[Frame]:
    try:
        for frame in frames:
            yield Frame(in_channels(frame.image, header.channels), frame.duration)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> BrokenImage:
    # Decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error and whatever else a
    # hostile file leads them to. All of it is the file's fault.
    return BrokenImage(log=f"{type(error).__name__}: {error}")
