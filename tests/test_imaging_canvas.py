"""What is stored as parts of a canvas is put together alike for stills, pages and animations.

How browsers show it is worked out pixel by pixel in animations.py.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from animations import CLEAR, KEEP, RESTORE, Apng, Drawn, Gif, GifFrame, Pixels, Webp, composed
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from thumbproxy.core.errors import BadOptions, BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

SIZE = (20, 16)
RED, BLUE, YELLOW, GREY = (255, 0, 0), (0, 0, 255), (255, 255, 0), (9, 9, 9)
PALETTE = (RED, BLUE, YELLOW, GREY)
ENGINE = PillowEngine(Limits())


def render(source: bytes, options: str, format: Format) -> bytes:
    return ENGINE.render(source, Options.read(options), format).body


def pixels(image: Image.Image) -> Pixels:
    """RGBA; what is wholly transparent is 0 in all channels."""
    found = np.asarray(image.convert("RGBA"))
    return np.where(found[..., 3:] > 0, found, 0)


def still(source: bytes, options: str = "_", format: Format = Format.PNG) -> Pixels:
    return pixels(Image.open(io.BytesIO(render(source, options, format))))


def moving(source: bytes) -> list[Pixels]:
    whole = Image.open(io.BytesIO(render(source, "lossless", Format.WEBP)))
    return [pixels(frame) for frame in ImageSequence.Iterator(whole)]


def close(one: Pixels, other: Pixels, tolerance: int = 3) -> bool:
    return one.shape == other.shape and bool(
        np.abs(one.astype(int) - other.astype(int)).max() <= tolerance
    )


def assert_alike(source: bytes, shown: Sequence[Pixels]) -> None:
    """All kinds of outputs show the canvas at each frame, and the header tells of its holes."""
    info = ENGINE.inspect(source)
    assert (info.width, info.height) == shown[0].shape[1::-1]
    assert info.frames == len(shown)
    assert close(still(source), shown[0])
    assert close(still(source, "still"), shown[0])
    for number, expected in enumerate(shown, 1):
        assert close(still(source, f"page_{number}"), expected)
        alpha = expected[..., 3:] / 255
        on_white = expected[..., :3] * alpha + 255 * (1 - alpha)
        as_jpeg = still(source, f"page_{number},q_100", Format.JPEG)
        assert np.abs(as_jpeg[..., :3] - on_white).mean() < 9
    if len(shown) > 1:
        assert all(any(close(frame, made) for made in moving(source)) for frame in shown)
    with pytest.raises(BadOptions, match=f"only {len(shown)} frame"):
        render(source, f"page_{len(shown) + 1}", Format.PNG)
    told = json.loads(render(source, "_", Format.JSON))["source"]
    assert (told["frames"], told["has_alpha"]) == (info.frames, info.has_alpha)
    if any(frame[..., 3].min() < 255 for frame in shown):
        assert info.has_alpha


def patch(side: int, index: int = 0) -> Pixels:
    return np.full((side, side), index, np.uint8)


def block(width: int, height: int, colour: tuple[int, int, int] = RED, alpha: int = 255) -> Pixels:
    return np.full((height, width, 4), (*colour, alpha), np.uint8)


WHOLE = np.zeros(SIZE[::-1], np.uint8)


@pytest.mark.parametrize(
    "gif",
    [
        Gif(SIZE, [GifFrame(patch(8), (5, 4), control=False)], PALETTE),
        Gif(SIZE, [GifFrame(patch(8), (5, 4), disposal=2), GifFrame(patch(4, 1), disposal=2)]),
        Gif(SIZE, [GifFrame(patch(8), (5, 4), disposal=3), GifFrame(patch(4, 1), (9, 9))]),
        Gif(SIZE, [GifFrame(WHOLE, disposal=2), GifFrame(patch(4, 1), (9, 9))]),
        Gif(SIZE, [GifFrame(WHOLE, disposal=3), GifFrame(patch(4, 1), (9, 9))]),
        Gif(SIZE, [GifFrame(WHOLE), GifFrame(patch(4, 1), (9, 9), disposal=2), GifFrame(WHOLE)]),
        Gif(SIZE, [GifFrame(WHOLE, transparent=0), GifFrame(patch(4, 1), (9, 9))]),
        Gif((9, 9), [GifFrame(patch(4), (9, 9)), GifFrame(patch(4, 1), (2, 2))]),
    ],
)
def test_what_no_frame_of_a_gif_covers_is_transparent_everywhere(gif: Gif) -> None:
    """Whatever colour the file names for the background: browsers have not used it for decades."""
    size = tuple(max(side, *(gif.frames[0].at[axis] + gif.frames[0].indices.shape[1 - axis],))
                 for axis, side in enumerate(gif.size))  # fmt: skip
    shown = composed((frame.drawn(gif.palette) for frame in gif.frames), size)
    assert_alike(gif.file(), shown)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("disposal", [KEEP, CLEAR])
def test_a_webp_whose_frames_are_small_is_transparent_around_them(
    alpha: bool, disposal: str
) -> None:
    """Also where its header does not announce transparency."""
    for count in (1, 3):
        parts = [Drawn(block(8, 6, BLUE), (2 * n, 4), disposal) for n in range(count)]
        source = Webp(SIZE, parts, [50] * count, alpha=alpha).file()
        assert_alike(source, composed(parts, SIZE))


@st.composite
def drawings(draw: st.DrawFn, disposals: Sequence[str], *, opaque: bool) -> list[Drawn]:
    parts = []
    for number in range(draw(st.integers(1, 4))):
        left, top = (draw(st.integers(0, side // 2 - 1)) * 2 for side in SIZE)
        width, height = draw(st.integers(1, SIZE[0] - left)), draw(st.integers(1, SIZE[1] - top))
        if draw(st.booleans()) or not number:
            left, top, (width, height) = 0, 0, SIZE
        colour = draw(st.tuples(*[st.integers(0, 255)] * 3))
        alpha = 255 if opaque or draw(st.booleans()) else draw(st.sampled_from([0, 128]))
        picture = block(width, height, colour, alpha)
        disposal = draw(st.sampled_from(disposals))
        parts.append(Drawn(picture, (left, top), disposal, draw(st.booleans())))
    return parts


@profile(max_examples=25)
@given(st.data(), st.booleans(), st.booleans())
def test_every_page_of_an_apng_is_a_frame_of_its_animation(
    data: st.DataObject, hidden: bool, opaque: bool
) -> None:
    parts = data.draw(drawings([KEEP, CLEAR, RESTORE], opaque=opaque))
    cover = Image.new("RGB", SIZE, GREY) if hidden else None
    mode = "RGB" if opaque else "RGBA"
    source = Apng(SIZE, parts, [(1, 10)] * len(parts), mode=mode, cover=cover).file()
    assert_alike(source, composed(parts, SIZE))


@profile(max_examples=25)
@given(st.data(), st.booleans())
def test_every_page_of_a_webp_is_a_frame_of_its_animation(
    data: st.DataObject, opaque: bool
) -> None:
    parts = data.draw(drawings([KEEP, CLEAR], opaque=opaque))
    source = Webp(SIZE, parts, [50] * len(parts), alpha=not opaque).file()
    assert_alike(source, composed(parts, SIZE))


@profile(max_examples=25)
@given(st.data())
def test_every_page_of_a_gif_is_a_frame_of_its_animation(data: st.DataObject) -> None:
    frames = []
    for part in data.draw(drawings([KEEP, CLEAR, RESTORE], opaque=True)):
        indices = np.random.default_rng(data.draw(st.integers(0, 9))).integers(
            0, 4, part.pixels.shape[:2], np.uint8
        )
        disposal = {KEEP: 1, CLEAR: 2, RESTORE: 3}[part.disposal]
        transparent = data.draw(st.sampled_from([None, 2]))
        frames.append(GifFrame(indices, part.at, disposal=disposal, transparent=transparent))
    gif = Gif(SIZE, frames, PALETTE)
    assert_alike(gif.file(), gif.shown())


@pytest.mark.parametrize(
    ("source", "clear"),
    [
        (Gif(SIZE, [GifFrame(WHOLE), GifFrame(patch(4, 1), transparent=1)]).file(), True),
        (Gif(SIZE, [GifFrame(WHOLE), GifFrame(patch(4), disposal=2), GifFrame(WHOLE)]).file(),
         False),
        (Gif(SIZE, [GifFrame(WHOLE), GifFrame(patch(4), disposal=2), GifFrame(patch(3))]).file(),
         True),
        (Gif(SIZE, [GifFrame(WHOLE)]).file(), False),
        (Gif(SIZE, [GifFrame(WHOLE, transparent=3)]).file(), True),
        (Webp(SIZE, [Drawn(block(*SIZE))] * 2, [50] * 2, alpha=False).file(), False),
        (Apng(SIZE, [Drawn(block(*SIZE))] * 2, [(1, 9)] * 2, mode="RGB").file(), False),
        (Apng(SIZE, [Drawn(block(4, 4))], [(1, 9)], 0, "RGB", Image.new("RGB", SIZE)).file(), True),
    ],
)  # fmt: skip
def test_the_header_tells_whether_anything_may_be_transparent(source: bytes, clear: bool) -> None:
    """What a file announces, and what its frames leave uncovered without a word."""
    assert ENGINE.inspect(source).has_alpha == clear


# --- frames that reach beyond the canvas


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("disposal", [1, 2, 3])
@pytest.mark.parametrize(
    ("at", "shape"),
    [((10, 8), (20, 30)), ((15, 0), (16, 9)), ((0, 12), (40, 3)), ((0, 0), (28, 40))],
)  # fmt: skip
def test_a_later_frame_of_a_gif_is_cut_off_where_the_canvas_ends(
    at: tuple[int, int], shape: tuple[int, int], disposal: int, interlaced: bool
) -> None:
    pattern = np.random.default_rng(3).integers(0, 4, shape, np.uint8)
    larger = GifFrame(pattern, at, disposal=disposal, interlaced=interlaced, transparent=2)
    frames = [GifFrame(WHOLE + 1), larger, GifFrame(patch(3, 3), (16, 12))]
    bounds = (max(SIZE[0], at[0] + shape[1]), max(SIZE[1], at[1] + shape[0]))
    shown = composed((frame.drawn(PALETTE) for frame in frames), bounds)
    assert_alike(Gif(SIZE, frames, PALETTE).file(), [frame[:16, :20] for frame in shown])


@pytest.mark.parametrize("at", [(20, 0), (0, 16), (60_000, 0), (60_000, 60_000), (65_535, 65_535)])
def test_a_later_frame_of_a_gif_that_lies_outside_only_takes_its_time(at: tuple[int, int]) -> None:
    frames = [GifFrame(WHOLE + 1), GifFrame(patch(4), at), GifFrame(patch(4), (3, 3))]
    gif = Gif(SIZE, [frames[0], frames[2]], PALETTE)
    before, after = gif.shown()
    assert_alike(Gif(SIZE, frames, PALETTE).file(), [before, before, after])


def test_the_first_frame_of_a_gif_enlarges_the_canvas_and_counts_against_the_limits() -> None:
    frames = [GifFrame(patch(8), (15, 15)), GifFrame(patch(9, 1), (17, 17))]
    source = Gif(SIZE, frames, PALETTE).file()
    assert ENGINE.inspect(source).width, ENGINE.inspect(source).height == (23, 23)
    assert still(source, "page_2").shape == (23, 23, 4)
    with pytest.raises(BrokenImage, match="60004"):
        ENGINE.inspect(Gif(SIZE, [GifFrame(patch(4), (60_000, 0))], PALETTE).file())


def test_pixels_that_nobody_sees_are_not_decoded_without_limit() -> None:
    """Some kilobytes of a GIF can hold 4 000 megapixels beside the canvas."""
    huge = struct.pack("<BHHHHB", 0x2C, 19, 15, 65_535, 65_535, 0) + b"\x08\x04" + b"abcd" + b"\0"
    source = Gif(SIZE, [GifFrame(WHOLE)], PALETTE).file()[:-1] + huge + b";"
    with pytest.raises(BrokenImage, match="4294836224 outside of them"):
        ENGINE.inspect(source)
    beside = source.replace(struct.pack("<HH", 19, 15), struct.pack("<HH", 20, 15))
    assert ENGINE.inspect(beside).frames == 2
    assert close(moving(beside)[0], still(source[: source.index(huge)]))


@pytest.mark.parametrize("at", [(10, 8), (60_000, 0)])
def test_a_later_frame_of_apng_or_webp_enlarges_nothing_either(at: tuple[int, int]) -> None:
    """There it is against the standard, and the animation is refused."""
    parts = [Drawn(block(*SIZE)), Drawn(block(14, 10), at)]
    apng = Apng(SIZE, parts, [(1, 10)] * 2).file()
    for source in (apng, Webp(SIZE, parts, [50] * 2).file()):
        info = ENGINE.inspect(source)
        assert (info.width, info.height) == SIZE
        with pytest.raises(BrokenImage):
            render(source, "_", Format.WEBP)
    assert still(apng).shape == (16, 20, 4)


# --- the default image of an APNG


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_hidden_default_image_is_no_frame(count: int) -> None:
    colours = [RED, BLUE, YELLOW, (1, 2, 3), (4, 5, 6)][:count]
    parts = [Drawn(block(*SIZE, colour)) for colour in colours]
    hidden = Image.new("RGB", SIZE, GREY)
    source = Apng(SIZE, parts, [(1, 10)] * count, mode="RGB", cover=hidden).file()
    assert_alike(source, composed(parts, SIZE))
    told = json.loads(render(source, "_", Format.JSON))
    assert told["source"]["frames"] == count
    assert told["colors"]["average"] == "#ff0000"


def test_frames_beyond_those_that_an_apng_announces_are_not_shown() -> None:
    parts = [Drawn(block(*SIZE, colour)) for colour in (RED, BLUE, YELLOW)]
    source = Apng(SIZE, parts, [(1, 10)] * 3, mode="RGB").file()
    fewer = source.replace(struct.pack(">II", 3, 0), struct.pack(">II", 2, 0))
    assert_alike(fewer, composed(parts[:2], SIZE))


def test_an_animation_without_frames_is_a_still_picture() -> None:
    """Nor is it one if its first frame cannot be the picture that is there."""
    source = Apng(SIZE, [Drawn(block(*SIZE, BLUE))], [(1, 10)], mode="RGB").file()
    for start, end in ((b"fcTL", b"teSt"), (b"acTL", b"teSt")):
        assert_alike(source.replace(start, end), [block(*SIZE, BLUE)])
    size = struct.pack(">III", 0, *SIZE)
    assert_alike(source.replace(size, struct.pack(">III", 0, 9, 9)), [block(*SIZE, BLUE)])
