"""The highest quality whose file is not too large."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np

from thumbproxy.media import Format

# How size grows with quality: KB of photos of 720 px. Other pictures have other sizes, but much the
# same growth, so one size tells where to look next.
_QUALITIES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
_GROWTH = {
    Format.JPEG: (7.5, 12, 17, 21, 25, 28.5, 32, 39, 49, 74, 110, 241),
    Format.WEBP: (5, 8.2, 11, 13.5, 16, 19, 21, 24, 31, 52, 78, 146),
    Format.AVIF: (2.8, 4, 5.9, 8.6, 13, 20, 28, 38, 52, 77, 108, 216),
}
# Guesses that this many tries did not confirm are given up for halving, which cannot fail.
_GUESSES = 5


def fit(
    write: Callable[[int], bytes],
    format: Format,
    quality: int,
    most_bytes: int,
    *,
    closely: bool = True,
) -> bytes:
    """What `write` makes of the highest quality from 1 to `quality` that fits into `most_bytes`.

    It fits, and the next higher quality was tried and does not (sizes may dip again beyond it).
    When not even quality 1 fits, that is the result. Usually takes 3 to 5 encodes.
    closely=False: the first that fits will do, which takes one or two encodes less.
    """
    best = body = write(quality)
    fits, over, tries = 0, quality, 0
    if len(body) <= most_bytes:
        return body
    while over - fits > 1:
        near = fits if len(body) <= most_bytes else over
        guess = _guess(format, near, len(body), most_bytes) if tries < _GUESSES else 0
        middle = guess or (fits + over) // 2
        tried = min(max(middle, fits + 1), over - 1)
        body, tries = write(tried), tries + 1
        if len(body) <= most_bytes:
            if not closely:
                return body
            fits, best = tried, body
        else:
            over = tried
    return best if fits else body


def _guess(format: Format, quality: int, size: int, wanted: int) -> int:
    """The quality that would give `wanted` bytes, if `quality` gave `size`."""
    growth = np.log(_GROWTH[format])
    aim = np.interp(quality, _QUALITIES, growth) + log(max(1, wanted) / size)
    return int(np.interp(aim, growth, _QUALITIES))
