"""The pictures of docs/options.md, one for every option, and that of README.md: each as it would be
made today."""

from __future__ import annotations

import io
import json
import math
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import script
from PIL import Image, ImageSequence

from thumbproxy.core.formats import Format
from thumbproxy.urls.options import OPTIONS, Options

ROOT = Path(__file__).parent.parent
NEVER_SEEN = {"v", "e"}  # they change nothing in the picture
RENEW = "`make pictures` renews the pictures and their tables"


pictures = script("option-pictures")
overview = script("readme-picture")
PAGE = pictures.PAGE.read_text()


@pytest.fixture(scope="module")
def studio() -> Any:
    return pictures.Studio(PAGE)


@pytest.mark.parametrize("key", [key for key in OPTIONS if key not in NEVER_SEEN])
def test_every_option_is_shown(key: str) -> None:
    field, plain = OPTIONS[key].field, Options()
    shown = [Options.read(shot.shown) for shot in pictures.SHOTS]
    assert any(getattr(options, field) != getattr(plain, field) for options in shown)


def test_the_page_has_the_tables_of_the_pictures_and_no_other_pictures() -> None:
    assert pictures.with_tables(PAGE) == PAGE, RENEW
    assert PAGE.count("<img src=") == len(pictures.SHOTS)
    files = sorted(path.name for path in pictures.FOLDER.iterdir())
    assert files == sorted(shot.file for shot in pictures.SHOTS), RENEW


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in pictures.FOLDER.iterdir()) < 600_000


@pytest.mark.parametrize("shot", pictures.SHOTS, ids=lambda shot: shot.file)
def test_a_picture_is_as_it_would_be_made_today(shot: Any, studio: Any) -> None:
    """Encoders and resizers differ a little between machines, so what is compared is how it
    looks: 35 dB are hardly to be seen."""
    if Format(shot.format) not in studio.engine.outputs:
        pytest.skip(f"this installation cannot write {shot.format}")
    kept = list(frames((pictures.FOLDER / shot.file).read_bytes()))
    made = list(frames(studio.render(shot)))
    assert len(kept) == len(made), RENEW
    for one, other in zip(kept, made, strict=True):
        assert one.shape == other.shape, RENEW
        assert psnr(one, other) >= 35, RENEW


def frames(body: bytes) -> Iterator[np.ndarray[Any, np.dtype[np.float64]]]:
    """Each frame as it looks on grey, and its opacity. What is dithered is seen from afar."""
    with Image.open(io.BytesIO(body)) as image:
        for frame in ImageSequence.Iterator(image):
            picture = frame.convert("RGBA")
            page = Image.new("RGBA", picture.size, "grey")
            page.alpha_composite(picture)
            page.putalpha(picture.getchannel("A"))
            yield np.asarray(page.reduce(2) if image.format == "GIF" else page, np.float64)


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    error = float(np.mean(np.square(one - other)))
    return math.inf if not error else 10 * math.log10(255**2 / error)


def test_the_picture_of_the_readme_is_as_it_would_be_made_today() -> None:
    embedded = re.compile(r"(?<=base64,)[^\"]+")
    kept, made = overview.FILE.read_text(), overview.drawn(overview.made())
    assert embedded.sub("", kept) == embedded.sub("", made), RENEW
    for one, other in zip(embedded.findall(kept), embedded.findall(made), strict=True):
        [was], [now] = frames(b64decode(one)), frames(b64decode(other))
        assert psnr(was, now) >= 35, RENEW
    assert len(kept) < 40_000
    assert str(overview.FILE.relative_to(ROOT)) in (ROOT / "README.md").read_text()


def test_the_info_document_is_a_real_one(studio: Any) -> None:
    shown = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])
    made = studio.document()
    assert {name: list(part) for name, part in shown.items()} == {
        name: list(part) for name, part in made.items()
    }
    for facts in (shown, made):
        del facts["source"]["bytes"], facts["source"]["version"]  # Pillow's encoder made the source
    assert shown["source"] == made["source"]
    assert shown["output"] == made["output"]
