"""Every number of a render is right before a pixel is touched."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference_sizes import wanted

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import ImageInfo
from thumbproxy.imaging.boxes import Box, crop_box, to_sensor, to_upright
from thumbproxy.imaging.geometry import DECODE_MARGINS, Findings, Plan, decode_eighths, plan
from thumbproxy.urls.options import Options
from thumbproxy.urls.value_types import COMPASS

LIMITS = Limits()


def planned(
    width: int, height: int, options: str, orientation: int = 1, limits: Limits = LIMITS
) -> Plan:
    """The plan for a picture that is upright `width` x `height`."""
    info = ImageInfo(Format.JPEG, width, height, orientation=orientation)
    return plan(info, Options.read(options), limits)


@pytest.mark.parametrize(
    ("source", "options", "output"),
    [
        ((400, 300), "_", (400, 300)),
        ((400, 300), "w_200", (200, 150)),
        ((400, 300), "h_150", (200, 150)),
        ((400, 300), "w_200,h_200", (200, 150)),
        ((300, 400), "w_200,h_200", (150, 200)),
        ((400, 300), "w_800", (400, 300)),
        ((400, 300), "w_800,up", (800, 600)),
        ((400, 300), "up", (400, 300)),
        ((400, 300), "w_100,dpr_2", (200, 150)),
        ((400, 300), "h_100,dpr_2", (267, 200)),
        ((400, 300), "w_33,dpr_1.5", (50, 37)),
        ((1000, 1), "w_10", (10, 1)),
        ((1, 1000), "h_10", (1, 10)),
        ((400, 300), "w_200,h_200,fit_cover", (200, 200)),
        ((400, 300), "w_800,h_800,fit_cover", (300, 300)),
        ((400, 300), "w_800,h_400,fit_cover", (400, 200)),
        ((400, 300), "w_800,h_800,fit_cover,up", (800, 800)),
        ((400, 300), "w_350,h_350,fit_cover", (300, 300)),
        ((400, 300), "w_200,fit_cover", (200, 150)),
        ((400, 300), "h_150,fit_pad", (200, 150)),
        ((400, 300), "w_200,fit_stretch", (200, 150)),
        ((400, 300), "w_200,h_200,fit_pad", (200, 200)),
        ((400, 300), "w_800,h_800,fit_pad", (800, 800)),
        ((400, 300), "w_200,h_200,fit_stretch", (200, 200)),
        ((400, 300), "w_800,h_800,fit_stretch", (300, 300)),
        ((400, 300), "w_800,h_400,fit_stretch", (400, 200)),
        ((400, 300), "w_800,h_100,fit_stretch,up", (800, 100)),
        ((400, 300), "w_200,rot_90", (150, 200)),
        ((400, 300), "w_200,rot_180", (200, 150)),
        ((400, 300), "w_200,h_100,fit_cover,rot_270", (100, 200)),
        ((400, 300), "w_200,h_100,fit_pad,rot_90", (100, 200)),
        ((400, 300), "w_200,flip_h", (200, 150)),
        ((400, 300), "crop_0x0x100x100", (100, 100)),
        ((400, 300), "crop_0x0x100x50,w_50", (50, 25)),
        ((400, 300), "crop_0x0x0.5x0.5", (200, 150)),
        ((400, 300), "crop_0.5x0.5x0.5x0.5,w_100", (100, 75)),
        ((6000, 3000), "_", (4096, 2048)),
        ((100, 10_000), "w_4000,up", (41, 4096)),
        ((100, 75), "w_50", (50, 38)),
        ((5, 150), "h_41,dpr_1.5", (2, 62)),
        ((227, 154), "h_13,dpr_1.5,up", (29, 20)),
        ((96, 64), "w_45,dpr_2.3,up", (104, 69)),
        ((300, 200), "crop_0x0x0.145x1.0", (44, 200)),
        ((100, 200), "crop_0x0x0.145x1.0", (15, 200)),
        ((400, 300), "w_33,h_33,dpr_1.5,fit_cover", (50, 50)),
        ((400, 300), "w_33,h_33,dpr_1.5,fit_pad", (50, 50)),
        ((400, 300), "w_33,h_33,dpr_1.5,fit_stretch", (50, 50)),
        ((10, 10), "w_3,h_3000,fit_cover", (1, 10)),
        ((10, 10), "w_3,h_3000,fit_stretch", (1, 10)),
    ],
)
def test_the_output_has_the_size_that_the_options_ask_for(
    source: tuple[int, int], options: str, output: tuple[int, int]
) -> None:
    assert planned(*source, options).output == output


@pytest.mark.parametrize(
    ("gravity", "box"),
    [
        ("c", (50, 0, 350, 300)),
        ("n", (50, 0, 350, 300)),
        ("w", (0, 0, 300, 300)),
        ("nw", (0, 0, 300, 300)),
        ("se", (100, 0, 400, 300)),
        ("0.4x0.5", (10, 0, 310, 300)),
        ("0.1x0.1", (0, 0, 300, 300)),
        ("0.99x0", (100, 0, 400, 300)),
    ],
)
def test_cover_keeps_the_focal_point_as_near_the_middle_as_it_can(
    gravity: str, box: tuple[float, ...]
) -> None:
    found = planned(400, 300, f"w_150,h_150,fit_cover,g_{gravity}").box
    assert found == pytest.approx(box)


@pytest.mark.parametrize(("gravity", "top"), [("n", 0), ("c", 50), ("s", 100)])
def test_cover_cuts_a_tall_picture_above_and_below(gravity: str, top: int) -> None:
    found = planned(300, 400, f"w_150,h_150,fit_cover,g_{gravity}").box
    assert found == pytest.approx((0, top, 300, top + 300))


def test_a_focal_point_counts_within_the_crop() -> None:
    found = planned(400, 300, "crop_200x0x200x100,w_50,h_50,fit_cover,g_0x0").box
    assert found == pytest.approx((200, 0, 300, 100))


def test_cover_that_does_not_scale_cuts_between_whole_pixels() -> None:
    numbers = planned(101, 50, "w_500,h_500,fit_cover")
    assert numbers.box == (26, 0, 76, 50)
    assert numbers.size == (50, 50)


@pytest.mark.parametrize(
    ("gravity", "offset"),
    [("c", (0, 25)), ("n", (0, 0)), ("s", (0, 50)), ("0.5x0.1", (0, 5))],
)
def test_pad_places_the_picture_by_gravity(gravity: str, offset: tuple[int, int]) -> None:
    numbers = planned(400, 300, f"w_200,h_200,fit_pad,g_{gravity}")
    assert numbers.canvas == (200, 200)
    assert numbers.size == (200, 150)
    assert numbers.offset == offset


@pytest.mark.parametrize(
    ("source", "options", "size", "offset"),
    [
        ((300, 400), "w_200,h_200", (150, 200), (25, 0)),
        ((400, 300), "w_800,h_800", (400, 300), (200, 250)),
        ((400, 300), "w_800,h_800,up", (800, 600), (0, 100)),
    ],
)
def test_pad_enlarges_the_canvas_but_the_picture_only_if_asked(
    source: tuple[int, int], options: str, size: tuple[int, int], offset: tuple[int, int]
) -> None:
    numbers = planned(*source, f"{options},fit_pad")
    assert (numbers.size, numbers.offset) == (size, offset)


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        (None, (0, 0, 400, 300)),
        ((10, 20, 30, 40), (10, 20, 40, 60)),
        ((390, 290, 100, 100), (390, 290, 400, 300)),
        ((0.25, 0.5, 0.5, 0.5), (100, 150, 300, 300)),
        ((0.999, 0.999, 0.001, 0.001), (399, 299, 400, 300)),
        ((10, 0.5, 0.5, 10), (10, 150, 210, 160)),
    ],
)
def test_crop_is_whole_pixels_cut_off_at_the_edges(
    crop: tuple[float, ...] | None, box: tuple[int, ...]
) -> None:
    assert crop_box(crop, 400, 300) == box


@pytest.mark.parametrize("crop", [(400, 0, 10, 10), (0, 300, 10, 10), (5000, 5000, 1, 1)])
def test_crop_outside_of_the_picture_is_refused_with_its_size(crop: tuple[int, ...]) -> None:
    with pytest.raises(BadOptions, match="400 x 300"):
        crop_box(crop, 400, 300)


@pytest.mark.parametrize(
    ("orientation", "sensor"),
    [
        (1, (10, 20, 30, 50)),
        (2, (70, 20, 90, 50)),
        (3, (70, 30, 90, 60)),
        (4, (10, 30, 30, 60)),
        (5, (20, 10, 50, 30)),
        (6, (20, 70, 50, 90)),
        (7, (30, 70, 60, 90)),
        (8, (30, 10, 60, 30)),
    ],
)
def test_a_region_is_found_again_on_the_sensor(orientation: int, sensor: tuple[float, ...]) -> None:
    assert to_sensor(Box(10, 20, 30, 50), orientation, (100, 80)) == sensor


def test_a_turned_picture_is_resized_as_it_lies_in_the_file() -> None:
    numbers = planned(300, 400, "w_150", orientation=6)
    assert numbers.box == (0, 0, 400, 300)
    assert numbers.size == (200, 150)
    assert numbers.output == (150, 200)


@pytest.mark.parametrize(
    ("reduction", "eighths"),
    [(50, 1), (48, 1), (47, 2), (10, 2), (9.9, 4), (3, 4), (2.9, 8), (1, 8), (0.5, 8)],
)
def test_the_decoder_scales_as_far_as_quality_allows(reduction: float, eighths: int) -> None:
    assert decode_eighths(reduction, (4000, 3000)) == eighths


def test_a_tiny_picture_is_never_scaled_by_the_decoder() -> None:
    assert decode_eighths(100, (7, 3)) == 8


SIDES = st.integers(1, 16_384)
BOXES = st.none() | st.integers(1, 4096)
FRACTIONS = st.integers(0, 1_000_000).map(lambda n: n / 1_000_000)
SPANS = st.tuples(FRACTIONS, FRACTIONS).map(sorted).filter(lambda span: span[0] < span[1])


@st.composite
def crops(draw: st.DrawFn) -> tuple[float, ...] | None:
    """Such as lie in every picture, in fractions or from its corner in pixels; or none."""
    if draw(st.booleans()):
        return draw(
            st.none()
            | st.tuples(st.just(0), st.just(0), st.integers(1, 9999), st.integers(1, 9999))
        )
    across, down = draw(SPANS), draw(SPANS)
    # Six digits are what a URL can say.
    crop = (across[0], down[0], round(across[1] - across[0], 6), round(down[1] - down[0], 6))
    return crop if crop[2] and crop[3] else None


@st.composite
def all_options(draw: st.DrawFn) -> Options:
    return Options(
        crop=draw(crops()),
        width=draw(BOXES),
        height=draw(BOXES),
        fit=draw(st.sampled_from(["inside", "cover", "pad", "stretch"])),
        enlarge=draw(st.booleans()),
        gravity=draw(st.sampled_from(sorted(COMPASS)) | st.tuples(FRACTIONS, FRACTIONS)),
        dpr=draw(st.sampled_from([1, 1.5, 2, 4]) | st.integers(10, 40).map(lambda n: n / 10)),
        rotate=draw(st.sampled_from([0, 90, 180, 270])),
    )


@given(
    width=SIDES,
    height=SIDES,
    orientation=st.integers(1, 8),
    options=all_options(),
    most=st.integers(16, 4096),
)
def test_no_options_lead_outside_of_the_picture_or_the_limits(
    width: int, height: int, orientation: int, options: Options, most: int
) -> None:
    info = ImageInfo(Format.JPEG, width, height, orientation=orientation)
    numbers = plan(info, options, Limits(output_side=most))
    assert all(1 <= side <= most for side in (*numbers.output, *numbers.size))
    right, bottom = (height, width) if orientation >= 5 else (width, height)
    assert 0 <= numbers.box.left < numbers.box.right <= right
    assert 0 <= numbers.box.top < numbers.box.bottom <= bottom
    if numbers.eighths < 8:
        margin = DECODE_MARGINS[numbers.eighths]
        assert numbers.box.width * numbers.eighths / 8 >= margin * numbers.size[0] * (1 - 1e-9)
    if numbers.canvas is not None:
        upright = numbers.size[::-1] if orientation >= 5 else numbers.size
        for start, length, whole in zip(numbers.offset, upright, numbers.canvas, strict=True):
            assert 0 <= start <= start + length <= whole


@given(width=SIDES, height=SIDES, box=st.integers(1, 4096), enlarge=st.booleans())
def test_inside_keeps_the_ratio_to_half_a_pixel(
    width: int, height: int, box: int, enlarge: bool
) -> None:
    info = ImageInfo(Format.JPEG, width, height)
    out = plan(info, Options(width=box, height=box, enlarge=enlarge), LIMITS).output
    scale = box / max(width, height)
    if not enlarge:
        scale = min(scale, 1)
    assert all(side <= box for side in out)
    for side, exact in zip(out, (width * scale, height * scale), strict=True):
        assert side == max(1, math.floor(exact + 0.5)) or abs(side - exact) <= 0.5 + 1e-6


@given(width=SIDES, height=SIDES, box=st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
def test_cover_neither_distorts_nor_enlarges(width: int, height: int, box: tuple[int, int]) -> None:
    info = ImageInfo(Format.JPEG, width, height)
    numbers = plan(info, Options(width=box[0], height=box[1], fit="cover"), LIMITS)
    across = numbers.box.width / numbers.size[0]
    down = numbers.box.height / numbers.size[1]
    assert across == pytest.approx(down, rel=1e-6)
    assert across >= 1 - 1e-9


@given(width=SIDES, height=SIDES, orientation=st.integers(1, 8))
def test_without_options_nothing_is_resized_unless_it_is_too_large(
    width: int, height: int, orientation: int
) -> None:
    info = ImageInfo(Format.JPEG, width, height, orientation=orientation)
    numbers = plan(info, Options(), LIMITS)
    if max(width, height) <= LIMITS.output_side:
        assert numbers.output == (width, height)
        assert numbers.eighths == 8


def upright_box(numbers: Plan, picture: tuple[int, int]) -> Box:
    sensor = picture[::-1] if numbers.orientation >= 5 else picture
    return to_upright(numbers.box, numbers.orientation, sensor)


@example((11_568, 8_971), 1, Options.read("w_31,h_2567,dpr_1.5"), 1356)
@example((102, 352), 6, Options.read("crop_34x260x23x0.836,h_33,fit_pad,up,dpr_1.5"), 4096)
@example(
    (367, 55),
    2,
    Options.read("crop_253x0.193x222x0.303,w_47,h_19,fit_pad,g_0.359x0.58,dpr_2"),
    4096,
)
@given(st.tuples(SIDES, SIDES), st.integers(1, 8), all_options(), st.integers(16, 4096))
def test_all_numbers_are_those_of_the_rules_in_exact_fractions(
    picture: tuple[int, int], orientation: int, options: Options, most: int
) -> None:
    info = ImageInfo(Format.JPEG, *picture, orientation=orientation)
    numbers = plan(info, options, Limits(output_side=most))
    right = wanted(picture, options, most)
    assert numbers.output == right.output
    assert (numbers.size[::-1] if orientation >= 5 else numbers.size) == right.size
    assert numbers.canvas in (None, right.canvas)
    assert numbers.offset == right.offset
    assert upright_box(numbers, picture) == pytest.approx([float(n) for n in right.region])


@given(st.tuples(SIDES, SIDES), st.integers(2, 8), all_options())
def test_how_the_camera_was_held_changes_nothing_that_is_seen(
    picture: tuple[int, int], orientation: int, options: Options
) -> None:
    level, turned = (
        plan(ImageInfo(Format.JPEG, *picture, orientation=held), options, LIMITS)
        for held in (1, orientation)
    )
    seen = turned.size[::-1] if orientation >= 5 else turned.size
    assert (seen, turned.canvas, turned.offset, turned.output, turned.eighths) == (
        level.size, level.canvas, level.offset, level.output, level.eighths
    )  # fmt: skip
    assert upright_box(turned, picture) == pytest.approx(level.box)


@given(st.tuples(SIDES, SIDES), st.integers(1, 8), all_options())
def test_cover_keeps_the_focal_point_and_the_ratio_of_the_box(
    picture: tuple[int, int], orientation: int, options: Options
) -> None:
    info = ImageInfo(Format.JPEG, *picture, orientation=orientation)
    options = replace(options, fit="cover", width=options.width or 7, height=options.height or 7)
    numbers = plan(info, options, LIMITS)
    box, crop = upright_box(numbers, picture), crop_box(options.crop, *picture)
    point = COMPASS.get(options.gravity) if isinstance(options.gravity, str) else options.gravity
    assert point is not None
    x, y = crop.left + point[0] * crop.width, crop.top + point[1] * crop.height
    # Cut between whole pixels, it may lose half of one.
    assert box.left - 0.5 <= x <= box.right + 0.5
    assert box.top - 0.5 <= y <= box.bottom + 0.5
    assert Box(*(crop[:2]), crop.right + 1e-6, crop.bottom + 1e-6).holds(box)
    width, height = numbers.size[::-1] if orientation >= 5 else numbers.size
    scale = max(width / box.width, height / box.height)
    assert box.width * scale - width <= 0.5 + 1e-6
    assert box.height * scale - height <= 0.5 + 1e-6


@given(st.tuples(SIDES, SIDES), all_options())
def test_pad_keeps_the_ratio_to_half_a_pixel_and_has_the_size_of_the_box(
    picture: tuple[int, int], options: Options
) -> None:
    options = replace(options, fit="pad", width=options.width or 7, height=options.height or 7)
    numbers = plan(ImageInfo(Format.JPEG, *picture), options, LIMITS)
    crop = crop_box(options.crop, *picture)
    assert numbers.box == crop
    assert numbers.canvas is not None
    scale = min(numbers.canvas[0] / crop.width, numbers.canvas[1] / crop.height)
    scale = scale if options.enlarge else min(scale, 1)
    for side, length in zip(numbers.size, (crop.width, crop.height), strict=True):
        assert side == 1 or abs(side - length * scale) <= 0.5 + 1e-6


@given(st.tuples(SIDES, SIDES), all_options())
def test_stretch_shows_everything_and_does_not_enlarge_unless_asked(
    picture: tuple[int, int], options: Options
) -> None:
    options = replace(options, fit="stretch")
    numbers = plan(ImageInfo(Format.JPEG, *picture), options, LIMITS)
    crop = crop_box(options.crop, *picture)
    assert numbers.box == crop
    if not options.enlarge:
        assert numbers.size[0] <= crop.width
        assert numbers.size[1] <= crop.height


@given(st.tuples(SIDES, SIDES), all_options(), st.integers(1, 4))
def test_dpr_multiplies_the_box_and_nothing_else(
    picture: tuple[int, int], options: Options, dpr: int
) -> None:
    info = ImageInfo(Format.JPEG, *picture)
    box = [None if side is None else min(side, 1024) for side in (options.width, options.height)]
    small = replace(options, width=box[0], height=box[1], dpr=dpr)
    large = replace(options, dpr=1, width=box[0] and box[0] * dpr, height=box[1] and box[1] * dpr)
    assert plan(info, small, LIMITS) == plan(info, large, LIMITS)


@given(st.tuples(SIDES, SIDES), st.integers(1, 8), all_options(), st.tuples(FRACTIONS, FRACTIONS))
def test_what_was_found_in_the_pixels_counts_like_a_crop_and_a_focal_point(
    picture: tuple[int, int], orientation: int, options: Options, focus: tuple[float, float]
) -> None:
    info = ImageInfo(Format.JPEG, *picture, orientation=orientation)
    region = crop_box(options.crop, *picture)
    found = plan(info, replace(options, crop=None), LIMITS, Findings(region, focus))
    assert found == plan(info, replace(options, gravity=focus), LIMITS)


@given(st.tuples(SIDES, SIDES), all_options(), st.integers(0, 255))
def test_a_border_is_searched_in_all_pixels(
    picture: tuple[int, int], options: Options, tolerance: int
) -> None:
    info = ImageInfo(Format.JPEG, *picture)
    assert plan(info, replace(options, trim=tolerance), LIMITS).eighths == 8


@given(st.tuples(SIDES, SIDES), st.integers(1, 8), SPANS, SPANS)
def test_a_region_that_goes_to_the_sensor_and_back_is_the_same(
    picture: tuple[int, int], orientation: int, across: list[float], down: list[float]
) -> None:
    width, height = picture
    box = Box(across[0] * width, down[0] * height, across[1] * width, down[1] * height)
    sensor = picture[::-1] if orientation >= 5 else picture
    there = to_sensor(box, orientation, picture)
    assert Box(-1e-6, -1e-6, sensor[0] + 1e-6, sensor[1] + 1e-6).holds(there)
    assert to_upright(there, orientation, sensor) == pytest.approx(box)
