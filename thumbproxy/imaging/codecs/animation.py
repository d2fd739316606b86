"""Animations as parts of a canvas, put together as browsers show them.

The frames of GIF and APNG are parts of the canvas, each with a rule for what becomes of it; so is
the only picture of a GIF, which may leave some of the canvas empty. Every part is decoded by Pillow
as a still picture of its own and put together here: Pillow's readers of animations differ from
browsers in what they clear to, in disposal that outlives its frame, and in half-transparent pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.canvas import Disposal, Place, shows_through

# All browsers show frames of up to 10 ms, in any format, for 100: Chromium's and WebKit's
# FrameDurationAtIndex, Firefox's FrameTimeout. Files that say 0 are made with that in mind.
HASTY, UNHURRIED = 11, 100
# What a GIF can say; for others as good as for ever, and sums of it stay within 32 bits.
LONGEST = 655_350
MOST_PLAYS = 65_535


@dataclass(frozen=True, slots=True)
class Frame:
    """The whole canvas, L, LA, RGB or RGBA (the same for all frames of an animation), with pixels
    of its own and without metadata; and for how long it is shown, in ms: 11 to LONGEST."""

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


@dataclass(frozen=True, slots=True)
class Part:
    """One frame as it lies in the file.

    duration  ms
    decode    its pixels, RGB or RGBA, of the size of the place's box
    """

    place: Place
    duration: int
    decode: Callable[[], Image.Image]


def shown(duration: float) -> float:
    """For how long browsers show a frame that the file gives `duration` ms."""
    return UNHURRIED if duration < HASTY else min(duration, LONGEST)


def count(found: int, wanted: int) -> None:
    """Raises BrokenImage unless a decoder has found all of the frames that it was asked for."""
    if found != wanted:
        raise BrokenImage(log=f"{found} frames of {wanted}")


def composed(parts: Sequence[Part], size: tuple[int, int]) -> Iterator[Frame]:
    """The canvas after each of `parts`."""
    canvas: Image.Image | None = None  # as long as all of it is empty
    mode = ""
    for number, part in enumerate(parts, 1):
        pixels = part.decode()
        left, top, right, bottom = part.place.box
        if pixels.size != (right - left, bottom - top):
            raise BrokenImage(log=f"a part of {pixels.size} for {part.place.box}")
        mode = mode or _mode(parts, pixels, size)
        shown = _drawn(pixels, part.place, canvas, mode=mode, size=size)
        if number < len(parts):
            canvas = _left(canvas, shown, part.place)
        yield Frame(shown, part.duration)


def _drawn(
    pixels: Image.Image,
    place: Place,
    canvas: Image.Image | None,
    *,
    mode: str,
    size: tuple[int, int],
) -> Image.Image:
    """What is seen of a part on the canvas, which is drawn upon unless it has to be restored."""
    alone = canvas is None or pixels.mode == "RGB" or not place.over
    if alone and place.box == (0, 0, *size):  # nothing has to be put together
        shown = pixels if pixels.mode == mode else pixels.convert(mode)
        shown.info = {}
        return shown
    if canvas is None:
        canvas = Image.new(mode, size)
    elif place.disposal is Disposal.RESTORE:
        canvas = canvas.copy()
    if pixels.mode == "RGB" or not place.over:
        canvas.paste(pixels, place.box)
    elif mode == "RGBA":
        canvas.alpha_composite(pixels, place.box[:2])
    else:
        canvas.paste(pixels, place.box, pixels)
    return canvas


def _left(canvas: Image.Image | None, shown: Image.Image, place: Place) -> Image.Image | None:
    """The canvas after a part's time, which shares no pixels with what was shown."""
    if place.disposal is Disposal.RESTORE:
        return canvas
    if place.disposal is Disposal.CLEAR and place.box == (0, 0, *shown.size):
        return None
    left = shown.copy()
    if place.disposal is Disposal.CLEAR:
        left.paste(0, place.box)
    return left


def _mode(parts: Sequence[Part], first: Image.Image, size: tuple[int, int]) -> str:
    """That of all frames: without alpha, if no pixel is ever seen transparent."""
    opaque = first.mode == "RGB" or first.getchannel("A").getextrema() == (255, 255)
    places = [part.place for part in parts]
    return "RGBA" if shows_through(places, size, first_opaque=opaque) else "RGB"
