"""Animations keep what they show: every picture, at its instant, for its time, as often."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from animations import CLEAR, KEEP, RESTORE, Apng, Drawn, Gif, GifFrame, Pixels, Webp, composed
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pictures import BLUE, RED, landscape, swapping_profile, with_chunk
from PIL import Image

from thumbproxy.core.errors import BadOptions, BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Encoding, Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.codecs.gif.palette import Palettes, shared_palette
from thumbproxy.imaging.decode import Animation, Frame, decode_frames
from thumbproxy.imaging.encode import encode_animation, written
from thumbproxy.imaging.headers import read_header

LOSSLESS = [Format.GIF, Format.WEBP]
ALL = sorted({format for format in written() if format.animated}, key=lambda format: format.name)
SIZE = (12, 10)


def opened(source: bytes) -> Animation:
    return decode_frames(source, read_header(source, Limits()))


def frames(source: bytes) -> list[Frame]:
    return list(opened(source).frames)


def pixels(image: Image.Image) -> Pixels:
    """RGBA; what is wholly transparent is 0 in all channels."""
    found = np.asarray(image.convert("RGBA"))
    return np.where(found[..., 3:] > 0, found, 0)


def assert_shows(source: bytes, expected: Sequence[Pixels], tolerance: int = 0) -> None:
    found = frames(source)
    assert len(found) == len(expected)
    for frame, picture in zip(found, expected, strict=True):
        assert frame.image.size == (picture.shape[1], picture.shape[0])
        assert frame.image.info == {}
        assert np.abs(pixels(frame.image).astype(int) - picture).max() <= tolerance


# What is drawn


@st.composite
def places(draw: st.DrawFn, even: bool = False, first: bool = False) -> tuple[int, int, int, int]:
    """A region of the canvas: left, top, width, height."""
    if first and draw(st.booleans()):
        return 0, 0, *SIZE
    step = 2 if even else 1
    left = draw(st.integers(0, (SIZE[0] - 1) // step)) * step
    top = draw(st.integers(0, (SIZE[1] - 1) // step)) * step
    return (
        left,
        top,
        draw(st.integers(1, SIZE[0] - left)),
        draw(st.integers(1, SIZE[1] - top)),
    )


COLOURS = st.tuples(*[st.integers(0, 255)] * 3)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def gifs(draw: st.DrawFn) -> Gif:
    parts = []
    for number in range(draw(st.integers(2, 6))):
        left, top, width, height = draw(places(first=not number))
        own = draw(st.lists(COLOURS, min_size=4, max_size=4)) if draw(st.booleans()) else ()
        indices = np.random.default_rng(draw(SEEDS)).integers(0, 4, (height, width), np.uint8)
        parts.append(
            GifFrame(
                indices,
                (left, top),
                own,
                transparent=draw(st.none() | st.integers(0, 3)),
                disposal=draw(st.integers(0, 4)),
                interlaced=draw(st.booleans()),
                control=draw(st.integers(0, 3)) > 0,
            )
        )
    return Gif(SIZE, parts, palette=draw(st.lists(COLOURS, min_size=4, max_size=4)))


@given(gifs())
def test_a_gif_shows_what_its_parts_say(gif: Gif) -> None:
    """Places, transparency, disposal, interlacing, colours of the file or of the frame."""
    assert_shows(gif.file(), gif.shown())


@st.composite
def drawings(draw: st.DrawFn, even: bool = False, disposals: str = "") -> list[Drawn]:
    drawn = []
    for number in range(draw(st.integers(2, 5))):
        left, top, width, height = draw(places(even, first=not number))
        rng = np.random.default_rng(draw(SEEDS))
        picture = rng.integers(0, 256, (height, width, 4), np.uint8)
        # Often wholly opaque or transparent, as most pixels are.
        picture[..., 3] = rng.choice([0, 80, 255, 255], (height, width))
        if draw(st.booleans()):
            picture[..., 3] = 255
        disposal = draw(st.sampled_from(disposals.split() or [KEEP, CLEAR, RESTORE]))
        drawn.append(Drawn(picture, (left, top), disposal, draw(st.booleans())))
    return drawn


@given(drawings(), st.booleans(), st.sampled_from(["RGB", "RGBA"]))
def test_an_apng_shows_what_its_parts_say(parts: list[Drawn], covered: bool, mode: str) -> None:
    """Places, blending, disposal; a first picture that is no part of it is never shown."""
    if mode == "RGB":
        for part in parts:
            part.pixels[..., 3] = 255
    if not covered:
        whole = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
        whole[..., 3] = 255
        parts = [Drawn(whole), *parts]
    cover = Image.new("RGB", SIZE, "lime") if covered else None
    source = Apng(SIZE, parts, [(1, 10)] * len(parts), mode=mode, cover=cover).file()
    assert_shows(source, composed(parts, SIZE), tolerance=3)


@given(drawings(even=True, disposals=f"{KEEP} {CLEAR}"), st.booleans())
def test_a_webp_shows_what_its_parts_say(parts: list[Drawn], alpha: bool) -> None:
    """Also where a part leaves the canvas empty and the file does not announce transparency."""
    if not alpha:
        for part in parts:
            part.pixels[..., 3] = 255
    source = Webp(SIZE, parts, [100] * len(parts), alpha=alpha).file()
    assert_shows(source, composed(parts, SIZE), tolerance=3)


@given(gifs())
def test_all_frames_of_an_animation_have_one_mode(gif: Gif) -> None:
    """A step that treats transparent pictures differently would make it flicker."""
    found = [frame.image for frame in frames(gif.file())]
    assert len({image.mode for image in found}) == 1
    if found[0].mode == "RGBA" and gif.frames[0].indices.shape == SIZE[::-1]:
        needs = [part.disposal in (2, 3, 4) or part.transparent is not None for part in gif.frames]
        assert any(needs)


def test_an_animation_without_holes_is_rgb_although_its_parts_have_transparent_pixels() -> None:
    whole, hole = np.zeros(SIZE[::-1], np.uint8), np.ones((4, 4), np.uint8)
    hole[1, 1] = 2
    parts = [GifFrame(whole), GifFrame(hole, (2, 2), transparent=2)]
    assert [frame.image.mode for frame in frames(Gif(SIZE, parts).file())] == ["RGB", "RGB"]


def test_a_webp_without_holes_is_rgb_although_its_parts_are_small() -> None:
    whole, small = (np.full((*sides, 4), 255, np.uint8) for sides in ((10, 12), (4, 4)))
    source = Webp(SIZE, [Drawn(whole), Drawn(small, (2, 2))], [50, 50], alpha=False).file()
    assert [frame.image.mode for frame in frames(source)] == ["RGB", "RGB"]


def test_an_apng_of_palette_colours_keeps_their_transparency() -> None:
    pictures = [Image.new("P", SIZE, index) for index in (0, 1)]
    for picture in pictures:
        picture.putpalette([*RED, *BLUE])
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "PNG", save_all=True, append_images=pictures[1:], transparency=b"\xff\x00", blend=0
    )
    red, clear = (pixels(frame.image)[0, 0].tolist() for frame in frames(buffer.getvalue()))
    assert (red, clear) == ([*RED, 255], [0, 0, 0, 0])


def test_what_a_part_has_outside_of_the_canvas_is_cut_off() -> None:
    """Whatever made the canvas smaller than the parts, the decoder keeps to it."""
    whole, corner = np.zeros((10, 12), np.uint8), np.ones((6, 6), np.uint8)
    hole = np.zeros((6, 6), np.uint8)
    parts = [GifFrame(whole), GifFrame(corner, (9, 8), disposal=3), GifFrame(hole, (9, 8), None, 0)]
    source = Gif(SIZE, parts).file()
    header = replace(read_header(source, Limits()), width=12, height=10)
    for frame in decode_frames(source, header).frames:
        assert frame.image.size == SIZE


def test_a_part_without_pixels_draws_nothing_and_takes_its_time() -> None:
    whole, nothing = np.zeros((10, 12), np.uint8), np.zeros((0, 5), np.uint8)
    found = frames(Gif(SIZE, [GifFrame(whole), GifFrame(nothing, (3, 3), delay=7)]).file())
    assert [frame.duration for frame in found] == [100, 70]
    assert np.array_equal(pixels(found[0].image), pixels(found[1].image))


def test_the_colour_profile_is_handed_over() -> None:
    profile = swapping_profile()
    chunk = b"x\0\0" + zlib.compress(profile)
    assert opened(with_chunk(apng_of([(1, 10)] * 2), b"iCCP", chunk)).icc == profile


# Times and loops


def webp_of(delays: Sequence[int], loop: int = 0) -> bytes:
    return Webp(SIZE, _distinct(len(delays)), delays, loop).file()


def gif_of(delays: Sequence[int], loop: int | None = None, name: bytes = b"NETSCAPE2.0") -> bytes:
    whole = [np.full(SIZE[::-1], number % 2, np.uint8) for number in range(len(delays))]
    parts = [GifFrame(whole[n], delay=delay) for n, delay in enumerate(delays)]
    return Gif(SIZE, parts, loop=loop, name=name).file()


def apng_of(delays: Sequence[tuple[int, int]], plays: int = 0) -> bytes:
    return Apng(SIZE, _distinct(len(delays)), delays, plays).file()


def _distinct(count: int) -> list[Drawn]:
    levels = [np.full((SIZE[1], SIZE[0], 4), 255, np.uint8) for _ in range(count)]
    for number, level in enumerate(levels):
        level[..., :3] = number * 53 % 256
    return [Drawn(level) for level in levels]


@pytest.mark.parametrize(
    ("source", "durations"),
    [
        (gif_of([0, 1, 2, 10, 65535]), [100, 100, 20, 100, 655_350]),
        (webp_of([0, 10, 11, 100, 700_000]), [100, 100, 11, 100, 655_350]),
        (apng_of([(0, 100), (1, 100), (11, 1000), (1, 0), (7, 7)]), [100, 100, 11, 100, 1000]),
        (apng_of([(1, 30)] * 3), [33, 34, 33]),
    ],
)
def test_frames_last_as_long_as_browsers_show_them(source: bytes, durations: list[int]) -> None:
    """A time of up to 10 ms means 100 ms, whatever the format."""
    assert [frame.duration for frame in frames(source)] == durations


@pytest.mark.parametrize(
    ("source", "plays"),
    [
        (gif_of([5, 5]), 1),
        (gif_of([5, 5], loop=0), 0),
        (gif_of([5, 5], loop=1), 2),
        (gif_of([5, 5], loop=3, name=b"ANIMEXTS1.0"), 4),
        (gif_of([5, 5], loop=65535), 65535),
        (webp_of([50, 50], 0), 0),
        (webp_of([50, 50], 3), 3),
        (apng_of([(1, 10)] * 2, 0), 0),
        (apng_of([(1, 10)] * 2, 3), 3),
        (apng_of([(1, 10)] * 2, 2**31), 65535),
    ],
)
def test_a_loop_is_the_number_of_times_that_it_is_played(source: bytes, plays: int) -> None:
    assert opened(source).loop == plays


# Broken files


MOVING = Gif(SIZE, [GifFrame(np.full((8, 8), n % 2, np.uint8), (n, n)) for n in range(3)], loop=0)


@pytest.mark.parametrize(
    "source",
    [MOVING.file(), webp_of([50] * 3), apng_of([(1, 10)] * 3)],
    ids=["gif", "webp", "apng"],
)
def test_an_animation_that_is_cut_short_is_refused(source: bytes) -> None:
    """Frames that it does show are whole, and as many as its header counts."""
    whole = [pixels(frame.image) for frame in frames(source)]
    for length in range(1, len(source)):
        cut = source[:length]
        try:
            header = read_header(cut, Limits())
            found = [pixels(frame.image) for frame in decode_frames(cut, header).frames]
        except BrokenImage:
            continue
        except UnsupportedImage:
            assert length < 12
            continue
        assert len(found) == header.frames
        assert all(np.array_equal(*pair) for pair in zip(found, whole, strict=False))
        # Without its last byte or chunk, nothing of the picture is missing.
        assert source[:3] == b"GIF" or len(found) == len(whole)


def test_a_frame_is_read_only_when_it_is_its_turn() -> None:
    """So that one frame at a time is in memory."""
    source = MOVING.file()
    broken = source[:-20] + b"\xff" * 18 + source[-2:]  # codes that the table does not have
    found = opened(broken).frames
    assert next(found).duration == next(found).duration == 100
    with pytest.raises(BrokenImage):
        next(found)


def test_chunks_of_an_apng_that_are_out_of_order_are_refused() -> None:
    source = apng_of([(1, 10)] * 3)
    first, last = source.index(b"fdAT") - 4, source.rindex(b"fdAT") - 4
    assert source[first:last]
    swapped = source.replace(b"fdAT" + struct.pack(">I", 2), b"fdAT" + struct.pack(">I", 7))
    with pytest.raises(BrokenImage):
        frames(swapped)


@profile(max_examples=200)
@given(st.sampled_from([MOVING.file(), webp_of([50] * 3), apng_of([(1, 10)] * 3)]), st.data())
def test_whatever_the_bytes_are_nothing_but_broken_image_is_raised(
    source: bytes, data: st.DataObject
) -> None:
    changed = bytearray(source)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(12, len(source) - 1))] = data.draw(st.integers(0, 255))
    header = read_header(source, Limits())
    try:
        for frame in decode_frames(bytes(changed), header).frames:
            assert frame.image.size == (header.width, header.height)
    except BrokenImage:
        pass


def test_every_frame_has_pixels_of_its_own() -> None:
    for source in (MOVING.file(), webp_of([50] * 3), apng_of([(1, 10)] * 3)):
        untouched = [pixels(frame.image) for frame in frames(source)]
        for frame, picture in zip(opened(source).frames, untouched, strict=True):
            assert np.array_equal(pixels(frame.image), picture)
            frame.image.paste((9, 9, 9), (0, 0, *SIZE))


# What is written


def timeline(source: bytes) -> tuple[list[Pixels], list[int]]:
    """Pictures and their ends in ms, by our reading."""
    found = frames(source)
    return [pixels(frame.image) for frame in found], ends([frame.duration for frame in found])


def ends(durations: Sequence[int]) -> list[int]:
    return np.cumsum(durations).tolist()


def by_pillow(source: bytes) -> tuple[list[Pixels], list[int]]:
    with Image.open(io.BytesIO(source)) as image:
        shown, durations = [], []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            shown.append(pixels(image))
            durations.append(image.info["duration"])
        return shown, ends(durations)


def by_vips(source: bytes) -> tuple[list[Pixels], list[int]]:
    pyvips = pytest.importorskip("pyvips")
    image = pyvips.Image.new_from_buffer(source, "", n=-1)
    height = image.get("page-height")
    whole = np.frombuffer(image.write_to_memory(), np.uint8).reshape(
        -1, height, image.width, image.bands
    )
    return [pixels(Image.fromarray(page)) for page in whole], ends(image.get("delay"))


def at(instant: int, shown: tuple[list[Pixels], list[int]]) -> Pixels:
    return next(picture for picture, end in zip(*shown, strict=True) if instant < end)


def assert_same_at_every_instant(
    one: tuple[list[Pixels], list[int]], other: tuple[list[Pixels], list[int]], tolerance: int = 0
) -> None:
    assert one[1][-1] == other[1][-1]
    for instant in sorted({0, *one[1][:-1], *other[1][:-1]}):
        difference = np.abs(at(instant, one).astype(int) - at(instant, other)).max()
        assert difference <= tolerance, instant


def written(
    pictures: Sequence[Image.Image],
    durations: Sequence[int],
    format: Format,
    *,
    loop: int = 0,
    lossless: bool = True,
) -> bytes:
    lossless = lossless and format is not Format.AVIF
    return encode_animation(
        pictures, durations, loop, format, 90, Encoding(effort_webp=1), lossless=lossless
    )


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[Image.Image], list[int]]:
    """Pictures of few colours that change here and there, vanish, or stay; durations in ms."""
    rng = np.random.default_rng(draw(SEEDS))
    colours = np.array([(0, 0, 0, 0), (255, 0, 0, 255), (0, 90, 0, 255), (9, 9, 99, 255)], np.uint8)
    indices = rng.integers(0, 4, SIZE[::-1])
    pictures = []
    for _ in range(draw(st.integers(2, 6))):
        left, top, width, height = draw(places())
        change = draw(st.sampled_from(["same", "noise", "fill", "clear"]))
        region = np.s_[top : top + height, left : left + width]
        if change != "same":
            fill = {"noise": rng.integers(0, 4, (height, width)), "fill": 2, "clear": 0}[change]
            indices[region] = fill
        pictures.append(Image.fromarray(colours[indices]))
    durations = [10 * draw(st.integers(2, 50)) for _ in pictures]
    return pictures, durations


@pytest.mark.parametrize("format", LOSSLESS)
@given(sequence=sequences())
def test_every_reader_sees_the_right_picture_at_every_instant(
    format: Format, sequence: tuple[list[Image.Image], list[int]]
) -> None:
    """Also where equal neighbours were made one, and where pixels vanish."""
    pictures, durations = sequence
    source = written(pictures, durations, format)
    expected = [pixels(picture) for picture in pictures], ends(durations)
    if read_header(source, Limits()).frames > 1:
        for read in (timeline, by_pillow, by_vips):
            assert_same_at_every_instant(expected, read(source))
    else:  # nothing ever changed
        with Image.open(io.BytesIO(source)) as image:
            assert all(np.array_equal(pixels(image), picture) for picture in expected[0])


def moving(count: int, size: tuple[int, int] = (96, 64), mode: str = "RGB") -> list[Image.Image]:
    """A window that wanders over something like a photo."""
    whole = landscape(size[0] * 2, size[1] * 2).convert(mode)
    return [whole.crop((n, n // 2, size[0] + n, size[1] + n // 2)) for n in range(0, 3 * count, 3)]


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "RGBX"])
def test_every_frame_is_written_close_to_its_picture(format: Format, mode: str) -> None:
    pictures, durations = moving(6, mode=mode), [40, 50, 60, 70, 80, 90]
    source = written(pictures, durations, format, lossless=False)
    found = by_pillow(source)
    assert found[1] == ends(durations)
    for picture, shown in zip(pictures, found[0], strict=True):
        # Fine lines lose their colour where it is coarse, but not their light.
        luma = np.asarray(Image.fromarray(shown).convert("L"), float)
        assert np.sqrt(np.mean((luma - np.asarray(picture.convert("L"))) ** 2)) < 8
        assert (shown[..., 3] == 255).all()


@pytest.mark.parametrize("loop", [0, 1, 2, 7])
@pytest.mark.parametrize("format", LOSSLESS)
def test_loops_are_kept(format: Format, loop: int) -> None:
    assert opened(written(moving(3), [50] * 3, format, loop=loop)).loop == loop


@pytest.mark.skipif(Format.AVIF not in ALL, reason="no AVIF encoder")
@pytest.mark.parametrize(("loop", "total"), [(0, 2**64 - 1), (1, 150), (7, 1050)])
def test_an_avif_says_for_how_long_it_plays_in_all(loop: int, total: int) -> None:
    """ISO 14496-12: players repeat the edit while the duration of the movie lasts."""
    source = written(moving(3), [50] * 3, Format.AVIF, loop=loop)
    edits = source.index(b"elst") + 4
    (once,) = struct.unpack_from(">Q", source, edits + 8)
    assert (once, source[edits + 3]) == (150, 0 if loop == 1 else 1)
    for kind, offset in ((b"mvhd", 28), (b"tkhd", 32)):
        (duration,) = struct.unpack_from(">Q", source, source.index(kind) + offset)
        assert duration == total


@pytest.mark.parametrize("format", ALL)
def test_the_same_frames_make_the_same_bytes_without_metadata(format: Format) -> None:
    """AVIF would have the time of its making in it."""
    pictures = moving(3)
    bare = written(pictures, [50] * 3, format, lossless=False)
    for picture in pictures:
        picture.info = {"comment": b"kept secret", "icc_profile": b"x" * 128, "exif": b"Exif\0\0MM"}
        picture.info |= {"xmp": b"<x/>", "background": (1, 2, 3, 4), "duration": 7, "loop": 9}
    assert written(pictures, [50] * 3, format, lossless=False) == bare
    assert b"\0" * 16 in bare or format is not Format.AVIF


def test_a_gif_keeps_its_speed_where_frames_are_too_fast_for_it() -> None:
    """90 pictures a second: every other one is left out, and the last one stays."""
    pictures = [Image.new("RGB", (4, 4), (n, 0, 255 - n)) for n in range(0, 250, 25)]
    shown, over = by_pillow(written(pictures, [11] * 10, Format.GIF))
    assert over[-1] == 110
    assert all(end - start >= 20 for start, end in pairwise([0, *over]))
    assert np.array_equal(shown[-1], pixels(pictures[-1]))


def test_a_gif_rounds_times_so_that_their_sum_stays_right() -> None:
    _, over = by_pillow(written(moving(30), [33, 33, 34] * 10, Format.GIF))
    assert over == [round(end / 10) * 10 for end in ends([33, 33, 34] * 10)]


def test_times_that_no_format_can_add_up_are_cut() -> None:
    for format in ALL:
        pictures = moving(3, (8, 8))
        found = by_pillow(written(pictures, [2**31 - 1] * 3, format, lossless=False))
        assert len(found[0]) == 3


def test_a_gif_of_a_drawing_keeps_its_colours_exactly() -> None:
    """Up to 255 colours, also close ones, and however few pixels have them."""
    colours = [(n, 255 - n, n // 2) for n in range(255)]
    drawing = Image.new("RGB", (40, 40), colours[0])
    drawing.putdata([colours[0]] * 1345 + colours)
    other = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shown, _ = by_pillow(written([drawing, other], [50, 50], Format.GIF))
    assert np.array_equal(shown[0], pixels(drawing))
    assert np.abs(shown[1].astype(int) - pixels(other)).max() <= 3


def test_a_gif_gives_a_scene_of_other_colours_a_table_of_its_own() -> None:
    """255 colours for all would not be enough for any."""
    scenes = [landscape(64, 48).point(lambda value, n=n: value // 5 + 51 * n) for n in range(5)]
    tinted = [
        Image.merge("RGB", scene.split()[n % 3 :] + scene.split()[: n % 3])
        for n, scene in enumerate(scenes)
    ]
    shown, _ = by_pillow(written(tinted, [100] * 5, Format.GIF))
    for picture, found in zip(tinted, shown, strict=True):
        assert np.abs(found[..., :3].astype(int) - np.asarray(picture)).mean() < 3


def test_only_so_many_tables_are_fitted_for_one_animation() -> None:
    """Each takes long: thousands of frames of noise must not cost minutes."""
    rng = np.random.default_rng(1)
    noise = [Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(120)]
    everywhere = Image.new("L", (20, 20), 255)
    palettes = Palettes(shared_palette([(noise[0], everywhere)], 1))
    assert len({palettes.choose(picture, everywhere)[0] for picture in noise}) <= 101


def test_what_stands_still_costs_next_to_nothing() -> None:
    """The size of an animation is that of what moves in it."""
    still = landscape(160, 120)
    pictures = []
    for number in range(12):
        picture = still.copy()
        picture.paste((255, 0, 0), (number * 8, 40, number * 8 + 10, 50))
        pictures.append(picture)
    for format in LOSSLESS:
        one = len(written(pictures[:1], [50], format, lossless=False))
        assert len(written(pictures, [50] * 12, format, lossless=False)) < 1.6 * one


def test_half_transparent_pixels_of_a_gif_are_shown_on_white_or_not_at_all() -> None:
    pictures = [Image.new("RGBA", (6, 6), (0, 0, 0, alpha)) for alpha in (255, 200, 128, 127)]
    shown, _ = by_pillow(written(pictures, [50] * 4, Format.GIF))
    assert [picture[0, 0].tolist() for picture in shown] == [
        [0, 0, 0, 255],
        [55, 55, 55, 255],
        [127, 127, 127, 255],
        [0, 0, 0, 0],
    ]


@pytest.mark.skipif(Format.AVIF not in ALL, reason="no AVIF encoder")
def test_avif_is_never_lossless() -> None:
    with pytest.raises(BadOptions):
        encode_animation(moving(2), [50, 50], 0, Format.AVIF, 50, Encoding(), lossless=True)
