"""Animations to whole pictures, one after the other, as browsers show them.

GIF and APNG are put together by parts.py, WebP by libwebp.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from PIL import Image

from thumbproxy.errors import BrokenImage, ThumbproxyError
from thumbproxy.imaging.animation.gif_frames import read_gif
from thumbproxy.imaging.animation.parts import Animation, Frame, count, shown
from thumbproxy.imaging.animation.png_frames import read_png
from thumbproxy.imaging.headers import Header
from thumbproxy.imaging.png import in_channels
from thumbproxy.media import Format

__all__ = ["Animation", "Frame", "decode_frames"]


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
        animation = _READERS[header.format](source, header, most)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error
    return Animation(_guarded(animation.frames, header), animation.loop, header.icc)


def _guarded(frames: Iterator[Frame], header: Header) -> Iterator[Frame]:
    try:
        for frame in frames:
            yield Frame(in_channels(frame.image, header.channels), frame.duration)
    except (ThumbproxyError, MemoryError):
        raise
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> BrokenImage:
    # Whatever a hostile file leads a decoder to is the file's fault; see decode.decode.
    return BrokenImage(log=f"{type(error).__name__}: {error}")


def _webp(source: bytes, header: Header, most: int) -> Animation:
    if header.has_alpha:
        # Without the flag the decoder would make black of what browsers leave transparent.
        source = source[:20] + bytes([source[20] | 0x10]) + source[21:]
    image = Image.open(io.BytesIO(source), formats=("WEBP",))
    count(getattr(image, "n_frames", 1), header.frames)
    if image.size != (header.width, header.height):
        raise BrokenImage(log=f"libwebp reads {image.size}, the header says otherwise")
    return Animation(_webp_frames(image, most), image.info["loop"])


def _webp_frames(image: Image.Image, most: int) -> Iterator[Frame]:
    for number in range(most):
        image.seek(number)
        image.load()
        whole = image.copy()
        whole.info = {}
        yield Frame(whole, round(shown(image.info["duration"])))


_READERS: dict[Format, Callable[[bytes, Header, int], Animation]] = {
    Format.GIF: read_gif,
    Format.PNG: read_png,
    Format.WEBP: _webp,
}
