"""Animations as parts of a canvas, put together as browsers show them.

The frames of GIF and APNG are parts of the canvas, each with a rule for what becomes of it. Every
part is decoded by Pillow as a still picture of its own and put together here: Pillow's readers of
animations differ from browsers in what they clear to, in disposal that outlives its frame, and in
half-transparent pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from PIL import Image

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.headers import Header

# All browsers show frames of up to 10 ms, in any format, for 100: Chromium's and WebKit's
# FrameDurationAtIndex, Firefox's FrameTimeout. Files that say 0 are made with that in mind.
HASTY, UNHURRIED = 11, 100
# What a GIF can say; for others as good as for ever, and sums of it stay within 32 bits.
LONGEST = 655_350
MOST_PLAYS = 65_535

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """The whole canvas, RGB or RGBA (the same for all frames of an animation), with pixels of its
    own and without metadata; and for how long it is shown, in ms: 11 to LONGEST."""

    image: Image.Image
    duration: int


@dataclass(frozen=True, slots=True)
class Animation:
    """An animation that is read while it is iterated; it can be iterated once.

    frames  raises BrokenImage where the file turns out to be broken or cut short
    loop    how many times it is played, at most MOST_PLAYS; 0 is for ever
    icc     the colour profile of all frames; empty for none
    """

    frames: Iterator[Frame]
    loop: int = 0
    icc: bytes = b""


class Disposal(Enum):
    """What becomes of a part when its time is over."""

    KEEP = "stays"
    CLEAR = "its region becomes transparent"
    RESTORE = "its region becomes what it was before"


@dataclass(frozen=True, slots=True)
class Part:
    """One frame as it lies in the file.

    over    True: it is laid over the canvas; False: it replaces its region, alpha and all
    opaque  it cannot have a transparent pixel
    decode  its pixels, RGB or RGBA, of the size of `box`
    """

    box: Box
    duration: int
    disposal: Disposal
    over: bool
    opaque: bool
    decode: Callable[[], Image.Image]


def count(found: int, header: Header) -> None:
    """Raises BrokenImage unless a decoder has found as many frames as the header counts."""
    if found != header.frames:
        raise BrokenImage(log=f"{found} frames of {header.frames}")


def shown(duration: float) -> float:
    """For how long browsers show a frame that the file gives `duration` ms."""
    return UNHURRIED if duration < HASTY else min(duration, LONGEST)


def composed(parts: list[Part], size: tuple[int, int]) -> Iterator[Frame]:
    """The canvas after each of `parts`; what lies outside of it is cut off."""
    canvas = Image.new("RGBA", size)
    for number, part in enumerate(parts):
        pixels = part.decode()
        if number == 0 and _stays_opaque(parts, pixels, size):
            canvas = canvas.convert("RGB")
        before = canvas.crop(part.box) if part.disposal is Disposal.RESTORE else None
        _lay(pixels, canvas, part)
        yield Frame(canvas.copy(), part.duration)
        if before is not None:
            canvas.paste(before, part.box)
        elif part.disposal is Disposal.CLEAR:
            canvas.paste(0, part.box)


def _lay(pixels: Image.Image, canvas: Image.Image, part: Part) -> None:
    if pixels.mode == "RGB" or not part.over:
        canvas.paste(pixels, part.box)
    elif canvas.mode == "RGBA":
        canvas.alpha_composite(pixels, part.box[:2])
    else:
        canvas.paste(pixels, part.box, pixels)


def _stays_opaque(parts: list[Part], first: Image.Image, size: tuple[int, int]) -> bool:
    """Whether no pixel of the canvas is ever seen transparent, given the first part's pixels."""
    solid = first.mode == "RGB" or first.getchannel("A").getextrema() == (255, 255)
    bare: Box | None = (0, 0, *size)  # what is transparent until the next part covers it
    for part in parts:
        if not (part.opaque or part.over):
            return False
        covers = part.opaque or (solid and part is parts[0])
        if bare and not (covers and _contains(part.box, bare)):
            return False
        bare = {Disposal.KEEP: None, Disposal.CLEAR: part.box, Disposal.RESTORE: bare}[
            part.disposal
        ]
    return True


def _contains(outer: Box, inner: Box) -> bool:
    left, top, right, bottom = inner
    return outer[0] <= left and outer[1] <= top and right <= outer[2] and bottom <= outer[3]


def opened(file: bytes, name: str) -> Image.Image:
    """The still picture in `file`, of the format that Pillow calls `name`."""
    with Image.open(io.BytesIO(file), formats=(name,)) as image:
        image.load()
        return image
