"""The colours of a GIF's frames: 255, for one entry of a table is kept for transparency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image, ImageChops

_MOST = 255
# As many pixels as tell enough about a scene: four times as many give 0.1 dB more.
_SAMPLES = 32_768
_FEWEST = 64
# Errors in levels of a channel, root of the mean square. Below the first, dithering does more harm
# than good; above the second, a frame gets colours of its own.
_GOOD, _FAR = 1.0, 3.6
# To fit a table takes up to 25 ms. So many are enough for every slide of a show.
_MOST_FITTED = 100

Colours = frozenset[tuple[int, ...]]
Pixels = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Palette:
    """A table of up to 255 colours, 3 bytes each.

    exact   these colours, when they are all that a picture has; else empty
    enough  the error up to which it is used
    """

    colours: bytes
    exact: Colours = frozenset()
    enough: float = _FAR

    @property
    def clear(self) -> int:
        """The index that stands for no pixel."""
        return len(self.colours) // 3

    @property
    def bits(self) -> int:
        """The size of the table as GIF writes it: it has 2 << bits entries."""
        return max(1, self.clear.bit_length()) - 1

    @property
    def table(self) -> bytes:
        return self.colours.ljust(6 << self.bits, b"\0")

    def nearest(self, pixels: Image.Image, drawn: Image.Image) -> tuple[Image.Image, float]:
        """`pixels` (RGB) as indices (L), and the error of those that are drawn."""
        indexed = pixels.quantize(palette=self._image, dither=Image.Dither.NONE)
        difference = ImageChops.difference(indexed.convert("RGB"), pixels)
        counts = np.array(difference.histogram(drawn))
        squares = np.tile(np.arange(256) ** 2, 3)
        return _plain(indexed), float(np.sqrt(counts @ squares / max(counts.sum(), 1)))

    def dithered(self, pixels: Image.Image) -> Image.Image:
        """`pixels` (RGB) as indices (L), by Floyd's and Steinberg's method."""
        return _plain(pixels.quantize(palette=self._image))

    def same(self, pixels: Image.Image) -> Image.Image:
        """`pixels` (RGB) as indices (L), if all of their colours are in `exact`."""
        # Pillow finds the nearest colour only up to two bits of each channel.
        known = _packed(np.frombuffer(self.colours, np.uint8).reshape(-1, 3))
        indices = np.searchsorted(known, _packed(np.asarray(pixels)))
        return Image.fromarray(indices.astype(np.uint8))

    @cached_property
    def _image(self) -> Image.Image:
        image = Image.new("P", (1, 1))
        image.putpalette(self.colours)
        return image


def shared_palette(pictures: Iterable[tuple[Image.Image, Image.Image]], count: int) -> Palette:
    """The best table for all of `count` pictures: (RGB, L that is 255 where a pixel counts)."""
    colours: Colours | None = frozenset()
    samples = []
    for pixels, opaque in pictures:
        if colours is not None:
            found = _colours(pixels, opaque)
            colours = None if found is None or len(colours | found) > _MOST else colours | found
        samples.append(_sample(pixels, opaque, _SAMPLES // count))
    if colours is not None:
        return _exact(colours or frozenset([(0, 0, 0)]))
    return _fitted(np.concatenate(samples))


class Palettes:
    """The tables of one animation, chosen frame by frame."""

    def __init__(self, shared: Palette) -> None:
        self.shared = shared
        self._known: tuple[Palette, ...] = (shared,)
        self._left = _MOST_FITTED

    def choose(self, pixels: Image.Image, drawn: Image.Image) -> tuple[Palette, Image.Image]:
        """A table that is good enough for those of the pixels (RGB) that are drawn (L, 255), and
        the pixels as its indices (L)."""
        palette, indices = self._exact(pixels, drawn) or self._close(pixels, drawn)
        self._known = (self.shared, palette)
        return palette, indices

    def _exact(self, pixels: Image.Image, drawn: Image.Image) -> tuple[Palette, Image.Image] | None:
        colours = _colours(pixels, drawn)
        if colours is None:
            return None
        for palette in self._known:
            if colours <= palette.exact:
                return palette, palette.same(pixels)
        if 8 * len(colours) > pixels.width * pixels.height:
            return None  # a small part of a photo
        # A drawing: dots would be seen in its even areas.
        palette = _exact(colours)
        return palette, palette.same(pixels)

    def _close(self, pixels: Image.Image, drawn: Image.Image) -> tuple[Palette, Image.Image]:
        tried = []
        for palette in dict.fromkeys(self._known):
            indices, error = palette.nearest(pixels, drawn)
            tried.append((error, palette, indices))
            if error <= palette.enough:
                break
        else:
            if self._left:
                self._left -= 1
                palette = _fitted(_sample(pixels, drawn, _SAMPLES // 4))
                indices, error = palette.nearest(pixels, drawn)
                # Where it cannot be better, neither can one for the next frame that is like it.
                palette = replace(palette, enough=max(_FAR, 1.25 * error))
                tried.append((error, palette, indices))
        error, palette, indices = min(tried, key=lambda one: one[0])
        return palette, palette.dithered(pixels) if error > _GOOD else indices


def _exact(colours: Colours) -> Palette:
    return Palette(bytes(level for colour in sorted(colours) for level in colour), colours)


def _fitted(samples: Pixels) -> Palette:
    image = Image.fromarray(samples.reshape(1, -1, 3))
    # Without the second pass (k-means) the colours are some 2 dB farther from the picture's.
    fitted = image.quantize(_MOST, Image.Quantize.MEDIANCUT, kmeans=2)
    return Palette(bytes(fitted.getpalette() or ())[: 3 * _MOST])


def _sample(pixels: Image.Image, opaque: Image.Image, wanted: int) -> Pixels:
    """Some `wanted` of the pixels that count, evenly spread, as rows of three."""
    width, height = pixels.size
    wanted = max(wanted, _FEWEST)
    step = max(1.0, (width * height / wanted) ** 0.5)
    size = max(1, round(width / step)), max(1, round(height / step))
    nearest = Image.Resampling.NEAREST
    counting = np.asarray(opaque.resize(size, nearest)) > 0
    if not counting.any():  # they lie between those that were looked at
        counted = np.asarray(pixels)[np.asarray(opaque) > 0]
        return counted[:: max(1, len(counted) // wanted)]
    return np.asarray(pixels.resize(size, nearest))[counting]


def _colours(pixels: Image.Image, opaque: Image.Image) -> Colours | None:
    """The colours of the pixels that count, if they are not more than a table holds."""
    counted = Image.merge("RGBA", (*pixels.split(), opaque)).getcolors(_MOST + 1)
    if counted is None:
        return None
    colours = frozenset(colour[:3] for _, colour in counted if colour[3])  # type: ignore[index]
    return colours if len(colours) <= _MOST else None


def _packed(pixels: Pixels) -> Pixels:
    """Three levels as one number, in the order of the levels."""
    red, green, blue = (pixels[..., band].astype(np.uint32) for band in range(3))
    return red << 16 | green << 8 | blue


def _plain(indexed: Image.Image) -> Image.Image:
    return Image.frombytes("L", indexed.size, indexed.tobytes())
