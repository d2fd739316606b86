"""Where the parts of an animation lie on their canvas, and whether they ever leave any of it empty.

Browsers clear a canvas to transparent, whatever colour of background a file names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

Box = tuple[int, int, int, int]


class Disposal(Enum):
    """What becomes of a part when its time is over."""

    KEEP = "stays"
    CLEAR = "its region becomes transparent"
    RESTORE = "its region becomes what it was before"


@dataclass(frozen=True, slots=True)
class Place:
    """What a file says about one part of the canvas, without its pixels.

    box     left, top, right and bottom, within the canvas
    over    True: it is laid over the canvas; False: it replaces its region, alpha and all
    opaque  it cannot have a transparent pixel
    """

    box: Box
    disposal: Disposal = Disposal.KEEP
    over: bool = True
    opaque: bool = True


def shows_through(
    places: Sequence[Place], size: tuple[int, int], *, first_opaque: bool = False
) -> bool:
    """Whether any pixel of the canvas may ever be seen transparent.

    first_opaque  the first part turned out to have no transparent pixel
    """
    bare: Box | None = (0, 0, *size)  # what is transparent until the next part covers it
    for number, place in enumerate(places):
        if not (place.opaque or place.over):
            return True
        covers = place.opaque or (first_opaque and number == 0)
        if bare and not (covers and _contains(place.box, bare)):
            return True
        bare = {Disposal.KEEP: None, Disposal.CLEAR: place.box, Disposal.RESTORE: bare}[
            place.disposal
        ]
    return False


def _contains(outer: Box, inner: Box) -> bool:
    left, top, right, bottom = inner
    return outer[0] <= left and outer[1] <= top and right <= outer[2] and bottom <= outer[3]
