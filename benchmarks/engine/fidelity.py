"""How near a picture is to what it should be: PSNR and SSIM.

PSNR judges the resized pixels before they are encoded, against what the same engine makes of the
same picture as a PNG, which cannot be decoded at a reduced scale. So it measures what such a
decode costs, and nothing else.

SSIM judges the file, against one reference for all engines: a Lanczos resize of the whole picture.
So it says whether equal numbers for quality are equal quality.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image

from thumbproxy.core.formats import Format

from .makers import Task
from .rivals import Rival
from .sources import Pictures

IDENTICAL = 60.0
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Plane = np.ndarray[Any, np.dtype[np.float32]]
Wholes = dict[str, Path]


def wholes(pictures: Pictures, folder: Path) -> Wholes:
    """The pictures decoded at full size, upright, as uncompressed PNG files."""
    found = {}
    for number, (name, source) in enumerate(pictures.items()):
        found[name] = folder / f"{number}.png"
        image = pyvips.Image.new_from_buffer(source, "").autorot()
        image.write_to_file(f"{found[name]}[compression=0,keep=icc]")
    return found


def decibels(rival: Rival, source: bytes, whole: Path, side: int) -> float:
    """PSNR of the picture that a rival makes of a JPEG source, see above."""
    made = []
    for picture in (source, whole.read_bytes()):
        rival.load(picture)
        with Image.open(io.BytesIO(rival.render(Task(side, Format.PNG)).body)) as image:
            made.append(np.asarray(image.convert("RGB")))
    return psnr(*made)


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all channels, at most IDENTICAL."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return min(IDENTICAL, 10 * math.log10(255**2 / max(error, 1e-9)))


def reference(whole: Path, side: int) -> Image.Image:
    """What SSIM compares with."""
    with Image.open(whole) as image:
        scale = min(1.0, side / max(image.size))
        size = round(image.width * scale), round(image.height * scale)
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def file_ssim(body: bytes, reference: Image.Image) -> float:
    """SSIM of an encoded picture; one whose size was rounded otherwise is brought to it."""
    with Image.open(io.BytesIO(body)) as image:
        picture = image.convert("RGB")
    if picture.size != reference.size:
        picture = picture.resize(reference.size, Image.Resampling.LANCZOS)
    return ssim(picture, reference)


def ssim(one: Image.Image, other: Image.Image) -> float:
    """Structural similarity of two pictures' luma, 1 for equal ones.

    Wang et al., "Image quality assessment", 2004, in windows of 8 x 8 pixels side by side.
    """
    x, y = _luma(one), _luma(other)
    mean_x, mean_y = _windows(x), _windows(y)
    variance_x, variance_y = _windows(x * x) - mean_x**2, _windows(y * y) - mean_y**2
    covariance = _windows(x * y) - mean_x * mean_y
    small, smaller = (0.03 * 255) ** 2, (0.01 * 255) ** 2
    likeness = (2 * mean_x * mean_y + smaller) * (2 * covariance + small)
    size = (mean_x**2 + mean_y**2 + smaller) * (variance_x + variance_y + small)
    return float(np.mean(likeness / size))


def _luma(image: Image.Image) -> Plane:
    plane = np.asarray(image.convert("L"), np.float32)
    height, width = (side // 8 * 8 for side in plane.shape)
    return plane[:height, :width]


def _windows(plane: Plane) -> Plane:
    height, width = plane.shape
    means: Plane = plane.reshape(height // 8, 8, width // 8, 8).mean((1, 3))
    return means
