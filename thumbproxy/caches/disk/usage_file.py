"""The counters that all processes of a cache directory share in one file."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from typing import Self

from thumbproxy.caches.disk.size import NOTHING, Space

_DAY = 86_400.0


@dataclass(slots=True)
class Tally:
    """The numbers in the file.

    counts      how often everything was counted anew
    counted_at  when it was last, unix seconds; 0: nobody knows what is there
    kept        what lies in the trees
    added       what has ever been put there, since the file was made
    taken       what is being written, in two piles: that of this turn, and that of the one before
    """

    counts: int = 0
    counted_at: int = 0
    turned_at: int = 0
    turn: int = 0
    kept: Space = NOTHING
    added: Space = NOTHING
    taken: list[Space] = field(default_factory=lambda: [NOTHING, NOTHING])

    @property
    def known(self) -> bool:
        return self.counted_at > 0

    @property
    def total(self) -> Space:
        return self.kept.plus(self.taken[0]).plus(self.taken[1])

    @property
    def due(self) -> bool:
        """Whether it is time to count. What was counted before a power cut may be lost."""
        now = time.time()
        started = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        return not max(started, now - _DAY) < self.counted_at <= now + 1

    def packed(self) -> bytes:
        return _FORM.pack(
            _MAGIC, self.counts, self.counted_at, self.turned_at, self.turn,
            *self.kept, *self.added, *self.taken[0], *self.taken[1],
        )  # fmt: skip

    @classmethod
    def unpacked(cls, data: bytes) -> Self | None:
        """None for what is damaged."""
        if len(data) != _FORM.size or not data.startswith(_MAGIC):
            return None
        numbers = _FORM.unpack(data)[1:]
        counts, counted_at, turned_at, turn = numbers[:4]
        if min(numbers) < 0 or turn > 1:
            return None
        kept, added, *taken = (Space(*numbers[i : i + 2]) for i in range(4, 12, 2))
        return cls(counts, counted_at, turned_at, turn, kept, added, taken)


# Another number for another layout: what lies there of the one before is looked at soon.
_MAGIC = b"tp-use-2"
_FORM = struct.Struct("<8s12q")
LENGTH = _FORM.size
