"""The sea before sunset, with a path of light from the sun to us."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thumbproxy.demo.canvas import (  # fmt: skip
    Canvas,
    Plane,
    resized,
    rgb,
    sample,
    smoothstep,
    tile,
)

_HORIZON = 0.47
_SUN = (0.36, 0.415)


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=37)
    canvas.gradient(
        [(0, "2f6f93"), (0.16, "6fa6b8"), (0.3, "cfcfb8"), (0.4, "fbd79c"), (_HORIZON, "ffbf7d"),
         (_HORIZON, "d59a78"), (0.56, "5f8690"), (0.75, "2b5c70"), (1, "123244")]
    )  # fmt: skip
    _sky(canvas)
    _water(canvas)
    haze = np.exp(-np.square((canvas.y - _HORIZON) / 0.012)) * np.ones_like(canvas.x)
    canvas.mix(rgb("ffd5a1"), haze * 0.55)
    return canvas.image()


def _sky(canvas: Canvas) -> None:
    rows = slice(0, int(_HORIZON * canvas.height))
    # Clouds lie in a plane above us, so they shrink towards the horizon as the waves do.
    depth = 1 / (_HORIZON + 0.06 - canvas.y[rows][::2])
    across = (canvas.x[:, ::2] - 0.5) * depth
    cloud = tile(canvas.rng, 1024, 1.55)
    cover = sample(cloud, across * 0.06 + 0.3, depth * np.float32(0.11) + 0 * across)
    cover += 0.35 * sample(cloud, across * 0.31, depth * np.float32(0.45) + 0 * across)
    cover = resized(cover, canvas.width, canvas.y[rows].shape[0])
    near_sun = canvas.glow(_SUN, 0.5)[rows]
    canvas.mix(rgb("f7e3c8"), smoothstep(0.1, 1.7, cover) * 0.85, rows)
    canvas.mix(rgb("8f7f8c"), smoothstep(0.75, 2.3, cover) * (1 - near_sun) * 0.7, rows)
    canvas.mix(rgb("ffcf8f"), near_sun * 0.62, rows)
    canvas.mix(rgb("fff1cd"), canvas.glow(_SUN, 0.12)[rows] * 0.85, rows)
    distance = np.hypot((canvas.x - _SUN[0]) * canvas.width / canvas.height, canvas.y - _SUN[1])
    canvas.mix(rgb("fffdf2"), np.clip((0.031 - distance[rows]) * canvas.height / 4, 0, 1), rows)


def _water(canvas: Canvas) -> None:
    rows = slice(int(_HORIZON * canvas.height), None)
    y = canvas.y[rows]
    slope = _waves(canvas, y)
    near = (y - _HORIZON) / (1 - _HORIZON)
    # Crests mirror the bright sky low down, troughs the dark sky above us.
    canvas.mix(rgb("f2c79a"), smoothstep(0.3, 2.6, slope) * (0.5 - 0.25 * near), rows)
    canvas.mix(rgb("0d2b3c"), smoothstep(0.1, 2.4, -slope) * (0.35 + 0.4 * near), rows)
    width = 0.028 + 0.12 * near
    path = np.exp(-np.square((canvas.x - _SUN[0]) * canvas.width / canvas.height / width / 1.5))
    facing = smoothstep(0.2, 1.5, slope + 1.5 * path - 0.55 - 0.3 * near)
    canvas.mix(rgb("ffdf9e"), path * facing * (1 - 0.25 * near), rows)
    canvas.mix(rgb("fff6dc"), path * smoothstep(1.5, 2.6, slope + 0.9 * path), rows)


def _waves(canvas: Canvas, y: Plane) -> Plane:
    """How far the water tilts towards the sky, deviation about 1; half the resolution will do."""
    depth = 1 / (y[::2] - _HORIZON + 0.004)
    across = (canvas.x[:, ::2] - 0.5) * depth
    along = depth + 0 * across
    swell, chop = tile(canvas.rng, 1024, 1.5), tile(canvas.rng, 1024, 1.05)
    waves = 0.55 * sample(swell, across * 0.03, along * np.float32(0.11))
    waves += 0.55 * sample(chop, across * 0.075 + 0.2, along * np.float32(0.3))
    waves += 0.6 * sample(chop, across * 0.24, along * np.float32(0.8) + 0.5)
    # Far away many waves share a pixel: let them fade before they turn into noise.
    waves *= np.clip(9 / depth + 0.25, 0, 1)
    return resized(waves, canvas.width, y.shape[0])
