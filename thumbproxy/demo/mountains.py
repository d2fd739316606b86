"""Mountains at dusk: ridge behind ridge, each paler than the one before it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thumbproxy.demo.canvas import Canvas, blend, rgb, smoothstep

_HAZE, _DUSK, _ROCK = rgb("eaa48b"), rgb("6a4678"), rgb("0e1029")
_LAYERS = 7


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=11)
    canvas.gradient(
        [(0, "10163a"), (0.18, "2a2a63"), (0.36, "6d4786"), (0.48, "c4677f"), (0.57, "f39a6b"),
         (0.64, "ffd296"), (1, "ffd296")]
    )  # fmt: skip
    _stars(canvas)
    _clouds(canvas)
    canvas.mix(rgb("ffb877"), canvas.glow((0.66, 0.58), 0.36) * 0.55)
    canvas.mix(rgb("ffe3a6"), canvas.glow((0.66, 0.575), 0.12) * 0.8)
    _sun(canvas)
    for layer in range(_LAYERS):
        _ridge(canvas, layer / (_LAYERS - 1))
    return canvas.image()


def _stars(canvas: Canvas) -> None:
    count = 900
    rows = (canvas.rng.random(count) ** 1.6 * 0.4 * canvas.height).astype(int)
    columns = (canvas.rng.random(count) * (canvas.width - 2)).astype(int) + 1
    rows = np.maximum(rows, 1)
    light = 1.25 * canvas.rng.random(count) ** 4 * (1 - rows / (0.42 * canvas.height))
    halo = ((0, 1), (1, 0), (0, -1), (-1, 0))  # a star is a little wider than a pixel
    for plane in canvas.planes:
        np.add.at(plane, (rows, columns), light)
        for down, across in halo:
            np.add.at(plane, (rows + down, columns + across), light * 0.6)


def _clouds(canvas: Canvas) -> None:
    veil = smoothstep(0.2, 2.6, canvas.noise((10, 2.6), 7, 0.62, reduce=2))
    height = np.exp(-np.square((canvas.y - 0.4) / 0.13))
    canvas.mix(rgb("ff9d84"), veil * height * 0.75)
    streaks = smoothstep(0.6, 2.2, canvas.noise((26, 2), 6, 0.6, reduce=2))
    canvas.mix(rgb("ffd9a8"), streaks * np.exp(-np.square((canvas.y - 0.5) / 0.07)) * 0.7)


def _sun(canvas: Canvas) -> None:
    aspect = canvas.width / canvas.height
    distance = np.hypot((canvas.x - 0.66) * aspect, canvas.y - 0.575)
    canvas.mix(rgb("fffaea"), np.clip((0.036 - distance) * canvas.height / 3, 0, 1))


def _ridge(canvas: Canvas, near: float) -> None:
    """One layer; near is 0 for the farthest, 1 for the one at our feet."""
    base = 0.565 + 0.36 * near**1.25
    swell = 0.03 + 0.045 * near
    line = base - swell * canvas.profile(1.6 + 2.2 * (1 - near), 10, 0.47)
    top = max(0, int((line.min() - 0.01) * canvas.height))
    rows = slice(top, None)
    depth = canvas.y[rows] - line[np.newaxis, :]
    mask = np.clip(depth * canvas.height, 0, 1)
    color = blend(_HAZE, _DUSK, 0.25 + near * 1.7) if near < 0.44 else _DUSK
    color = blend(color, _ROCK, max(0.0, near - 0.3) / 0.7)
    canvas.mix(color, mask, rows)
    # Mist lies in the valleys between one ridge and the next.
    low = smoothstep(base - 0.04, base + 0.15, canvas.y[rows])
    mist = low * np.float32(0.8 * (1 - near) ** 0.6)
    canvas.mix(blend(_HAZE, rgb("a8688f"), near), mist * mask, rows)
