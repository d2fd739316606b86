"""Animations to whole pictures, one after the other, as browsers show them.

GIF and APNG are put together by parts.py, WebP by libwebp.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator

from PIL import Image

from thumbproxy.errors import BrokenImage, ThumbproxyError
from thumbproxy.imaging.animation.gif_frames import read_gif
from thumbproxy.imaging.animation.parts import Animation, Frame, count, shown
from thumbproxy.imaging.animation.png_frames import read_png
from thumbproxy.imaging.headers import Header
from thumbproxy.media import Format

__all__ = ["Animation", "Frame", "decode_frames"]


def decode_frames(source: bytes, header: Header) -> Animation:
    """The frames of a GIF, WebP or PNG that has several (header.frames).

    Raises BrokenImage, now or while it is iterated, for whatever a decoder dislikes, and for an
    animation that has not all of the frames that its header counts; MemoryError. At any time one
    decoded frame is in memory besides the canvas, and what disposal has to restore.
    """
    try:
        animation = _READERS[header.format](source, header)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error
    return Animation(_guarded(animation.frames), animation.loop, animation.icc)


def _guarded(frames: Iterator[Frame]) -> Iterator[Frame]:
    try:
        yield from frames
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> BrokenImage:
    # Whatever a hostile file leads a decoder to is the file's fault; see decode.decode.
    return BrokenImage(log=f"{type(error).__name__}: {error}")


def _webp(source: bytes, header: Header) -> Animation:
    if _webp_shows_through(source):
        # Without the flag the decoder would make black of what browsers leave transparent.
        source = source[:20] + bytes([source[20] | 0x10]) + source[21:]
    image = Image.open(io.BytesIO(source), formats=("WEBP",))
    count(getattr(image, "n_frames", 1), header)
    if image.size != (header.width, header.height):
        raise BrokenImage(log=f"libwebp reads {image.size}, the header says otherwise")
    return Animation(_webp_frames(image, header.frames), image.info["loop"], header.icc)


def _webp_frames(image: Image.Image, count: int) -> Iterator[Frame]:
    for number in range(count):
        image.seek(number)
        image.load()
        whole = image.copy()
        whole.info = {}
        yield Frame(whole, round(shown(image.info["duration"])))


def _webp_shows_through(source: bytes) -> bool:
    """Whether a part of the canvas is ever empty, if all frames are opaque."""
    at, canvas, bare = 12, b"", True
    while at + 8 <= len(source):
        kind, length = struct.unpack_from("<4sI", source, at)
        if kind == b"VP8X":
            canvas = source[at + 12 : at + 18]
        elif kind == b"ANMF":
            # Six bytes of position and six of size, then the duration, then the flags.
            if bare and source[at + 8 : at + 20] != bytes(6) + canvas:
                return True
            bare = bool(source[at + 23] & 1)  # disposal: what it has drawn is removed again
        at += 8 + length + (length & 1)
    return False


_READERS: dict[Format, Callable[[bytes, Header], Animation]] = {
    Format.GIF: read_gif,
    Format.PNG: read_png,
    Format.WEBP: _webp,
}
