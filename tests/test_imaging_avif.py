"""AVIF as a source: the header by our own reader, the pixels by libavif, held against libvips."""

from __future__ import annotations

import io
import random
import struct
from threading import Event

import isobmff
import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from pictures import BLUE, GREEN, RED, WHITE, corners, encoded, exif, landscape, opened, quadrants
from PIL import Image, ImageCms

from thumbproxy.core.errors import BrokenImage, ThumbproxyError, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.imaging.codecs.avif.header import read_avif
from thumbproxy.imaging.codecs.avif.sequence import largest_frame
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.urls.options import Options

LIMITS = Limits()
ENGINE = PillowEngine(LIMITS)
UPRIGHT = [RED, GREEN, BLUE, WHITE]
PHOTO = landscape(161, 119)
CLEAR = PHOTO.copy()
CLEAR.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
FRAMES = [quadrants().rotate(90 * number) for number in range(4)]


def avif(image: Image.Image, **parameters: object) -> bytes:
    return encoded(image, "AVIF", **{"speed": 10, "quality": 90, **parameters})


def moving(frames: list[Image.Image], **parameters: object) -> bytes:
    return avif(frames[0], save_all=True, append_images=frames[1:], **parameters)


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    return opened(ENGINE.render(source, Options.read(options), format).body)


def by_libvips(source: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = pyvips.Image.new_from_buffer(source, "").autorot().colourspace("srgb").cast("uchar")
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = image.numpy()
    return pixels


STILLS = {
    "colour": avif(PHOTO),
    "whole colour": avif(PHOTO, subsampling="4:4:4"),
    "half colour": avif(PHOTO, subsampling="4:2:2"),
    "grey": avif(PHOTO.convert("L")),
    "limited range": avif(PHOTO, range="limited"),
    "clear": avif(CLEAR),
    "clear, multiplied": avif(CLEAR, alpha_premultiplied=True, subsampling="4:4:4"),
    "one pixel": avif(PHOTO.resize((1, 1))),
    "narrow": avif(PHOTO.resize((3, 90))),
    "in tiles of AV1": avif(PHOTO.resize((700, 500)), tile_rows=1, tile_cols=1, autotiling=False),
    "12 bits": pyvips.Image.new_from_array(np.asarray(PHOTO)).heifsave_buffer(
        compression="av1", bitdepth=12, effort=0, Q=90
    ),
    "as libheif writes it": pyvips.Image.new_from_array(np.asarray(PHOTO)).heifsave_buffer(
        compression="av1", effort=0, Q=90
    ),
}


@pytest.mark.parametrize("name", STILLS)
def test_a_still_is_what_libvips_makes_of_it(name: str) -> None:
    source = STILLS[name]
    header, theirs = read_avif(source), by_libvips(source)
    assert (header.height, header.width) == theirs.shape[:2]
    assert header.has_alpha == ("clear" in name)
    assert header.channels == (1 if name == "grey" else 3)
    assert (header.frames, header.hidden) == (1, 0)
    ours = rendered(source)
    assert ours.mode == {"grey": "L"}.get(name, "RGBA" if header.has_alpha else "RGB")
    if name == "clear, multiplied":  # libheif leaves such colours as they lie there
        theirs = np.asarray(CLEAR)
    if header.has_alpha:
        assert np.abs(np.asarray(ours)[..., 3].astype(int) - theirs[..., 3]).max() <= 1
        seen = theirs[..., 3] > 128
        differs = np.abs(np.asarray(ours)[..., :3].astype(int) - theirs[..., :3])[seen]
    else:
        wanted = theirs if theirs.ndim == 3 and theirs.shape[2] == 3 else theirs.reshape(-1)
        pixels = np.asarray(ours.convert("RGB") if np.ndim(wanted) == 3 else ours)
        differs = np.abs(pixels.reshape(wanted.shape).astype(int) - wanted)
    # Colours that are stored more coarsely are brought back by different filters.
    assert differs.mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_boxes_say_which_way_is_up(orientation: int) -> None:
    """Pillow writes an orientation of EXIF as irot and imir; libheif obeys those, too."""
    lying = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    picture = quadrants() if lying is None else quadrants().transpose(lying)
    source = avif(picture, exif=exif(orientation))
    assert read_avif(source).orientation == orientation
    assert corners(rendered(source)) == UPRIGHT
    assert corners(Image.fromarray(by_libvips(source)[..., :3])) == UPRIGHT
    assert ENGINE.inspect(source).width == 80


def test_the_orientation_in_exif_has_no_say() -> None:
    """ISO/IEC 23008-12 annex A.3: it is told for information. Browsers do not look at it."""
    other = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0113, 3, 1, 6, 0, 0)
    source = avif(quadrants(), exif=other)
    assert source.count(b"\x13\x01\x03\0") == 1
    turned = source.replace(b"\x13\x01\x03\0", b"\x12\x01\x03\0")
    assert read_avif(turned).exif
    assert read_avif(turned).orientation == 1
    assert corners(rendered(turned)) == UPRIGHT


def test_colours_are_converted_from_the_profile_in_the_file() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_avif(avif(PHOTO, icc_profile=swapped)).icc == swapped


def test_colours_are_converted_from_the_code_points_in_the_file() -> None:
    source = avif(Image.new("RGB", (16, 16), (0, 255, 0)), subsampling="4:4:4")
    at = source.index(b"nclx") + 4
    assert read_avif(source).icc == b""  # sRGB
    wide = source[:at] + struct.pack(">HH", 12, 13) + source[at + 4 :]  # Display P3
    assert b"acsp" in read_avif(wide).icc
    red, green, blue = rendered(wide).getpixel((8, 8))  # type: ignore[misc]
    assert (red, blue) == (0, 0), "the most that sRGB has"
    assert green >= 254


# --- grids


def tiles(picture: Image.Image, rows: int, columns: int, tile: tuple[int, int]) -> list[bytes]:
    canvas = Image.new("RGB", (tile[0] * columns, tile[1] * rows))
    canvas.paste(picture)
    return [
        avif(canvas.crop((x, y, x + tile[0], y + tile[1])), subsampling="4:4:4")
        for y in range(0, canvas.height, tile[1])
        for x in range(0, canvas.width, tile[0])
    ]


@pytest.mark.parametrize("size", [(192, 128), (150, 100)])
def test_a_grid_is_put_together(size: tuple[int, int]) -> None:
    picture = quadrants(*size)
    source = isobmff.grid(tiles(picture, 2, 3, (64, 64)), 2, 3, (64, 64), size)
    header = read_avif(source)
    assert (header.width, header.height) == size
    assert header.hidden == 192 * 128 - size[0] * size[1], "what is decoded beside the picture"
    result = rendered(source)
    assert result.size == size
    assert np.abs(np.asarray(result).astype(int) - np.asarray(picture)).mean() < 3


@pytest.mark.parametrize("said", [(1, 1), (2, 4), (256, 256)])
def test_a_grid_that_says_other_rows_and_columns_is_broken(said: tuple[int, int]) -> None:
    parts = tiles(quadrants(192, 128), 2, 3, (64, 64))
    source = isobmff.grid(parts, 2, 3, (64, 64), (192, 128), said=said)
    with pytest.raises(BrokenImage):
        rendered(source)


def test_a_grid_cannot_hide_tiles_outside_of_the_picture() -> None:
    parts = tiles(quadrants(192, 128), 2, 3, (64, 64))
    with pytest.raises(BrokenImage):
        rendered(isobmff.grid(parts, 2, 3, (64, 64), (64, 64)))


# --- sequences


@pytest.mark.parametrize("clear", [False, True])
def test_a_sequence_is_shown_frame_after_frame(clear: bool) -> None:
    frames = [frame.copy() for frame in FRAMES]
    if clear:
        for frame in frames:
            frame.putalpha(Image.linear_gradient("L").resize(frame.size))
    source = moving(frames, duration=[100, 200, 300, 400])
    header = read_avif(source)
    assert (header.width, header.height, header.frames) == (80, 60, 4)
    assert header.has_alpha == clear
    result = Image.open(io.BytesIO(ENGINE.render(source, Options(), Format.WEBP).body))
    assert result.n_frames == 4  # type: ignore[attr-defined]
    for number, frame in enumerate(frames):
        result.seek(number)
        result.load()
        assert result.info["duration"] == (number + 1) * 100
        assert corners(result.convert("RGB")) == corners(frame.convert("RGB"))
        page = rendered(source, f"page_{number + 1}")
        assert corners(page.convert("RGB")) == corners(frame.convert("RGB"))


def test_one_picture_that_calls_itself_a_sequence_is_a_picture() -> None:
    assert read_avif(moving(FRAMES[:1])).frames == 1


# --- damage


SHORT = {"still": STILLS["clear"], "sequence": moving(FRAMES), "grid": isobmff.grid(
    tiles(quadrants(128, 64), 1, 2, (64, 64)), 1, 2, (64, 64), (128, 64))}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_what_is_cut_short_is_refused_at_every_length(name: str) -> None:
    source = SHORT[name]
    for length in range(0, len(source), max(1, len(source) // 150)):
        with pytest.raises((BrokenImage, UnsupportedImage)):
            ENGINE.render(source[:length], Options(), Format.WEBP)


@pytest.mark.parametrize("name", SHORT)
def test_whatever_is_changed_in_a_file_is_a_picture_or_one_of_our_errors(name: str) -> None:
    source, chance = SHORT[name], random.Random(5)
    readable = 0
    for _ in range(400):
        damaged = bytearray(source)
        # Most of it in the boxes, where the numbers stand.
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(min(len(damaged), 900))] = chance.randrange(256)
        try:
            ENGINE.render(bytes(damaged), Options(width=20), Format.PNG)
            readable += 1
        except ThumbproxyError:
            pass
    assert 0 < readable < 400


@given(st.binary(max_size=300))
def test_headers_of_noise_are_our_errors(noise: bytes) -> None:
    for brand in (b"avif", b"avis"):
        source = isobmff.box(b"ftyp", brand, bytes(4), b"avifmif1") + noise
        with pytest.raises(ThumbproxyError):
            read_header(source, LIMITS)


@given(st.binary(max_size=60))
def test_streams_of_noise_have_a_size_or_are_broken(noise: bytes) -> None:
    try:
        width, height = largest_frame(noise)
    except BrokenImage:
        return
    assert 0 < width <= 1 << 16
    assert 0 < height <= 1 << 16


def lying(source: bytes, *, width: int) -> bytes:
    """Its ispe says another width than the stream."""
    at = source.index(b"ispe") + 8
    return source[:at] + struct.pack(">I", width) + source[at + 4 :]


def test_frames_larger_than_the_boxes_say_reach_no_decoder() -> None:
    """The decoder allocates by the stream, and only the boxes were held to the limits."""
    source = lying(STILLS["colour"], width=16)
    with pytest.raises(BrokenImage) as raised:
        read_header(source, LIMITS)
    assert "AV1 frames of (161, 119)" in raised.value.log


@pytest.mark.parametrize(
    "limits", [Limits(source_pixels=161 * 119 - 1), Limits(source_side=160)], ids=["area", "side"]
)
def test_the_limits_hold(limits: Limits) -> None:
    for name in ("colour", "clear"):
        with pytest.raises(BrokenImage, match="at most"):
            read_header(STILLS[name], limits)


def test_all_frames_count() -> None:
    with pytest.raises(BrokenImage, match="4 frames"):
        read_header(SHORT["sequence"], Limits(source_pixels=4 * 80 * 60 - 1))


def test_what_is_heif_and_no_avif_is_not_supported() -> None:
    with pytest.raises(UnsupportedImage):
        read_header(isobmff.box(b"ftyp", b"heic", bytes(4), b"mif1heic") + bytes(60), LIMITS)


def test_boxes_without_end_are_refused() -> None:
    endless = isobmff.box(b"ftyp", b"avif", bytes(4), b"avif") + isobmff.box(b"free") * 100_000
    with pytest.raises(BrokenImage, match="far more parts"):
        read_header(endless, LIMITS)


# --- where it is decoded


def test_a_render_process_in_its_sandbox_makes_the_same() -> None:
    runner = Processes(ENGINE, LIMITS, 1)
    try:
        for source in (*STILLS.values(), *SHORT.values()):
            for options, format in ((Options(width=40), Format.JPEG), (Options(), Format.WEBP)):
                task = Task(source, ((options, format),))
                [made] = runner.run(task, Deadline(30), lambda: None)
                assert made.body == ENGINE.render(source, options, format).body
    finally:
        runner.close()


def test_a_process_that_has_keys_does_not_decode_it() -> None:
    runner, ended = Threads(ENGINE, 1), Event()
    try:
        task = Task(STILLS["colour"], ((Options(), Format.JPEG),))
        with pytest.raises(UnsupportedImage, match="isolation"):
            runner.run(task, Deadline(30), ended.set)
        assert ended.wait(30)
    finally:
        runner.close()
