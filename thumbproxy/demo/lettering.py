"""A small monoline alphabet, drawn with strokes.

Pillow draws text only where it was built with FreeType; the samples must not depend on that.
Only the characters that the samples need are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import ImageDraw

Point = tuple[float, float]
Stroke = list[Point]

_SPACING = 0.42


def _arc(x: float, y: float, radius: float, start: float, end: float) -> Stroke:
    """Points on a circle, from angle to angle in degrees, counter-clockwise from the right."""
    steps = max(2, round(abs(end - start) / 6))
    angles = (math.radians(start + (end - start) * n / steps) for n in range(steps + 1))
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


_BOWL = _arc(0.5, 0.5, 0.5, 0, 360)

# Strokes of each letter and its width. The base line is y 0, small letters are 1 high.
_GLYPHS: dict[str, tuple[float, list[Stroke]]] = {
    " ": (0.4, []),
    "b": (1.0, [[(0, 1.55), (0, 0)], _BOWL]),
    "h": (0.9, [[(0, 1.55), (0, 0)], [*_arc(0.45, 0.55, 0.45, 180, 0), (0.9, 0)]]),
    "m": (1.6, [[(0, 1), (0, 0)], [*_arc(0.4, 0.6, 0.4, 180, 0), (0.8, 0)],
                [*_arc(1.2, 0.6, 0.4, 180, 0), (1.6, 0)]]),
    "o": (1.0, [_BOWL]),
    "p": (1.0, [[(0, 1), (0, -0.55)], _BOWL]),
    "r": (0.62, [[(0, 1), (0, 0)], _arc(0.45, 0.55, 0.45, 180, 65)]),
    "t": (0.62, [[(0.22, 1.4), *_arc(0.54, 0.32, 0.32, 180, 280)], [(0, 1), (0.58, 1)]]),
    "u": (0.9, [[(0, 1), *_arc(0.45, 0.45, 0.45, 180, 360)], [(0.9, 1), (0.9, 0)]]),
    "x": (0.82, [[(0, 0), (0.82, 1)], [(0, 1), (0.82, 0)]]),
    "y": (0.86, [[(0, 1), (0.43, 0)], [(0.86, 1), (0.2, -0.55)]]),
    "P": (0.92, [[(0, 0), (0, 1.45), (0.55, 1.45)],
                 [*_arc(0.55, 1.08, 0.37, 90, -90), (0, 0.71)]]),
    "U": (1.0, [[(0, 1.45), *_arc(0.5, 0.5, 0.5, 180, 360), (1, 1.45)]]),
    "1": (0.42, [[(0, 1.1), (0.4, 1.45), (0.4, 0)]]),
    "2": (0.85, [[*_arc(0.4, 1.05, 0.4, 180, -35), (0, 0), (0.85, 0)]]),
    "3": (0.8, [_arc(0.38, 1.09, 0.36, 150, -90), _arc(0.38, 0.37, 0.37, 90, -150)]),
    "4": (0.85, [[(0.62, 0), (0.62, 1.45), (0, 0.42), (0.85, 0.42)]]),
    "6": (0.84, [_arc(0.42, 0.42, 0.42, 0, 360), [(0.05, 0.62), (0.55, 1.45)]]),
    "8": (0.84, [_arc(0.42, 1.09, 0.36, 0, 360), _arc(0.42, 0.4, 0.41, 0, 360)]),
}  # fmt: skip


def width_of(text: str, size: float) -> float:
    """Width of a line of text whose small letters are `size` px high."""
    return size * (sum(_GLYPHS[letter][0] + _SPACING for letter in text) - _SPACING)


def write(
    draw: ImageDraw.ImageDraw, text: str, at: Point, size: float, *, weight: float, fill: int | str
) -> None:
    """Write a line of text. `at` is where its base line begins; size and weight are px."""
    x, y = at
    for letter in text:
        advance, strokes = _GLYPHS[letter]
        for stroke in strokes:
            _draw(draw, stroke, _placing(x, y, size), weight, fill)
        x += size * (advance + _SPACING)


def _placing(x: float, y: float, size: float) -> Callable[[Point], Point]:
    return lambda point: (x + point[0] * size, y - point[1] * size)


def _draw(
    draw: ImageDraw.ImageDraw,
    stroke: Stroke,
    place: Callable[[Point], Point],
    weight: float,
    fill: int | str,
) -> None:
    points = [place(point) for point in stroke]
    draw.line(points, fill=fill, width=round(weight), joint="curve")
    half = weight / 2
    for x, y in (points[0], points[-1]):  # round ends
        draw.ellipse((x - half, y - half, x + half, y + half), fill=fill)
