"""Pixels to WebP: docs/encoders.md tells what was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from thumbproxy.core.formats import Encoding
from thumbproxy.imaging.codecs.modes import coloured
from thumbproxy.imaging.codecs.plugins import saved, saved_all

GROWTH = (5, 8.2, 11, 13.5, 16, 19, 21, 24, 31, 52, 78, 146)
# How hard libwebp tries when nothing may be lost; the method is the setting.
_LOSSLESS_EFFORT = 75
# More is half as fast for 4 to 6 % fewer bytes, and in an animation it is paid for each frame.
_LOSSLESS_METHOD = 2
# A time has 24 bits.
_LONGEST = 2**24 - 1


def encode_webp(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    return saved(image, "WEBP", quality=quality, method=encoding.effort_webp)


def encode_webp_exactly(image: Image.Image, encoding: Encoding) -> bytes:
    return saved(
        image,
        "WEBP",
        lossless=True,
        exact=True,  # else colours under alpha 0 would be changed
        quality=_LOSSLESS_EFFORT,
        method=encoding.effort_webp,
    )


def animate_webp(
    frames: Sequence[Image.Image],
    durations: Sequence[int],
    loop: int,
    quality: int,
    encoding: Encoding,
    *,
    lossless: bool,
) -> bytes:
    """See base.AnimationWriter. The colours of pixels that are wholly transparent stay, too."""
    effort = encoding.effort_webp
    exactly: dict[str, object] = {"lossless": True, "exact": True} if lossless else {}
    frames = [coloured(frame) for frame in frames]
    # No key frames but the first: each would repeat what stands still, which made a file 2.6 times
    # as large, and nobody winds forward in these.
    file = saved_all(
        frames,
        "WEBP",
        duration=[min(duration, _LONGEST) for duration in durations],
        loop=loop,
        quality=_LOSSLESS_EFFORT if lossless else quality,
        method=min(effort, _LOSSLESS_METHOD) if lossless else effort,
        kmin=0,
        kmax=0,
        **exactly,
    )
    if frames[0].mode == "RGBA" and file.startswith(b"VP8X", 12):
        # The encoder cuts what is empty off the frames, and forgets that the canvas shows through.
        return file[:20] + bytes([file[20] | 0x10]) + file[21:]
    return file
