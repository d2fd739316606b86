"""Dictionaries of structured fields (RFC 9651), member by member."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.http.structured_fields import dictionary


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ("   ", {}),
        ("a", {"a": True}),
        ("  a=1 ", {"a": 1}),
        ("a=1,b=2", {"a": 1, "b": 2}),
        ("a=1 \t,\t b", {"a": 1, "b": True}),
        ("a=1, b, a=2", {"b": True, "a": 2}),
        ("a=-0", {"a": 0}),
        ("a=-999999999999999", {"a": -999999999999999}),
        ("a=?1, b=?0", {"a": True, "b": False}),
        ('a="x, \\"y\\" \\\\"', {"a": 'x, "y" \\'}),
        ("a=1.5", {"a": b"1.5"}),
        ("a=gzip", {"a": b"gzip"}),
        ("a=*foo:bar/baz", {"a": b"*foo:bar/baz"}),
        ("a=:aGk=:", {"a": b":aGk=:"}),
        ("a=@1659578233", {"a": b"@1659578233"}),
        ('a=1;b;c=2, d;e="f"', {"a": 1, "d": True}),
        ("a=1; b=2", {"a": 1}),
        ("a=(1 2);x, b", {"a": b"=(1 2);x", "b": True}),
        ("a=(), b=( x  y;z )", {"a": b"=()", "b": b"=( x  y;z )"}),
        ("*a_b-c.d*=1", {"*a_b-c.d*": 1}),
    ],
)
def test_a_dictionary(text: str, members: dict[str, Any]) -> None:
    assert dictionary(text) == members


@pytest.mark.parametrize(
    "text",
    [
        ",", "a,", ",a", "a,,b", "a b", "A", "a=", "a =1", "a= 1", "1", "a=1;", "a=1;B", "a=1 ;b",
        "a=1000000000000000", "a=1.", "a=1.2345", "a=1234567890123.1", "a=--1", "a=+1", "a=.5",
        'a="', 'a="x', 'a="\\x"', 'a="\u00e9"', 'a="\t"', "a='x'", "a=?2", "a=?", "a=:x",
        "a=(1 2", "a=(1,2)", "a=(1\t2)", "&&&", "a=1, &&&", "\ta", "a=1\t", "a=@1.5", "a\n",
    ],
)  # fmt: skip
def test_no_dictionary(text: str) -> None:
    assert dictionary(text) is None


@given(st.text(alphabet='ab=1,;()":?*. \t\\-', max_size=30))
def test_anything_is_read_or_refused_and_nothing_raises(text: str) -> None:
    assert dictionary(text) is None or isinstance(dictionary(text), dict)
