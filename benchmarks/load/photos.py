"""Photos with as much detail as a camera's, made in code."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from .openloop import request
from .servers import THUMBS

SIDES = (1600, 1200)


def photo(seed: int) -> bytes:
    """A JPEG of SIDES: noise that is blurred to what a lens resolves."""
    numbers = random.Random(seed)
    small = Image.frombytes("RGB", (400, 300), numbers.randbytes(400 * 300 * 3))
    flat = Image.new("RGB", small.size, (numbers.randrange(256), 128, 90))
    out = BytesIO()
    Image.blend(flat, small, 0.4).resize(SIDES, Image.Resampling.BICUBIC).save(
        out, "JPEG", quality=85
    )
    return out.getvalue()


def album(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    names = [f"photo-{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(photo(number))
    return names


def unseen(names: list[str], seed: int) -> Iterator[bytes]:
    """Requests that nobody has made before, for as long as `seed` is new."""
    numbers = random.Random(seed)
    while True:
        options = {"width": numbers.randrange(200, 800), "height": numbers.randrange(200, 800),
                   "quality": numbers.randrange(60, 91)}  # fmt: skip
        format = numbers.choice(("jpg", "webp"))
        yield request(THUMBS.url(numbers.choice(names), None, format=format, **options))
