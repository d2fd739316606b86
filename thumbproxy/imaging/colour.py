"""Colours of any profile to sRGB, which is what outputs without a profile mean.

Little CMS takes 12 ns for a pixel of three channels. Pillow looks the same colours up in a cube of
52 steps a side in 2 ns. So a profile is turned into a cube once, held against Little CMS, and kept.
What the cube cannot follow closely is left to Little CMS: profiles that are far from sRGB in their
curve (linear light) or in their colours (ProPhoto): these are cut off sharply where sRGB ends.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from thumbproxy.core.forking import PerProcess

try:
    from PIL import ImageCms
except ImportError:  # a Pillow that was built without Little CMS
    ImageCms = None  # type: ignore[assignment]

Conversion = Callable[[Image.Image], Image.Image]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Differences = np.ndarray[Any, np.dtype[np.int32]]

_STEPS = 52  # 255 is 51 times 5: colours at the corners of its cells are whole numbers
# How close a cube must be to Little CMS over random colours, as mean squared error: 52 dB. Photos
# are closer: 53 to 57 dB in Display P3 and Adobe RGB.
_CLOSE = 255**2 / 10**5.2
# What is told apart from no conversion at all: profiles of sRGB differ in their rounding.
_UNSEEN = 2
_KEPT = 16  # 1.7 MB each
_COLOURS = ("RGB", "RGBX", "RGBA")
_GREYS = ("L", "LA")
# The colour spaces of profiles that can be meant by a picture of these channels. A grey picture may
# have a profile for colours, as scanners and editors write it; browsers follow it too.
_SPACES = {3: ("RGB ",), 1: ("GRAY", "RGB "), 4: ("CMYK",)}
# ICC.1:2022 section 7.3: where the table of tags is, and the size of its entries. Little CMS reads
# no more of them.
_TABLE, _ENTRY, _MOST_TAGS = 132, 12, 100


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """`image` in sRGB (IEC 61966-2-1): L, LA, RGB, RGBX or RGBA.

    A profile that cannot be read, or is of another kind of colour than the picture, is ignored:
    so do browsers. CMYK without a usable profile is converted by arithmetic, as they do, too.
    """
    channels = 3 if image.mode in _COLOURS else 1 if image.mode in _GREYS else 4
    conversion = _CONVERSIONS.get(icc, channels) if icc and ImageCms is not None else None
    if conversion is not None:
        return conversion(image)
    return image.convert("RGB") if image.mode == "CMYK" else image


class _Conversions:
    """The conversions of the profiles that were seen last. Shared by all threads: a conversion
    does not change when it is used, and one that two threads make at once is made twice."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, int], Conversion | None] = OrderedDict()
        self._lock = PerProcess(threading.Lock)

    def get(self, icc: bytes, channels: int) -> Conversion | None:
        """How to convert pictures of 1, 3 or 4 channels; None for not at all."""
        key = hashlib.sha256(icc).digest(), channels
        with self._lock.value:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _conversion(icc, channels)
        with self._lock.value:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


_CONVERSIONS = _Conversions()


def _conversion(icc: bytes, channels: int) -> Conversion | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(_without_chains(icc)))
        space = profile.profile.xcolor_space
        if space not in _SPACES[channels]:
            return None
        if channels == 4:
            return _press(profile)
        if channels == 1:
            return _grey(profile, "L" if space == "GRAY" else "RGB")
        return _cube(profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _without_chains(icc: bytes) -> bytes:
    """The profile with other names for its tags of "multi process elements" (section 10.16).

    Such a tag is a chain of any number of steps, that may all be one place in the file: with 4 MB,
    a quarter of an hour for the smallest picture. Little CMS prefers them to the other tags, which
    every profile has as well; browsers pass over them.
    """
    named = bytearray(icc)
    for entry in range(_MOST_TAGS):
        at = _TABLE + entry * _ENTRY
        if entry >= int.from_bytes(icc[_TABLE - 4 : _TABLE], "big"):
            break
        if icc[at : at + 3] in (b"D2B", b"B2D"):
            named[at : at + 3] = icc[at : at + 3].lower()
    return bytes(named)


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """Relative to white, with black going to black, as editors show profiled pictures."""
    flags = ImageCms.Flags
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # Without the memory of its last pixel a transform may be shared by threads.
        flags=flags.BLACKPOINTCOMPENSATION | flags.NOCACHE,
    )


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    made = transform.apply(image)
    # Pillow has put the profile of the output there, and would write it into files.
    made.info = {}
    return made


def _press(profile: ImageCms.ImageCmsProfile) -> Conversion:
    transform = _transform(profile, "CMYK")
    return lambda image: _applied(transform, image)


def _grey(profile: ImageCms.ImageCmsProfile, mode: str) -> Conversion | None:
    ramp = Image.linear_gradient("L").crop((0, 0, 1, 256))
    shades = _applied(_transform(profile, mode), ramp.convert(mode)).getchannel("G").tobytes()
    if max(abs(shade - level) for level, shade in enumerate(shades)) <= _UNSEEN:
        return None
    table = list(shades)
    alpha = list(range(256))
    return lambda image: image.point(table + alpha if image.mode == "LA" else table)


def _cube(profile: ImageCms.ImageCmsProfile) -> Conversion | None:
    transform = _transform(profile, "RGB")

    def directly(image: Image.Image) -> Image.Image:
        made = _applied(transform, image.convert("RGB"))
        if image.mode == "RGBA":
            made.putalpha(image.getchannel("A"))
        return made

    nodes = _nodes()
    corners = np.asarray(_applied(transform, nodes))
    if np.abs(_difference(corners, nodes)).max() <= _UNSEEN:
        return None
    table = (corners.reshape(-1) / np.float32(255)).astype(np.float32)
    cube = ImageFilter.Color3DLUT(_STEPS, table)
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8))
    error = _difference(colours.filter(cube), _applied(transform, colours))
    return directly if np.mean(error**2) > _CLOSE else lambda image: image.filter(cube)


def _nodes() -> Image.Image:
    """A picture of all colours at the corners of the cube's cells."""
    values = np.arange(0, 256, 255 // (_STEPS - 1), dtype=np.uint8)
    blue, green, red = np.meshgrid(values, values, values, indexing="ij")
    return Image.fromarray(np.stack((red, green, blue), -1).reshape(_STEPS, -1, 3))


def _difference(one: Image.Image | Bytes, other: Image.Image | Bytes) -> Differences:
    return np.asarray(one, np.int32) - np.asarray(other, np.int32)
