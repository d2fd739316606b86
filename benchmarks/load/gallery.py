"""Small pictures of every kind that is read, and whether a rendition is of the one asked for.

Each picture is four fields of its own colours, under some noise. So any rendition that keeps the
ratio, or cuts evenly, is again these four fields: whose picture it is, its pixels tell.
"""

from __future__ import annotations

import contextlib
import random
from functools import cache
from io import BytesIO
from typing import NamedTuple

from PIL import Image

with contextlib.suppress(ImportError):
    import pillow_avif  # noqa: F401 - Pillow reads AVIF from then on

Colour = tuple[int, int, int]
OUTPUTS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF"}
_FRAMES = 4
# How far the mean of a field may be from its colour: noise, lossy formats, and palettes.
_TOLERANCE = 40
_KINDS = ("jpeg", "progressive", "png", "palette", "webp", "gif")
_SIDES = ((300, 200), (400, 300), (240, 320), (640, 480), (480, 640), (800, 600))
_LARGE = (("jpeg", (3200, 2400)), ("png", (1400, 1000)), ("webp", (1600, 1200)))


class Picture(NamedTuple):
    """A source. `fields`: the colours at the top left, top right, bottom left and bottom right."""

    body: bytes
    size: tuple[int, int]
    fields: tuple[Colour, ...]
    large: bool


class Wanted(NamedTuple):
    """A rendition: of a width alone, or of exactly a width and a height."""

    width: int
    height: int | None
    format: str

    @property
    def options(self) -> dict[str, object]:
        if self.height is None:
            return {"width": self.width, "format": self.format}
        return {"width": self.width, "height": self.height, "fit": "cover", "format": self.format}

    def size(self, source: tuple[int, int]) -> tuple[int, int]:
        if self.height is not None:
            return self.width, self.height
        width = min(self.width, source[0])
        return width, max(1, int(source[1] * width / source[0] + 0.5))


@cache
def gallery() -> list[Picture]:
    numbers = random.Random(11)
    small = [(kind, size, False) for kind in _KINDS for size in _SIDES]
    large = [(kind, size, True) for kind, size in _LARGE]
    return [_picture(numbers, *each) for each in (*small, *large)]


def _picture(numbers: random.Random, kind: str, size: tuple[int, int], large: bool) -> Picture:
    fields = tuple(
        (numbers.randrange(30, 226), numbers.randrange(30, 226), numbers.randrange(30, 226))
        for _ in range(4)
    )
    image = _drawn(numbers, size, fields)
    out = BytesIO()
    if kind == "gif":
        frames = [image.point([min(255, value + 4 * n) for value in range(256)] * 3)
                  for n in range(1, _FRAMES)]  # fmt: skip
        image.save(out, "GIF", save_all=True, append_images=frames, duration=80, loop=0)
    elif kind in ("jpeg", "progressive"):
        image.save(out, "JPEG", quality=85, progressive=kind == "progressive")
    elif kind == "palette":
        image.quantize(64, Image.Quantize.FASTOCTREE).save(out, "PNG")
    else:
        image.save(out, kind.upper(), compress_level=1, method=0)
    return Picture(out.getvalue(), size, fields, large)


def _drawn(
    numbers: random.Random, size: tuple[int, int], fields: tuple[Colour, ...]
) -> Image.Image:
    image = Image.new("RGB", (2, 2))
    image.putdata(fields)
    image = image.resize(size, Image.Resampling.NEAREST)
    small = (size[0] // 4, size[1] // 4)
    noise = Image.frombytes("RGB", small, numbers.randbytes(small[0] * small[1] * 3))
    grey = Image.new("RGB", size, (128, 128, 128))
    noise = Image.blend(grey, noise.resize(size, Image.Resampling.BICUBIC), 0.5)
    return Image.blend(image, noise, 0.15)


def fault_of(body: bytes, picture: Picture, wanted: Wanted) -> str:
    """What is wrong with a rendition; nothing, if it is the one that was asked for."""
    name = OUTPUTS[wanted.format]
    try:
        with Image.open(BytesIO(body)) as image:
            image.load()
            format, size = image.format, image.size
            means = image.convert("RGB").resize((2, 2), Image.Resampling.BOX).tobytes()
    except Exception as error:
        return f"not a picture: {error!r}"
    if format != name or size != wanted.size(picture.size):
        return f"{format} of {size} instead of {name} of {wanted.size(picture.size)}"
    expected = [0.85 * value + 0.15 * 128 for colour in picture.fields for value in colour]
    far = max(abs(a - b) for a, b in zip(means, expected, strict=True))
    return f"another picture, by {far:.0f} of 255" if far > _TOLERANCE else ""


def hostile() -> list[bytes]:
    """What is refused: as not a picture, too large, or broken."""
    numbers = random.Random(5)
    size = (640, 480)
    image = _drawn(numbers, size, ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)))
    bodies = {}
    for format in ("JPEG", "PNG", "WEBP", "GIF"):
        out = BytesIO()
        image.save(out, format)
        bodies[format] = out.getvalue()
    cut = [body[: len(body) * 2 // 3] for body in bodies.values()]
    png = bytearray(bodies["PNG"])
    png[len(png) // 2] ^= 0xFF
    wide = bytearray(bodies["PNG"])
    wide[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb = BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    text = b"<!doctype html><title>not a picture</title>" + b"<p>" * 500
    return [*cut, bytes(png), bytes(wide), bomb.getvalue(), text, numbers.randbytes(20_000),
            b"\xff\xd8\xff", b""]  # fmt: skip
