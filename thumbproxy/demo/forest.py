"""A forest in morning mist: rows of conifers, each paler than the one before it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from thumbproxy.demo.canvas import Canvas, Plane, blend, mask_of, rgb, smoothstep

_MIST, _NEEDLES = rgb("d8e3d8"), rgb("0b211f")
_LAYERS = 7


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=23)
    canvas.gradient([(0, "b5cdd0"), (0.25, "e9eddd"), (0.5, "f4ecd0"), (1, "dfe6d8")])
    canvas.mix(rgb("fff3cf"), canvas.glow((0.3, 0.16), 0.42) * 0.9)
    for layer in range(_LAYERS):
        near = layer / (_LAYERS - 1)
        base = 0.4 + 0.62 * near**1.2
        mask = _trees(canvas, base, near)
        canvas.mix(blend(_MIST, _NEEDLES, 0.16 + 0.84 * near**1.15), mask)
        _mist(canvas, base, near)
        if layer == _LAYERS - 4:
            _rays(canvas)
    return canvas.image()


def _trees(canvas: Canvas, base: float, near: float) -> Plane:
    """A row of trees that stand on the line `base`, as a mask."""
    rng = canvas.rng
    image = Image.new("L", (canvas.width * 2, canvas.height * 2))
    pencil = ImageDraw.Draw(image)
    tall = (0.13 + 0.36 * near**1.1) * canvas.height * 2
    count = round(3.6 * canvas.width / canvas.height / (0.03 + 0.1 * near))
    ground = base * canvas.height * 2
    waves = np.linspace(0, 1, 201)[:, np.newaxis] * (5, 11) + rng.uniform(0, 6, 2)
    hill = ground + tall * (np.sin(waves) @ (0.16, 0.07))
    places = (np.arange(count) + rng.normal(0, 0.42, count)) / (count - 1)
    for place in places:
        size = tall * float(np.clip(rng.normal(0.72, 0.25), 0.25, 1.3))
        foot = (float(place) * canvas.width * 2, float(hill[int(place * 200) % 201]))
        _conifer(pencil, foot, size, rng)
    line = zip(np.linspace(0, canvas.width * 2, 201), hill - 0.05 * tall, strict=True)
    below = canvas.height * 4
    pencil.polygon([(0, below), *line, (canvas.width * 2, below)], fill=255)
    return mask_of(image.reduce(2))


def _conifer(
    pencil: ImageDraw.ImageDraw,
    foot: tuple[float, float],
    size: float,
    rng: np.random.Generator,
) -> None:
    """Whorls of drooping branches around a stem; the outline of each side is one zigzag."""
    x, y = foot
    whorls = 44
    spread = size * float(rng.uniform(0.15, 0.21))
    for side in (-1, 1):
        outline = [(x, y - size)]
        for whorl in range(1, whorls + 1):
            part = whorl / whorls
            reach = spread * part**0.8 * float(rng.uniform(0.5, 1.1))
            level = y - size * (1 - part)
            outline.append((x + side * reach, level + reach * 0.2))
            outline.append((x + side * reach * float(rng.uniform(0.3, 0.6)), level))
        outline += [(x + side * spread * 0.2, y + size * 0.1), (x, y + size * 0.1)]
        pencil.polygon(outline, fill=255)
    pencil.rectangle((x - size * 0.008, y - size * 0.5, x + size * 0.008, y + size), fill=255)


def _mist(canvas: Canvas, base: float, near: float) -> None:
    """Fog that lies between this row and the next, thinner towards us."""
    drift = 0.5 + 0.22 * canvas.noise((5, 2), 4, 0.5, reduce=8)
    lying = smoothstep(base - 0.14, base + 0.12, canvas.y)
    canvas.mix(blend(_MIST, rgb("f3ead0"), 0.5), lying * drift * np.float32(0.95 - 0.72 * near))


def _rays(canvas: Canvas) -> None:
    """Shafts of light from the upper left."""
    aspect = canvas.width / canvas.height
    dx, dy = (canvas.x - 0.3) * aspect, canvas.y + 0.1
    angle = np.arctan2(dx, dy)
    levels = canvas.rng.normal(size=60)
    shafts = np.interp(angle, np.linspace(-1.3, 1.3, levels.size), levels).astype(np.float32)
    fade = np.exp(-np.square(np.hypot(dx, dy) / 0.8))
    canvas.mix(rgb("fff4d0"), smoothstep(0.1, 1.9, shafts) * fade * np.float32(0.75))
