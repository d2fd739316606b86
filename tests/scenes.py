"""Pictures with one subject, made in code, for which the right crop is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Box = tuple[float, float, float, float]
Place = tuple[float, float]
# Where the subject's middle is, in fractions; the sign of luck is never the centre.
PLACES: tuple[Place, ...] = ((0.15, 0.6), (0.6, 0.18), (0.85, 0.45), (0.35, 0.85))
SIZES = ((900, 600), (540, 960), (1200, 400))


class Scene(NamedTuple):
    """A picture and the box of its subject: left, top, right, bottom as fractions."""

    name: str
    picture: Image.Image
    subject: Box


def noise(size: tuple[int, int], grain: int, low: Any, high: Any, seed: int = 1) -> Image.Image:
    """Random colours between two, in spots of `grain` pixels."""
    cells = (size[0] // grain + 2, size[1] // grain + 2)
    share = np.random.default_rng(seed).random((cells[1], cells[0], 1))
    colours = np.asarray(low) * (1 - share) + np.asarray(high) * share
    spots = Image.fromarray(colours.astype(np.uint8))
    return spots.resize((cells[0] * grain, cells[1] * grain), Image.Resampling.BICUBIC).crop(
        (0, 0, *size)
    )


def slope(size: tuple[int, int], top: Any, bottom: Any) -> Image.Image:
    """Soft shades from one colour above to another below."""
    share = np.linspace(0, 1, size[1])[:, None, None]
    column = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
    return Image.fromarray(column.astype(np.uint8)).resize(size)


def disc(size: tuple[int, int], at: Place) -> Scene:
    """A textured disc on a smooth ground."""
    picture = slope(size, (120, 130, 150), (150, 150, 140))
    box = _box(size, at, 0.24, 0.24)
    texture = noise(size, 7, (60, 50, 40), (200, 190, 180))
    picture.paste(texture, mask=_ellipse(size, box))
    return _scene("textured disc", picture, box)


def face(size: tuple[int, int], at: Place) -> Scene:
    """A face before a smooth wall, and beside it a busy but dull texture."""
    picture = Image.new("RGB", size, (150, 150, 145))
    texture = noise(size, 6, (70, 72, 70), (190, 192, 190), seed=3)
    half = size[0] // 2
    picture.paste(texture.crop((0, 0, half, size[1])), (half if at[0] < 0.5 else 0, 0))
    box = _box(size, at, 0.22, 0.3)
    _draw_face(ImageDraw.Draw(picture), box, (222, 170, 140))
    return _scene("face by a texture", picture.filter(ImageFilter.GaussianBlur(1)), box)


def dark_face(size: tuple[int, int], at: Place) -> Scene:
    """A face of dark skin before leaves."""
    picture = noise(size, 14, (30, 70, 25), (110, 150, 80), seed=4)
    box = _box(size, at, 0.24, 0.32)
    _draw_face(ImageDraw.Draw(picture), box, (112, 70, 48))
    return _scene("dark face by leaves", picture.filter(ImageFilter.GaussianBlur(1)), box)


def text(size: tuple[int, int], at: Place) -> Scene:
    """A few lines of something like print on paper with a little grain."""
    picture = noise(size, 2, (232, 230, 222), (246, 244, 238), seed=5)
    box = _box(size, at, 0.36, 0.14)
    draw = ImageDraw.Draw(picture)
    random = np.random.default_rng(6)
    left, top, right, bottom = box
    step = max(8, round(bottom - top) // 4)
    for line in range(round(top), round(bottom) - step // 2, step):
        x = left
        while x < right - step:
            width = float(random.uniform(0.2, 0.6)) * step
            draw.rectangle((x, line, x + width, line + step // 2), (40, 40, 45))
            x += width + 0.25 * step
    return _scene("lines of print", picture, box)


def ball(size: tuple[int, int], at: Place) -> Scene:
    """A small red ball on grass."""
    picture = noise(size, 4, (60, 100, 40), (130, 170, 80), seed=7)
    box = _box(size, at, 0.12, 0.12)
    ImageDraw.Draw(picture).ellipse(box, (200, 40, 35))
    return _scene("red ball on grass", picture, box)


def flower(size: tuple[int, int], at: Place) -> Scene:
    """A white flower among leaves that have more edges and more colour than it has."""
    picture = noise(size, 9, (15, 50, 10), (120, 180, 60), seed=8)
    box = _box(size, at, 0.26, 0.26)
    shade = noise(size, 24, (215, 212, 200), (255, 255, 250), seed=9)
    picture.paste(shade, mask=_ellipse(size, box))
    return _scene("white flower", picture, box)


def silhouette(size: tuple[int, int], at: Place) -> Scene:
    """A dark figure before a bright sky."""
    picture = slope(size, (120, 160, 220), (240, 220, 190))
    box = _box(size, at, 0.12, 0.34)
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    middle, head = (left + right) / 2, (right - left) * 0.6
    draw.ellipse((middle - head / 2, top, middle + head / 2, top + head), (25, 22, 28))
    draw.rectangle((left, top + head, right, bottom), (25, 22, 28))
    return _scene("dark figure", picture, box)


def sharp(size: tuple[int, int], at: Place) -> Scene:
    """A sharp subject before a ground of the same colours that is out of focus."""
    ground = noise(size, 40, (70, 60, 50), (190, 170, 150), seed=10)
    box = _box(size, at, 0.26, 0.3)
    texture = noise(size, 8, (70, 60, 50), (190, 170, 150), seed=11)
    ground.paste(texture, mask=_ellipse(size, box))
    return _scene("sharp on blurred", ground, box)


def bird(size: tuple[int, int], at: Place) -> Scene:
    """A small bird in the sky."""
    picture = slope(size, (90, 140, 210), (190, 215, 240))
    box = _box(size, at, 0.1, 0.07)
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    middle = (left + right) / 2
    draw.polygon([(left, top), (middle, bottom - 4), (right, top), (middle, bottom)], (40, 35, 35))
    return _scene("bird in the sky", picture, box)


def person(size: tuple[int, int], at: Place) -> Scene:
    """A person before bricks; the subject is the head and the chest."""
    picture = Image.new("RGB", size, (165, 150, 140))
    draw = ImageDraw.Draw(picture)
    for row in range(0, size[1], 24):
        for x in range(-60 + row % 48, size[0], 60):
            draw.rectangle((x, row, x + 56, row + 20), (150, 95 + (x + row) % 20, 80))
    picture = picture.filter(ImageFilter.GaussianBlur(2))
    box = _box(size, at, 0.2, 0.34)
    left, top, right, bottom = box
    neck = top + (bottom - top) * 0.55
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, neck, right, size[1]), (45, 60, 110))
    _draw_face(draw, (left + (right - left) * 0.2, top, right - (right - left) * 0.2, neck),
               (226, 178, 152))  # fmt: skip
    return _scene("person by a wall", picture, box)


SCENES: tuple[Callable[[tuple[int, int], Place], Scene], ...] = (
    disc, face, dark_face, text, ball, flower, silhouette, sharp, bird, person,
)  # fmt: skip


def scenes() -> Iterator[Scene]:
    """Every scene in every size with its subject at every place."""
    for make in SCENES:
        for size in SIZES:
            for at in PLACES:
                yield make(size, at)


def window(size: tuple[int, int], ratio: float) -> tuple[float, float]:
    """The largest window of this ratio of sides, as fractions of a picture of `size`."""
    own = size[0] / size[1]
    return (ratio / own, 1.0) if ratio < own else (1.0, own / ratio)


def cropped(focus: Place, window: tuple[float, float]) -> Box:
    """The crop whose middle is as near to `focus` as the picture's edges allow."""
    sides = []
    for middle, length in zip(focus, window, strict=True):
        start = min(max(middle - length / 2, 0.0), 1 - length)
        sides.append((start, start + length))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def kept(subject: Box, crop: Box) -> float:
    """The share of the subject that lies in the crop, of what could lie in one of its size."""
    share = 1.0
    for low, high in ((0, 2), (1, 3)):
        inside = min(subject[high], crop[high]) - max(subject[low], crop[low])
        most = min(subject[high] - subject[low], crop[high] - crop[low])
        share *= max(0.0, inside) / most
    return share


def _box(size: tuple[int, int], at: Place, width: float, height: float) -> Box:
    """A box around `at`, in pixels; its sides are shares of the shorter side of the picture."""
    short = min(size)
    half_width, half_height = width * short / 2, height * short / 2
    x = min(max(at[0] * size[0], half_width), size[0] - half_width)
    y = min(max(at[1] * size[1], half_height), size[1] - half_height)
    return x - half_width, y - half_height, x + half_width, y + half_height


def _ellipse(size: tuple[int, int], box: Box) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, 255)
    return mask


def _draw_face(draw: ImageDraw.ImageDraw, box: Box, skin: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    hair = (48, 34, 26)
    draw.ellipse(box, hair)
    draw.ellipse((left + width * 0.08, top + height * 0.14, right - width * 0.08, bottom), skin)
    for x in (0.32, 0.68):
        eye, level, size = left + width * x, top + height * 0.45, width * 0.06
        draw.ellipse((eye - size, level - size, eye + size, level + size), (35, 28, 26))
    mouth = (left + width * 0.35, top + height * 0.72, right - width * 0.35, top + height * 0.78)
    draw.ellipse(mouth, (150, 70, 70))


def _scene(name: str, picture: Image.Image, box: Box) -> Scene:
    width, height = picture.size
    left, top, right, bottom = box
    subject = (left / width, top / height, right / width, bottom / height)
    assert all(math.isfinite(edge) for edge in subject)
    return Scene(name, picture, subject)
