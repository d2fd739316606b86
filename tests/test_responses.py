"""Responses: the headers of every reply, by RFC 9110, 9111, 5861, 6266 and 9211."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from wsgiref.util import FileWrapper

import pytest
from werkzeug.http import parse_options_header

from thumbproxy.core import errors
from thumbproxy.core.formats import Format
from thumbproxy.core.media import Rendition
from thumbproxy.http.file_range import FilePart
from thumbproxy.http.responses import (
    CachePolicy,
    Response,
    content_disposition,
    error_response,
    image_response,
)
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

MODIFIED = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
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
        "Accept-Ranges": "bytes",
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
        ({"HTTP_IF_NONE_MATCH": ETAG, "HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": '"other"'}, 304),
        ({"HTTP_IF_NONE_MATCH": "", "HTTP_IF_MODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_NONE_MATCH": ETAG.strip('"')}, 200),  # a tag has quotes
        ({"HTTP_IF_NONE_MATCH": ETAG[:-1]}, 200),
        ({"HTTP_IF_NONE_MATCH": '","', "HTTP_IF_MODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_MATCH": ETAG}, 200),
        ({"HTTP_IF_MATCH": f'"other",{ETAG}'}, 200),
        ({"HTTP_IF_MATCH": "*"}, 200),
        ({"HTTP_IF_MATCH": f"W/{ETAG}"}, 412),  # "MUST use the strong comparison function"
        ({"HTTP_IF_MATCH": f"w/{ETAG}"}, 412),
        ({"HTTP_IF_MATCH": '"other"'}, 412),
        ({"HTTP_IF_MATCH": ""}, 412),
        ({"HTTP_IF_MATCH": ETAG, "HTTP_IF_NONE_MATCH": ETAG}, 304),
        ({"HTTP_IF_MATCH": '"other"', "HTTP_IF_NONE_MATCH": ETAG}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": EARLIER}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": "never"}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": EARLIER, "HTTP_IF_MATCH": ETAG}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": EARLIER, "HTTP_IF_NONE_MATCH": ETAG}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": EARLIER, "HTTP_RANGE": "bytes=0-1"}, 412),
    ],
)  # fmt: skip
def test_conditional_requests(headers: dict[str, str], status: int) -> None:
    for more in ({}, {"auto": True}, {"immutable": True}):
        assert reply(**headers, **more).status == status
        assert reply(method="HEAD", **headers, **more).status == status


@pytest.mark.parametrize(
    "date",
    [
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "Tuesday, 14-Nov-23 22:13:20 GMT",
        "Tue Nov 14 22:13:20 2023",
    ],
)
def test_dates_have_three_forms(date: str) -> None:
    """RFC 9110 section 5.6.7: "A recipient ... MUST accept all three HTTP-date formats"."""
    assert reply(HTTP_IF_MODIFIED_SINCE=date).status == 304


@pytest.mark.parametrize(
    "date",
    [
        "", "0", "2030-01-01", "1 2 3", "Tue, 14 Nov 2030 22:13:20 +0100", "14 Nov 2030 22:13",
        "Tue, 32 Nov 2030 22:13:20 GMT", "Tue, 14 Nov 99999999999 22:13:20 GMT",
        "Tue, 14 Nov 2030 22:13:20 +99999999999999", "Tue, 14 Xyz 2030 22:13:20 GMT",
        "Tue, 14 Nov 2030 22:13:20 GMT" + " " * 5000, "Tue, 14 Nov 2030 25:13:20 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date_is_ignored(date: str) -> None:
    assert reply(HTTP_IF_MODIFIED_SINCE=date).status == 200
    assert reply(HTTP_IF_UNMODIFIED_SINCE=date).status == 200


@pytest.mark.parametrize(
    ("wanted", "position", "body"),
    [
        ("bytes=0-0", "bytes 0-0/4", b"b"),
        ("bytes=1-2", "bytes 1-2/4", b"od"),
        ("bytes=1-", "bytes 1-3/4", b"ody"),
        ("bytes=0-", "bytes 0-3/4", b"body"),
        ("bytes=0-99", "bytes 0-3/4", b"body"),
        ("bytes=-1", "bytes 3-3/4", b"y"),
        ("bytes=-99", "bytes 0-3/4", b"body"),
        ("BYTES=3-3", "bytes 3-3/4", b"y"),  # "Range unit names are case-insensitive"
        ("bytes=00-01", "bytes 0-1/4", b"bo"),
    ],
)
def test_a_range_gets_its_bytes(wanted: str, position: str, body: bytes) -> None:
    response = reply(HTTP_RANGE=wanted)
    headers = dict(response.headers)
    assert (response.status, response.body) == (206, body)
    assert (headers.pop("Content-Range"), headers["Content-Length"]) == (position, str(len(body)))
    assert headers == {**dict(reply().headers), "Content-Length": str(len(body))}


@pytest.mark.parametrize("wanted", ["bytes=4-", "bytes=4-9", "bytes=-0", "bytes=99-100"])
def test_a_range_behind_the_end_is_told_the_length(wanted: str) -> None:
    response = reply(HTTP_RANGE=wanted)
    headers = dict(response.headers)
    assert response.status == 416
    assert headers["Content-Range"] == "bytes */4"
    assert headers["Cache-Control"] == "no-store"
    assert response.body.startswith(b"range-not-satisfiable: ")


@pytest.mark.parametrize(
    "wanted",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=2-1", "bytes=a-b", "bytes=0-1,2-3", "bytes=0-1,",
        "lines=0-1", "bytes 0-1", "bytes=+0-1", "bytes=0--1", "bytes=--1", "bytes=\u0660-1",
        "bytes=0-" + "9" * 5000, "bytes=0-1\n",
    ],
)  # fmt: skip
def test_what_is_no_single_range_of_bytes_is_ignored(wanted: str) -> None:
    assert reply(HTTP_RANGE=wanted) == reply()


@pytest.mark.parametrize(
    ("validator", "status"),
    [
        (ETAG, 206), (DATE, 206), (f"W/{ETAG}", 200), ('"other"', 200), ("*", 200), ("", 200),
        (EARLIER, 200), ("Tue, 14 Nov 2023 22:13:21 GMT", 200), (f'{ETAG}, "x"', 200),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", 200),  # "by exact match, including ... an HTTP-date"
    ],
)  # fmt: skip
def test_if_range_compares_strongly(validator: str, status: int) -> None:
    for auto in (True, False):
        ranged = reply(HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE=validator, auto=auto)
        assert ranged.status == status
    behind = reply(HTTP_RANGE="bytes=9-", HTTP_IF_RANGE=validator)
    assert behind.status == (416 if status == 206 else 200)


def test_if_range_without_range_and_range_with_head_are_ignored() -> None:
    assert reply(HTTP_IF_RANGE='"other"') == reply()
    assert reply(method="HEAD", HTTP_RANGE="bytes=0-1") == reply(method="HEAD")


def test_a_304_has_what_a_cache_needs_to_go_on() -> None:
    full = reply(auto=True, age=7)
    short = reply(auto=True, age=7, HTTP_IF_NONE_MATCH=ETAG)
    assert {name for name, _ in short.headers} == {
        "ETag", "Cache-Control", "Cache-Status", "Age", "Vary"
    }  # fmt: skip
    assert short.body == b""
    assert set(short.headers) <= set(full.headers)


@pytest.mark.parametrize(("age", "value"), [(None, None), (0, "0"), (90, "90"), (-5, "0")])
def test_the_age_is_told_where_it_is_known(age: int | None, value: str | None) -> None:
    assert dict(reply(age=age).headers).get("Age") == value


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


class Filed(NamedTuple):
    """A reply whose picture is in a file, and the file."""

    response: Response
    file: BinaryIO
    picture: bytes


@pytest.fixture
def filed(tmp_path: Path) -> Callable[..., Filed]:
    def reply_of(*, policy: CachePolicy = POLICY, **environ: str) -> Filed:
        picture = bytes(range(256)) * 2000
        (tmp_path / "a b.webp").write_bytes(picture)
        file = (tmp_path / "a b.webp").open("rb")
        rendition = Rendition(
            b"", Format.WEBP, MODIFIED, "hit", file=file, size=len(picture), path="public/a b.webp"
        )
        request = ImageRequest("a.jpg", PLAIN, "_.S.webp", Format.WEBP, False)
        environ = {"REQUEST_METHOD": "GET", **environ}
        return Filed(image_response(request, rendition, environ, policy), file, picture)

    return reply_of


def start(status: str, headers: list[tuple[str, str]]) -> None:
    assert dict(headers)["Content-Length"]


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("", slice(None)), ("bytes=0-0", slice(0, 1)), ("bytes=300000-", slice(300_000, None)),
        ("bytes=-7", slice(-7, None)), ("bytes=5-400000", slice(5, 400_001)),
    ],
)  # fmt: skip
def test_a_file_is_sent_in_blocks(filed: Callable[..., Filed], wanted: str, part: slice) -> None:
    response, file, picture = filed(HTTP_RANGE=wanted)
    body = response({"REQUEST_METHOD": "GET"}, start)
    blocks = list(body)
    assert b"".join(blocks) == picture[part]
    assert max(map(len, blocks)) <= 128 * 1024
    body.close()  # type: ignore[attr-defined]
    assert file.closed


def test_a_whole_file_is_handed_to_the_server_that_can_take_it(filed: Callable[..., Filed]) -> None:
    response, file, picture = filed()
    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}
    wrapped = response(environ, start)
    assert isinstance(wrapped, FileWrapper)
    assert wrapped.filelike is file
    assert file.tell() == 0
    assert dict(response.headers)["Content-Length"] == str(len(picture))
    wrapped.close()


def test_a_part_of_a_file_is_not(filed: Callable[..., Filed]) -> None:
    """Not every wrapper ends where the Content-Length does."""
    response, _, picture = filed(HTTP_RANGE="bytes=9-10")
    part = response({"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}, start)
    assert b"".join(part) == picture[9:11]
    part.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"REQUEST_METHOD": "HEAD"}, 200),
        ({"HTTP_IF_NONE_MATCH": "*"}, 304),
        ({"HTTP_IF_MATCH": '"x"'}, 412),
        ({"HTTP_RANGE": "bytes=-0"}, 416),
    ],
)
def test_a_file_that_is_not_sent_is_closed_at_once(
    filed: Callable[..., Filed], environ: dict[str, str], status: int
) -> None:
    response, file, _ = filed(**environ)
    assert (response.status, response.file, file.closed) == (status, None, True)


def test_a_file_is_closed_when_the_reply_cannot_begin(filed: Callable[..., Filed]) -> None:
    def refuse(status: str, headers: list[tuple[str, str]]) -> None:
        raise ConnectionResetError

    response, file, _ = filed()
    with pytest.raises(ConnectionResetError):
        response({"REQUEST_METHOD": "GET"}, refuse)
    assert file.closed


def test_a_file_is_closed_when_there_is_no_reply(tmp_path: Path) -> None:
    request = ImageRequest("a.jpg", PLAIN, "_.S.webp", Format.WEBP, False)
    with (tmp_path / "file").open("w+b") as file:
        rendition = Rendition(b"", Format.WEBP, MODIFIED, "hit", file=file, size=4)
        with pytest.raises(KeyError):
            image_response(request, rendition, {}, POLICY)
        assert file.closed


def test_a_file_that_ends_early_breaks_the_connection(tmp_path: Path) -> None:
    """Its client would wait for the rest of what Content-Length promised."""
    (tmp_path / "file").write_bytes(b"1234")
    with (tmp_path / "file").open("rb") as file, pytest.raises(EOFError):
        list(FilePart(file, 5))


def test_nginx_is_told_where_the_file_is(filed: Callable[..., Filed]) -> None:
    policy = CachePolicy(accel="/_thumbproxy")
    for method in ("GET", "HEAD"):
        response, file, _ = filed(policy=policy, REQUEST_METHOD=method)
        headers = dict(response.headers)
        assert headers["X-Accel-Redirect"] == "/_thumbproxy/public/a%20b.webp"
        assert (response.status, response.body, headers["Content-Length"]) == (200, b"", "0")
        # nginx would put these on a 404 as well
        assert headers.keys().isdisjoint({"Cache-Control", "Content-Disposition"})
        assert headers["X-Cache-Control"].startswith("public, max-age=2592000, ")
        assert file.closed


def test_nginx_is_not_told_of_parts_and_of_what_is_no_file(filed: Callable[..., Filed]) -> None:
    policy = CachePolicy(accel="/_thumbproxy")
    for environ in ({"HTTP_RANGE": "bytes=0-1"}, {"HTTP_IF_NONE_MATCH": "*"}):
        response, file, _ = filed(policy=policy, **environ)
        assert "X-Accel-Redirect" not in dict(response.headers)
        file.close()
    assert "X-Accel-Redirect" not in dict(reply().headers)


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
    kinds = [error for error in all_errors(errors.ThumbproxyError) if "token" in vars(error)]
    assert len(kinds) == len({error.token for error in kinds}) > 10
