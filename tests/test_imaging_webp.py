"""WebP stills straight from libwebp: the same as Pillow's, without its detours."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import encoded, landscape
from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.webp import decode as webp
from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

LIMITS = Limits()
PICTURE = landscape(123, 77)
CLEAR = PICTURE.copy()
CLEAR.putalpha(Image.linear_gradient("L").resize(PICTURE.size))
SOURCES = {
    "lossy": encoded(PICTURE, "WEBP", quality=80),
    "lossless": encoded(PICTURE, "WEBP", lossless=True),
    "lossy, clear": encoded(CLEAR, "WEBP", quality=80),
    "lossless, clear": encoded(CLEAR, "WEBP", lossless=True, exact=True),
    "alpha that hides nothing": encoded(PICTURE.convert("RGBA"), "WEBP", lossless=True),
    "one pixel": encoded(PICTURE.resize((1, 1)), "WEBP"),
}


def decoded(source: bytes) -> Image.Image:
    header = read_header(source, LIMITS)
    result = decode(source, header, plan(header.info, Options(), LIMITS))
    try:
        return result.image.copy()
    finally:
        result.release()


def test_this_installation_has_the_library() -> None:
    assert webp.available


@pytest.mark.parametrize("name", SOURCES)
def test_pixels_are_those_of_pillow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = decoded(SOURCES[name])
    monkeypatch.setattr(webp, "available", False)
    pillows = decoded(SOURCES[name])
    assert np.array_equal(*(np.asarray(image.convert("RGBA")) for image in (ours, pillows)))
    clear = "clear" in name
    assert ours.mode == ("RGBA" if clear else "RGBX")
    assert pillows.mode == ("RGBA" if clear else "RGB")


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_cut_short_is_refused_at_every_length(name: str) -> None:
    source = SOURCES[name]
    for length in range(12, len(source), max(1, len(source) // 40)):
        with pytest.raises(BrokenImage):
            decoded(source[:length])


def test_a_file_whose_parts_disagree_about_its_size_is_refused() -> None:
    source = bytearray(SOURCES["lossy, clear"])
    assert source[12:16] == b"VP8X"
    source[24] += 9  # the canvas is wider than the picture
    with pytest.raises(BrokenImage):
        decoded(bytes(source))


def test_memory_that_was_used_before_shows_nothing_of_it() -> None:
    engine = PillowEngine(LIMITS)
    first = engine.render(SOURCES["lossy"], Options(crop=(3, 5, 40, 30)), Format.PNG).body
    decoded(encoded(Image.new("RGB", (400, 300), "red"), "WEBP"))
    assert engine.render(SOURCES["lossy"], Options(crop=(3, 5, 40, 30)), Format.PNG).body == first
