"""One source, many outputs: render_many beside one render for each."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from thumbproxy.core.formats import Format
from thumbproxy.core.media import Encoded
from thumbproxy.urls.options import Options

from .fidelity import ssim
from .makers import NAMES, OURS
from .sources import Pictures, megapixels

WIDTHS = (320, 480, 640, 800, 960, 1280)
PAIRS = ((Format.JPEG, Format.WEBP), (Format.JPEG, Format.AVIF))


class Many(NamedTuple):
    """CPU milliseconds of all outputs together, medians; the ratio is that of neighbours.

    likeness  SSIM of the least alike pair of pictures, one made together, one singly
    """

    formats: tuple[Format, ...]
    together: float
    singly: float
    ratio: float
    likeness: float

    @property
    def name(self) -> str:
        return " + ".join(NAMES[format] for format in self.formats)


def compared(pictures: Pictures, rounds: int, thread: ThreadPoolExecutor) -> list[Many]:
    """Six widths in each pair of formats, of the photo that is nearest to 12 megapixels."""
    source = min(pictures.values(), key=lambda body: abs(megapixels(body) - 12))
    return [_pair(source, formats, rounds, thread) for formats in PAIRS]


def _pair(
    source: bytes, formats: tuple[Format, ...], rounds: int, thread: ThreadPoolExecutor
) -> Many:
    wanted = [(Options(width=width), format) for width in WIDTHS for format in formats]

    def all_at_once() -> list[Encoded]:
        return OURS.render_many(source, wanted)

    def one_by_one() -> list[Encoded]:
        return [OURS.render(source, options, format) for options, format in wanted]

    times = []
    for _ in range(rounds):
        together, many = thread.submit(_timed, all_at_once).result()
        singly, single = thread.submit(_timed, one_by_one).result()
        times.append((together, singly))
    return Many(
        formats,
        1000 * statistics.median(together for together, _ in times),
        1000 * statistics.median(singly for _, singly in times),
        statistics.median(a / b for a, b in times),
        min(ssim(_shown(a), _shown(b)) for a, b in zip(many, single, strict=True)),
    )


def _timed(work: Callable[[], list[Encoded]]) -> tuple[float, list[Encoded]]:
    """CPU seconds, and what was made."""
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


def _shown(encoded: Encoded) -> Image.Image:
    return Image.open(io.BytesIO(encoded.body))
