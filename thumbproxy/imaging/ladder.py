"""Smaller and smaller copies of one picture, so that each output is resized from a near one."""

from __future__ import annotations

from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.job import Level

# How much larger than an output the copy must be that it is made from. A resized copy has lost
# what is finer than its own pixels; from twice the size on, hardly anything of that would be left
# in the output: 49 dB at least on photos and drawings, against one made from the whole picture.
MARGIN = 2.0


class Ladder:
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
