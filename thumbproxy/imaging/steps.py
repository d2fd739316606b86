"""The pipeline: one list of steps, each of which says at its top when it does nothing.

A step takes the picture and the job, and gives the picture. Sizes and positions come from the
plan; no step computes any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from thumbproxy.imaging.colour import to_srgb
from thumbproxy.imaging.decode import Decoded
from thumbproxy.imaging.geometry import Plan
from thumbproxy.media import Format
from thumbproxy.options import Options

Transpose = Image.Transpose

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Pillow counts anticlockwise, the option clockwise.
_ROTATED = {90: Transpose.ROTATE_270, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_90}
_FLIPPED = {
    "h": Transpose.FLIP_LEFT_RIGHT,
    "v": Transpose.FLIP_TOP_BOTTOM,
    "hv": Transpose.ROTATE_180,
}


@dataclass(frozen=True, slots=True)
class Job:
    """All that a step may know."""

    decoded: Decoded
    plan: Plan
    options: Options
    format: Format


def resize(image: Image.Image, job: Job) -> Image.Image:
    """Crop and resize in one go; always gives pixels of its own, never the decoder's memory."""
    # A scaled decode has rounded its size up, so that the region's edges fall between its pixels.
    scale = job.decoded.eighths / 8
    left, top, right, bottom = (edge * scale for edge in job.plan.box)
    box = (left, top, right, bottom)
    return image.resize(job.plan.size, Image.Resampling.LANCZOS, box)


def srgb(image: Image.Image, job: Job) -> Image.Image:
    return to_srgb(image, job.decoded.icc)


def orient(image: Image.Image, job: Job) -> Image.Image:
    if job.plan.orientation == 1:
        return image
    return image.transpose(_UPRIGHT[job.plan.orientation])


def place(image: Image.Image, job: Job) -> Image.Image:
    if job.plan.canvas is None:
        return image
    clear = has_alpha(image) and job.format.has_alpha
    colour = rgba(job.options.background or ("00000000" if clear else "ffffff"))
    if colour[3] == 255 and not has_alpha(image):
        canvas = Image.new("RGB", job.plan.canvas, colour[:3])
        canvas.paste(image.convert("RGB"), job.plan.offset)
        return canvas
    canvas = Image.new("RGBA", job.plan.canvas, colour)
    canvas.alpha_composite(image.convert("RGBA"), job.plan.offset)
    return canvas.convert("RGB") if colour[3] == 255 else canvas


def rotate(image: Image.Image, job: Job) -> Image.Image:
    if not job.options.rotate:
        return image
    return image.transpose(_ROTATED[job.options.rotate])


def flip(image: Image.Image, job: Job) -> Image.Image:
    if job.options.flip is None:
        return image
    return image.transpose(_FLIPPED[job.options.flip])


def flatten(image: Image.Image, job: Job) -> Image.Image:
    # A canvas has the background under the picture already.
    background = job.options.background if job.plan.canvas is None else None
    if not has_alpha(image) or (job.format.has_alpha and background is None):
        return image
    if background is not None:
        image = _on(rgba(background), image)
        if job.format.has_alpha:
            return image
    # What is still half-transparent has nothing to shine through to: a page is white.
    return _on((255, 255, 255, 255), image).convert("RGB")


STEPS: tuple[Callable[[Image.Image, Job], Image.Image], ...] = (
    resize,
    srgb,
    orient,
    place,
    rotate,
    flip,
    flatten,
)


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "RGBA")


def _on(colour: tuple[int, int, int, int], image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, colour)
    ground.alpha_composite(image.convert("RGBA"))
    return ground if colour[3] < 255 else ground.convert("RGB")


def rgba(background: str) -> tuple[int, int, int, int]:
    """`rrggbb` or `rrggbbaa` as four numbers 0 to 255."""
    red, green, blue, alpha = bytes.fromhex(background.ljust(8, "f"))
    return red, green, blue, alpha
