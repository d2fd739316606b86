"""The border that `trim` removes."""

from __future__ import annotations

from itertools import pairwise

from PIL import Image

Box = tuple[int, int, int, int]
Colour = tuple[int, ...]

_BAND = 64


def content_box(picture: Image.Image, tolerance: int) -> Box:
    """(left, top, right, bottom), in px, of what remains when the uniform border is cut.

    `picture` is L, LA, RGB, RGBX or RGBA. `tolerance` (0 to 255) is the largest difference in any
    channel by which a pixel may differ from the border's colour. Colours count premultiplied, so
    that transparent pixels are equal whatever their colour. Where everything is border, like
    the stripes of a flag, the box is the whole picture. Nothing is smoothed: a speck is content.

    The border's colour is that of the top left pixel, if the other corners agree within the
    tolerance. Else a side is a border only if its own two corners agree: the one dark band of a
    scan is cut, and a corner that is part of the subject keeps both of its sides. If one of these
    colours then is all around what is left, like the paper of that scan, it is cut too.
    """
    whole = (0, 0, *picture.size)
    corners = _corners(picture)
    if _agree(corners, tolerance):
        return _content(picture, corners[0], tolerance) or whole
    borders = _borders(corners, tolerance)
    box = _between(picture, borders, tolerance)
    if box is None or box == whole:
        return whole
    rest = picture.crop(box)
    around = _corners(rest)
    if not _agree(around, tolerance):
        return box
    inner = _content(rest, around[0], tolerance)
    if inner is None:
        return whole
    if not any(_agree([colour, around[0]], tolerance) for colour in borders.values()):
        return box
    left, top = box[:2]
    return left + inner[0], top + inner[1], left + inner[2], top + inner[3]


def _borders(corners: list[Colour], tolerance: int) -> dict[int, Colour]:
    """The colours of the sides whose two corners agree, by the side's index in a box."""
    # Clockwise from the top left corner, the pairs are those of the top, right, bottom and left.
    pairs = zip((1, 2, 3, 0), pairwise([*corners, corners[0]]), strict=True)
    return {side: pair[0] for side, pair in pairs if _agree(list(pair), tolerance)}


def _between(picture: Image.Image, borders: dict[int, Colour], tolerance: int) -> Box | None:
    """What remains when each side loses the border of its own colour. None for nothing."""
    contents = {colour: _content(picture, colour, tolerance) for colour in set(borders.values())}
    box = [0, 0, *picture.size]
    for side, colour in borders.items():
        content = contents[colour]
        if content is None:
            return None
        box[side] = content[side]
    left, top, right, bottom = box
    return (left, top, right, bottom) if left < right and top < bottom else None


def _content(picture: Image.Image, colour: Colour, tolerance: int) -> Box | None:
    """The box of all pixels that differ from `colour`. None if there are none."""
    table: list[int] = []
    for value in colour:
        table += [255 * (abs(level - value) > tolerance) for level in range(256)]
    if picture.mode == "RGBX":
        table[768:] = [0] * 256  # the fourth byte means nothing
    width, height = picture.size
    # From each side inwards, a band at a time, so that only the border costs anything.
    starts, ends = _bands(height)
    first = _found(picture, table, [(0, top, width, bottom) for top, bottom in starts])
    if first is None:
        return None
    last = _found(picture, table, [(0, top, width, bottom) for top, bottom in ends]) or first
    top, bottom = first[1], last[3]
    starts, ends = _bands(width)
    leftmost = _found(picture, table, [(left, top, right, bottom) for left, right in starts])
    rightmost = _found(picture, table, [(left, top, right, bottom) for left, right in ends])
    return (leftmost or first)[0], top, (rightmost or first)[2], bottom


def _bands(length: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The bands of a side, from its start and from its end."""
    starts = [(at, min(at + _BAND, length)) for at in range(0, length, _BAND)]
    return starts, starts[::-1]


def _found(picture: Image.Image, table: list[int], bands: list[Box]) -> Box | None:
    """The box of what `table` does not map to 0 in the first of `bands` that has any."""
    for band in bands:
        inside = _comparable(picture.crop(band)).point(table).getbbox(alpha_only=False)
        if inside:
            left, top = band[:2]
            return left + inside[0], top + inside[1], left + inside[2], top + inside[3]
    return None


def _comparable(picture: Image.Image) -> Image.Image:
    """Premultiplied, so that transparent pixels are equal whatever their colour."""
    if picture.mode in ("LA", "RGBA"):
        return picture.convert("RGBA").convert("RGBa")
    return picture


def _corners(picture: Image.Image) -> list[Colour]:
    """The colours of the corners, clockwise from the top left."""
    right, bottom = picture.width - 1, picture.height - 1
    return [_colour(picture, *at) for at in ((0, 0), (right, 0), (right, bottom), (0, bottom))]


def _colour(picture: Image.Image, x: int, y: int) -> Colour:
    value = _comparable(picture.crop((x, y, x + 1, y + 1))).getpixel((0, 0))
    colour = value if isinstance(value, tuple) else (int(value or 0),)
    return (*colour[:3], 0) if picture.mode == "RGBX" else colour


def _agree(colours: list[Colour], tolerance: int) -> bool:
    first = colours[0]
    return all(
        abs(one - other) <= tolerance
        for colour in colours[1:]
        for one, other in zip(first, colour, strict=True)
    )
