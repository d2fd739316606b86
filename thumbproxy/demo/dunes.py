"""Desert dunes in low light: a landscape of heights, seen in perspective."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from thumbproxy.demo.canvas import Canvas, Plane, resized, rgb, sample, smoothstep, tile

_HORIZON = 0.33  # where level ground would end, as a part of the picture's height
_EYE = 1.9  # height of the eye
_NEAR, _FAR, _STEPS = 0.7, 90.0, 1000
_FIELD = 1.25  # width of the view at distance 1


class _Land:
    """Heights of the ground, by place."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._bend = tile(rng, 512, 2.4)
        self._rise = tile(rng, 512, 2.0)

    def height(self, x: Plane, z: Plane) -> Plane:
        """Rows of dunes that rise slowly with the wind and fall steeply behind the crest."""
        bend = sample(self._bend, x * 0.012 + 0.1, z * 0.012)
        phase = x * 0.11 + z * 0.035 + bend * 0.5 + 0.35
        part = phase - np.floor(phase)
        windward, lee = part / 0.68, (1 - part) / 0.32
        slope = np.where(part < 0.68, windward * windward * (1.7 - 0.7 * windward), lee**1.35)
        rise = 0.75 + 0.3 * sample(self._rise, x * 0.014, z * 0.014 + 0.4)
        return np.asarray(slope * np.clip(rise, 0.1, 1.5) * 1.3, np.float32)


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=41)
    canvas.gradient([(0, "5f9cc4"), (0.16, "a9cbd2"), (0.3, "f3dfc0"), (0.4, "fbdcae")])
    canvas.mix(rgb("fff0d0"), canvas.glow((0.0, 0.26), 0.4) * 0.8)
    land = _Land(canvas.rng)
    # Half the columns: the eye does not see it in sand, and it is twice as fast.
    columns = canvas.x[:, ::2]
    z = np.geomspace(_NEAR, _FAR, _STEPS, dtype=np.float32)[:, np.newaxis]
    x = (columns - 0.5) * z * _FIELD
    depth = z + 0 * x
    ground = land.height(x, depth)
    step = _visible_steps(ground, z, canvas)
    light = _light(land, x, depth, ground)
    shade = resized(_along(light, step), width, height)
    far = resized(np.interp(step, np.arange(_STEPS), z[:, 0]).astype(np.float32), width, height)
    sand = resized((step < _STEPS - 1.5).astype(np.float32), width, height)
    _paint(canvas, shade, far, np.clip(sand, 0, 1))
    return canvas.image(0.011)


def _visible_steps(ground: Plane, z: Plane, canvas: Canvas) -> Plane:
    """For each pixel how many steps away the ground is that one sees there; fractions count."""
    rows = _HORIZON + (_EYE - ground) / z * np.float32(0.62)
    skyline = np.minimum.accumulate(rows, axis=0)
    steps: npt.NDArray[np.float64] = np.arange(_STEPS, dtype=np.float64)[::-1]
    found = [
        np.interp(canvas.y[:, 0], column[::-1], steps, left=_STEPS, right=0) for column in skyline.T
    ]
    return np.asarray(found, np.float32).T


def _light(land: _Land, x: Plane, z: Plane, ground: Plane) -> Plane:
    """Sunlight on the ground, 0..1; the sun stands low at the left."""
    little = np.float32(0.02)
    slope_x = (land.height(x + little, z) - ground) / little
    slope_z = (land.height(x, z + little) - ground) / little
    facing = (-slope_x * 0.7 - slope_z * -0.55 + 0.2) / np.sqrt(1 + slope_x**2 + slope_z**2)
    return smoothstep(-0.28, 0.5, facing)


def _along(values: Plane, step: Plane) -> Plane:
    """values[step, column] for steps with fractions."""
    low = np.clip(step.astype(np.int32), 0, _STEPS - 2)
    part = np.clip(step - low, 0, 1)
    columns = np.arange(values.shape[1])
    return np.asarray(values[low, columns] * (1 - part) + values[low + 1, columns] * part)


def _paint(canvas: Canvas, shade: Plane, far: Plane, sand: Plane) -> None:
    across = (canvas.x - 0.5) * far * _FIELD
    warp = sample(tile(canvas.rng, 512, 1.9), across * 0.11, far * 0.11)
    ripples = np.sin((across * 0.35 + far + warp * 0.22) * 62) * np.exp(-np.square(far / 4.2))
    shade = np.clip(shade + ripples * (0.06 + 0.1 * shade) + 0.05 * warp, 0, 1)
    canvas.mix(rgb("4c2b36"), sand)
    canvas.mix(rgb("c9733f"), sand * smoothstep(0.0, 0.55, shade))
    canvas.mix(rgb("ffd39a"), sand * smoothstep(0.35, 1.05, shade))
    haze = 1 - np.exp(-far / 30)
    canvas.mix(rgb("f6d8b4"), sand * haze)
