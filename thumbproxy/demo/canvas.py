"""A picture as planes of light, and the noise that makes it look grown rather than drawn.

Coordinates run from 0 to 1, left to right and top to bottom, so that scenes are drawn the same
at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Plane = npt.NDArray[np.float32]
Values = npt.NDArray[np.floating[Any]]  # where the precision does not matter
Color = tuple[float, float, float]

_ALL_ROWS = slice(None)


def rgb(code: str) -> Color:
    """`rgb("ff8800")` as three numbers 0..1."""
    red, green, blue = bytes.fromhex(code)
    return red / 255, green / 255, blue / 255


def blend(start: Color, end: Color, part: float) -> Color:
    """`start` where part is 0, `end` where it is 1."""
    red, green, blue = ((a + (b - a) * part) for a, b in zip(start, end, strict=True))
    return red, green, blue


def smoothstep(low: float, high: float, value: Values) -> Plane:
    """0 below `low`, 1 above `high`, without a corner between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def resized(plane: Plane, width: int, height: int) -> Plane:
    """The plane at another size, bicubic."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def blurred(plane: Plane, factor: int) -> Plane:
    """The plane without detail smaller than about `factor` px."""
    height, width = plane.shape
    small = Image.fromarray(np.ascontiguousarray(plane)).reduce(factor)
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


def mask_of(image: Image.Image) -> Plane:
    """A drawing in mode L as a plane 0..1."""
    return np.asarray(np.array(image, np.float32) / 255, np.float32)


class Canvas:
    """Three planes of light, 0..1, and a source of chance that is the same in every run."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.width = width
        self.height = height
        self.rng = np.random.default_rng(seed)
        self.planes: Plane = np.zeros((3, height, width), np.float32)
        self.x: Plane = np.linspace(0, 1, width, dtype=np.float32)[np.newaxis, :]
        self.y: Plane = np.linspace(0, 1, height, dtype=np.float32)[:, np.newaxis]

    def gradient(self, stops: Sequence[tuple[float, str]]) -> None:
        """Fill from top to bottom; stops are (y, colour code) in rising order."""
        places = [place for place, _ in stops]
        for plane, levels in zip(
            self.planes, zip(*(rgb(code) for _, code in stops), strict=True), strict=True
        ):
            plane[:] = np.interp(self.y, places, levels)

    def mix(self, color: Color, mask: Plane | float, rows: slice = _ALL_ROWS) -> None:
        """Lay a colour over the picture where mask is 1, partly where it is less."""
        for plane, level in zip(self.planes, color, strict=True):
            part = plane[rows]
            part += (np.float32(level) - part) * mask

    def add(self, color: Color, light: Plane, rows: slice = _ALL_ROWS) -> None:
        """Add light."""
        for plane, level in zip(self.planes, color, strict=True):
            plane[rows] += np.float32(level) * light

    def multiply(self, shade: Plane, rows: slice = _ALL_ROWS) -> None:
        """Darken (below 1) or brighten."""
        for plane in self.planes:
            plane[rows] *= shade

    def glow(self, center: tuple[float, float], radius: float) -> Plane:
        """Light that fades from `center`; radius is a part of the picture's height."""
        aspect = self.width / self.height
        across = np.exp(-np.square((self.x - center[0]) * aspect / radius))
        down = np.exp(-np.square((self.y - center[1]) / radius))
        return np.asarray(across * down, np.float32)

    def noise(
        self, cells: tuple[float, float], octaves: int = 5, gain: float = 0.5, reduce: int = 2
    ) -> Plane:
        """Fractal noise over the whole picture, mean 0 and deviation 1.

        cells   bumps down and across in the coarsest octave; each octave doubles them
        reduce  1/reduce of the resolution is enough detail
        """
        height, width = -(-self.height // reduce), -(-self.width // reduce)
        plane = fractal(self.rng, (height, width), cells, octaves, gain)
        return plane if reduce == 1 else resized(plane, self.width, self.height)

    def profile(self, cells: float, octaves: int = 9, gain: float = 0.5) -> Plane:
        """A craggy line, one number per column, mean 0 and deviation 1."""
        line = np.zeros(self.width, np.float32)
        weight = 1.0
        for octave in range(octaves):
            points = int(cells * 2**octave) + 2
            if points > self.width:
                break
            levels = self.rng.normal(size=points)
            places = np.linspace(0, 1, points)
            line += np.float32(weight) * np.interp(self.x[0], places, levels).astype(np.float32)
            weight *= gain
        return normal(line)

    def image(self, grain: float = 0.008) -> Image.Image:
        """The picture in 8 bits, with film grain, which also hides the steps of gradients."""
        film = self.rng.standard_normal((self.height, self.width), np.float32)
        film *= np.float32(grain * 255)
        film += np.float32(0.5)
        bands = []
        for plane in self.planes:
            level = plane * np.float32(255)
            level += film
            np.clip(level, 0, 255, out=level)
            bands.append(Image.fromarray(level.astype(np.uint8)))
        return Image.merge("RGB", bands)


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: tuple[float, float],
    octaves: int,
    gain: float,
) -> Plane:
    """Fractal noise of `shape` (rows, columns), mean 0 and deviation 1."""
    total = np.zeros(shape, np.float32)
    weight = np.float32(1)
    for octave in range(octaves):
        rows, columns = (int(count * 2**octave) + 2 for count in cells)
        if rows > shape[0] or columns > shape[1]:
            break
        grid = rng.standard_normal((rows, columns), np.float32)
        total += weight * resized(grid, shape[1], shape[0])
        weight *= np.float32(gain)
    return normal(total)


def tile(rng: np.random.Generator, side: int, slope: float) -> Plane:
    """A square of noise that repeats without a seam, mean 0 and deviation 1.

    slope  how fast strength falls with frequency: 1 is rough, 3 is smooth
    """
    frequency = np.hypot(np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side))
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency**slope
    spectrum[0, 0] = 0
    return normal(np.fft.irfft2(spectrum, (side, side)).astype(np.float32))


def sample(tile: Plane, across: Values, down: Values) -> Plane:
    """The tile's values at any places, bilinear; 1 is one side of the tile, and it repeats."""
    side = tile.shape[0]
    x, y = across * np.float32(side), down * np.float32(side)
    left, top = np.floor(x), np.floor(y)
    x -= left
    y -= top
    columns, rows = left.astype(np.int32) % side, top.astype(np.int32) % side
    flat = tile.ravel()
    below, right = (rows + 1) % side, (columns + 1) % side
    upper = flat[rows * side + columns] * (1 - x) + flat[rows * side + right] * x
    lower = flat[below * side + columns] * (1 - x) + flat[below * side + right] * x
    return np.asarray(upper * (1 - y) + lower * y, np.float32)


def normal(values: Plane) -> Plane:
    """Shifted and scaled to mean 0 and deviation 1."""
    deviation = float(values.std()) or 1.0
    return np.asarray((values - values.mean()) / np.float32(deviation), np.float32)
