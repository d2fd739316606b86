"""The sample pictures that are hard to resize, each in its own way."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from thumbproxy.demo.canvas import Canvas, rgb
from thumbproxy.demo.lettering import width_of, write

_ORIENTATION_TAG = 0x0112
_CLOCKWISE = 6  # EXIF: turn the stored picture a quarter clockwise to see it upright

_CHART_SIDE = 1600
_FRAMES = 24
_FRAME_SIZE = (640, 400)


def resolution_chart(_long_side: int = 0) -> bytes:
    """PNG, grey: a zone plate up to a line per 4 px, four Siemens stars,
    and bars of 1 to 8 px. Always of one size, for it is made of pixels."""
    side = _CHART_SIDE
    y, x = np.ogrid[:side, :side].__iter__()
    chart = np.full((side, side), 0.93, np.float32)
    middle, radius = (side - 1) / 2, side * 0.36
    distance = np.hypot(x - middle, y - middle)
    # The phase grows with r squared, so there are r / (4 radius) lines per px: 1/4 at the rim.
    plate = 0.5 + 0.5 * np.cos(np.pi * np.square(distance) / (4 * radius))
    chart = np.where(distance <= radius, plate, chart)
    for across in (0.13, 0.87):
        for down in (0.13, 0.87):
            dx, dy = x - side * across, y - side * down
            far = np.hypot(dx, dy)
            rays = np.clip(np.sin(np.arctan2(dy, dx) * 36) * far * 0.06 + 0.5, 0, 1)
            chart = np.where(far <= side * 0.1, rays, chart)
    image = Image.fromarray((chart * 255 + 0.5).astype(np.uint8))
    _bars(image)
    return _encoded(image, "PNG", compress_level=6)


def _bars(image: Image.Image) -> None:
    """Patches of upright and level lines, with their width in px beneath."""
    draw = ImageDraw.Draw(image)
    patch = 96
    for index, width in enumerate((1, 2, 3, 4, 6, 8)):
        left = round(_CHART_SIDE * 0.5 + (index - 2.5) * 148 - patch / 2)
        top = 24
        for start in range(0, patch, width * 2):
            draw.rectangle((left + start, top, left + start + width - 1, top + patch - 1), fill=16)
            level = _CHART_SIDE - top - patch + start
            draw.rectangle((left, level, left + patch - 1, level + width - 1), fill=16)
        text = str(width)
        at = (left + patch / 2 - width_of(text, 20) / 2, top + patch + 46)
        write(draw, text, at, 20, weight=4, fill=40)


def sideways_photo(_long_side: int = 0) -> bytes:
    """JPEG, stored lying on its side with EXIF orientation 6; an arrow shows which way is up."""
    canvas = Canvas(1200, 1600, seed=61)
    canvas.gradient([(0, "2f5d8c"), (0.45, "86b6cf"), (0.62, "f6d9b0"), (1, "f2b185")])
    canvas.add(rgb("ffe9c0"), canvas.glow((0.5, 0.64), 0.2) * 0.12)
    for base, color in ((0.66, "7d93a6"), (0.74, "4f6d80"), (0.83, "2c4858"), (0.92, "152a37")):
        ridge = base - 0.022 * canvas.profile(3, gain=0.52)
        canvas.mix(rgb(color), np.clip((canvas.y - ridge) * canvas.height, 0, 1))
    image = canvas.image()
    _arrow(image)
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _CLOCKWISE
    stored = image.transpose(Image.Transpose.ROTATE_90)  # counter-clockwise
    return _encoded(stored, "JPEG", quality=90, exif=exif)


def _arrow(image: Image.Image) -> None:
    """White, at the upper middle, with UP beneath."""
    width, height = image.size
    mask = Image.new("L", (width * 2, height * 2))
    draw = ImageDraw.Draw(mask)
    x, top, tip = width, 330, 250
    draw.line([(x, top + 900), (x, top + 60)], fill=255, width=84)
    draw.ellipse((x - 42, top + 858, x + 42, top + 942), fill=255)
    head = [(x - tip, top + tip + 40), (x, top + 40), (x + tip, top + tip + 40)]
    draw.line(head, fill=255, width=84, joint="curve")
    for cx, cy in (head[0], head[-1]):
        draw.ellipse((cx - 42, cy - 42, cx + 42, cy + 42), fill=255)
    write(draw, "UP", (x - width_of("UP", 190) / 2, top + 1340), 190, weight=64, fill=255)
    image.paste("white", (0, 0), mask.reduce(2))


def logo(_long_side: int = 0) -> bytes:
    """PNG with soft alpha: three cards, each smaller than the one behind it, and the name."""
    width, height = 1600, 480
    image = Image.new("RGBA", (width, height))
    for left, side, color in ((70, 300, "5b4b9a"), (150, 220, "e0685f"), (210, 140, "f6b45a")):
        top = 90 + (300 - side)
        card = _card((left, top, left + side, top + side), (width, height))
        shadow = ImageChops.offset(card, -10, 12).filter(ImageFilter.GaussianBlur(16))
        shade = Image.new("RGBA", image.size, "#181432")
        shade.putalpha(shadow.point(lambda level: level * 45 // 100))
        image = Image.alpha_composite(image, shade)
        layer = Image.new("RGBA", image.size, f"#{color}")
        layer.putalpha(card)
        image = Image.alpha_composite(image, layer)
    name = Image.new("L", (width * 2, height * 2))
    write(ImageDraw.Draw(name), "thumbproxy", (860, 600), 168, weight=44, fill=255)
    ink = Image.new("RGBA", image.size, "#7867bd")
    ink.putalpha(name.reduce(2))
    return _encoded(Image.alpha_composite(image, ink), "PNG", optimize=True)


def _card(box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    doubled = tuple(2 * side for side in box)
    ImageDraw.Draw(mask).rounded_rectangle(doubled, radius=72, fill=255)
    return mask.reduce(2)


def animation(_long_side: int = 0) -> bytes:
    """GIF: planets around a sun, 24 frames that close to a loop."""
    frames = [_orbits(number / _FRAMES) for number in range(_FRAMES)]
    palette = frames[0].quantize(96)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out = BytesIO()
    indexed[0].save(
        out, "GIF", save_all=True, append_images=indexed[1:], duration=60, loop=0, optimize=False
    )
    return out.getvalue()


def _orbits(time: float) -> Image.Image:
    """One frame; time runs from 0 to 1. Drawn at twice the size, for smooth edges."""
    width, height = _FRAME_SIZE
    image = Image.new("RGB", (width * 2, height * 2), "#12142a")
    draw = ImageDraw.Draw(image)
    for halo, color in ((150, "#1d1c36"), (118, "#33274a"), (92, "#6b3f58")):
        _disc(draw, (width, height), halo, color)
    _disc(draw, (width, height), 70, "#ffc371")
    orbits = ((190, 18, "#7cc7e0", 2), (330, 30, "#e0685f", 1), (470, 24, "#9d8fe0", -1))
    for radius, size, color, turns in orbits:
        box = (width - radius, height - radius * 0.7, width + radius, height + radius * 0.7)
        draw.ellipse(box, outline="#2b2d4d", width=3)
        for step in range(14, -1, -1):
            angle = math.tau * (time * turns + radius / 400) - math.copysign(step * 0.045, turns)
            at = (width + radius * math.cos(angle), height + radius * 0.7 * math.sin(angle))
            _disc(draw, at, size * (1 - step / 16), color if step == 0 else _dimmed(color, step))
    return image.reduce(2)


def _dimmed(color: str, step: int) -> tuple[int, int, int]:
    part = 0.55 * (1 - step / 15)
    back, front = (18, 20, 42), bytes.fromhex(color[1:])
    red, green, blue = (round(b + (f - b) * part) for b, f in zip(back, front, strict=True))
    return red, green, blue


def _disc(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    radius: float,
    color: str | tuple[int, int, int],
) -> None:
    x, y = at
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()
