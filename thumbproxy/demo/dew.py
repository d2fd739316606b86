"""Dew on a blade of grass, close up, with the morning out of focus behind it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from thumbproxy.demo.canvas import Canvas, Plane, mask_of, rgb, smoothstep

_LIGHTS = tuple(rgb(code) for code in ("fff1b8", "ffd27a", "d6f08a", "9fe0a0", "ffe9d0", "8fd6c4"))


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=67)
    canvas.gradient([(0, "5d8f4a"), (0.35, "3c7448"), (0.7, "1d4c3c"), (1, "0d2c2a")])
    canvas.mix(rgb("f1e08c"), canvas.glow((0.76, 0.1), 0.6) * 0.75)
    canvas.mix(rgb("0c2a2a"), canvas.glow((0.1, 0.95), 0.6) * 0.7)
    canvas.mix(rgb("86b659"), smoothstep(0.2, 2.4, canvas.noise((2.5, 4), 2, 0.5, reduce=8)) * 0.5)
    _bokeh(canvas)
    behind = canvas.planes[:, :: max(1, height // 500), :: max(1, height // 500)].copy()
    for curve in _BLADES:
        _blade(canvas, curve)
    for along, size, side in _DROPS:
        _drop(canvas, _BLADES[-1].at(along), size, side, behind)
    return canvas.image(0.009)


class _Curve:
    """A blade: a bow through three points, and how wide it is in its middle."""

    def __init__(self, points: tuple[tuple[float, float], ...], wide: float, blur: int) -> None:
        self.points = points
        self.wide = wide
        self.blur = blur

    def at(self, t: float) -> tuple[float, float]:
        (ax, ay), (bx, by), (cx, cy) = self.points
        u = 1 - t
        return (
            u * u * ax + 2 * u * t * bx + t * t * cx,
            u * u * ay + 2 * u * t * by + t * t * cy,
        )


_BLADES = (
    _Curve(((-0.05, 0.7), (0.35, 0.5), (0.62, 1.08)), 0.05, 12),
    _Curve(((1.05, 0.35), (0.8, 0.62), (0.7, 1.1)), 0.06, 8),
    _Curve(((-0.04, 0.97), (0.42, 0.12), (1.06, 0.52)), 0.03, 1),
)
# place along the blade, radius as a part of the height, above (-1) or below (1) the blade
_DROPS = (
    (0.2, 0.022, -1), (0.27, 0.012, -1), (0.335, 0.034, -1), (0.4, 0.014, 1), (0.47, 0.064, 1),
    (0.53, 0.018, -1), (0.585, 0.028, -1), (0.64, 0.011, -1), (0.69, 0.043, 1), (0.745, 0.016, -1),
    (0.8, 0.024, -1), (0.86, 0.013, 1), (0.91, 0.019, -1),
)  # fmt: skip


def _bokeh(canvas: Canvas) -> None:
    """Points of light out of focus: discs, a little brighter at the rim."""
    rng = canvas.rng
    aspect = canvas.width / canvas.height
    for _ in range(70):
        radius = float(rng.uniform(0.018, 0.085))
        x, y = float(rng.beta(2.2, 1.4)), float(rng.beta(1.2, 2.2))
        window = _window(canvas, (x, y), radius * 1.15)
        dx = (canvas.x[:, window[1]] - x) * aspect
        distance = np.hypot(dx, canvas.y[window[0]] - y) / radius
        disc = smoothstep(0.0, 0.05, 1 - distance) * (0.72 + 0.28 * distance**4)
        light = float(rng.uniform(0.06, 0.42)) * (0.5 + 0.7 * x) * (1.1 - y)
        color = _LIGHTS[int(rng.integers(len(_LIGHTS)))]
        for plane, level in zip(canvas.planes, color, strict=True):
            part = plane[window]
            part += (1 - part) * disc * np.float32(light * level)


def _window(canvas: Canvas, center: tuple[float, float], radius: float) -> tuple[slice, slice]:
    """The rows and columns of a square around `center`; radius is a part of the height."""
    reach = radius * canvas.height
    x, y = center[0] * canvas.width, center[1] * canvas.height
    rows = slice(max(0, int(y - reach)), max(0, min(canvas.height, int(y + reach) + 1)))
    columns = slice(max(0, int(x - reach)), max(0, min(canvas.width, int(x + reach) + 1)))
    return rows, columns


def _blade(canvas: Canvas, curve: _Curve) -> None:
    """A leaf with a lit upper edge and a dark lower one."""
    lit = _ribbon(canvas, curve, -1.0, 1.0)
    canvas.mix(rgb("2f7a35"), lit)
    canvas.mix(rgb("a8d65a"), _ribbon(canvas, curve, -1.0, -0.1) * lit * 0.75)
    canvas.mix(rgb("16452a"), _ribbon(canvas, curve, 0.45, 1.0) * lit * 0.8)
    if curve.blur == 1:
        canvas.mix(rgb("e4f5a6"), _ribbon(canvas, curve, -0.16, -0.06) * 0.8)


def _ribbon(canvas: Canvas, curve: _Curve, low: float, high: float) -> Plane:
    """The part of a blade between two lines along it; -1 is its upper edge, 1 its lower."""
    steps = np.linspace(0, 1, 160)
    points = np.array([curve.at(float(t)) for t in steps]) * (canvas.width * 2, canvas.height * 2)
    ahead = np.gradient(points, axis=0)
    normals = np.stack([-ahead[:, 1], ahead[:, 0]], 1) / np.hypot(*ahead.T)[:, np.newaxis]
    across = normals * (curve.wide * canvas.height * (1.25 - 0.9 * steps)[:, np.newaxis])
    outline = np.concatenate([points + across * low, (points + across * high)[::-1]])
    image = Image.new("L", (canvas.width * 2, canvas.height * 2))
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    small = image.reduce(2)
    if curve.blur > 1:  # far from the plane of focus
        soft = ImageFilter.GaussianBlur(3)
        small = small.reduce(curve.blur).filter(soft)
        small = small.resize((canvas.width, canvas.height), Image.Resampling.BICUBIC)
    return mask_of(small)


def _drop(canvas: Canvas, on: tuple[float, float], size: float, side: int, behind: Plane) -> None:
    """A drop is a lens: it shows what is behind it upside down, bent towards its rim."""
    aspect = canvas.width / canvas.height
    x, y = on[0], on[1] + side * size * 0.75
    window = _window(canvas, (x, y), size * 1.1)
    dx = (canvas.x[:, window[1]] - x) * aspect / size
    dy = (canvas.y[window[0]] - y) / size
    square = dx * dx + dy * dy
    inside = np.clip((1 - np.sqrt(square)) * size * canvas.height, 0, 1)
    bulge = 1 / np.sqrt(np.clip(1.12 - square, 0.08, None))
    rows, columns = behind.shape[1:]
    across = np.clip((x - dx * bulge * 0.16) * columns, 0, columns - 1).astype(np.int32)
    down = np.clip((y - dy * bulge * 0.3) * rows, 0, rows - 1).astype(np.int32)
    rim = smoothstep(0.55, 1.0, square) * 0.62
    shine = np.exp(-((dx + 0.36) ** 2 + (dy + 0.42) ** 2) / 0.018)
    caustic = np.exp(-((dx - 0.25) ** 2 + (dy - 0.5) ** 2) / 0.14) * 0.5
    for plane, seen in zip(canvas.planes, behind, strict=True):
        level = seen[down, across] * 1.12 * (1 - rim)
        level += (1 - level) * np.clip(shine * 0.96 + caustic, 0, 1)
        part = plane[window]
        part += (level - part) * inside
