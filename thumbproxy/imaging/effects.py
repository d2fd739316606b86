"""Steps that change colours and shapes, after the picture has its size.

Brightness, contrast, saturation and grey are those of the CSS filters of the same name, which is
where designers try them out (W3C Filter Effects Module Level 1, section 13): `bright_20` is
`brightness(120%)`. They work on sRGB values as they are, not on light.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from thumbproxy.imaging.alpha import has_alpha, on, premultiplied
from thumbproxy.imaging.job import Job

# The luminance of linear sRGB primaries (ITU-R BT.709), which CSS uses for these filters.
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def adjust(image: Image.Image, job: Job) -> Image.Image:
    brightness, contrast = job.options.brightness, job.options.contrast
    if brightness == contrast == 0:
        return image
    curve = _curve(1 + brightness / 100, 1 + contrast / 100)
    channels = len(image.getbands())
    kept = has_alpha(image) or image.mode == "RGBX"  # the last band holds no colour
    return image.point(curve * (channels - kept) + list(range(256)) * kept)


def saturate(image: Image.Image, job: Job) -> Image.Image:
    if job.options.saturation == 0 or image.mode in ("L", "LA"):
        return image
    amount = 1 + job.options.saturation / 100
    # Each channel keeps `amount` of itself and takes the rest from the luminance.
    matrix: list[float] = []
    for channel in range(3):
        weights = [(1 - amount) * part for part in _LUMINANCE]
        weights[channel] += amount
        matrix += [*weights, 0.0]
    return _with_alpha_of(image, image.convert("RGB").convert("RGB", tuple(matrix)))


def grayscale(image: Image.Image, job: Job) -> Image.Image:
    if not job.options.grayscale or image.mode in ("L", "LA"):
        return image
    return _with_alpha_of(image, image.convert("RGB").convert("L", (*_LUMINANCE, 0.0)))


def blur(image: Image.Image, job: Job) -> Image.Image:
    if job.options.blur is None:
        return image
    gaussian = ImageFilter.GaussianBlur(job.options.blur * job.options.dpr)
    return premultiplied(image, lambda picture: _filtered(picture, gaussian))


def sharpen(image: Image.Image, job: Job) -> Image.Image:
    if not job.options.sharpen:
        return image
    # A radius of one pixel of the layout: what resizing has softened, and nothing coarser.
    mask = ImageFilter.UnsharpMask(job.options.dpr, round(job.options.sharpen * 100), threshold=0)
    return premultiplied(image, lambda picture: _filtered(picture, mask))


def backdrop(image: Image.Image, job: Job) -> Image.Image:
    # A canvas has the background under the picture already.
    if job.background is None or job.plan.canvas is not None or not has_alpha(image):
        return image
    return on(job.background, image)


def round_corners(image: Image.Image, job: Job) -> Image.Image:
    if job.options.radius is None:
        return image
    most = min(image.size) / 2
    radius = job.options.radius
    length = most if isinstance(radius, str) else min(radius * job.options.dpr, most)
    mask = _rounded(image.size, length)
    if has_alpha(image):
        mask = ImageChops.multiply(mask, image.getchannel("A"))
    rounded = image.copy() if image.mode in ("L", "LA", "RGBA") else image.convert("RGB")
    rounded.putalpha(mask)
    return rounded


def watermark(image: Image.Image, job: Job) -> Image.Image:
    if job.options.watermark is None:
        return image
    mark = job.watermarks[job.options.watermark]
    left, top, right, bottom = (round(edge) for edge in mark.box(*image.size, job.options.dpr))
    marked = image.convert("RGBA" if has_alpha(image) else "RGB")  # always a copy
    under = marked.crop((left, top, right, bottom)).convert("RGBA")
    under.alpha_composite(
        mark.picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    )
    marked.paste(under.convert(marked.mode), (left, top))
    return marked


def _filtered(image: Image.Image, blurring: ImageFilter.MultibandFilter) -> Image.Image:
    if min(image.size) > 1:
        return image.filter(blurring)
    # Of a line, Pillow-SIMD 12.1 mixes up the colours. Beside two copies of itself it is no line,
    # and looks the same, because filters repeat what is at the edge.
    left, top = (1 if side == 1 else 0 for side in image.size)
    width, height = image.width + 2 * left, image.height + 2 * top
    wide = image.resize((width, height), Image.Resampling.NEAREST).filter(blurring)
    return wide.crop((left, top, left + image.width, top + image.height))


def _curve(brightness: float, contrast: float) -> list[int]:
    """What becomes of each of the 256 values of a channel."""
    curve = []
    for value in range(256):
        bright = min(255.0, value * brightness)
        contrasted = (bright - 127.5) * contrast + 127.5
        curve.append(max(0, min(255, math.floor(contrasted + 0.5))))
    return curve


def _with_alpha_of(image: Image.Image, changed: Image.Image) -> Image.Image:
    if has_alpha(image):
        changed.putalpha(image.getchannel("A"))
    return changed


def _rounded(size: tuple[int, int], radius: float) -> Image.Image:
    """A mask (L) with rounded corners: of each pixel the part that lies inside, 0 to 255."""
    side = math.ceil(radius)
    middles = radius - 0.5 - np.arange(side, dtype=np.float32)
    distance = np.hypot(middles[:, np.newaxis], middles[np.newaxis, :])
    inside = np.clip(radius - distance + 0.5, 0, 1)
    # Beyond the centre of the circle the corner is straight.
    inside[(middles < 0)[:, np.newaxis] | (middles < 0)[np.newaxis, :]] = 1
    corner = Image.fromarray((inside * 255 + 0.5).astype(np.uint8))
    mask = Image.new("L", size, 255)
    right, bottom = size[0] - side, size[1] - side
    mirrored = corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for picture, x, y in ((corner, 0, 0), (mirrored, right, 0)):
        mask.paste(picture, (x, y))
        mask.paste(picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (x, bottom))
    return mask
