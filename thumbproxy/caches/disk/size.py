"""How much space files occupy on a file system."""

from __future__ import annotations

from typing import NamedTuple

# A file system gives space in blocks; a file of one byte takes one, too.
BLOCK = 4096


class Space(NamedTuple):
    """What files take: bytes, in whole blocks, and inodes, which directories need as well.

    As a bound, 0 is none.
    """

    bytes: int = 0
    files: int = 0

    def plus(self, other: Space) -> Space:
        return Space(self.bytes + other.bytes, self.files + other.files)

    def minus(self, other: Space) -> Space:
        """Never below 0."""
        return Space(max(0, self.bytes - other.bytes), max(0, self.files - other.files))

    def part(self, share: float) -> Space:
        """For a bound: none stays none."""
        return Space(*(max(1, int(number * share)) if number else 0 for number in self))

    def within(self, bounds: Space) -> bool:
        return all(not bound or number <= bound for number, bound in zip(self, bounds, strict=True))


NOTHING = Space()
FOLDER = Space(BLOCK, 1)


def space(size: int) -> Space:
    """What a file of `size` bytes takes."""
    return Space(-(-size // BLOCK) * BLOCK, 1)
