"""A city at night, and its lights on the water."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thumbproxy.demo.canvas import Canvas, Color, blend, blurred, resized, rgb, smoothstep

_SHORE = 0.66
_LAMPS = tuple(rgb(code) for code in ("ffd08a", "ffe6bd", "ffb765", "dfeaff", "ffdca6"))


def draw(width: int, height: int) -> Image.Image:
    canvas = Canvas(width, height, seed=53)
    canvas.gradient(
        [(0, "0a1230"), (0.25, "18275a"), (0.38, "544a8c"), (0.48, "b9698c"), (0.58, "f4a27a"),
         (1, "f2a079")]
    )  # fmt: skip
    veil = smoothstep(0.2, 2.4, canvas.noise((9, 2.5), 6, 0.6))
    canvas.mix(rgb("e08a90"), veil * np.exp(-np.square((canvas.y - 0.42) / 0.14)) * 0.5)
    for depth in range(4):
        _row(canvas, depth / 3)
    _shore(canvas)
    _bloom(canvas)
    _mirror(canvas)
    return canvas.image()


def _row(canvas: Canvas, near: float) -> None:
    """A row of towers from the left to the right edge."""
    rng = canvas.rng
    unit = canvas.height / 1700  # windows are of one size at every resolution, as far as may be
    wall = blend(rgb("7a5f92"), rgb("0b0f24"), 0.08 + 0.92 * near**0.8)
    left = -rng.uniform(0, 60) * unit
    while left < canvas.width:
        wide = rng.uniform(70, 190) * unit * (0.8 + 0.35 * near)
        centre = np.exp(-(((left / canvas.width - 0.57) / 0.24) ** 2))
        tall = rng.uniform(0.09, 0.2) + (0.3 - 0.16 * near) * centre * rng.uniform(0.35, 1.15)
        _tower(canvas, (int(left), int(left + wide)), tall * (1.12 - 0.42 * near), wall, near)
        left += wide * rng.uniform(0.86, 1.5 - 0.3 * near)


def _tower(
    canvas: Canvas,
    columns: tuple[int, int],
    tall: float,
    wall: Color,
    near: float,
) -> None:
    """A tower on the shore; some stand back in their upper floors, some have a mast."""
    rng = canvas.rng
    lamp = _LAMPS[int(rng.integers(len(_LAMPS)))]
    left, right = columns
    top = int((_SHORE - tall) * canvas.height)
    if rng.random() < 0.3:
        middle, thick = (left + right) // 2, max(1, canvas.height // 850)
        mast = top - int(rng.uniform(0.02, 0.07) * canvas.height)
        _block(canvas, (middle, middle + thick), (mast, top), wall)
    if rng.random() < 0.35:
        inset, floor = (right - left) // 5, top + int(tall * canvas.height) // 4
        upper = (left + inset, right - inset)
        _block(canvas, upper, (top, floor), wall)
        _windows(canvas, upper, (top, floor), lamp, near)
        top = floor
    _block(canvas, columns, (top, int(_SHORE * canvas.height)), wall)
    _windows(canvas, columns, (top, int(_SHORE * canvas.height)), lamp, near)


def _block(canvas: Canvas, columns: tuple[int, int], rows: tuple[int, int], color: Color) -> None:
    window = (slice(max(0, rows[0]), rows[1]), slice(max(0, columns[0]), max(0, columns[1])))
    for plane, level, haze in zip(canvas.planes, color, rgb("d07f86"), strict=True):
        # Haze climbs from the streets, so that a row stands out against the one before it.
        lift = smoothstep(_SHORE - 0.16, _SHORE + 0.14, canvas.y[window[0]]) * np.float32(0.3)
        plane[window] = level + (haze - level) * lift


def _windows(
    canvas: Canvas,
    columns: tuple[int, int],
    rows: tuple[int, int],
    lamp: Color,
    near: float,
) -> None:
    """Windows in a grid on a wall, some of them lit."""
    rng = canvas.rng
    cell = max(3, round((9 + 4 * near) * canvas.height / 1700))
    floors, bays = (rows[1] - rows[0]) // cell - 1, (columns[1] - columns[0]) // cell - 1
    if floors < 1 or bays < 1:
        return
    lit = (rng.random((floors, bays)) < rng.uniform(0.1, 0.5)).astype(np.float32)
    lit *= rng.uniform(0.35, 1, (floors, bays)).astype(np.float32) * (0.4 + 0.55 * near)
    pane = np.zeros((cell, cell), np.float32)
    pane[cell // 3 :, cell // 3 :] = 1
    glass = np.kron(lit, pane)
    top = rows[0] + cell // 2
    left = columns[0] + (columns[1] - columns[0] - bays * cell) // 2
    glass = glass[:, max(0, -left) : max(0, canvas.width - left)]
    left = max(0, left)
    for plane, level in zip(canvas.planes, lamp, strict=True):
        part = plane[top : top + glass.shape[0], left : left + glass.shape[1]]
        part += (level * 1.05 - part) * glass


def _shore(canvas: Canvas) -> None:
    """A dark quay with lamps."""
    edge = int(_SHORE * canvas.height)
    quay = max(2, canvas.height // 110)
    canvas.planes[:, edge - quay : edge] = np.array(rgb("0b0d1c"), np.float32)[:, None, None]
    step = max(6, canvas.width // 60)
    size = max(1, canvas.height // 420)
    for left in range(step // 2, canvas.width - size, step):
        lamp = np.array(_LAMPS[int(canvas.rng.integers(3))], np.float32)[:, None, None] * 1.6
        canvas.planes[:, edge - quay - size : edge - quay + size, left : left + size * 2] = lamp


def _bloom(canvas: Canvas) -> None:
    """Bright lamps spill into the air around them."""
    for plane in canvas.planes:
        bright = np.clip(plane - 0.55, 0, None)
        np.add(plane, 0.55 * blurred(bright, 8) + 0.7 * blurred(bright, 40), out=plane)


def _mirror(canvas: Canvas) -> None:
    """The water: the picture upside down, smeared towards us and broken by waves."""
    edge = int(_SHORE * canvas.height)
    deep = canvas.height - edge
    waves = canvas.noise((70, 9), 4, 0.6)[edge:]
    y = np.linspace(0, 1, deep, dtype=np.float32)[:, np.newaxis]
    shift = waves * (2 + 16 * y) * np.float32(canvas.height / 1700)
    columns = np.clip(np.arange(canvas.width) + shift, 0, canvas.width - 1).astype(np.int32)
    rows = np.arange(deep)[:, np.newaxis]
    for plane, level in zip(canvas.planes, rgb("0a1433"), strict=True):
        image = plane[edge - deep : edge][::-1]
        smeared = resized(resized(image, canvas.width, max(2, deep // 26)), canvas.width, deep)
        broken = (0.45 * image + 0.85 * smeared)[rows, columns] * (0.82 + 0.1 * waves)
        plane[edge:] = broken + (level - broken) * (0.15 + 0.5 * y)
