"""What hostile pictures may cost: bounds on work and memory, and nothing hidden that comes out."""

from __future__ import annotations

import io
import math
import struct
import time

import numpy as np
import pytest
from pictures import RED, encoded, landscape, opened, with_chunk
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from thumbproxy.core.errors import BadOptions, BrokenImage
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.registry import encoder_of
from thumbproxy.imaging.exif_fields import exif_values
from thumbproxy.imaging.fitting import fit
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

LIMITS = Limits()
ENGINE = PillowEngine(LIMITS)
# Far more than the work takes on a slow machine, and far less than it took without its bound.
SOON = 10.0


def cpu_seconds(source: bytes, options: str, format: Format) -> float:
    started = time.thread_time()
    ENGINE.render(source, Options.read(options), format)
    return time.thread_time() - started


def many_colours(side: int, opaque: np.ndarray[tuple[int, int], np.dtype[np.bool]]) -> Image.Image:
    """A picture in which hardly two pixels have the same colour."""
    y, x = np.mgrid[:side, :side]
    pixels = np.stack((x & 255, y & 255, (x >> 8) * 16 + (y >> 8), opaque * 255), -1)
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def test_an_animation_whose_pixels_dodge_the_sample_costs_no_more() -> None:
    """Its transparent pixels are just those that a palette's sample would look at."""
    side = 1024
    step = round(side / math.sqrt(side * side / 16384))
    looked_at = ((np.arange(step) + 0.5) * side / step).astype(int)
    opaque = np.ones((side, side), bool)
    opaque[np.ix_(looked_at, looked_at)] = False
    frame = many_colours(side, opaque)
    other = Image.fromarray(np.roll(np.asarray(frame), 7, axis=0))
    source = encoded(frame, "PNG", save_all=True, append_images=[other])
    assert cpu_seconds(source, "_", Format.GIF) < SOON


def test_a_still_gif_of_millions_of_colours_costs_no_more() -> None:
    everything = np.ones((2048, 2048), bool)
    source = encoded(many_colours(2048, everything).convert("RGB"), "PNG")
    assert cpu_seconds(source, "_", Format.GIF) < SOON


def exif_of_one_value_named_often() -> bytes:
    entries = b"".join(struct.pack(">HHII", number + 1, 7, 900_000, 8) for number in range(3000))
    block = b"MM\0*\0\0\0\x08" + struct.pack(">H", 3000) + entries
    return block.ljust(1_000_000, b"\0")


def test_exif_that_names_one_value_often_is_not_read() -> None:
    block = exif_of_one_value_named_often()
    source = with_chunk(encoded(landscape(40, 30), "PNG"), b"eXIf", block)
    header = read_header(source, LIMITS)
    assert header.exif == block
    assert exif_values(header.exif, ["Model"]) == {}
    assert read_header(with_chunk(source, b"eXIf", bytes(2_000_000)), LIMITS).exif == b""


def test_exif_of_cameras_is_read() -> None:
    exif = Image.Exif()
    exif[0x0110] = "Model 3"
    exif.get_ifd(0x8769)[0x829A] = IFDRational(1, 250)
    source = encoded(landscape(40, 30), exif=exif)
    values = exif_values(read_header(source, LIMITS).exif, ["Model", "ExposureTime", "Artist"])
    assert values == {"Model": "Model 3", "ExposureTime": 0.004}


def test_a_gif_of_tiny_parts_is_refused_however_they_are_spread() -> None:
    run = b"\x21\x01" + b"\x01\0" * 100_000 + b"\0"
    head = encoded(landscape(30, 20), "GIF")
    with pytest.raises(BrokenImage, match="parts"):
        read_header(head[:-1] + run * 12 + b";", LIMITS)


@pytest.mark.parametrize("closely", [False, True])
def test_a_fit_that_need_not_be_close_takes_few_tries(closely: bool) -> None:
    tried: list[int] = []

    def write(quality: int) -> bytes:
        tried.append(quality)
        return bytes(quality * 1000)

    body = fit(write, encoder_of(Format.WEBP).growth, 90, 50_500, closely=closely)
    assert len(body) <= 50_500
    if closely:
        assert len(body) == 50_000
    else:
        assert len(tried) <= 4


def test_arithmetic_coding_that_ends_early_is_never_taken_for_whole() -> None:
    """Its decoder makes zeros of what is missing and says nothing."""
    header = read_header(encoded(landscape(40, 30)).replace(b"\xff\xc0", b"\xff\xc9", 1), LIMITS)
    assert not header.scan


def test_a_webp_animation_of_one_frame_is_a_picture() -> None:
    still = encoded(Image.new("RGB", (40, 30), RED), "WEBP", lossless=True)
    frame = still[12:]
    size = (39).to_bytes(3, "little") + (29).to_bytes(3, "little")
    body = bytes(6) + size + (100).to_bytes(3, "little") + b"\0" + frame
    chunks = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)
        for kind, content in (
            (b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", body),
        )
    )  # fmt: skip
    source = b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
    for format in (Format.PNG, Format.WEBP, Format.GIF):
        image = opened(ENGINE.render(source, Options(), format).body)
        assert image.size == (40, 30)
        assert image.convert("RGB").getpixel((20, 15)) == pytest.approx(RED, abs=3)


def n_frames(body: bytes) -> int:
    return getattr(Image.open(io.BytesIO(body)), "n_frames", 1)


HIDDEN = Image.new("RGBA", (40, 30), (255, 0, 0, 255))
HIDDEN.paste((12, 34, 56, 0), (0, 0, 20, 30))


@pytest.mark.parametrize("format", [Format.PNG, Format.WEBP, Format.AVIF])
def test_what_is_wholly_transparent_keeps_no_colour(format: Format) -> None:
    source = encoded(HIDDEN, "PNG")
    pixels = np.asarray(opened(ENGINE.render(source, Options(), format).body).convert("RGBA"))
    assert pixels[:, :16, 3].max() == 0
    if format is Format.PNG:
        assert pixels[:, :16].max() == 0
        exact = opened(ENGINE.render(source, Options(lossless=True), format).body)
        assert exact.convert("RGBA").tobytes() == HIDDEN.tobytes()


def test_rounded_corners_take_their_colours_with_them() -> None:
    body = ENGINE.render(encoded(landscape(60, 40), "PNG"), Options(radius=18), Format.PNG).body
    pixels = np.asarray(opened(body).convert("RGBA"))
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_lossless_animations_are_written_and_gif_takes_the_option() -> None:
    frames = [landscape(40, 30), landscape(40, 30).rotate(180)]
    source = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    engine = PillowEngine(LIMITS, Encoding(effort_webp=6))
    for format in (Format.WEBP, Format.GIF):
        made = engine.render(source, Options(lossless=True), format)
        assert n_frames(made.body) == 2
    with pytest.raises(BadOptions):
        engine.render(source, Options(lossless=True), Format.AVIF)
