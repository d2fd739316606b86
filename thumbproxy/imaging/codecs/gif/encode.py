"""Pixels to GIF: docs/encoders.md tells what was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from thumbproxy.core.formats import Encoding
from thumbproxy.imaging.codecs.gif.writer import write_gif
from thumbproxy.imaging.codecs.indexed import close, exact, is_drawing
from thumbproxy.imaging.codecs.plugins import saved

_HALF = 128  # of an alpha channel


def encode_gif(image: Image.Image, encoding: Encoding) -> bytes:
    """As exactly as 256 colours can show it."""
    if image.mode not in ("LA", "RGBA"):
        return saved(_palette(image.convert("RGB"), 256), "GIF", interlace=0)
    # GIF knows no half-transparency: what is more than half there is shown on white.
    clear = image.getchannel("A").point(lambda value: 255 * (value < _HALF))
    picture = Image.new("RGBA", image.size, "white")
    picture.alpha_composite(image.convert("RGBA"))
    opaque = picture.convert("RGB")
    opaque.paste((255, 255, 255), mask=clear)
    made = _palette(opaque, 255)
    colours = made.getpalette() or []
    transparent = len(colours) // 3
    made.putpalette([*colours, 255, 255, 255])
    made.paste(transparent, mask=clear)
    return saved(made, "GIF", transparency=transparent, interlace=0)


def _palette(image: Image.Image, most: int) -> Image.Image:
    """`image` (RGB) with at most `most` colours; exact if it has no more."""
    return exact(image, most) or close(image, most, is_drawing(image))


def animate_gif(
    frames: Sequence[Image.Image],
    durations: Sequence[int],
    loop: int,
    quality: int,
    encoding: Encoding,
    *,
    lossless: bool,
) -> bytes:
    """See base.AnimationWriter. Times are rounded to 1/100 s, and nothing is shown for less than
    two of them, so frames of less than 15 ms can be left out."""
    return write_gif(frames, durations, loop)
