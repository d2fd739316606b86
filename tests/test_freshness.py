"""What an origin's headers let us do, case by case (RFC 9111, as a shared cache)."""

from __future__ import annotations

import json
import time

import pytest
from werkzeug.datastructures import Headers
from werkzeug.http import http_date

from thumbproxy.core.media import ClientTerms, Validators
from thumbproxy.http.cache_control import CacheFields
from thumbproxy.http.freshness import Freshness, last_modified, read_freshness

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
        ([("Expires", at(60)), ("Date", at(-20))], 60),
        ([("Expires", at(60)), ("Date", at(20))], 40),
        ([("Expires", at(60)), ("Date", at(80))], 0),
        ([("Expires", at(60)), ("Date", "yesterday")], 60),
        ([("Expires", at(-60)), ("Date", DATE)], 0),
        ([("Expires", "0")], 0),
        ([("Expires", "-1")], 0),
        ([("Expires", "never")], 0),
        ([("Expires", "")], 0),
        ([("Expires", at(600)), ("Cache-Control", "max-age=60")], 60),
        ([("Expires", at(600)), ("Cache-Control", "max-age=x")], 0),
        ([("Expires", at(600)), ("Cache-Control", "public")], 600),
        ([("Expires", at(600)), ("Cache-Control", "")], 600),
        # twice is none, in whatever order
        ([("Expires", at(60)), ("Expires", at(60))], 0),
        ([("Expires", at(60)), ("Expires", at(600))], 0),
        ([("Expires", f"{at(60)}, {at(60)}")], 0),
        ([("Expires", "0"), ("Expires", at(60)), ("Cache-Control", "max-age=60")], 60),
        # Age
        ([("Cache-Control", "max-age=60"), ("Age", "20")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "80")], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "20, 50")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "old")], 60),
        ([("Cache-Control", "max-age=60"), ("Age", "-20")], 60),
        ([("Cache-Control", "max-age=60"), ("Age", "9" * 5000)], 0),
        ([("Expires", at(60)), ("Age", "20")], 40),
        ([("Age", "20")], None),
        ([("Cache-Control", "max-age=60"), ("Age", "20"), ("Age", "50")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "1.5")], 60),
        # apparent age, by Date; whichever is greater
        ([("Cache-Control", "max-age=60"), ("Date", at(-20))], 40),
        ([("Cache-Control", "max-age=60"), ("Date", at(-80))], 0),
        ([("Cache-Control", "max-age=60"), ("Date", at(20))], 60),
        ([("Cache-Control", "max-age=60"), ("Date", at(-20)), ("Age", "30")], 30),
        ([("Cache-Control", "max-age=60"), ("Date", at(-30)), ("Age", "20")], 30),
        ([("Cache-Control", "max-age=60"), ("Date", "yesterday"), ("Age", "20")], 40),
        ([("Cache-Control", "max-age=60"), ("Date", at(-20).replace("GMT", "UTC"))], 60),
        ([("Cache-Control", "s-maxage=60"), ("Date", at(-20))], 40),
        ([("Date", at(-20))], None),
        # quotes, blanks, and what hides in them
        ([("Cache-Control", 'extension="max-age=3600", max-age=1')], 1),
        ([("Cache-Control", 'max-age=1, extension="a, max-age=3600"')], 1),
        ([("Cache-Control", 'extension="a, max-age=60')], 60),
        ([("Cache-Control", 'extension="a'), ("Cache-Control", 'max-age=60, b="')], 60),
        ([("Cache-Control", "max-age='60'")], 0),
        ([("Cache-Control", "max-age =60")], 0),
        ([("Cache-Control", "max-age= 60")], 0),
        ([("Cache-Control", "max-age=0060")], 60),
        ([("Cache-Control", "max-age=60.0")], 0),
        ([("Cache-Control", "max-age=60s")], 0),
        ([("Cache-Control", "max-age=a60")], 0),
        ([("Cache-Control", "max-age=2147483648")], 2**31),
        ([("Cache-Control", "Max-Age=60, max-age=600")], 60),
        # CDN-Cache-Control is for us
        ([("CDN-Cache-Control", "max-age=60")], 60),
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "max-age=1")], 60),
        ([("CDN-Cache-Control", "max-age=1"), ("Cache-Control", "s-maxage=60")], 1),
        ([("CDN-Cache-Control", "max-age=60"), ("Expires", "0")], 60),
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-cache")], 60),
        ([("CDN-Cache-Control", "max-age=60"), ("Age", "20")], 40),
        ([("CDN-Cache-Control", "max-age=60"), ("Date", at(-20))], 40),
        ([("CDN-Cache-Control", "no-cache"), ("Cache-Control", "max-age=60")], 0),
        ([("CDN-Cache-Control", "max-age=0"), ("Expires", at(600))], 0),
        ([("CDN-Cache-Control", "none"), ("Cache-Control", "max-age=60")], None),
        ([("CDN-Cache-Control", "none"), ("Expires", at(600))], None),
        ([("CDN-Cache-Control", "foobar, max-age=60;x=1")], 60),
        ([("CDN-Cache-Control", "max-age=60, max-age=90")], 90),
        ([("CDN-Cache-Control", "foo"), ("CDN-Cache-Control", "max-age=60")], 60),
        ([("CDN-Cache-Control", "max-age=99999999999")], 2**31),
        ([("CDN-Cache-Control", "max-age=-1"), ("Cache-Control", "max-age=60")], 0),
        # and ignored where it is no valid field
        *(
            ([("CDN-Cache-Control", value), ("Cache-Control", "max-age=60")], 60)
            for value in (
                "",
                " ",
                "max-age=1, &&&&&",
                'max-age="1"',
                "max-age=1.5",
                "max-age =1",
                "max-age= 1",
                "MaX-aGe=1",
                "max-age=1,",
                ",max-age=1",
                "max-age",
                "max-age=?1",
                "max-age=9999999999999999",
                "max-age=1 no-store",
                "no-store=1",
                "no-store=?0",
                'no-store="x"',
                "max-age=(1 2)",
                "max-age=@1",
                'a="\u00e9", max-age=1',
            )
        ),
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
        [("Cache-Control", 'x="a, no-store')],
        [("Cache-Control", 'x="a'), ("Cache-Control", 'no-store, y="')],
        [("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")],
        [("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=60")],
        [("CDN-Cache-Control", 'private="x"')],
        [("CDN-Cache-Control", "max-age=60, &"), ("Cache-Control", "no-store")],
        [("CDN-Cache-Control", "max-age=60"), ("Set-Cookie", "a=1")],
        [("CDN-Cache-Control", "max-age=60"), ("Vary", "Cookie")],
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
        [("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
        [("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "private")],
        [("Cache-Control", 'x="no-store, private"')],
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


ASK, NEVER = ClientTerms(), ClientTerms(storable=False)


@pytest.mark.parametrize(
    ("lines", "clients"),
    [
        # an origin that says nothing to them
        ([], None),
        ([("Cache-Control", "public")], None),
        ([("Cache-Control", "stale-while-revalidate=60")], None),
        ([("CDN-Cache-Control", "max-age=60")], None),
        ([("CDN-Cache-Control", "no-cache")], None),
        ([("Date", at(-60)), ("Age", "60")], None),
        # who must ask
        ([("Cache-Control", "no-cache")], ASK),
        ([("Cache-Control", 'no-cache="x", max-age=60')], ASK),
        ([("Cache-Control", "must-revalidate")], ASK),
        ([("Cache-Control", "max-age=60, must-revalidate")], ASK),
        ([("Cache-Control", "max-age=0")], ASK),
        ([("Cache-Control", "max-age=0, s-maxage=600")], ASK),
        ([("Cache-Control", "max-age=0, stale-while-revalidate=60")], ASK),
        ([("Cache-Control", "s-maxage=0")], ASK),
        ([("Cache-Control", "max-age=soon")], ASK),
        ([("Cache-Control", "max-age=60"), ("Age", "60")], ASK),
        ([("Cache-Control", "max-age=60"), ("Date", at(-61))], ASK),
        ([("Expires", "0")], ASK),
        ([("Expires", at(-1))], ASK),
        ([("Expires", at(60).replace("GMT", "UTC"))], ASK),
        ([("Cache-Control", "no-cache"), ("CDN-Cache-Control", "max-age=60")], ASK),
        # what is left
        ([("Cache-Control", "max-age=60")], ClientTerms(60)),
        ([("Cache-Control", "max-age=60"), ("Age", "20")], ClientTerms(40)),
        ([("Cache-Control", "max-age=60"), ("Date", at(-20))], ClientTerms(40)),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], ClientTerms(60)),
        ([("Cache-Control", "max-age=60"), ("CDN-Cache-Control", "max-age=9")], ClientTerms(60)),
        ([("Expires", at(60))], ClientTerms(60)),
        ([("Expires", at(60)), ("Date", at(-20))], ClientTerms(60)),
        ([("Expires", at(60)), ("Cache-Control", "public")], ClientTerms(60)),
        ([("Cache-Control", "max-age=99999999999")], ClientTerms(2**31)),
        # shared caches behind us
        ([("Cache-Control", "s-maxage=1")], ClientTerms(1, 1)),
        ([("Cache-Control", "max-age=60, s-maxage=600"), ("Age", "20")], ClientTerms(40, 580)),
        ([("Cache-Control", "max-age=600, s-maxage=1")], ClientTerms(600, 1)),
        ([("Cache-Control", "max-age=600, s-maxage=1"), ("Age", "5")], ClientTerms(595, 0)),
        ([("Cache-Control", "s-maxage=1"), ("Expires", at(60))], ClientTerms(60, 1)),
        (
            [("Cache-Control", "max-age=60, proxy-revalidate")],
            ClientTerms(60, proxy_revalidate=True),
        ),
        # windows, of the origin alone
        (
            [("Cache-Control", "max-age=60, stale-while-revalidate=30, stale-if-error=90")],
            ClientTerms(60, stale_while_revalidate=30, stale_if_error=90),
        ),
        # nobody
        ([("Cache-Control", "no-store, max-age=60")], NEVER),
        ([("Cache-Control", "private, max-age=60")], NEVER),
        ([("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60")], NEVER),
    ],
)
def test_what_clients_may_do(lines: list[tuple[str, str]], clients: ClientTerms | None) -> None:
    assert read(*lines).clients == clients


@pytest.mark.parametrize(
    ("before", "confirmed", "lifetime", "clients"),
    [
        # what a 304 leaves out stands
        ([("Cache-Control", "max-age=60")], [], 60, ClientTerms(60)),
        ([("Cache-Control", "no-cache")], [], 0, ASK),
        ([("Cache-Control", "max-age=60"), ("Age", "50")], [], 60, ClientTerms(60)),
        ([("Cache-Control", "max-age=60")], [("Age", "20")], 40, ClientTerms(40)),
        (
            [("Cache-Control", "max-age=60"), ("Date", at(-50))],
            [("Date", DATE)],
            60,
            ClientTerms(60),
        ),
        ([("Expires", at(60))], [], 60, ClientTerms(60)),
        ([("Expires", at(-60))], [], 0, ASK),
        ([("CDN-Cache-Control", "max-age=60")], [], 60, None),
        ([], [], None, None),
        # and what it has counts
        ([("Cache-Control", "max-age=60")], [("Cache-Control", "max-age=9")], 9, ClientTerms(9)),
        ([("Cache-Control", "max-age=60")], [("Cache-Control", "public")], None, None),
        ([("Cache-Control", "max-age=60")], [("Cache-Control", "no-cache")], 0, ASK),
        ([("Cache-Control", "max-age=60")], [("Expires", at(9))], 60, ClientTerms(60)),
        ([("Cache-Control", "public")], [("Expires", at(9))], 9, ClientTerms(9)),
        ([], [("Cache-Control", "max-age=60")], 60, ClientTerms(60)),
        ([("CDN-Cache-Control", "max-age=60")], [("CDN-Cache-Control", "&")], None, None),
    ],
)
def test_a_304_leaves_standing_what_it_does_not_say(
    before: list[tuple[str, str]],
    confirmed: list[tuple[str, str]],
    lifetime: float | None,
    clients: ClientTerms | None,
) -> None:
    """RFC 9111 section 3.2."""
    stored = read(*before).fields
    assert CacheFields.from_json(json.loads(json.dumps(stored))) == stored
    freshness = read_freshness(Headers(confirmed), NOW, stored)
    assert (freshness.lifetime, freshness.clients) == (lifetime, clients)


def test_a_long_header_is_read_in_no_time() -> None:
    """All quotes open, or each closed and opened again."""
    for value in (
        '"' * 60_001, '\\"' * 30_001, 'a="b",' * 10_000, "=" * 60_000, "a=(" * 20_000,
        "a=(" + "1 " * 30_000, "a;" * 30_000, " " * 60_000, 'a="' + "\\" * 60_001,
    ):  # fmt: skip
        began = time.process_time()
        read(("Cache-Control", value), ("CDN-Cache-Control", value), ("Expires", value))
        assert time.process_time() - began < 2
