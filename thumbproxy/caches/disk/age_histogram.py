"""How many bytes and files were last used when. From this it follows which are the oldest, without
a list of all files."""

from __future__ import annotations

import math

from thumbproxy.caches.disk.size import NOTHING, Space

# Ages that differ by less than 1 % are not told apart: a minute in two hours, a day in 100 days.
_STEP = math.log(1.01)
_OLDEST = math.log(3e9)
_PILES = int(_OLDEST / _STEP) + 1


class AgeHistogram:
    """Space by age. now: unix seconds. A use in the future counts as one now."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.total = NOTHING
        self._bytes = [0] * _PILES
        self._files = [0] * _PILES

    def note(self, used: float, space: Space) -> None:
        """A file that was last used at `used`, unix seconds."""
        bucket = _pile(self.now - used)
        self._bytes[bucket] += space.bytes
        self._files[bucket] += space.files
        self.add(space)

    def add(self, space: Space) -> None:
        """What is there and is not removed for its age."""
        self.total = self.total.plus(space)

    def cut(self, target: Space) -> EvictionCutoff:
        """Where to cut, so that no more than `target` is left."""
        excess = [
            max(0, there - bound) if bound else 0
            for there, bound in zip(self.total, target, strict=True)
        ]
        for bucket in range(_PILES - 1, -1, -1):
            if self._bytes[bucket] >= excess[0] and self._files[bucket] >= excess[1]:
                return EvictionCutoff(self.now, bucket, Space(*excess))
            excess = [
                max(0, excess[0] - self._bytes[bucket]),
                max(0, excess[1] - self._files[bucket]),
            ]
        return EvictionCutoff(self.now, -1, NOTHING)


class EvictionCutoff:
    """All that is older, and of one pile as much as is needed."""

    def __init__(self, now: float, bucket: int, needed: Space) -> None:
        self._now = now
        self._pile = bucket
        self._needed = needed

    def takes(self, used: float, space: Space) -> bool:
        """Whether a file is to go. What goes of the last pile is subtracted from what is needed."""
        bucket = _pile(self._now - used)
        if bucket != self._pile or self._needed == NOTHING:
            return bucket > self._pile
        self._needed = self._needed.minus(space)
        return True


def _pile(age: float) -> int:
    return min(int(math.log(max(0.0, age) + 1) / _STEP), _PILES - 1)
