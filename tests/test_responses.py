"""Responses: the headers of every reply, by RFC 9110, 9111, 5861, 6266 and 9211."""

from __future__ import annotations

import time
from typing import Any

import pytest
from werkzeug.http import parse_options_header

from thumbproxy import errors
from thumbproxy.media import Format, Rendition
from thumbproxy.options import Options
from thumbproxy.responses import (
    CachePolicy,
    Response,
    content_disposition,
    error_response,
    image_response,
)
from thumbproxy.urls import ImageRequest

MODIFIED = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
ETAG = '"6553f100-4"'
PLAIN = Options()
POLICY = CachePolicy(max_age=60, stale_while_revalidate=5, stale_if_error=7)


def reply(
    *,
    auto: bool = False,
    options: Options = PLAIN,
    method: str = "GET",
    **more: Any,
) -> Response:
    request = ImageRequest("a.jpg", options, "_.S.webp", Format.WEBP, auto)
    fields = {k: v for k, v in more.items() if not k.startswith("HTTP_")}
    rendition = Rendition(b"body", Format.WEBP, MODIFIED, "hit; detail=disk", **fields)
    environ = {"REQUEST_METHOD": method, **{k: v for k, v in more.items() if k not in fields}}
    return image_response(request, rendition, environ, POLICY)


def test_a_picture_has_all_headers() -> None:
    response = reply()
    assert response.status == 200
    assert dict(response.headers) == {
        "Content-Type": "image/webp",
        "Content-Length": "4",
        "ETag": ETAG,
        "Last-Modified": DATE,
        "Cache-Control": "public, max-age=60, stale-while-revalidate=5, stale-if-error=7",
        "Cache-Status": "thumbproxy; hit; detail=disk",
        "Content-Disposition": 'inline; filename="a.webp"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"HTTP_IF_NONE_MATCH": ETAG}, 304),
        ({"HTTP_IF_NONE_MATCH": f"W/{ETAG}"}, 304),  # "MUST use the weak comparison function"
        ({"HTTP_IF_NONE_MATCH": f'"other", {ETAG}'}, 304),
        ({"HTTP_IF_NONE_MATCH": "*"}, 304),
        ({"HTTP_IF_NONE_MATCH": '"other"'}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": DATE}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": "Tue, 14 Nov 2023 22:13:21 GMT"}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": "yesterday"}, 200),
        # "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match"
        ({"HTTP_IF_NONE_MATCH": '"other"', "HTTP_IF_MODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_NONE_MATCH": ETAG, "HTTP_IF_MODIFIED_SINCE": "Tue, 14 Nov 2000 22:13:19 GMT"},
         304),
        # If-Range is about the Range alone, and no ranges are served
        ({"HTTP_IF_NONE_MATCH": ETAG, "HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": '"other"'}, 304),
    ],
)  # fmt: skip
def test_conditional_requests(headers: dict[str, str], status: int) -> None:
    assert reply(**headers).status == status
    assert reply(method="HEAD", **headers).status == status


def test_a_304_has_the_headers_of_a_200_but_those_of_its_body() -> None:
    full, short = reply(), reply(HTTP_IF_NONE_MATCH=ETAG)
    left_out = {name for name, _ in full.headers} - {name for name, _ in short.headers}
    assert left_out == {"Content-Type", "Content-Length"}
    assert short.body == b""
    assert set(short.headers) <= set(full.headers)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    started: list[Any] = []
    body = reply()({"REQUEST_METHOD": "HEAD"}, lambda *args: started.extend(args))
    assert list(body) == []
    assert started == ["200 OK", reply().headers]


@pytest.mark.parametrize(
    ("more", "value"),
    [
        ({"immutable": True}, "public, max-age=31536000, immutable"),
        ({"storable": False, "immutable": True}, "no-store"),
        ({"options": Options(expires=1)}, "public, max-age=0"),
        ({"options": Options(expires=9_999_999_999)}, "public, max-age=60"),
        ({"options": Options(expires=9_999_999_999, version="a")}, "public, max-age=31536000"),
    ],
)
def test_how_long_others_may_keep_it(more: dict[str, Any], value: str) -> None:
    assert dict(reply(**more).headers)["Cache-Control"] == value


def test_nobody_keeps_an_address_that_expires_for_longer_than_it_lives() -> None:
    headers = dict(reply(options=Options(expires=int(time.time()) + 30)).headers)
    assert 28 <= int(headers["Cache-Control"].removeprefix("public, max-age=")) <= 30


def test_timings_are_in_milliseconds() -> None:
    timing = dict(reply(timings=(("fetch", 0.0123), ("render", 0.5))).headers)["Server-Timing"]
    assert timing == "fetch;dur=12.3, render;dur=500.0"


def test_auto_varies_by_accept_and_nothing_else_does() -> None:
    gone = errors.SourceNotFound()
    for auto in (True, False):
        replies = [
            reply(auto=auto),
            reply(auto=auto, HTTP_IF_NONE_MATCH=ETAG),
            error_response(gone, auto=auto),
        ]
        assert [dict(r.headers).get("Vary") for r in replies] == ["Accept" if auto else None] * 3


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/cat.jpg", "cat.webp"), ("cat", "cat.webp"), ("a.b.jpg", "a.b.webp"),
        ("médias/été à Nice.jpg", "été à Nice.webp"), ('a"b;c\\.jpg', 'a"b;c\\.webp'),
        ("100%.jpg", "100%.webp"), ("a?c=1.png", "a?c=1.webp"), ("猫.gif", "猫.webp"),
    ],
)  # fmt: skip
def test_it_is_saved_under_the_name_of_its_source(source: str, name: str) -> None:
    value = content_disposition(source, Format.WEBP)
    assert value.isascii()
    kind, parameters = parse_options_header(value)
    assert (kind, parameters["filename"]) == ("inline", name)


def all_errors(base: type[errors.ThumbproxyError]) -> list[type[errors.ThumbproxyError]]:
    subclasses = base.__subclasses__()
    return [cls for sub in subclasses for cls in ([sub] if hasattr(sub, "status") else [])] + [
        cls for sub in subclasses for cls in all_errors(sub)
    ]


@pytest.mark.parametrize("error", all_errors(errors.ThumbproxyError))
def test_errors_are_a_token_and_a_sentence_that_nobody_stores(
    error: type[errors.ThumbproxyError],
) -> None:
    response = error_response(error(), auto=False)
    headers = dict(response.headers)
    assert response.status == error.status >= 400
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Length"] == str(len(response.body))
    token, sentence = response.body.decode().rstrip("\n").split(": ", 1)
    assert token == error.token
    assert sentence.endswith(".")
    assert ("Retry-After" in headers) == (error.status == 503)
    assert headers.get("Allow") == ("GET, HEAD" if error.status == 405 else None)


def test_tokens_of_errors_are_different() -> None:
    tokens = [error.token for error in all_errors(errors.ThumbproxyError)]
    assert len(tokens) == len(set(tokens)) > 10
