"""The input of a step of the pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from thumbproxy.core.formats import Format
from thumbproxy.imaging.boxes import Box
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.scratch import Memory
from thumbproxy.imaging.watermark import Watermark
from thumbproxy.urls.options import Options

Colour = tuple[int, int, int, int]


class Level(NamedTuple):
    """Pixels to resize from: the picture as it was decoded, or a smaller copy of it.

    image  L, LA, RGB, RGBX, RGBA or CMYK, in the sensor's orientation
    box    the region of the unscaled sensor's picture that `image` shows, in fractions of a pixel
    icc    its colour profile; empty for none
    memory the pixels of `image`, row after row and a row more, if they are there to be shared
    """

    image: Image.Image
    box: Box
    icc: bytes = b""
    memory: Memory | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of `image` for one of the sensor's picture, across and down."""
        return self.image.width / self.box.width, self.image.height / self.box.height

    def within(self, region: Box) -> Level:
        """The part of it that lies in `region`, in whole pixels: of shared memory, if there is."""
        if region.holds(self.box):
            return self
        across, down = self.scale
        near = 1e-6  # of a pixel: what is whole need not be so as a float
        left = max(0, math.floor((region.left - self.box.left) * across + near))
        top = max(0, math.floor((region.top - self.box.top) * down + near))
        right = min(self.image.width, math.ceil((region.right - self.box.left) * across - near))
        bottom = min(self.image.height, math.ceil((region.bottom - self.box.top) * down - near))
        if (left, top, right, bottom) == (0, 0, *self.image.size):
            return self
        box = Box(left / across, top / down, right / across, bottom / down)
        part = self._part(left, top, right, bottom)
        return Level(part, box.moved(self.box.left, self.box.top), self.icc)

    def _part(self, left: int, top: int, right: int, bottom: int) -> Image.Image:
        if self.memory is None:
            return self.image.crop((left, top, right, bottom))
        mode = self.image.mode
        row = self.image.width * len(mode)
        start = self.memory[top * row + left * len(mode) :]
        size = (right - left, bottom - top)
        return Image.frombuffer(mode, size, start, "raw", mode, row, 1)


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make."""

    level: Level
    plan: Plan
    options: Options
    format: Format
    watermarks: Mapping[str, Watermark] = field(default_factory=dict)

    @property
    def background(self) -> Colour | None:
        """The colour of `bg`, 0 to 255 each; opaque, over white, for a format without alpha."""
        if self.options.background is None:
            return None
        red, green, blue, alpha = bytes.fromhex(self.options.background.ljust(8, "f"))
        if self.format.has_alpha:
            return red, green, blue, alpha
        shine = 255 - alpha
        return (
            (red * alpha + 255 * shine) // 255,
            (green * alpha + 255 * shine) // 255,
            (blue * alpha + 255 * shine) // 255,
            255,
        )
