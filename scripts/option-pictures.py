"""Makes the pictures of docs/options.md, and writes the tables that show them into it.

`make pictures` runs it. The pictures are what thumbproxy itself makes of the demo's samples; the
watermarks are those that the page configures. The table below says what each picture is, and
tests/test_docs.py renders them again and compares.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from thumbproxy.assembly.factories import engine_of
from thumbproxy.config.settings import Settings
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.demo.names import ANIMATION, LOGO, SIDEWAYS
from thumbproxy.demo.samples import SAMPLES
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
FOLDER = PAGE.with_suffix("")
LONG_SIDE = 1200  # of the photo-like samples, px
PER_ROW = 4

DEW, DUNES, CITY, FOREST, SEA, MOUNTAINS = (
    f"{name}.jpg" for name in ("dew", "dunes", "city", "forest", "sea", "mountains")
)
FRAMED = "framed.png"


class Shot(NamedTuple):
    """One picture.

    shown   the options that stand below it
    more    options that it has besides
    fine    made with dpr_2 and shown at half its size, to be sharp on any screen
    weighs  its size in bytes is shown
    """

    name: str
    source: str
    shown: str
    more: str = "w_180"
    format: str = "webp"
    fine: bool = True
    weighs: bool = False

    @property
    def options(self) -> Options:
        parts = (self.shown, self.more, "dpr_2" if self.fine else "")
        return Options.read(",".join(part for part in parts if part and part != "_"))

    @property
    def file(self) -> str:
        return f"{self.name}.{self.format}"


def _shots(prefix: str, source: str, *shown: str, more: str = "w_180") -> tuple[Shot, ...]:
    return tuple(Shot(f"{prefix}-{n}", source, text, more) for n, text in enumerate(shown, 1))


_TALL = "w_120,h_160,fit_cover"
GRIDS: Mapping[str, tuple[Shot, ...]] = {
    "region": (
        *_shots("crop", DEW, "_", "crop_0.3x0.35x0.3x0.3"),
        *_shots("trim", FRAMED, "_", "trim_10", more="w_150,h_150"),
    ),
    "box": (
        *_shots("fit", MOUNTAINS, "_", "fit_cover", "fit_pad,bg_e8a87c", "fit_stretch",
                more="w_150,h_150"),
        *_shots("side", FOREST, "w_100", "h_100", more=""),
        Shot("up-1", CITY, "w_150", "crop_0.4x0.3x0.075x0.09", fine=False),
        Shot("up-2", CITY, "w_150,up", "crop_0.4x0.3x0.075x0.09", fine=False),
    ),
    "gravity": _shots("g", MOUNTAINS, "_", "g_w", "g_0.8x0.7", "g_smart", more=_TALL),
    "dpr": (
        Shot("dpr-1", SEA, "w_90,round_20", "", fine=False),
        Shot("dpr-2", SEA, "w_90,dpr_2,round_20", "", fine=False),
    ),
    "turning": _shots("turn", SIDEWAYS, "_", "rot_90", "flip_h", "flip_v", more="w_120,h_120"),
    "background": (
        *_shots("bg", LOGO, "_", "bg_ffe3b8", "bg_5b4b9a40"),
        Shot("bg-none", LOGO, "_", format="jpg"),
    ),
    "focus": (
        *_shots("blur", FOREST, "_", "blur_1.5", "blur_6", more=_TALL),
        *_shots("sharp", FOREST, "sharp_2", more=_TALL),
    ),
    "colours": _shots(
        "colour", CITY, "_", "bright_40", "bright_-40", "contrast_40", "contrast_-40",
        "sat_60", "sat_-60", "gray",
    ),
    "corners": (
        *_shots("round", DEW, "_", "round_24"),
        Shot("round-bg", DEW, "bg_ffe3b8,round_24", format="jpg"),
        Shot("round-max", DEW, "round_max", "w_120,h_120,fit_cover"),
    ),
    "watermark": _shots("wm", SEA, "wm_corner", "wm_stamp"),
    "quality": tuple(
        Shot(f"q-{n}", MOUNTAINS, shown, format=format, fine=False, weighs=True)
        for n, (shown, format) in enumerate(
            (("_", "jpg"), ("q_10", "jpg"), ("bytes_2500", "jpg"), ("lossless", "webp")), 1
        )
    ),
    "formats": tuple(
        Shot("format", DUNES, "_", format=format, fine=False, weighs=True)
        for format in ("jpg", "png", "webp", "gif")
    ),
    "frames": (
        *(
            Shot("moving", ANIMATION, "_", format=format, fine=False, weighs=True)
            for format in ("webp", "gif")
        ),
        Shot("still-1", ANIMATION, "still", fine=False, weighs=True),
        Shot("page-1", ANIMATION, "page_7", fine=False, weighs=True),
    ),
}  # fmt: skip
SHOTS = tuple(shot for grid in GRIDS.values() for shot in grid)


class Studio:
    """Renders the shots."""

    def __init__(self, page: str) -> None:
        """page: the text of options.md, which configures the watermarks."""
        made = {name: make(LONG_SIDE) for name, make in SAMPLES.items() if name in _needed()}
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / LOGO).write_bytes(made[LOGO])
            self.engine = _engine(page, Path(folder))
        made[FRAMED] = self.engine.render(
            made[DUNES], Options.read("w_600,h_600,fit_pad,bg_d8cfc0"), Format.PNG
        ).body
        self.sources: Mapping[str, bytes] = made

    def render(self, shot: Shot) -> bytes:
        source = self.sources[shot.source]
        return self.engine.render(source, shot.options, Format(shot.format)).body

    def document(self) -> dict[str, Any]:
        """The info document that the page shows, without what changes with the encoder."""
        options = Options.read("w_400,h_300,fit_cover")
        body = self.engine.render(self.sources[MOUNTAINS], options, Format.JSON).body
        facts: dict[str, Any] = json.loads(body)
        facts["source"]["version"] = facts["source"]["version"][:12] + "…"
        uri = facts["placeholder"]["data_uri"]
        facts["placeholder"]["data_uri"] = uri[:60] + "…"
        return facts


def _needed() -> set[str]:
    return {shot.source for shot in SHOTS} | {LOGO}


def _engine(page: str, folder: Path) -> PillowEngine:
    """An engine with the watermarks of the page; their pictures are in `folder`."""
    table = tomllib.loads(next(block for block in re.findall(r"```toml\n(.*?)```", page, re.S)))
    for mark in table["watermarks"].values():
        mark["image"] = str(folder / Path(mark["image"]).name)
    settings = Settings(keys=("a key that signs nothing",), **table)
    return engine_of(settings, Limits())


def table(shots: tuple[Shot, ...], folder: Path = FOLDER) -> str:
    """The pictures side by side, with their options below, as HTML that GitHub shows."""
    rows = []
    for start in range(0, len(shots), PER_ROW):
        cells = "\n".join(_cell(shot, folder) for shot in shots[start : start + PER_ROW])
        rows.append(f"<tr>\n{cells}\n</tr>")
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _cell(shot: Shot, folder: Path) -> str:
    path = folder / shot.file
    with Image.open(path) as image:
        width, height = (side // (2 if shot.fine else 1) for side in image.size)
    text = f"<code>{shot.shown}</code>" if shot.shown != "_" else "as it is"
    if shot.weighs or shot.format != "webp":
        text = f"<code>{shot.shown.removeprefix('_')}.{shot.format}</code>"
    if shot.weighs:
        text += f"<br>{path.stat().st_size:,} bytes"
    return (
        f'<td align="center"><img src="{folder.name}/{shot.file}" width="{width}"'
        f' height="{height}" alt="{escape(f"{shot.source} with {shot.options}")}"><br>'
        f"{text}</td>"
    )


def filled(page: str, title: str, content: str) -> str:
    """The page with `content` between the comment with that title and the next `end`."""
    begin, end = f"<!-- {title} -->\n", "<!-- end -->"
    before, found, after = page.partition(begin)
    if not found or end not in after:
        raise ValueError(f"{PAGE.name} has no place for {title!r}.")
    return f"{before}{begin}{content}\n{end}{after.partition(end)[2]}"


def with_tables(page: str) -> str:
    """The page with its tables of pictures as they should be."""
    for name, shots in GRIDS.items():
        page = filled(page, f"pictures: {name}", table(shots))
    return page


def with_document(page: str, facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    return filled(page, "document", f"```json\n{text}\n```")


def main() -> None:
    page = PAGE.read_text()
    studio = Studio(page)
    made = {shot.file: studio.render(shot) for shot in SHOTS}
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name, body in made.items():
        (FOLDER / name).write_bytes(body)
    PAGE.write_text(with_document(with_tables(page), studio.document()))
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    sys.stdout.write(f"{len(SHOTS)} pictures, {total / 1000:.0f} KB\n")


if __name__ == "__main__":
    main()
