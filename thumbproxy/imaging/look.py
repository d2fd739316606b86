"""What only the pixels can tell before everything is planned: a border, and what matters."""

from __future__ import annotations

from PIL import Image

from thumbproxy.imaging.boxes import Box, crop_box, to_sensor, to_upright
from thumbproxy.imaging.geometry import NOTHING_FOUND, Findings
from thumbproxy.imaging.job import Level
from thumbproxy.imaging.saliency import focal_point
from thumbproxy.imaging.steps import UPRIGHT
from thumbproxy.imaging.trim import content_box
from thumbproxy.kinds import SMART
from thumbproxy.media import ImageInfo
from thumbproxy.options import Options

# Longest side of the picture that is searched for what matters, px.
_GLANCE = 256


def look(level: Level, info: ImageInfo, options: Options) -> Findings:
    """What `trim` and `g_smart` ask of the pixels; with `trim` they must be unscaled."""
    smart = options.gravity == SMART and options.fit == "cover"
    if options.trim is None and not smart:
        return NOTHING_FOUND
    upright = (info.width, info.height)
    region = crop_box(options.crop, *upright)
    if options.trim is not None:
        region = _trimmed(level.image, region, info, options.trim)
    if not smart or options.width is None or options.height is None:
        return Findings(region)
    return Findings(region, _focus(level, region, info, options.width / options.height))


def _trimmed(image: Image.Image, region: Box, info: ImageInfo, tolerance: int) -> Box:
    sensor = image.size
    left, top, right, bottom = map(round, to_sensor(region, info.orientation, _upright_size(info)))
    kept = content_box(image.crop((left, top, right, bottom)), tolerance)
    return to_upright(Box(*kept).moved(left, top), info.orientation, sensor)


def _focus(level: Level, region: Box, info: ImageInfo, ratio: float) -> tuple[float, float]:
    """ratio: width by height of what is kept."""
    across, down = level.scale
    left, top, right, bottom = to_sensor(region, info.orientation, _upright_size(info))
    box = (left * across, top * down, right * across, bottom * down)
    scale = min(1.0, _GLANCE / max(box[2] - box[0], box[3] - box[1]))
    size = (
        max(1, round((box[2] - box[0]) * scale)),
        max(1, round((box[3] - box[1]) * scale)),
    )
    picture = level.image.resize(size, Image.Resampling.BOX, box, reducing_gap=1.0)
    if info.orientation != 1:
        picture = picture.transpose(UPRIGHT[info.orientation])
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")
    own = region.width / region.height
    return focal_point(picture, (min(1.0, ratio / own), min(1.0, own / ratio)))


def _upright_size(info: ImageInfo) -> tuple[int, int]:
    return info.width, info.height
