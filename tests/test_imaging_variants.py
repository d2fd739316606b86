"""Several pictures at once, borders, subjects and the info document, through the whole engine."""

from __future__ import annotations

import base64
import gc
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, exif, opened, png_chunk, turned, with_chunk, with_segment
from PIL import Image, ImageDraw
from references import decoded, difference
from scenes import PLACES, ball
from specimens import ADOBE, ANIMATIONS, SOURCES, clear, eight_bits, scene

from thumbproxy.core.errors import BadOptions, BrokenImage, ThumbproxyError, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Encoded
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

ENGINE = PillowEngine(Limits())
Variant = tuple[Options, Format]
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def render(source: bytes, options: str, format: Format = Format.PNG) -> Encoded:
    return ENGINE.render(source, Options.read(options), format)


def seen(source: bytes, options: str) -> Any:
    return decoded(render(source, options).body)


def variants(*texts: str, format: Format = Format.PNG) -> list[Variant]:
    return [(Options.read(text), format) for text in texts]


def held(picture: Image.Image, orientation: int) -> bytes:
    """A PNG of `picture`, stored as a camera held that way would have."""
    stored = picture.transpose(TURNS[orientation]) if orientation > 1 else picture
    return with_chunk(encoded(stored, "PNG"), b"eXIf", exif(orientation))


# --- several at once

LARGE = Image.fromarray(eight_bits(scene(900, 600)))
PHOTOS = {
    "jpeg": encoded(LARGE, quality=90),
    "jpeg turned": turned(encoded(LARGE.transpose(TURNS[6]), quality=90), 6),
    "jpeg Adobe RGB": encoded(LARGE, quality=90, icc_profile=ADOBE),
    "png alpha": encoded(clear(LARGE), "PNG"),
    "webp": encoded(LARGE, "WEBP", quality=90),
}
TEXTS = (
    "_", "w_600", "w_320", "w_200,h_200,fit_cover", "w_300,h_300,fit_pad,bg_336699", "w_100",
    "w_64,h_64,fit_cover,g_0.2x0.7", "w_80,h_200,fit_stretch", "crop_0.2x0.2x0.5x0.5,w_120",
    "trim_10,w_200", "w_160,gray,blur_2", "w_90,rot_90", "w_40", "w_25,round_5", "page_1,w_50",
)  # fmt: skip


@settings(max_examples=25)
@given(st.sampled_from(sorted(PHOTOS)), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6))
def test_made_together_pictures_are_those_made_one_by_one(name: str, texts: list[str]) -> None:
    """Their pixels are more than 47 dB close (49 were measured), at whatever place in the list.

    What keeps the size of the source is the same to the byte.
    """
    source, asked = PHOTOS[name], variants(*texts)
    together = ENGINE.render_many(source, asked)
    for (options, format), made in zip(asked, together, strict=True):
        alone = ENGINE.render(source, options, format)
        assert (made.format, made.width, made.height) == (alone.format, alone.width, alone.height)
        if options == Options():
            assert made.body == alone.body
        assert difference(decoded(made.body), decoded(alone.body)).light > 47


@pytest.mark.parametrize("name", PHOTOS)
def test_one_picture_made_together_with_none_is_the_same_to_the_byte(name: str) -> None:
    for text in ("w_40", "w_320", "w_64,h_64,fit_cover,g_smart", "trim_10,w_200"):
        for format in sorted(ENGINE.outputs, key=str):
            asked = variants(text, format=format)
            assert ENGINE.render_many(PHOTOS[name], asked)[0].body == (
                ENGINE.render(PHOTOS[name], *asked[0]).body
            )


def test_the_order_is_kept_and_what_is_asked_twice_is_given_twice() -> None:
    asked = [
        *variants("w_50", "w_300", "w_50"),
        *variants("w_50", "w_300", "w_50", format=Format.JPEG),
    ]
    made = ENGINE.render_many(PHOTOS["jpeg"], asked)
    assert [(m.width, m.format) for m in made] == [(o.width, f) for o, f in asked]
    assert made[0].body == made[2].body
    assert ENGINE.render_many(PHOTOS["jpeg"], []) == []


def test_pictures_that_differ_in_coding_alone_have_the_same_pixels() -> None:
    asked = [
        (Options(width=90), Format.PNG),
        (Options(width=90, lossless=True), Format.WEBP),
        (Options(width=90, version="a"), Format.PNG),
    ]
    first, second, third = ENGINE.render_many(PHOTOS["png alpha"], asked)
    assert np.array_equal(decoded(first.body), decoded(second.body))
    assert first.body == third.body


@pytest.mark.parametrize("name", ANIMATIONS)
def test_animations_stills_pages_and_documents_are_made_together_too(name: str) -> None:
    asked = [
        (Options(width=60), Format.WEBP),
        (Options(width=60), Format.JSON),
        (Options(width=60, still=True), Format.WEBP),
        (Options(width=60, page=3), Format.GIF),
        (Options(width=60), Format.JPEG),
        (Options(width=60), Format.GIF),
    ]
    source = ANIMATIONS[name]()
    alone = [ENGINE.render(source, *variant).body for variant in asked]
    assert [made.body for made in ENGINE.render_many(source, asked)] == alone


@pytest.mark.parametrize(
    ("wrong", "source", "error"),
    [
        ((Options(crop=(5000, 0, 9, 9)), Format.PNG), PHOTOS["jpeg"], BadOptions),
        ((Options(page=2), Format.PNG), PHOTOS["jpeg"], BadOptions),
        ((Options(lossless=True), Format.JPEG), PHOTOS["jpeg"], BadOptions),
        ((Options(watermark="none"), Format.PNG), PHOTOS["jpeg"], BadOptions),
        ((Options(crop=(5000, 0, 9, 9)), Format.JSON), PHOTOS["jpeg"], BadOptions),
        ((Options(width=40), Format.PNG), PHOTOS["jpeg"][:5000], BrokenImage),
        ((Options(width=40), Format.PNG), b"no picture", UnsupportedImage),
    ],
)
def test_what_cannot_be_made_is_refused_as_it_is_alone(
    wrong: Variant, source: bytes, error: type[ThumbproxyError]
) -> None:
    with pytest.raises(error) as alone:
        ENGINE.render(source, *wrong)
    for asked in ([wrong], [*variants("w_50", "w_90"), wrong], [wrong, *variants("w_90")]):
        with pytest.raises(error) as together:
            ENGINE.render_many(source, asked)
        assert str(together.value) == str(alone.value)


def test_no_picture_stays_in_memory() -> None:
    def pictures() -> int:
        gc.collect()
        # By type: to ask a stranger's object what it is an instance of may wake it.
        return sum(issubclass(type(thing), Image.Image) for thing in gc.get_objects())

    asked = variants("_", "w_320", "trim_10,w_200", "w_64,h_64,fit_cover,g_smart", "w_40")
    ENGINE.render_many(PHOTOS["jpeg Adobe RGB"], asked)  # what is kept for good is there now
    before = pictures()
    for source in PHOTOS.values():
        ENGINE.render_many(source, [*asked, (Options(width=50), Format.JSON)])
    with pytest.raises(BadOptions):
        ENGINE.render_many(PHOTOS["webp"], [*asked, (Options(crop=(5000, 0, 9, 9)), Format.PNG)])
    assert pictures() <= before


# --- borders

BORDER = (30, 20, 150, 110)


def framed(colour: Any = "white", content: Any = None) -> Image.Image:
    picture = Image.new("RGB", (200, 140), colour)
    part = Image.fromarray(eight_bits(scene(120, 90)))
    ImageDraw.Draw(part).rectangle((0, 0, 119, 89), outline=(90, 120, 60))
    picture.paste(part if content is None else content, BORDER)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_border_is_cut_alike_however_the_camera_was_held(orientation: int) -> None:
    source = held(framed(), orientation)
    assert np.array_equal(seen(source, "trim_5"), decoded(encoded(framed().crop(BORDER), "PNG")))
    small = seen(source, "trim_5,w_40,h_40,fit_cover,g_ne")
    assert difference(small, seen(held(framed(), 1), "trim_5,w_40,h_40,fit_cover,g_ne")).light > 50


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_border_is_found_in_what_crop_has_left(orientation: int) -> None:
    source = held(framed(), orientation)
    assert np.array_equal(
        seen(source, "crop_10x10x60x70,trim_5"),
        decoded(encoded(framed().crop((30, 20, 70, 80)), "PNG")),
    )


@pytest.mark.parametrize("size", ["w_30", "w_114", "w_240,up", "w_40,h_40,fit_stretch"])
@pytest.mark.parametrize("cut", ["trim_5", "crop_30x20x120x90"])
def test_what_was_cut_off_does_not_shine_into_the_edges(cut: str, size: str) -> None:
    dark = encoded(framed(content=(20, 20, 20)), "PNG")
    picture = seen(dark, f"{cut},{size}")
    assert np.abs(picture[:, :, :3] - 20).max() <= 1
    together = ENGINE.render_many(dark, variants("w_190", f"{cut},w_100", f"{cut},{size}"))
    assert np.abs(decoded(together[-1].body)[:, :, :3] - 20).max() <= 1


# Of such contrast that the filter does not leave the range, where it would be cut off.
NOISE = np.random.default_rng(1).integers(80, 176, (90, 120, 4), np.uint8)
CROPS = st.tuples(
    st.integers(0, 100), st.integers(0, 70), st.integers(1, 120), st.integers(1, 90)
)  # fmt: skip


@given(
    st.sampled_from(["L", "LA", "RGB", "RGBA"]),
    CROPS,
    st.sampled_from(["inside", "cover", "pad", "stretch"]),
    st.sampled_from(["c", "ne", "sw"]),
    st.tuples(st.integers(1, 250), st.integers(1, 250)),
    st.sampled_from([1, 6]),
)
def test_cropping_first_is_as_if_the_rest_had_never_been(
    mode: str, crop: tuple[int, ...], fit: str, gravity: str, size: tuple[int, int], way: int
) -> None:
    noise = Image.fromarray(NOISE).convert(mode)
    left, top, across, down = crop
    part = noise.crop((left, top, min(120, left + across), min(90, top + down)))
    options = Options(width=size[0], height=size[1], fit=fit, gravity=gravity, enlarge=True)
    cropped = ENGINE.render(held(noise, way), replace(options, crop=crop), Format.PNG)
    alone = ENGINE.render(held(part, way), options, Format.PNG)
    one, other = decoded(cropped.body), decoded(alone.body)
    one[:, :, :3] *= one[:, :, 3:] / 255
    other[:, :, :3] *= other[:, :, 3:] / 255
    assert np.abs(one - other).max() <= 4  # premultiplied colours are rounded twice


def test_a_transparent_border_is_cut_and_what_is_half_there_is_kept() -> None:
    picture = Image.new("RGBA", (120, 80))
    ImageDraw.Draw(picture).rectangle((20, 10, 99, 59), (200, 40, 40, 120))
    assert seen(encoded(picture, "PNG"), "trim_5").shape[:2] == (50, 80)
    assert seen(encoded(picture, "WEBP", lossless=True), "trim_5").shape[:2] == (50, 80)


# --- subjects


def red(picture: Any) -> float:
    """How many pixels of red there are."""
    return float(((picture[:, :, 0] > 150) & (picture[:, :, 1] < 90)).sum())


@pytest.mark.parametrize("at", PLACES)
def test_the_subject_is_kept_however_the_camera_was_held(at: tuple[float, float]) -> None:
    for size in ((480, 270), (270, 480)):
        picture = ball(size, at).picture
        everything = red(seen(held(picture, 1), "_"))
        for orientation in range(1, 9):
            kept = seen(held(picture, orientation), "w_270,h_270,fit_cover,g_smart")
            assert red(kept) > 0.95 * everything


@pytest.mark.parametrize("at", PLACES)
def test_the_subject_is_kept_in_pictures_that_are_made_together(at: tuple[float, float]) -> None:
    """The place may differ by a hundredth: it is searched in what was decoded for the largest."""
    source = encoded(ball((960, 540), at).picture, quality=90)
    small = "w_90,h_90,fit_cover,g_smart"
    alone = red(seen(source, small))
    together = ENGINE.render_many(source, variants("_", "w_500,h_500,fit_cover,g_smart", small))
    assert red(decoded(together[-1].body)) > 0.9 * alone > 0


# --- the info document


def document(source: bytes, options: str = "_", engine: PillowEngine = ENGINE) -> dict[str, Any]:
    facts = json.loads(engine.render(source, Options.read(options), Format.JSON).body)
    assert isinstance(facts, dict)
    return facts


@pytest.mark.parametrize("name", [*SOURCES, *(f"animated {name}" for name in ANIMATIONS)])
def test_every_source_has_a_document_with_the_same_keys(name: str) -> None:
    animation = name.removeprefix("animated ")
    source = ANIMATIONS[animation]() if animation != name else SOURCES[name]()
    facts = document(source, "w_90")
    assert {key: sorted(value) for key, value in facts.items()} == {
        "source": ["bytes", "format", "frames", "has_alpha", "height", "orientation", "version",
                   "width"],
        "output": ["height", "width"],
        "colors": ["average", "dominant"],
        "placeholder": ["data_uri", "thumbhash"],
    }  # fmt: skip
    assert facts["output"] == {"width": 90, "height": 60}
    assert (facts["source"]["width"], facts["source"]["height"]) == (240, 160)
    uri = facts["placeholder"]["data_uri"]
    assert len(uri) < 700
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as placeholder:
        placeholder.load()
        assert placeholder.width / placeholder.height == pytest.approx(1.5, rel=0.1)
    assert len(base64.b64decode(facts["placeholder"]["thumbhash"], validate=True)) <= 25


@pytest.mark.parametrize(
    "options",
    [
        "_", "w_100", "w_300,up", "w_90,dpr_1.5", "w_90,rot_90", "w_90,h_90,fit_cover,g_smart",
        "w_90,h_90,fit_pad", "w_70,h_130,fit_stretch", "crop_31x17x150x101,w_75", "trim_10,w_50",
        "trim_10,w_90,h_90,fit_cover,g_smart", "crop_0.1x0.1x0.5x0.5,trim_5", "page_1", "still",
        "round_max", "w_5000,up", "blur_3,sharp_2,gray",
    ],
)  # fmt: skip
def test_the_size_it_tells_is_that_of_the_picture(options: str) -> None:
    small = Limits(output_side=400)
    sources = [held(framed(), n) for n in (1, 6)]
    for source in [*sources, PHOTOS["jpeg turned"], ANIMATIONS["gif"]()]:
        engine = PillowEngine(small)
        asked = Options.read(options)
        told = document(source, options, engine)["output"]
        made = engine.render(source, asked, Format.WEBP)
        assert (told["width"], told["height"]) == (made.width, made.height)
        most = engine.output_size(engine.inspect(source), asked)
        if asked.trim is None:
            assert most == (made.width, made.height)


@pytest.mark.parametrize("name", ["png", "jpeg 4:2:0", "jpeg Adobe RGB", "jpeg CMYK", "png grey"])
def test_its_colours_are_those_of_the_picture(name: str) -> None:
    for options in ("_", "crop_0x0x0.2x0.25", "w_60,h_60,fit_cover,g_e", "gray", "bright_20"):
        source = SOURCES[name]()
        picture = seen(source, options)[:, :, :3] / 255
        light = np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
        mean = light.mean((0, 1))
        shown = 255 * np.where(mean <= 0.0031308, mean * 12.92, 1.055 * mean ** (1 / 2.4) - 0.055)
        told = bytes.fromhex(document(source, options)["colors"]["average"].removeprefix("#"))
        assert list(told) == pytest.approx(shown.tolist(), abs=4)


def test_its_colours_follow_the_crop() -> None:
    facts = document(SOURCES["png"](), "crop_0x0x40x40")
    assert facts["colors"] == {"average": "#bf3326", "dominant": "#bf3326"}


def secretive() -> bytes:
    """EXIF with a model, a serial number and a position (TIFF 6.0; EXIF 2.3 section 4.6.6)."""
    block = Image.Exif()
    block[0x0110] = "Camera"
    block[0xA431] = "SERIAL-1"
    block.get_ifd(0x8769)[0x8827] = 400
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.9), 3: "E", 4: (2.0, 17.0, 40.2)})
    return block.tobytes()


@pytest.mark.parametrize("format", [Format.PNG, Format.WEBP])
def test_what_is_hidden_comes_out_of_lossless_pictures_only(format: Format) -> None:
    """Also when a lossless picture is made beside the same picture with losses."""
    picture = Image.effect_noise((60, 40), 90).convert("RGB")
    picture.putalpha(Image.new("L", (60, 40), 0))
    picture.paste((255, 0, 0, 255), (0, 30, 60, 40))
    asked = [
        (Options(lossless=exact, quality=q), format) for q in (70, 80) for exact in (False, True)
    ]
    together = ENGINE.render_many(encoded(picture, "PNG"), asked)
    for (options, _), made in zip(asked, together, strict=True):
        noise = np.asarray(opened(made.body).convert("RGBA"))[:15, :, :3].std()
        assert bool(noise > 20) is options.lossless


def test_of_exif_it_tells_what_is_named_and_a_position_never() -> None:
    block = secretive()
    sources = [
        with_segment(encoded(LARGE.resize((90, 60))), 0xE1, block),
        with_chunk(
            encoded(LARGE.resize((90, 60)), "PNG"), b"eXIf", block.removeprefix(b"Exif\0\0")
        ),
        encoded(LARGE.resize((90, 60)), "WEBP", exif=block),
    ]
    for source in sources:
        assert "exif" not in document(source)
        told = PillowEngine(Limits(), exif_fields=("Model", "ISOSpeedRatings", "Make"))
        assert document(source, engine=told)["exif"] == {"Model": "Camera", "ISOSpeedRatings": 400}
        asked = ("GPSInfo", "GPSLatitude", "GPSLongitude", "GPSLatitudeRef")
        position = document(source, engine=PillowEngine(Limits(), exif_fields=asked))["exif"]
        assert position == {}


def test_a_document_is_the_same_whenever_it_is_made() -> None:
    for source in (PHOTOS["jpeg"], PHOTOS["png alpha"], ANIMATIONS["gif transparent"]()):
        bodies = {
            PillowEngine(Limits()).render(source, Options(width=90), Format.JSON).body
            for _ in range(3)
        }
        assert len(bodies) == 1


def test_a_document_of_a_damaged_picture_is_refused() -> None:
    png = encoded(LARGE, "PNG")
    for source in (PHOTOS["jpeg"][:9000], png[:9000], png[:33] + png_chunk(b"IDAT", b"")):
        with pytest.raises(BrokenImage):
            render(source, "w_90", Format.JSON)
