"""What an origin's headers let us do, case by case (RFC 9111, as a shared cache)."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers
from werkzeug.http import http_date

from thumbproxy.freshness import Freshness, last_modified, read_freshness
from thumbproxy.media import Validators

NOW = 1_700_000_000
DATE = http_date(NOW)


def at(seconds: int) -> str:
    """The HTTP date of a moment that many seconds from now."""
    return http_date(NOW + seconds)


def read(*lines: tuple[str, str]) -> Freshness:
    return read_freshness(Headers(list(lines)), NOW)


@pytest.mark.parametrize(
    ("lines", "lifetime"),
    [
        ([], None),
        ([("Cache-Control", "public")], None),
        ([("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", "max-age=0")], 0),
        ([("Cache-Control", "MAX-AGE=60")], 60),
        ([("Cache-Control", 'max-age="60"')], 60),
        ([("Cache-Control", "public , max-age=60 ,")], 60),
        ([("Cache-Control", "max-age=60, s-maxage=600")], 600),
        ([("Cache-Control", "s-maxage=0, max-age=600")], 0),
        ([("Cache-Control", "public"), ("Cache-Control", "max-age=60")], 60),
        # the first counts
        ([("Cache-Control", "max-age=60, max-age=600")], 60),
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=600")], 60),
        # what cannot be read is stale
        ([("Cache-Control", "max-age")], 0),
        ([("Cache-Control", "max-age=")], 0),
        ([("Cache-Control", "max-age=soon")], 0),
        ([("Cache-Control", "max-age=-1")], 0),
        ([("Cache-Control", "max-age=+60")], 0),
        ([("Cache-Control", "max-age=6_0")], 0),
        ([("Cache-Control", "max-age=1.5")], 0),
        ([("Cache-Control", "max-age=\u0661")], 0),
        ([("Cache-Control", "s-maxage=x, max-age=60")], 0),
        # what is too great to be counted
        ([("Cache-Control", "max-age=99999999999")], 2**31),
        ([("Cache-Control", "max-age=" + "9" * 5000)], 2**31),
        ([("Cache-Control", "no-cache")], 0),
        ([("Cache-Control", "no-cache, max-age=60")], 0),
        ([("Cache-Control", 'no-cache="set-cookie", max-age=60')], 0),
        # Expires, from Date on
        ([("Expires", at(60))], 60),
        ([("Expires", at(60)), ("Date", DATE)], 60),
        ([("Expires", at(60)), ("Date", at(-600))], 660),
        ([("Expires", at(60)), ("Date", "yesterday")], 60),
        ([("Expires", at(-60)), ("Date", DATE)], 0),
        ([("Expires", "0")], 0),
        ([("Expires", "-1")], 0),
        ([("Expires", "never")], 0),
        ([("Expires", "")], 0),
        ([("Expires", at(600)), ("Cache-Control", "max-age=60")], 60),
        ([("Expires", at(600)), ("Cache-Control", "max-age=x")], 0),
        ([("Expires", at(600)), ("Cache-Control", "public")], 600),
        # Age
        ([("Cache-Control", "max-age=60"), ("Age", "20")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "80")], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "20, 50")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "old")], 60),
        ([("Cache-Control", "max-age=60"), ("Age", "-20")], 60),
        ([("Cache-Control", "max-age=60"), ("Age", "9" * 5000)], 0),
        ([("Expires", at(60)), ("Age", "20")], 40),
        ([("Age", "20")], None),
    ],
)
def test_lifetime(lines: list[tuple[str, str]], lifetime: float | None) -> None:
    assert read(*lines).lifetime == lifetime


@pytest.mark.parametrize(
    "lines",
    [
        [("Cache-Control", "no-store")],
        [("Cache-Control", "No-Store, max-age=60")],
        [("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
        [("Cache-Control", "private")],
        [("Cache-Control", "private, max-age=60")],
        [("Cache-Control", 'private="x-user"')],
        [("Cache-Control", "max-age=60"), ("Set-Cookie", "a=1")],
        [("Vary", "Cookie")],
        [("Vary", "accept-encoding, AUTHORIZATION")],
        [("Vary", "Accept-Encoding"), ("Vary", "cookie")],
        [("Vary", "*")],
    ],
)
def test_what_is_for_one_client_is_not_stored(lines: list[tuple[str, str]]) -> None:
    assert not read(*lines).storable


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("Cache-Control", "no-cache")],
        [("Cache-Control", "public, max-age=0, must-revalidate")],
        [("Cache-Control", "x-private, no-storeroom")],
        [("Vary", "Accept-Encoding, Origin")],
    ],
)
def test_all_else_is_stored(lines: list[tuple[str, str]]) -> None:
    assert read(*lines).storable


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("no-cache", True),
        ("must-revalidate", True),
        ("proxy-revalidate", True),
        ("s-maxage=60", True),
        ("max-age=60, stale-while-revalidate=600", False),
        ("public", False),
    ],
)
def test_whether_a_stale_copy_may_be_used(control: str, expected: bool) -> None:
    assert read(("Cache-Control", control)).must_revalidate is expected


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', "abc", '"h\u00e9"', '"a b"'])
def test_validators_are_the_text_that_the_origin_sent(etag: str) -> None:
    validators = read(("ETag", f" {etag} "), ("Last-Modified", DATE)).validators
    assert validators == Validators(etag, DATE)


def test_a_date_that_cannot_tell_versions_apart_yet_is_no_validator() -> None:
    """The source may change again within the second (RFC 9110 section 8.8.2.2)."""
    assert read(("Last-Modified", at(-1))).validators == Validators()
    assert read(("Last-Modified", at(60))).validators == Validators()
    assert read(("Last-Modified", at(-2))).validators == Validators("", at(-2))
    assert read(("Last-Modified", at(-1))).modified == NOW - 1


@pytest.mark.parametrize("etag", ['"a\r\n b"', '"a\x00b"', '"\u0161"', "", " "])
def test_a_validator_that_cannot_be_sent_back_is_none(etag: str) -> None:
    headers = Headers()
    headers._list.append(("ETag", etag))  # werkzeug itself refuses to hold some of them
    assert read_freshness(headers, NOW).validators == Validators()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("last week", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 1920 00:00:00 GMT", None),
        (at(0), NOW),
        (at(3600), NOW),
    ],
)
def test_last_modified_is_unix_seconds_and_never_in_the_future(
    text: str, expected: int | None
) -> None:
    assert last_modified(text, NOW) == expected
    assert read(("Last-Modified", text)).modified == expected
