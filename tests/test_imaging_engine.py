"""The engine's promises: the right pixels, the promised size and format, and no surprises."""

from __future__ import annotations

import concurrent.futures
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pictures import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    encoded,
    exif,
    landscape,
    opened,
    quadrants,
    swapping_profile,
    turned,
    with_chunk,
    with_segment,
)
from PIL import Image

from thumbproxy.core.errors import BadOptions, BrokenImage, SourceError, UnsupportedImage
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Encoded
from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())
UPRIGHT = [RED, GREEN, BLUE, WHITE]
PILLOW_NAMES = {f: "JPEG" if f is Format.JPEG else f.name for f in Format}
# Which transposition makes the picture that the given orientation turns upright again.
UNTURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
PHOTO = landscape(1237, 823)
PHOTO_JPEG = encoded(PHOTO)


def render(source: bytes, options: str = "_", format: Format = Format.PNG) -> Encoded:
    return ENGINE.render(source, Options.read(options), format)


def rendered(source: bytes, options: str = "_", format: Format = Format.PNG) -> Image.Image:
    made = render(source, options, format)
    image = opened(made.body)
    assert image.size == (made.width, made.height)
    return image


def psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.mean((np.asarray(one, np.float32) - np.asarray(other, np.float32)) ** 2)
    return 10 * math.log10(255**2 / max(float(error), 1e-9))


def test_every_output_of_this_installation_is_written_and_has_the_promised_size() -> None:
    assert ENGINE.outputs >= {Format.JPEG, Format.PNG, Format.WEBP, Format.GIF}
    for format in ENGINE.outputs:
        made = render(PHOTO_JPEG, "w_200,h_100,fit_cover", format)
        image = opened(made.body)
        assert (image.format, image.size) == (PILLOW_NAMES[format], (200, 100))
        assert (made.format, made.width, made.height) == (format, 200, 100)
        assert made.render_seconds > 0
        assert made.encode_seconds > 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_source_format_is_read(format: str) -> None:
    source = encoded(quadrants(), format)
    assert corners(rendered(source, "w_40")) == UPRIGHT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_always_applied(orientation: int) -> None:
    image, undo = quadrants(), UNTURNED[orientation]
    sensor = image if undo is None else image.transpose(undo)
    sources = [
        turned(encoded(sensor), orientation),
        with_chunk(encoded(sensor, "PNG"), b"eXIf", exif(orientation)),
        encoded(sensor, "WEBP", quality=90, exif=exif(orientation)),
    ]
    for source in sources:
        assert corners(rendered(source)) == UPRIGHT
        assert rendered(source, "w_40").size == (40, 30)
        assert corners(rendered(source, "crop_0x0x0.5x1.0")) == [RED, RED, BLUE, BLUE]
        assert corners(rendered(source, "w_20,h_20,fit_cover,g_ne,crop_0x0x1.0x0.5")) == [GREEN] * 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rot_90", [BLUE, RED, WHITE, GREEN]),
        ("rot_180", [WHITE, BLUE, GREEN, RED]),
        ("rot_270", [GREEN, WHITE, RED, BLUE]),
        ("flip_h", [GREEN, RED, WHITE, BLUE]),
        ("flip_v", [BLUE, WHITE, RED, GREEN]),
        ("flip_hv", [WHITE, BLUE, GREEN, RED]),
        ("rot_90,flip_h", [RED, BLUE, GREEN, WHITE]),
    ],
)
def test_rotation_is_clockwise_and_comes_before_mirroring(
    options: str, expected: list[tuple[int, ...]]
) -> None:
    assert corners(rendered(encoded(quadrants()), options)) == expected


def test_the_box_counts_before_the_rotation() -> None:
    assert rendered(encoded(quadrants()), "w_40,rot_90").size == (30, 40)


@pytest.mark.parametrize("format", sorted(ENGINE.outputs, key=str))
def test_outputs_say_nothing_but_the_picture(format: Format) -> None:
    """No EXIF, position, profile, XMP or comment of the source reaches an output."""
    secret = b"SECRET-POSITION"
    block = exif(1) + secret
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x>" + secret + b"</x>"
    jpeg = encoded(PHOTO.resize((90, 60)), icc_profile=swapping_profile(), comment=secret)
    jpeg = with_segment(with_segment(jpeg, 0xE1, b"Exif\0\0" + block), 0xE1, xmp)
    png = encoded(PHOTO.resize((90, 60)), "PNG", exif=block, icc_profile=swapping_profile())
    png = with_chunk(png, b"tEXt", b"Comment\0" + secret)
    gif = encoded(PHOTO.resize((90, 60)), "GIF", comment=secret)
    webp = encoded(PHOTO.resize((90, 60)), "WEBP", exif=block, xmp=xmp)
    for source in (jpeg, png, gif, webp):
        for options in ("_", "w_40", "w_40,h_40,fit_pad"):
            body = render(source, options, format).body
            image = opened(body)
            assert secret not in body
            assert not image.getexif()
            assert {"icc_profile", "exif", "xmp", "comment", "XML:com.adobe.xmp"}.isdisjoint(
                key for key, value in image.info.items() if value
            )


def test_a_jpeg_holds_only_the_segments_that_it_needs() -> None:
    body = render(PHOTO_JPEG, "w_100", Format.JPEG).body
    at, markers = 2, []
    while body[at + 1] != 0xDA:
        markers.append(body[at + 1])
        at += 2 + struct.unpack_from(">H", body, at + 2)[0]
    assert set(markers) <= {0xE0, 0xDB, 0xC0, 0xC4}


def test_the_size_of_a_scaled_decode_does_not_shift_the_picture() -> None:
    """A scaled decode rounds its size up; a resize of all of it would move every edge."""
    whole = PHOTO_JPEG
    for side in (30, 50, 100, 150, 250):
        ours = rendered(whole, f"w_{side}")
        reference = opened(whole).resize(ours.size, Image.Resampling.LANCZOS)
        assert psnr(ours, reference) > 38, side
        moved = Image.new("RGB", reference.size)
        moved.paste(reference, (1, 0))
        assert psnr(ours, moved) < 30, side


def test_without_scaled_decoding_the_pixels_are_those_of_a_whole_decode() -> None:
    ours = rendered(PHOTO_JPEG, "w_1000")
    reference = opened(PHOTO_JPEG).resize(ours.size, Image.Resampling.LANCZOS)
    assert psnr(ours, reference) > 50


@pytest.mark.parametrize("side", [1, 3, 7, 8, 9, 15, 17])
def test_tiny_jpegs_are_read_at_every_size(side: int) -> None:
    source = encoded(landscape(64, 64).resize((side, side * 2)))
    for width in (1, 2, side):
        assert rendered(source, f"w_{width}").width == min(width, side)


FRAMES = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN, BLUE)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:], "duration": 50, "lossless": True}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame_or_the_one_asked_for(format: str) -> None:
    source = encoded(FRAMES[0], format, **ANIMATED)
    for options, colour in (
        ("_", RED), ("still", RED), ("page_1", RED), ("page_2", GREEN), ("page_3", BLUE),
    ):  # fmt: skip
        image = rendered(source, options)
        assert corners(image) == [colour] * 4
        assert getattr(image, "n_frames", 1) == 1
    with pytest.raises(BadOptions, match="only 3 frames"):
        render(source, "page_4")


def test_a_jpeg_has_one_page() -> None:
    assert corners(rendered(encoded(quadrants()), "page_1")) == UPRIGHT
    with pytest.raises(BadOptions, match="only 1 frame"):
        render(encoded(quadrants()), "page_2")


def test_of_several_pictures_in_one_jpeg_the_first_is_taken() -> None:
    """Phones append a second picture (MPO) to what is otherwise a JPEG."""
    source = encoded(quadrants(), "MPO", save_all=True, append_images=[FRAMES[0]])
    assert corners(rendered(source)) == UPRIGHT
    assert ENGINE.inspect(source).format is Format.JPEG


def test_the_format_is_judged_by_the_bytes_and_never_by_what_a_decoder_would_also_take() -> None:
    for name in ("BMP", "TIFF", "PPM", "ICO"):
        with pytest.raises(UnsupportedImage):
            render(encoded(quadrants(), name))


@pytest.mark.parametrize("options", ["_", "w_600", "w_200", "w_60", "w_20"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_short_is_refused_at_every_scale(
    options: str, progressive: bool
) -> None:
    source = encoded(PHOTO, progressive=progressive, restart_marker_rows=4)
    for part in range(1, 12):
        with pytest.raises(BrokenImage):
            render(source[: len(source) * part // 12], options)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_other_formats_that_are_cut_short_are_refused(format: str) -> None:
    source = encoded(PHOTO.resize((300, 200)), format)
    for part in range(1, 12):
        with pytest.raises(BrokenImage):
            render(source[: len(source) * part // 12], "w_50")


def test_a_jpeg_that_is_odd_but_whole_is_read() -> None:
    """Real cameras write stray bytes before a marker; the strict decoder refuses such a file."""
    source = encoded(PHOTO)
    start = source.index(b"\xff\xdb")
    odd = source[:start] + b"\0\0\0\0\0" + source[start:]
    reference = rendered(source, "w_200")
    assert psnr(rendered(odd, "w_200"), reference) > 35
    assert (
        psnr(rendered(odd, "crop_0.5x0.5x0.5x0.5"), rendered(source, "crop_0.5x0.5x0.5x0.5")) > 40
    )


def test_quality_is_the_options_else_the_configurations() -> None:
    for format in ENGINE.outputs & {Format.JPEG, Format.WEBP, Format.AVIF}:
        sizes = [len(render(PHOTO_JPEG, f"w_300,q_{q}", format).body) for q in (20, 60, 95)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[1] < sizes[2]
    engine = PillowEngine(Limits(), Encoding(quality_jpg=20))
    body = engine.render(PHOTO_JPEG, Options(width=300), Format.JPEG).body
    assert body == render(PHOTO_JPEG, "w_300,q_20", Format.JPEG).body


def test_a_jpeg_stores_colour_at_half_the_resolution() -> None:
    layers = opened(render(PHOTO_JPEG, "w_300", Format.JPEG).body).layer  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in layers] == [(2, 2), (1, 1), (1, 1)]


def test_version_and_expiry_do_not_touch_the_pixels() -> None:
    assert render(PHOTO_JPEG, "w_90,v_a,e_1999999999").body == render(PHOTO_JPEG, "w_90").body


def test_threads_share_an_engine_and_get_the_same_bytes() -> None:
    """Decoders write into memory that is used again and again, but never by two at a time."""
    other = encoded(PHOTO.transpose(Image.Transpose.ROTATE_180).resize((900, 1100)))
    sizes = ("w_40", "w_300", "w_700", "_")
    work = [(source, size) for size in sizes for source in (PHOTO_JPEG, other)] * 4
    alone = [render(source, options, Format.JPEG).body for source, options in work]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda job: render(job[0], job[1], Format.JPEG).body, work))
    assert together == alone


def test_a_format_that_cannot_be_written_is_told_at_once() -> None:
    engine = PillowEngine(Limits())
    engine.outputs = frozenset({Format.JPEG})
    with pytest.raises(BadOptions, match="webp"):
        engine.render(PHOTO_JPEG, Options(), Format.WEBP)


def test_limits_are_those_of_the_header_for_rendering_too() -> None:
    engine = PillowEngine(Limits(source_pixels=1000))
    with pytest.raises(BrokenImage, match="1000"):
        engine.render(PHOTO_JPEG, Options(), Format.JPEG)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_that_turns_out_larger_than_its_header_said_is_not_decoded(format: str) -> None:
    source = encoded(quadrants(), format)
    told = replace(read_header(source, Limits()), width=41, height=31)
    with pytest.raises(BrokenImage):
        decode(source, told, plan(told.info, Options(), Limits()))


def test_inspect_and_render_agree() -> None:
    source = turned(PHOTO_JPEG, 6)
    info = ENGINE.inspect(source)
    assert (info.width, info.height) == (823, 1237)
    assert rendered(source).size == (info.width, info.height)
    assert read_header(source, Limits()).info == info


SMALL = PHOTO.resize((60, 40))
HOSTILE = [
    encoded(SMALL),
    encoded(SMALL, progressive=True, icc_profile=swapping_profile()),
    encoded(SMALL.convert("CMYK")),
    encoded(SMALL, "PNG", icc_profile=swapping_profile()),
    encoded(SMALL.convert("P"), "PNG"),
    encoded(SMALL, "GIF"),
    encoded(FRAMES[0], "GIF", **ANIMATED),
    encoded(SMALL, "WEBP"),
    encoded(FRAMES[0], "WEBP", **ANIMATED),
    encoded(FRAMES[0], "PNG", **ANIMATED),
]


@profile(max_examples=300)
@given(data=st.data())
def test_no_damaged_source_raises_anything_but_that_it_is_broken(data: st.DataObject) -> None:
    source = bytearray(data.draw(st.sampled_from(HOSTILE)))
    for _ in range(data.draw(st.integers(1, 8))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    options = data.draw(st.sampled_from(["_", "w_20", "w_9,h_9,fit_cover", "w_30,h_30,fit_pad"]))
    engine = PillowEngine(Limits(source_pixels=1_000_000))
    try:
        made = engine.render(bytes(source), Options.read(options), Format.JPEG)
    except SourceError:
        return
    assert opened(made.body).size == (made.width, made.height)
