"""The sample pictures: their names, how each is made, and how they come into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from thumbproxy.demo import charts, city, dew, dunes, forest, mountains, sea
from thumbproxy.demo.names import ANIMATION, CHART, LOGO, SIDEWAYS

LONG_SIDE = 3000

Progress = Callable[[str, int, int], None]


def _photo(draw: Callable[[int, int], Image.Image], ratio: float) -> Callable[[int], bytes]:
    """A maker of JPEG bytes; ratio is width by height."""

    def make(long_side: int) -> bytes:
        short_side = round(long_side * min(ratio, 1 / ratio))
        size = (long_side, short_side) if ratio >= 1 else (short_side, long_side)
        out = BytesIO()
        draw(*size).save(out, "JPEG", quality=90, optimize=True)
        return out.getvalue()

    return make


SAMPLES: Mapping[str, Callable[[int], bytes]] = MappingProxyType(
    {
        "mountains.jpg": _photo(mountains.draw, 3 / 2),
        "sea.jpg": _photo(sea.draw, 3 / 2),
        "forest.jpg": _photo(forest.draw, 4 / 5),
        "city.jpg": _photo(city.draw, 16 / 9),
        "dew.jpg": _photo(dew.draw, 3 / 2),
        "dunes.jpg": _photo(dunes.draw, 3 / 2),
        CHART: charts.resolution_chart,
        SIDEWAYS: charts.sideways_photo,
        LOGO: charts.logo,
        ANIMATION: charts.animation,
    }
)


def make_samples(
    folder: Path, progress: Progress | None = None, *, long_side: int = LONG_SIDE
) -> list[Path]:
    """Write the sample pictures that `folder` lacks; the paths of all of them.

    progress   called after each picture made: its name, its number, and how many there are
    long_side  of the photo-like pictures, px
    The folder is made when it is missing. Raises OSError when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    paths = []
    for done, (name, make) in enumerate(SAMPLES.items(), start=1):
        path = folder / name
        paths.append(path)
        if path.exists():
            continue
        _write(path, make(long_side))
        if progress is not None:
            progress(name, done, len(SAMPLES))
    return paths


def _sweep(folder: Path) -> None:
    """Remove what demos left that were stopped while they wrote a picture."""
    for stray in folder.glob(".*.tmp"):
        if not os.path.exists(f"/proc/{stray.stem.rpartition('.')[2]}"):
            stray.unlink(missing_ok=True)


def _write(path: Path, body: bytes) -> None:
    """All or nothing: a demo that is stopped half-way must not leave half a picture."""
    # The process id keeps two demos that start together from writing one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(body)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
