"""Watermarks: configured images that are drawn on renditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from thumbproxy.core.errors import SourceError
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.alpha import has_alpha
from thumbproxy.imaging.boxes import Box
from thumbproxy.imaging.colour import to_srgb
from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.orientation import upright
from thumbproxy.urls.options import Options


@dataclass(frozen=True, slots=True)
class Watermark:
    """A picture to put on others.

    picture   RGBA, sRGB, upright, its opacity worked in
    position  where it stands, in fractions from the left and the top of the room there is
    scale     its width as a fraction of the rendition's
    margin    px to the rendition's edges, times dpr
    """

    picture: Image.Image
    position: tuple[float, float]
    scale: float
    margin: int

    def box(self, width: int, height: int, dpr: float) -> Box:
        """Where it goes on a rendition of that size, px: wholly inside, its ratio kept."""
        margin = min(round(self.margin * dpr), (min(width, height) - 1) // 2)
        room = width - 2 * margin, height - 2 * margin
        scale = min(
            width * self.scale / self.picture.width,
            room[0] / self.picture.width,
            room[1] / self.picture.height,
        )
        size = (
            max(1, round(self.picture.width * scale)),
            max(1, round(self.picture.height * scale)),
        )
        left = margin + round((room[0] - size[0]) * self.position[0])
        top = margin + round((room[1] - size[1]) * self.position[1])
        return Box(left, top, left + size[0], top + size[1])


def load_watermark(
    path: str, *, position: tuple[float, float], opacity: float, scale: float, margin: int
) -> Watermark:
    """Read a watermark's picture. Raises OSError, or ValueError with what is wrong with it."""
    source = Path(path).read_bytes()
    limits = Limits()
    try:
        header = read_header(source, limits)
        decoded = decode(source, header, plan(header.info, Options(), limits))
    except SourceError as error:
        raise ValueError(error.reason) from None
    picture = upright(to_srgb(decoded.image, decoded.icc), header.orientation)
    # By way of RGB, or the fourth byte of RGBX would be taken for alpha.
    picture = (picture if has_alpha(picture) else picture.convert("RGB")).convert("RGBA")
    decoded.release()
    if opacity < 1:
        faded = picture.getchannel("A").point(lambda value: round(value * opacity))
        picture.putalpha(faded)
    return Watermark(picture, position, scale, margin)
