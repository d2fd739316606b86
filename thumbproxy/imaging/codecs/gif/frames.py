"""GIF89a to the parts of an animation."""

from __future__ import annotations

import struct
from functools import partial
from itertools import islice

from PIL import Image

from thumbproxy.imaging.codecs.animation import MOST_PLAYS, Animation, Part, composed, count, shown
from thumbproxy.imaging.codecs.canvas import Place
from thumbproxy.imaging.codecs.gif.header import GifImage, gif_blocks, gif_images, table_size
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.plugins import opened

_LOOPS = (b"!\xff\x0bNETSCAPE2.0\x03\x01", b"!\xff\x0bANIMEXTS1.0\x03\x01")


def gif_frames(source: bytes, header: Header, most: int) -> Animation:
    """See base.Decoder."""
    shared = source[13 : 13 + table_size(source[10])]
    images = islice(gif_images(source), most)
    parts = [_part(source, *part, shared) for part in zip(images, header.places, strict=False)]
    count(len(parts), most)
    plays = _plays(source) if most > 1 else 1  # to know it takes a walk through all of the file
    return Animation(composed(parts, (header.width, header.height)), plays)


def _plays(source: bytes) -> int:
    """How many times it is shown: once, unless the file says how often it is repeated."""
    plays = 1
    for start, _, end in gif_blocks(source):
        if source.startswith(_LOOPS, start) and start + 18 <= min(end, len(source)):
            (times,) = struct.unpack_from("<H", source, start + 16)
            plays = min(times + 1, MOST_PLAYS) if times else 0
    return plays


def _part(source: bytes, image: GifImage, place: Place, shared: bytes) -> Part:
    left, top, right, bottom = place.box
    decode = partial(_pixels, memoryview(source), image, shared, (right - left, bottom - top))
    return Part(place, round(shown(image.delay * 10)), decode)


def _pixels(
    source: memoryview, image: GifImage, shared: bytes, seen: tuple[int, int]
) -> Image.Image:
    """What is seen of an image, decoded as a still GIF of its own."""
    if 0 in seen:  # nothing is drawn, but it takes its time
        return Image.new("RGBA", seen)
    left, top, right, bottom = image.box
    size = (right - left, bottom - top)
    palette = bytes(source[image.table]) or shared
    table = 0x80 | (len(palette) // 3).bit_length() - 2 if palette else 0
    screen = struct.pack("<HHBBB", *size, table, 0, 0)
    place = struct.pack("<HHHHB", 0, 0, *size, 0x40 if image.interlaced else 0)
    file = b"".join((b"GIF89a", screen, palette, b",", place, _data(source, image.pixels), b";"))
    pixels = opened(file, "GIF")
    if size != seen:
        pixels = pixels.crop((0, 0, *seen))
    if image.transparent is None:
        return pixels.convert("RGB")
    pixels.info["transparency"] = image.transparent
    return pixels.convert("RGBA")


def _data(source: memoryview, bounds: slice) -> bytes | memoryview:
    """The sub-blocks of an image. If the file ends in the last of them, it has what is left."""
    data = source[bounds]
    if bounds.stop <= len(source):
        return data
    whole, at = bytearray(data), 1
    while at + 1 + whole[at] < len(whole):
        at += 1 + whole[at]
    whole[at] = len(whole) - at - 1
    return bytes(whole)
