"""Settings of what is made, and of what making it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thumbproxy.config.schema import setting
from thumbproxy.config.types import Duration, ListOf, Size, Switch, WatermarkSetting, WatermarkTable
from thumbproxy.core.formats import Encoding
from thumbproxy.core.limits import RENDER_MEMORY, Limits
from thumbproxy.http.negotiation import PREFERENCE
from thumbproxy.urls.value_types import Choice, Number, Pattern

# Of workers, and of renders of each.
MOST_PROCESSES = 256
_ENCODING = Encoding()
_LIMITS = Limits()
_QUALITY = Number(1, 100)
_SUBSAMPLING = Choice(("420", "422", "444"))
# 0 would be no time at all, and is not how to say that there is no bound.
_TIMEOUT = Duration(0.1, 600, 3)
_FORMATS = tuple(format.extension for format in PREFERENCE)


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """Formats and quality

    The defaults are chosen by measure ([encoders](encoders.md)); touch them if your pictures show
    it. What changes here counts for pictures that are made from then on: purge, and the others are
    made anew.
    """

    auto_formats: tuple[str, ...] = setting(
        ListOf(Choice(_FORMATS)), _FORMATS, "what `auto` offers, best first"
    )
    auto_avif_pixels: int = setting(
        Number(0, 100_000_000), 2_500_000, "largest picture that `auto` sends as AVIF, pixels"
    )
    quality_jpg: int = setting(_QUALITY, _ENCODING.quality_jpg, "default quality of JPEG")
    quality_webp: int = setting(_QUALITY, _ENCODING.quality_webp, "default quality of WebP")
    quality_avif: int = setting(_QUALITY, _ENCODING.quality_avif, "default quality of AVIF")
    progressive_jpg: bool = setting(
        Switch(), _ENCODING.progressive_jpg, "JPEG that builds up while it loads"
    )
    subsampling_jpg: str = setting(_SUBSAMPLING, _ENCODING.subsampling_jpg, "colour detail of JPEG")
    effort_webp: int = setting(Number(0, 6), _ENCODING.effort_webp, "more is smaller and slower")
    speed_avif: int = setting(Number(0, 10), _ENCODING.speed_avif, "less is smaller and slower")
    subsampling_avif: str = setting(
        _SUBSAMPLING, _ENCODING.subsampling_avif, "colour detail of AVIF"
    )
    compression_png: int = setting(
        Number(0, 9), _ENCODING.compression_png, "more is smaller and slower"
    )
    watermarks: Mapping[str, WatermarkSetting] = setting(
        WatermarkTable(), {}, "pictures for the option `wm`, by name", secret=True
    )
    exif_fields: tuple[str, ...] = setting(
        ListOf(Pattern("[A-Za-z0-9]+", "the name of an EXIF field")),
        (),
        "EXIF fields that `json` tells",
    )


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """Limits

    They keep one source, or one request, from taking all that the server has. Raise one if pictures
    of yours are refused for it, as their replies say, and look at `render_memory` with it.
    """

    max_source_bytes: int = setting(Size(1, 2**30), _LIMITS.source_bytes, "largest source")
    max_source_pixels: int = setting(
        # More, and Pillow itself takes the picture for an attack.
        Number(1, 178_000_000),
        _LIMITS.source_pixels,
        "largest source, pixels of all frames",
    )
    max_source_side: int = setting(
        Number(1, 65_535), _LIMITS.source_side, "longest side of a source, pixels"
    )
    max_frames: int = setting(
        Number(1, 10_000), _LIMITS.frames, "longest animation that is animated, frames"
    )
    max_output_side: int = setting(
        Number(1, 16_383), _LIMITS.output_side, "longest side of an output, pixels"
    )
    fetch_timeout: float = setting(_TIMEOUT, _LIMITS.fetch_seconds, "one fetch from the origin")
    request_timeout: float = setting(_TIMEOUT, _LIMITS.request_seconds, "one request")


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """Rendering

    `serve` finds out by itself how many pictures it can make at a time with the processors and the
    memory that it has. Touch these if it shares them with other programs, or if `thumbproxy doctor`
    says so.
    """

    isolation: str = setting(
        Choice(("auto", "processes", "threads")),
        "auto",
        "where pictures are made; auto: in processes of `serve`, in threads of middleware",
    )
    renders: int = setting(
        Number(0, MOST_PROCESSES),
        0,
        "pictures made at a time by each process; 0: processors / workers, and 2 at least, "
        "if memory suffices",
    )
    render_timeout: float = setting(
        _TIMEOUT,
        _LIMITS.render_seconds,
        "time of a processor that one render may take; at most half of request_timeout",
    )
    render_pixels: int = setting(
        Number(1, 10**10),
        100_000_000,
        "pixels that all renders of a process hold at a time; others wait",
    )
    render_memory: int = setting(
        Size(), RENDER_MEMORY, "address space of a process that makes pictures"
    )
