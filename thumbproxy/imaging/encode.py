"""Encodes pixels, always in memory and without metadata.

What is chosen by each format's package in codecs, and what it costs: docs/encoders.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PIL import Image

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.imaging.codecs.animation import MOST_PLAYS
from thumbproxy.imaging.codecs.modes import plainest
from thumbproxy.imaging.codecs.registry import encoder_of, written
from thumbproxy.imaging.fitting import fit

__all__ = ["encode", "encode_animation", "written"]

_DEFAULT = Encoding()
# Times of an animation are added up to a signed number of 32 bits.
_MOST_ELAPSED = 2**31 - 1


def check_lossless(format: Format) -> None:
    """Raises BadOptions for formats that cannot keep every pixel. GIF does what it can."""
    if not format.lossless and format is not Format.GIF:
        able = " and ".join(one.extension for one in Format if one.lossless)
        raise BadOptions(f"{format.extension} cannot be lossless; {able} can.")


def encode(
    image: Image.Image,
    format: Format,
    quality: int | None = None,
    *,
    encoding: Encoding = _DEFAULT,
    lossless: bool = False,
    most_bytes: int | None = None,
    closely: bool = True,
) -> bytes:
    """`image` (L, LA, RGB, RGBX or RGBA; sRGB) as a file.

    A JPEG takes L, RGB and RGBX only: alpha must have been flattened.

    quality     1 to 100; None is the format's default in `encoding`. PNG and GIF have none
    lossless    every pixel as it is, for formats that can, also the colours of pixels that
                are wholly transparent. GIF ignores it; JPEG and AVIF raise BadOptions
    most_bytes  the quality is lowered until the file has no more bytes: see imaging.fitting.fit.
                A file without a quality (PNG, GIF, lossless) is made as small as it gets anyway,
                and may be larger
    closely     False: of the qualities that fit, any near the highest will do
    """
    if lossless:
        check_lossless(format)
    encoder = encoder_of(format)
    picture = plainest(image) if format.has_alpha else image
    if encoder.exact and (lossless or not encoder.lossy):
        return encoder.exact(picture, encoding)
    if not encoder.lossy:
        raise KeyError(format)
    write = partial(encoder.lossy, picture, encoding)
    quality = quality or encoding.quality(format) or 1
    return (
        write(quality)
        if most_bytes is None
        else fit(write, encoder.growth, quality, most_bytes, closely=closely)
    )


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

    durations  for how many ms each frame is shown, 11 or more: see animation.shown
    loop       how many times it is played, 0 for ever; a file can say 65535 at most
    format     one that can be animated, of written()
    quality    1 to 100; GIF has none
    lossless   every pixel as it is, in WebP. GIF ignores it; AVIF raises BadOptions

    At every instant the file shows the frame of that instant. Equal frames one after the other
    may become one that lasts longer. GIF rounds times to 1/100 s and shows nothing for less than
    two of them, so there frames of less than 15 ms can be left out.
    """
    if lossless:
        check_lossless(format)
    animate = encoder_of(format).animation
    if animate is None:
        raise KeyError(format)
    longest = _MOST_ELAPSED // len(frames)
    durations = [min(duration, longest) for duration in durations]
    return animate(frames, durations, min(loop, MOST_PLAYS), quality, encoding, lossless=lossless)
