"""What the plan needs from the pixels: a uniform border, and the focal point."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from thumbproxy.core.media import ImageInfo
from thumbproxy.imaging.boxes import Box, crop_box, to_sensor, to_upright
from thumbproxy.imaging.geometry import NOTHING_FOUND, Findings, look_eighths, looks_for_focus
from thumbproxy.imaging.job import Level
from thumbproxy.imaging.orientation import upright
from thumbproxy.imaging.saliency import focal_point
from thumbproxy.imaging.trim import content_box
from thumbproxy.urls.options import Options


def analyse(level: Level, info: ImageInfo, options: Options) -> Findings:
    """What `trim` and `g_smart` ask of the pixels; with `trim` they must be unscaled."""
    focus = looks_for_focus(options)
    if options.trim is None and not focus:
        return NOTHING_FOUND
    crop = region = crop_box(options.crop, info.width, info.height)
    if options.trim is not None:
        region = _trimmed(level, crop, info, options.trim)
    if not focus:
        return Findings(region)
    eighths = look_eighths(replace(options, trim=None), crop)
    return Findings(region, _focus(level, region, info, options, eighths))


def _trimmed(level: Level, crop: Box, info: ImageInfo, tolerance: int) -> Box:
    part = level.within(to_sensor(crop, info.orientation, _upright_size(info)))
    kept = Box(*content_box(part.image, tolerance)).moved(part.box.left, part.box.top)
    return to_upright(kept, info.orientation, level.image.size)


def _focus(
    level: Level, region: Box, info: ImageInfo, options: Options, eighths: int
) -> tuple[float, float]:
    across, down = level.scale
    left, top, right, bottom = to_sensor(region, info.orientation, _upright_size(info))
    box = (left * across, top * down, right * across, bottom * down)
    # Scaled in blocks of whole pixels this is what the decoder gives at that scale, so that it is
    # the same picture whatever was decoded.
    size = (
        max(1, round((right - left) * eighths / 8)),
        max(1, round((bottom - top) * eighths / 8)),
    )
    picture = level.image.resize(size, Image.Resampling.BOX, box)
    picture = upright(picture, info.orientation)
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")
    ratio = (options.width or 1) / (options.height or 1)
    own = region.width / region.height
    return focal_point(picture, (min(1.0, ratio / own), min(1.0, own / ratio)))


def _upright_size(info: ImageInfo) -> tuple[int, int]:
    return info.width, info.height
