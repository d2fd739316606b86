"""Colours of any profile to sRGB, which is what outputs without a profile mean."""

from __future__ import annotations

import io

from PIL import Image

try:
    from PIL import ImageCms
except ImportError:  # a Pillow that was built without Little CMS
    ImageCms = None  # type: ignore[assignment]

_OUTPUT_MODES = {"L": "RGB", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "CMYK": "RGB"}


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """`image` in sRGB (IEC 61966-2-1): L, LA, RGB, RGBX or RGBA.

    A profile that cannot be read, or is of another kind of colour than the picture, is ignored:
    so do browsers. CMYK without a usable profile is converted by arithmetic.
    """
    if icc and ImageCms is not None and image.mode in _OUTPUT_MODES:
        image = _converted(image, icc)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _converted(image: Image.Image, icc: bytes) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if _is_srgb(profile):
            return image
        source = image.convert("RGB") if image.mode == "RGBX" else image
        converted = ImageCms.profileToProfile(
            source,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode=_OUTPUT_MODES[image.mode],
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if converted is None:
        return image
    converted.info = {}
    return converted.convert("L") if image.mode == "L" else converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    # "c2" is what a well-known stripped-down sRGB profile of 500 bytes calls itself.
    description = profile.profile.profile_description or ""
    return description.startswith(("sRGB", "c2"))
