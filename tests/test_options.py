"""Options: one spelling for each, both ways."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.limits import Limits
from thumbproxy.urls.options import OPTIONS, OptionKeywords, Options
from thumbproxy.urls.value_types import COMPASS

fractions = st.integers(0, 1_000_000).map(lambda millionths: millionths / 1_000_000)
pixels = st.integers(0, 65_535)
boxes = st.one_of(
    st.tuples(pixels, pixels, pixels.filter(bool), pixels.filter(bool)),
    st.tuples(st.just(0.25), fractions.filter(lambda x: x < 1), st.just(0.5), st.just(1)),
    st.just((0, 0, 1.0, 1.0)),
)


def options() -> st.SearchStrategy[Options]:
    return st.builds(
        Options,
        crop=st.none() | boxes,
        width=st.none() | st.integers(1, 65_535),
        height=st.none() | st.integers(1, 65_535),
        fit=st.sampled_from(["inside", "cover", "pad", "stretch"]),
        enlarge=st.booleans(),
        gravity=st.sampled_from(list(COMPASS)) | st.tuples(fractions, fractions),
        dpr=st.integers(10, 40).map(lambda tenths: tenths / 10),
        rotate=st.sampled_from([0, 90, 180, 270]),
        flip=st.sampled_from([None, "h", "v", "hv"]),
        background=st.none() | st.from_regex("[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", fullmatch=True),
        quality=st.none() | st.integers(1, 100),
        page=st.none() | st.integers(1, 100_000),
        still=st.booleans(),
        version=st.none() | st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True),
        expires=st.none() | st.integers(1, 99_999_999_999),
    )


@given(options())
def test_what_is_written_is_read_as_the_same(wanted: Options) -> None:
    assert Options.parse(str(wanted)) == wanted
    assert str(Options.parse(str(wanted))) == str(wanted)


TOKENS = [
    "w_4", "w_04", "h_9", "q_80", "dpr_1", "dpr_1.5", "dpr_1.50", "up", "up_1", "g_c", "g_ne",
    "g_.5x0.5", "crop_0x0x1.0x0.5", "bg_FFFFFF", "rot_90", "rot_0", "flip_hv", "fit_inside",
    "fit_pad", "v_a_b", "e_1", "still", "page_1", "x_1", "w",
]  # fmt: skip


@given(st.lists(st.sampled_from([*TOKENS, ""]), max_size=5).map(",".join))
def test_what_is_accepted_has_one_spelling(text: str) -> None:
    try:
        accepted = Options.parse(text)
    except BadOptions:
        return
    assert str(accepted) == text


@pytest.mark.parametrize(
    ("loose", "canonical"),
    [
        ("h_300,w_400", "w_400,h_300"),
        ("w_0400", "w_400"),
        ("dpr_2.0", "dpr_2"),
        ("dpr_1", "_"),
        ("g_.5x0.50", "g_0.5x0.5"),
        ("fit_inside,g_c,rot_0", "_"),
        ("bg_FFEEDD", "bg_ffeedd"),
        ("bg_ffeeddff", "bg_ffeedd"),
        ("crop_0.0x0x1.0x.5", "crop_0x0x1.0x0.5"),
        ("crop_010x20x300x200", "crop_10x20x300x200"),
        ("up,w_4,h_3", "w_4,h_3,up"),
    ],
)
def test_other_spellings_are_refused_with_the_canonical_one(loose: str, canonical: str) -> None:
    with pytest.raises(BadOptions) as refused:
        Options.parse(loose)
    assert repr(canonical) in refused.value.reason
    assert str(Options.read(loose)) == canonical
    assert str(Options.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("w_0", "from 1 to 65535"), ("w_-1", "from 1"), ("w_1e3", "whole"), ("w_ 5", "whole"),
        ("w_1.5", "whole"), ("w_٣", "whole"), ("w", "whole"), ("w_99999999999999999999", "whole"),
        ("fit_fill", "inside, cover, pad, stretch"), ("up_1", "no value"), ("g_x", "focal point"),
        ("g_1.5x0", "focal point"), ("g_0.5", "focal point"), ("dpr_0.5", "from 1 to 4"),
        ("dpr_4.1", "from 1 to 4"), ("dpr_1.25", "decimal"), ("rot_45", "90"), ("flip_vh", "hv"),
        ("bg_fff", "rrggbb"), ("bg_gggggg", "rrggbb"), ("q_0", "from 1 to 100"), ("q_101", "100"),
        ("crop_0x0x0x5", "inside the picture"), ("crop_0.6x0x0.5x1.0", "inside"),
        ("crop_1x2x3", "XxYxWxH"), ("crop_1.5x0x5x5", "XxYxWxH"), ("v_", "1 to 64"),
        ("v_a.b", "1 to 64"), ("v_" + "a" * 65, "1 to 64"), ("e_0", "from 1"), ("page_0", "from 1"),
        ("w_1,w_1", "twice"), ("size_4", "no option 'size'"), ("w_1,", "no option ''"),
        ("W_1", "no option 'W'"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_with_what_is(text: str, part: str) -> None:
    with pytest.raises(BadOptions) as refused:
        Options.read(text)
    assert part in refused.value.reason


@pytest.mark.parametrize(
    "wrong",
    [{"width": True}, {"width": "400"}, {"width": 1.5}, {"enlarge": 1}, {"fit": None, "width": 0},
     {"gravity": (2, 0)}, {"gravity": 5}, {"gravity": "north"}, {"crop": (1, 2, 3)}, {"crop": 7},
     {"background": 0xFFF}, {"version": ""}, {"rotate": False}, {"dpr": float("nan")},
     {"dpr": float("inf")}],
)  # fmt: skip
def test_keywords_are_checked_like_text(wrong: dict[str, object]) -> None:
    with pytest.raises(BadOptions):
        Options(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "hint"),
    [("width_400", "written 'w'"), ("w400", "written 'w_400'"), ("q80", "written 'q_80'")],
)
def test_what_was_probably_meant_is_told(text: str, hint: str) -> None:
    with pytest.raises(BadOptions, match=hint):
        Options.read(text)


def test_compass_points_are_where_a_map_has_them() -> None:
    """As fractions from the left and from the top."""
    for name, (x, y) in COMPASS.items():
        assert x == (0.0 if "w" in name else 1.0 if "e" in name else 0.5), name
        assert y == (0.0 if "n" in name else 1.0 if "s" in name else 0.5), name


def test_a_colour_may_begin_with_zeros() -> None:
    assert str(Options.parse("bg_0000ff")) == "bg_0000ff"
    assert Options(background="0000ff").background == "0000ff"


@pytest.mark.parametrize(
    "wanted", [Options(crop=(1 / 3, 0, 1 / 3, 1.0)), Options(gravity=(1 / 3, 2 / 3))]
)
def test_fractions_are_rounded_to_what_a_url_can_say(wanted: Options) -> None:
    assert Options.parse(str(wanted)) == wanted


def test_what_python_has_at_hand_is_taken() -> None:
    """A version is often a number, a colour often has its sign."""
    assert Options(version=1717171717) == Options(version="1717171717")  # type: ignore[arg-type]
    assert Options(background="#FFeedd") == Options(background="ffeedd")
    with pytest.raises(BadOptions, match=r"1\.5 is not allowed"):
        Options(version=1.5)  # type: ignore[arg-type]


def test_the_box_times_dpr_is_limited() -> None:
    Options(width=4096).check(Limits())
    Options(width=2048, height=1024, dpr=2).check(Limits())
    with pytest.raises(BadOptions, match="4098"):
        Options(width=2049, dpr=2).check(Limits())
    with pytest.raises(BadOptions, match=r"height \(h\) is 100"):
        Options(height=100).check(Limits(output_side=99))


def test_the_time_of_expiry_does_not_change_the_picture() -> None:
    assert Options(width=4, expires=99).identity == Options(width=4)


def test_every_option_has_a_key_a_field_and_a_meaning() -> None:
    assert [option.field for option in OPTIONS.values()] == list(Options.__slots__)
    assert all(option.meaning and option.kind.allowed for option in OPTIONS.values())


def test_the_keywords_that_type_checkers_know_are_those_that_there_are() -> None:
    names = {field.name for field in fields(Options)}
    assert OptionKeywords.__annotations__.keys() == names | {"format"}
