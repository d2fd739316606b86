"""The pipeline: one list of steps, each of which says at its top when it does nothing.

A step takes the picture and the job, and gives the picture; it never changes the one it was given.
Sizes and positions come from the plan; no step computes any.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from thumbproxy.imaging.alpha import has_alpha, on, premultiplied
from thumbproxy.imaging.colour import to_srgb
from thumbproxy.imaging.effects import (
    adjust,
    backdrop,
    blur,
    grayscale,
    round_corners,
    saturate,
    sharpen,
    watermark,
)
from thumbproxy.imaging.job import Job
from thumbproxy.imaging.orientation import upright

Transpose = Image.Transpose
WHITE = (255, 255, 255, 255)
# A resize has two passes, and between them all rows of the source in the width of the output. Above
# this many bytes it is done in bands of about so many: a tenth more of the render's time.
_MOST_BETWEEN, _BAND = 24 * 1024 * 1024, 2 * 1024 * 1024

# Pillow counts anticlockwise, the option clockwise.
_ROTATED = {90: Transpose.ROTATE_270, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_90}
_FLIPPED = {
    "h": Transpose.FLIP_LEFT_RIGHT,
    "v": Transpose.FLIP_TOP_BOTTOM,
    "hv": Transpose.ROTATE_180,
}


def resize(_: Image.Image, job: Job) -> Image.Image:
    """Crop and resize in one go; always gives pixels of its own, never the decoder's memory."""
    # The filter reaches beyond the box: into what `fit` leaves out, but not into what was cut off.
    level = job.level.within(job.plan.region)
    image = level.image
    across, down = level.scale
    region = job.plan.box.moved(-level.box.left, -level.box.top)
    box = (
        max(0.0, region.left * across),
        max(0.0, region.top * down),
        min(image.width, region.right * across),
        min(image.height, region.bottom * down),
    )
    between = (box[3] - box[1]) * job.plan.size[0] * len(image.getbands())
    if between <= _MOST_BETWEEN:
        return image.resize(job.plan.size, Image.Resampling.LANCZOS, box)
    return premultiplied(image, lambda picture: _in_bands(picture, job.plan.size, box))


def _in_bands(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    """The same as a resize in one go, within 1 of 255, with less memory between the passes."""
    left, top, right, bottom = box
    step = (bottom - top) / size[1]
    lines = max(16, round(_BAND / (step * size[0] * len(image.getbands()))))
    made = Image.new(image.mode, size, None)
    for first in range(0, size[1], lines):
        last = min(first + lines, size[1])
        part = (left, top + first * step, right, min(bottom, top + last * step))
        band = image.resize((size[0], last - first), Image.Resampling.LANCZOS, part)
        made.paste(band, (0, first))
    return made


def srgb(image: Image.Image, job: Job) -> Image.Image:
    return to_srgb(image, job.level.icc)


def orient(image: Image.Image, job: Job) -> Image.Image:
    return upright(image, job.plan.orientation)


def place(image: Image.Image, job: Job) -> Image.Image:
    if job.plan.canvas is None:
        return image
    clear = has_alpha(image) and job.format.has_alpha
    colour = job.background or ((0, 0, 0, 0) if clear else WHITE)
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
    if job.format.has_alpha or not has_alpha(image):
        return image
    # What is still half-transparent has nothing to shine through to: a page is white.
    return on(job.background or WHITE, image)


def clear_hidden_colours(image: Image.Image, job: Job) -> Image.Image:
    """What is wholly transparent has no colour: somebody may have made it so to hide it."""
    if not has_alpha(image) or job.options.lossless:
        return image
    hidden = image.getchannel("A").point([255] + [0] * 255)
    if hidden.getbbox() is None:
        return image
    cleared = image.copy()
    cleared.paste((0,) * len(image.getbands()), (0, 0), hidden)
    return cleared


STEPS: tuple[Callable[[Image.Image, Job], Image.Image], ...] = (
    resize,
    srgb,
    orient,
    place,
    rotate,
    flip,
    adjust,
    saturate,
    grayscale,
    blur,
    sharpen,
    backdrop,
    round_corners,
    watermark,
    flatten,
    clear_hidden_colours,
)


def run(job: Job) -> Image.Image:
    """The finished picture of a job: L, LA, RGB, RGBX or RGBA."""
    return finish(resize(job.level.image, job), job)


def finish(resized: Image.Image, job: Job) -> Image.Image:
    """What follows the resize, which `resized` is the result of."""
    picture = resized
    for step in STEPS[1:]:
        picture = step(picture, job)
    return picture
