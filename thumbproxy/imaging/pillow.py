"""The engine: libjpeg-turbo and Pillow, or Pillow-SIMD, which is the same to this code."""

from __future__ import annotations

import time
from collections.abc import Mapping

from PIL import Image

from thumbproxy.errors import BadOptions
from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.encode import available, encode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import Header, read_header
from thumbproxy.imaging.steps import STEPS, Job
from thumbproxy.limits import Limits
from thumbproxy.media import QUALITIES, Encoded, Format, ImageInfo
from thumbproxy.options import Options


class PillowEngine:
    """Implements imaging.base.Engine. Has no state that a render changes.

    outputs  the formats that this installation can write
    """

    def __init__(self, limits: Limits, qualities: Mapping[Format, int] | None = None) -> None:
        """`qualities` (1 to 100) replace the defaults for the formats that they name."""
        self.limits = limits
        self.qualities = {**QUALITIES, **(qualities or {})}
        self.outputs = available()

    def inspect(self, source: bytes) -> ImageInfo:
        """What the header says; a matter of microseconds. See imaging.base.Engine."""
        return read_header(source, self.limits).info

    def render(self, source: bytes, options: Options, format: Format) -> Encoded:
        """See imaging.base.Engine.

        Raises BadOptions besides, for a crop or page outside of the picture and for a format that
        is not one of `outputs`.
        """
        if format not in self.outputs:
            raise BadOptions(f"This server cannot write {format.extension}.")
        started = time.perf_counter()
        header = read_header(source, self.limits)
        picture = self._picture(source, header, options, format)
        rendered = time.perf_counter()
        body = encode(picture, format, options.quality or self.qualities.get(format, 0))
        ended = time.perf_counter()
        return Encoded(body, format, *picture.size, rendered - started, ended - rendered)

    def _picture(
        self, source: bytes, header: Header, options: Options, format: Format
    ) -> Image.Image:
        numbers = plan(header.info, options, self.limits)
        decoded = decode(source, header, numbers, options.page or 1)
        job = Job(decoded, numbers, options, format)
        picture = decoded.image
        try:
            for step in STEPS:
                picture = step(picture, job)
        finally:
            decoded.release()
        return picture
