"""Makes the picture of README.md: one source, and what thumbproxy makes of it for four URLs.

`make pictures` runs it. The source is a sample picture of the demo; tests/test_docs_pictures.py
makes the picture again and compares.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.demo.samples import SAMPLES
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

FILE = Path(__file__).parent.parent / "docs" / "images" / "overview.svg"
SOURCE = "mountains.jpg"
LONG_SIDE = 1500  # of the source, px
SHOWN = "w_300"  # the source itself, as the picture shows it
WIDTH, HEIGHT = 880, 330


class Shot(NamedTuple):
    """A rendition, and where its upper left corner is, px."""

    options: str
    left: int
    top: int


SHOTS = (
    Shot("w_160", 440, 20),
    Shot("w_200,h_107,fit_cover", 650, 20),
    Shot("w_107,h_107,fit_cover,g_smart", 467, 180),
    Shot("w_160,blur_1,gray", 670, 180),
)


def made() -> dict[str, bytes]:
    """options -> the JPEG that the engine makes of the source, for the source and each shot."""
    source = SAMPLES[SOURCE](LONG_SIDE)
    engine = PillowEngine(Limits())
    wanted = [SHOWN, *(shot.options for shot in SHOTS)]
    return {text: engine.render(source, Options.read(text), Format.JPEG).body for text in wanted}


def drawn(pictures: dict[str, bytes]) -> str:
    """The picture: an SVG that needs no other file."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#f6f8fa"/>',
        _picture(pictures[SHOWN], 20, 50),
        _text(170, 275, f"photos/{SOURCE}, {LONG_SIDE} by {LONG_SIDE * 2 // 3}"),
        '<path d="M335 150h70m-12-9 12 9-12 9" fill="none" stroke="#57606a" stroke-width="3"/>',
        _text(370, 132, "thumbproxy"),
    ]
    for shot in SHOTS:
        lines.append(_picture(pictures[shot.options], shot.left, shot.top))
        width, height = _size(pictures[shot.options])
        lines.append(_text(shot.left + width // 2, shot.top + height + 20, shot.options))
    return "\n".join([*lines, "</svg>\n"])


def _size(body: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(body)) as image:
        return image.size


def _picture(body: bytes, left: int, top: int) -> str:
    width, height = _size(body)
    data = b64encode(body).decode()
    return (
        f'<image x="{left}" y="{top}" width="{width}" height="{height}"'
        f' href="data:image/jpeg;base64,{data}"/>'
    )


def _text(centre: int, base: int, text: str) -> str:
    return f'<text x="{centre}" y="{base}" text-anchor="middle" fill="#24292f">{text}</text>'


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(drawn(made()))
    sys.stdout.write(f"{FILE.name}, {FILE.stat().st_size / 1000:.0f} KB\n")


if __name__ == "__main__":
    main()
