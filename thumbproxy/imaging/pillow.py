"""The engine: libjpeg-turbo and Pillow, or Pillow-SIMD, which is the same to this code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import groupby

from PIL import Image

from thumbproxy.core.errors import BadOptions, BrokenImage
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.imaging.alpha import has_alpha
from thumbproxy.imaging.analysis import analyse
from thumbproxy.imaging.boxes import Box, Size
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.decode import Decoded, decode, decode_frames
from thumbproxy.imaging.encode import check_lossless, encode, encode_animation, written
from thumbproxy.imaging.geometry import Findings, Plan, plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.info import LONGEST_SIDE, document
from thumbproxy.imaging.job import Job, Level
from thumbproxy.imaging.pyramid import Pyramid, Variant, made_alike, order_of, seen_alike
from thumbproxy.imaging.steps import finish, resize, run
from thumbproxy.imaging.watermark import Watermark
from thumbproxy.urls.options import Options


class PillowEngine:
    """Implements imaging.base.Engine. Has no state that a render changes.

    outputs  the formats of pictures that this installation can write
    """

    def __init__(
        self,
        limits: Limits,
        encoding: Encoding = Encoding(),  # noqa: B008 - a frozen value
        watermarks: Mapping[str, Watermark] | None = None,
        exif_fields: Sequence[str] = (),
    ) -> None:
        """exif_fields: names of the EXIF fields that the info document tells."""
        self.limits = limits
        self.encoding = encoding
        self.watermarks = dict(watermarks or {})
        self.exif_fields = tuple(exif_fields)
        self.outputs = written()

    def inspect(self, source: bytes) -> ImageInfo:
        """What the header says; a matter of microseconds. See imaging.base.Engine."""
        return read_header(source, self.limits).info

    def check(self, options: Options, format: Format) -> None:
        """See imaging.base.Engine."""
        if format.is_image and format not in self.outputs:
            raise BadOptions(f"This server cannot write {format.extension}.")
        if options.lossless and format.is_image:
            check_lossless(format)
        if options.watermark is not None and options.watermark not in self.watermarks:
            raise BadOptions(
                f"This server has no watermark {options.watermark!r}; "
                "its configuration names those that there are."
            )

    def output_size(self, info: ImageInfo, options: Options) -> Size:
        """See imaging.base.Engine."""
        return plan(info, options, self.limits).output

    def pixels(self, info: ImageInfo, options: Options, format: Format) -> int:
        """See imaging.base.Engine. Some formats are scaled while they are decoded."""
        numbers = plan(info, options, self.limits)
        animated = info.frames > 1 and format.animated and not options.one_frame
        shown = numbers.output[0] * numbers.output[1] * (info.frames if animated else 1)
        scale = numbers.eighths / 8 if info.format.scaled else 1.0
        return round(info.width * scale * info.height * scale) + shown

    def render(
        self, source: bytes, options: Options, format: Format, *, fallback: Format | None = None
    ) -> Encoded:
        """See imaging.base.Engine."""
        self.check(options, format)
        started = time.perf_counter()
        header = read_header(source, self.limits)
        if format is Format.JSON:
            return self._document(source, header, options, started)
        if header.frames > 1 and format.animated and not options.one_frame:
            return self._animation(source, header, (options, format), started)
        with self._opened(source, header, options, self.limits) as (level, found):
            numbers = plan(header.info, options, self.limits, found)
            picture = run(Job(level, numbers, options, format, self.watermarks))
        rendered = time.perf_counter()
        return self._encoded(picture, (options, format), rendered - started, fallback)

    def render_many(self, source: bytes, variants: Sequence[Variant]) -> list[Encoded]:
        """See imaging.base.Engine."""
        for variant in variants:
            self.check(*variant)
        header = read_header(source, self.limits)
        made: dict[Variant, Encoded] = {}
        stills: set[Variant] = set()
        for variant in variants:
            options, format = variant
            if header.frames == 1 and format.is_image and options.page is None:
                stills.add(variant)
            else:
                made[variant] = self.render(source, options, format)
        if stills:
            made |= self._together(source, header, stills)
        return [made[variant] for variant in variants]

    @contextmanager
    def _opened(
        self, source: bytes, header: Header, options: Options, limits: Limits
    ) -> Iterator[tuple[Level, Findings]]:
        """The pixels that `options` need, and what was found in them."""
        numbers = plan(header.info, options, limits)
        decoded = decode(source, header, numbers, options.page or 1)
        try:
            level = _level(decoded)
            yield level, analyse(level, header.info, options)
        finally:
            decoded.release()

    def _encoded(
        self,
        picture: Image.Image,
        variant: Variant,
        render_seconds: float,
        fallback: Format | None = None,
    ) -> Encoded:
        started = time.perf_counter()
        options, format = variant
        write = partial(
            encode,
            picture,
            quality=options.quality,
            encoding=self.encoding,
            lossless=options.lossless,
        )
        body = write(format, most_bytes=options.max_bytes)
        # Cheap to know: a JPEG takes a twentieth of the time that others take.
        if fallback is Format.JPEG is not format and not has_alpha(picture):
            most = len(write(Format.JPEG, most_bytes=options.max_bytes))
            if most < len(body) and not (options.max_bytes and options.max_bytes < len(body)):
                body = write(format, most_bytes=most, closely=False)
        seconds = time.perf_counter() - started
        return Encoded(body, format, *picture.size, render_seconds, seconds)

    def _together(
        self, source: bytes, header: Header, variants: set[Variant]
    ) -> dict[Variant, Encoded]:
        """Stills of one decoded picture, largest first, each from the nearest that is there."""
        started = time.perf_counter()
        info = header.info
        plans = {variant: plan(info, variant[0], self.limits) for variant in variants}
        widest = replace(
            max(plans.values(), key=lambda numbers: numbers.eighths),
            fast_chroma=all(numbers.fast_chroma for numbers in plans.values()),
        )
        decoded = decode(source, header, widest)
        made: dict[Variant, Encoded] = {}
        try:
            ladder = Pyramid(_level(decoded))
            looked = cache(lambda options: analyse(ladder.top, info, options))
            order = sorted(plans, key=lambda variant: order_of(plans[variant], variant))
            for _, alike in groupby(order, key=made_alike):
                group = list(alike)
                found = looked(seen_alike(group[0][0]))
                picture = self._from_ladder(ladder, found, info, group[0])
                for variant in group:
                    made[variant] = self._encoded(picture, variant, time.perf_counter() - started)
                    started = time.perf_counter()
        finally:
            decoded.release()
        return made

    def _from_ladder(
        self, ladder: Pyramid, found: Findings, info: ImageInfo, variant: Variant
    ) -> Image.Image:
        options, format = variant
        numbers = plan(info, options, self.limits, found)
        level = ladder.nearest(numbers)
        job = Job(level, numbers, options, format, self.watermarks)
        resized = resize(level.image, job)
        ladder.add(Level(resized, numbers.box, level.icc))
        return finish(resized, job)

    def _animation(
        self, source: bytes, header: Header, variant: Variant, started: float
    ) -> Encoded:
        options, format = variant
        if header.frames > self.limits.frames:
            raise BrokenImage(
                f"The source is an animation of {header.frames} frames; "
                f"at most {self.limits.frames} are allowed. With `still` it is a picture."
            )
        animation = decode_frames(source, header)
        numbers: Plan | None = None
        pictures, durations = [], []
        for frame in animation.frames:
            level = _level(Decoded(frame.image, icc=animation.icc))
            if numbers is None:
                numbers = plan(
                    header.info, options, self.limits, analyse(level, header.info, options)
                )
                self._check_total(numbers.output, header.frames)
            pictures.append(run(Job(level, numbers, options, format, self.watermarks)))
            durations.append(frame.duration)
        rendered = time.perf_counter()
        body = encode_animation(
            pictures,
            durations,
            animation.loop,
            format,
            options.quality or self.encoding.quality(format) or 1,
            self.encoding,
            lossless=options.lossless,
        )
        seconds = time.perf_counter() - rendered
        return Encoded(body, format, *pictures[0].size, rendered - started, seconds)

    def _check_total(self, output: Size, frames: int) -> None:
        """All frames of an animation are in memory before they are written."""
        if output[0] * output[1] * frames > self.limits.source_pixels:
            raise BadOptions(
                f"The animation would have {frames} frames of {output[0]} x {output[1]} pixels; "
                f"at most {self.limits.source_pixels} pixels altogether are allowed. "
                "Ask for a smaller one, or with `still` for a picture."
            )

    def _document(self, source: bytes, header: Header, options: Options, started: float) -> Encoded:
        """Geometry and colours as they will be, in a small picture without effects."""
        small = replace(self.limits, output_side=LONGEST_SIDE)
        plain = replace(options, blur=None, sharpen=0, radius=None, watermark=None)
        with self._opened(source, header, options, small) as (level, found):
            numbers = plan(header.info, plain, small, found)
            picture = run(Job(level, numbers, plain, Format.PNG))
        output = plan(header.info, options, self.limits, found).output
        body = document(source, header, output, picture, self.exif_fields)
        return Encoded(body, Format.JSON, *output, time.perf_counter() - started)


def _level(decoded: Decoded) -> Level:
    # A scaled decode has rounded its sides up: its last pixels reach beyond the picture's edge.
    across, down = (side * 8 / decoded.eighths for side in decoded.image.size)
    return Level(decoded.image, Box(0, 0, across, down), decoded.icc, decoded.lease)
