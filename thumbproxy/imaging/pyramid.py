"""What several outputs of one image share: the analysis, the pixels, and smaller copies."""

from __future__ import annotations

import math
from dataclasses import replace

from thumbproxy.core.formats import Format
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.job import Level
from thumbproxy.urls.options import Options

Variant = tuple[Options, Format]

# How much larger than an output the copy must be that it is made from. A resized copy has lost
# what is finer than its own pixels; from twice the size on, hardly anything of that would be left
# in the output: 49 dB at least on photos and drawings, against one made from the whole picture.
MARGIN = 2.0


class Pyramid:
    """Levels of one picture, the decoded one at its top."""

    def __init__(self, top: Level) -> None:
        self.top = top
        self._rungs: list[Level] = []

    def add(self, level: Level) -> None:
        """A copy that later outputs may be made from."""
        self._rungs.append(level)

    def nearest(self, plan: Plan) -> Level:
        """The smallest copy that shows the plan's region in enough detail."""
        good = [rung for rung in self._rungs if _serves(rung, plan)]
        return min(good, key=lambda rung: rung.image.width * rung.image.height, default=self.top)


def _serves(level: Level, plan: Plan) -> bool:
    across, down = level.scale
    return (
        level.box.holds(plan.box)
        # In a copy that shows more, what lies beyond the region has been mixed into its edge.
        and plan.region.holds(level.box)
        and plan.box.width * across >= plan.size[0] * MARGIN
        and plan.box.height * down >= plan.size[1] * MARGIN
    )


def seen_alike(options: Options) -> Options:
    """What decides what is found in the pixels: sizes of one ratio are looked at once."""
    width, height = options.width, options.height
    if width is not None and height is not None:
        shared = math.gcd(width, height)
        width, height = width // shared, height // shared
    return Options(
        crop=options.crop,
        trim=options.trim,
        fit=options.fit,
        gravity=options.gravity,
        width=width,
        height=height,
    )


def made_alike(variant: Variant) -> tuple[str, bool]:
    """What decides the pixels of a still: variants alike in this are encoded from one picture."""
    options, format = variant
    # Not `lossless`, which decides about the colours of what is transparent.
    plain = replace(options, quality=None, max_bytes=None, version=None, expires=None)
    return str(plain), format.has_alpha


def order_of(plan: Plan, variant: Variant) -> tuple[int, tuple[str, bool]]:
    """Sorts the largest first, and what is made alike side by side."""
    return -plan.size[0] * plan.size[1], made_alike(variant)
