"""Finds the highest quality whose file is not too large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

import numpy as np

# Those for which a codec tells how size grows: KB of photos of 720 px. Other pictures have other
# sizes, but much the same growth, so one size tells where to look next.
QUALITIES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
# Guesses that this many tries did not confirm are given up for halving, which cannot fail.
_GUESSES = 5


def fit(
    write: Callable[[int], bytes],
    growth: Sequence[float],
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
        guess = _guess(growth, near, len(body), most_bytes) if tries < _GUESSES else 0
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


def _guess(sizes: Sequence[float], quality: int, size: int, wanted: int) -> int:
    """The quality that would give `wanted` bytes, if `quality` gave `size`."""
    growth = np.log(sizes)
    aim = np.interp(quality, QUALITIES, growth) + log(max(1, wanted) / size)
    return int(np.interp(aim, growth, QUALITIES))
