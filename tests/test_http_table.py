"""HTTP as one table: what is asked, and everything that comes back, from a real gunicorn.

A row is a request, the rule that decides it, and the reply: its status, the exact set of its
headers, the values of some, and its body. Headers that gunicorn adds to all replies are left out.
In values and request headers {etag}, {date} and {length} are those of the picture.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import servers
from faulty import Exchange, FaultyOrigin, replies
from origin import jpeg
from PIL import Image

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])
SIGNED = THUMBS.url("cat.jpg", width=32, format="jpg")
EARLIER = "Tue, 14 Nov 2000 22:13:20 GMT"
GUNICORN = {"Date", "Server", "Connection"}

PATHS = {
    "plain": SIGNED,
    "plain miss": THUMBS.url("cat.jpg", width=33, format="jpg"),
    "pinned": THUMBS.url("cat.jpg", width=32, format="jpg", version="v1"),
    "pinned miss": THUMBS.url("cat.jpg", width=33, format="jpg", version="v1"),
    "auto": THUMBS.url("cat.jpg", width=32),
    "auto miss": THUMBS.url("cat.jpg", width=33),
    "pinned auto": THUMBS.url("cat.jpg", width=32, version="v1"),
    "large": THUMBS.url("noise.png", format="png"),
    "remote": THUMBS.url("far/cat.jpg", width=32, format="jpg"),
    "private": THUMBS.url("far/private.jpg", width=32, format="jpg"),
    "expired": THUMBS.url("cat.jpg", width=32, format="jpg", expires=1),
    "unsigned": SIGNED.replace(SIGNED.split(".")[-2], "A" * 22),
    "unsigned auto": THUMBS.url("cat.jpg", width=32).rsplit(".", 2)[0] + "." + "A" * 22 + ".auto",
    "no such page": THUMBS.url("cat.jpg", width=32, page=2, format="jpg"),
    "not ours": "/thumb/cat.jpg",
    "absent": THUMBS.url("absent.jpg", width=32, format="jpg"),
    "absent auto": THUMBS.url("absent.jpg", width=32),
    "text": THUMBS.url("text.jpg", width=32, format="jpg"),
    "cut off": THUMBS.url("cut.jpg", width=32, format="jpg"),
    "failing": THUMBS.url("far/failing.jpg", width=32, format="jpg"),
    "hanging": THUMBS.url("far/hanging.jpg", width=32, format="jpg"),
}

ANSWER = {"Cache-Control", "Cache-Status", "Cross-Origin-Resource-Policy"}
PICTURE = ANSWER | {
    "Content-Type", "Content-Length", "Content-Disposition", "ETag", "Last-Modified",
    "Accept-Ranges", "X-Content-Type-Options", "Content-Security-Policy",
}  # fmt: skip
# An origin that gives a lifetime: how old a picture is, and that nginx is to keep no copy.
FAR = {"Age", "X-Accel-Expires"}
MADE = PICTURE | {"Server-Timing"}
PART = PICTURE | {"Content-Range"}
SAME = ANSWER | {"ETag"}
REFUSAL = {
    "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options",
    "Content-Security-Policy", "Cross-Origin-Resource-Policy",
}  # fmt: skip
VARY = {"Vary"}

ALL = slice(None)  # of the picture's bytes
MONTH = "public, max-age=2592000, stale-while-revalidate=86400, stale-if-error=604800"
YEAR = "public, max-age=31536000, immutable"
HIT = "thumbproxy; hit; detail=disk"
NO_STORE = {"Cache-Control": "no-store", "Content-Type": "text/plain; charset=utf-8"}


class Row(NamedTuple):
    """body: a slice of the picture's bytes, or how the text begins."""

    rule: str
    ask: str
    sent: dict[str, str]
    status: int
    names: set[str]
    values: dict[str, str]
    body: slice | bytes


# fmt: off
TABLE = [
    # -- 200 -------------------------------------------------------------------------------------
    Row('9111, 5.2.2.1: "stale after its age is greater than the specified number of seconds"',
        "GET plain", {}, 200, PICTURE,
        {"Cache-Control": MONTH, "Cache-Status": HIT, "Content-Type": "image/jpeg",
         "Content-Length": "{length}", "ETag": "{etag}", "Last-Modified": "{date}",
         "Content-Disposition": 'inline; filename="cat.jpg"', "Accept-Ranges": "bytes",
         "X-Content-Type-Options": "nosniff",
         "Content-Security-Policy": "default-src 'none'; sandbox"}, ALL),
    Row('9211, 2.2: fwd tells "that the request went forward towards the origin", and why',
        "GET plain miss", {}, 200, MADE,
        {"Cache-Control": MONTH, "Cache-Status": "thumbproxy; fwd=uri-miss; stored"}, ALL),
    Row('8246, 2: the origin "will not update the representation of that resource"',
        "GET pinned", {}, 200, PICTURE, {"Cache-Control": YEAR, "Cache-Status": HIT}, ALL),
    Row("The same, when it is made",
        "GET pinned miss", {}, 200, MADE, {"Cache-Control": YEAR}, ALL),
    Row('9110, 12.5.5: Vary names what "might have influenced the origin server\'s process"',
        "GET auto", {"Accept": "image/webp"}, 200, PICTURE | VARY,
        {"Vary": "Accept", "Content-Type": "image/webp", "Cache-Control": MONTH,
         "Content-Disposition": 'inline; filename="cat.webp"'}, ALL),
    Row("The same, when it is made",
        "GET auto miss", {"Accept": "image/webp"}, 200, MADE | VARY, {"Vary": "Accept"}, ALL),
    Row("The same, immutable",
        "GET pinned auto", {"Accept": "*/*"}, 200, PICTURE | VARY,
        {"Content-Type": "image/jpeg", "Cache-Control": YEAR}, ALL),
    Row("What is large is sent from its file, with the same headers",
        "GET large", {}, 200, PICTURE, {"Content-Length": "{length}", "Cache-Status": HIT}, ALL),
    Row('9111, 5.1: "the time since the response was generated or successfully validated"',
        "GET remote", {}, 200, PICTURE | FAR, {"Cache-Status": HIT}, ALL),
    Row('9111, 5.2.2.5: no-store: "MUST NOT store any part of either the immediate request"',
        "GET private", {}, 200, MADE - {"Cross-Origin-Resource-Policy"},
        {"Cache-Control": "no-store"}, ALL),

    # -- HEAD ------------------------------------------------------------------------------------
    Row('9110, 9.3.2: "the server MUST NOT send content in the response"',
        "HEAD plain", {}, 200, PICTURE, {"Content-Length": "{length}", "ETag": "{etag}"}, b""),
    Row("The same, of a large one",
        "HEAD large", {}, 200, PICTURE, {"Content-Length": "{length}"}, b""),
    Row('9110, 14.2: ignore a Range with "a request method ... for which range handling is not '
        'defined"',
        "HEAD plain", {"Range": "bytes=0-9"}, 200, PICTURE, {"Content-Length": "{length}"}, b""),
    Row("Conditions are those of GET",
        "HEAD plain", {"If-None-Match": "{etag}"}, 304, SAME, {"ETag": "{etag}"}, b""),

    # -- 304: If-None-Match, If-Modified-Since ---------------------------------------------------
    Row('9110, 15.4.5: "MUST generate any of the following header fields that would have been sent '
        'in a 200 (OK) response": of them we have Cache-Control, Date, ETag and Vary',
        "GET plain", {"If-None-Match": "{etag}"}, 304, SAME,
        {"ETag": "{etag}", "Cache-Control": MONTH, "Cache-Status": HIT}, b""),
    Row("The same, immutable",
        "GET pinned", {"If-None-Match": "{etag}"}, 304, SAME, {"Cache-Control": YEAR}, b""),
    Row("The same, negotiated",
        "GET auto", {"Accept": "image/webp", "If-None-Match": "{etag}"}, 304, SAME | VARY,
        {"ETag": "{etag}", "Vary": "Accept"}, b""),
    Row("The same, with an Age",
        "GET remote", {"If-None-Match": "{etag}"}, 304, SAME | FAR, {"ETag": "{etag}"}, b""),
    Row("The same, of a large one",
        "GET large", {"If-None-Match": "{etag}"}, 304, SAME, {"ETag": "{etag}"}, b""),
    Row('9110, 13.1.2: "MUST use the weak comparison function"',
        "GET plain", {"If-None-Match": "W/{etag}"}, 304, SAME, {}, b""),
    Row('9110, 13.1.2: "the condition is false if one of the listed tags matches"',
        "GET plain", {"If-None-Match": '"other", W/"x" ,{etag}'}, 304, SAME, {}, b""),
    Row('9110, 13.1.2: "If the field value is "*", the condition is false"',
        "GET plain", {"If-None-Match": "*"}, 304, SAME, {}, b""),
    Row('9110, 13.1.2: "Otherwise, the condition is true."',
        "GET plain", {"If-None-Match": '"other"'}, 200, PICTURE, {}, ALL),
    Row("What is no tag is none of the listed ones",
        "GET plain", {"If-None-Match": 'W/"', "If-Modified-Since": "{date}"}, 200, PICTURE,
        {}, ALL),
    Row('9110, 13.1.3: "earlier or equal to the date provided ... the condition is false"',
        "GET plain", {"If-Modified-Since": "{date}"}, 304, SAME, {}, b""),
    Row('9110, 13.1.3: "Otherwise, the condition is true."',
        "GET plain", {"If-Modified-Since": EARLIER}, 200, PICTURE, {}, ALL),
    Row('9110, 13.1.3: MUST ignore it "if the received field value is not a valid HTTP-date"',
        "GET plain", {"If-Modified-Since": "Tue, 14 Nov 99999999999 22:13:20 GMT"}, 200, PICTURE,
        {}, ALL),
    Row('9110, 13.1.3: "MUST ignore If-Modified-Since if the request contains an If-None-Match"',
        "GET plain", {"If-None-Match": '"other"', "If-Modified-Since": "{date}"}, 200, PICTURE,
        {}, ALL),

    # -- 412: If-Match, If-Unmodified-Since ------------------------------------------------------
    Row('9110, 13.1.1: "the condition is true if any of the listed tags match"',
        "GET plain", {"If-Match": '"other", {etag}'}, 200, PICTURE, {}, ALL),
    Row('9110, 13.1.1: "MUST use the strong comparison function"',
        "GET plain", {"If-Match": "W/{etag}"}, 412, REFUSAL, NO_STORE, b"precondition-failed: "),
    Row("The same, of a large one",
        "GET large", {"If-Match": '"other"'}, 412, REFUSAL, NO_STORE, b"precondition-failed: "),
    Row("Every status of an auto URL varies",
        "GET auto", {"If-Match": '"other"'}, 412, REFUSAL | VARY, {"Vary": "Accept"},
        b"precondition-failed: "),
    Row('9110, 13.1.4: "earlier than or equal to the date provided ... the condition is true"',
        "GET plain", {"If-Unmodified-Since": "{date}"}, 200, PICTURE, {}, ALL),
    Row('9110, 13.1.4: "Otherwise, the condition is false."',
        "GET plain", {"If-Unmodified-Since": EARLIER}, 412, REFUSAL, NO_STORE,
        b"precondition-failed: "),
    Row('9110, 13.1.4: "MUST ignore If-Unmodified-Since if the request contains an If-Match"',
        "GET plain", {"If-Match": "*", "If-Unmodified-Since": EARLIER}, 200, PICTURE, {}, ALL),
    Row('9110, 13.2.2: "the order in which the fields are evaluated becomes important"',
        "GET plain", {"If-Match": '"other"', "If-None-Match": "{etag}", "Range": "bytes=0-9"}, 412,
        REFUSAL, NO_STORE, b"precondition-failed: "),

    # -- 206, 416: Range, If-Range ---------------------------------------------------------------
    Row('9110, 15.3.7.1: "MUST generate a Content-Range header field"',
        "GET plain", {"Range": "bytes=0-9"}, 206, PART,
        {"Content-Range": "bytes 0-9/{length}", "Content-Length": "10", "ETag": "{etag}",
         "Content-Type": "image/jpeg", "Cache-Control": MONTH}, slice(0, 10)),
    Row("The same, immutable",
        "GET pinned", {"Range": "bytes=10-19"}, 206, PART, {"Cache-Control": YEAR}, slice(10, 20)),
    Row("The same, negotiated",
        "GET auto", {"Accept": "image/webp", "Range": "bytes=1-1"}, 206, PART | VARY,
        {"Vary": "Accept", "Content-Type": "image/webp"}, slice(1, 2)),
    Row("The same, of a large one",
        "GET large", {"Range": "bytes=1000-299999"}, 206, PART,
        {"Content-Range": "bytes 1000-299999/{length}", "Content-Length": "299000"},
        slice(1000, 300_000)),
    Row('9110, 14.1.2: a last-pos behind the end means "the remainder of the representation"',
        "GET plain", {"Range": "bytes=20-99999999"}, 206, PART, {}, slice(20, None)),
    Row("The same without a last-pos, of a large one",
        "GET large", {"Range": "bytes=200000-"}, 206, PART, {}, slice(200_000, None)),
    Row('9110, 14.1.2: a suffix means "the last N bytes"',
        "GET large", {"Range": "bytes=-5"}, 206, PART, {"Content-Length": "5"}, slice(-5, None)),
    Row('9110, 14.1.2: "the entire representation is used" if that is shorter than the suffix',
        "GET plain", {"Range": "bytes=-99999999"}, 206, PART, {"Content-Length": "{length}"}, ALL),
    Row('9110, 14.2: "A server MAY ignore the Range header field.", as we do with several',
        "GET plain", {"Range": "bytes=0-1,5-6"}, 200, PICTURE, {}, ALL),
    Row('9110, 14.2: "MUST ignore a Range header field that contains a range unit it does not '
        'understand"',
        "GET plain", {"Range": "pixels=0-1"}, 200, PICTURE, {}, ALL),
    Row('9110, 14.1.1: "invalid if the last-pos value is present and less than first-pos"',
        "GET plain", {"Range": "bytes=9-1"}, 200, PICTURE, {}, ALL),
    Row('9110, 15.5.17: "SHOULD generate a Content-Range header field specifying the current '
        'length"',
        "GET plain", {"Range": "bytes=99999999-"}, 416, REFUSAL | {"Content-Range"},
        {"Content-Range": "bytes */{length}", **NO_STORE}, b"range-not-satisfiable: "),
    Row("The same, of a large one",
        "GET large", {"Range": "bytes=-0"}, 416, REFUSAL | {"Content-Range"},
        {"Content-Range": "bytes */{length}"}, b"range-not-satisfiable: "),
    Row("The same, negotiated",
        "GET auto", {"Accept": "image/webp", "Range": "bytes=99999999-"}, 416,
        REFUSAL | {"Content-Range", "Vary"}, {"Content-Range": "bytes */{length}"},
        b"range-not-satisfiable: "),
    Row('9110, 13.1.5: "if the representation is unchanged, send me the part(s)"',
        "GET plain", {"Range": "bytes=0-9", "If-Range": "{etag}"}, 206, PART, {}, slice(0, 10)),
    Row('9110, 13.1.5: "otherwise, send me the entire representation"',
        "GET plain", {"Range": "bytes=0-9", "If-Range": '"other"'}, 200, PICTURE, {}, ALL),
    Row('9110, 8.8.3.2: strong: "both are not weak and their opaque-tags match"',
        "GET plain", {"Range": "bytes=0-9", "If-Range": "W/{etag}"}, 200, PICTURE, {}, ALL),
    Row('9110, 13.1.5: "by exact match, including when the validator is an HTTP-date"',
        "GET plain", {"Range": "bytes=0-9", "If-Range": "{date}"}, 206, PART, {}, slice(0, 10)),
    Row("The same",
        "GET plain", {"Range": "bytes=0-9", "If-Range": "Tue, 01 Jan 2199 00:00:00 GMT"}, 200,
        PICTURE, {}, ALL),
    Row('9110, 13.1.5: "MUST ignore an If-Range ... that does not contain a Range header field"',
        "GET plain", {"If-Range": '"other"'}, 200, PICTURE, {}, ALL),
    Row("9110, 13.2.2: Range comes after If-None-Match",
        "GET plain", {"Range": "bytes=0-9", "If-None-Match": "{etag}"}, 304, SAME, {}, b""),

    # -- errors: no-store, and no condition is looked at (9110, 13.2.1) --------------------------
    Row('9110, 15.5.6: "MUST generate an Allow header field in a 405 response"',
        "POST plain", {}, 405, REFUSAL | {"Allow"}, {"Allow": "GET, HEAD", **NO_STORE},
        b"method-not-allowed: "),
    Row('9110, 15.5.1: 400 for what "is perceived to be a client error"',
        "GET no such page", {"If-None-Match": "*"}, 400, REFUSAL, NO_STORE, b"bad-options: "),
    Row('9110, 15.5.4: 403: "understood the request but refuses to fulfill it"',
        "GET unsigned", {"If-None-Match": "*"}, 403, REFUSAL, NO_STORE, b"bad-signature: "),
    Row("Every status of an auto URL varies",
        "GET unsigned auto", {}, 403, REFUSAL | VARY, {"Vary": "Accept"}, b"bad-signature: "),
    Row('9110, 15.5.5: 404: "did not find a current representation"',
        "GET not ours", {}, 404, REFUSAL, NO_STORE, b"not-a-thumbnail-url: "),
    Row("The same, by word of the origin",
        "GET absent", {"Range": "bytes=0-9"}, 404, REFUSAL, NO_STORE, b"source-not-found: "),
    Row("The same, negotiated",
        "GET absent auto", {}, 404, REFUSAL | VARY, {"Vary": "Accept"}, b"source-not-found: "),
    Row('9110, 15.5.11: 410: gone, "and that this condition is likely to be permanent"',
        "GET expired", {"If-Match": '"other"'}, 410, REFUSAL, NO_STORE, b"expired: "),
    Row("9110, 15.5.16: 415: a format that is not supported",
        "GET text", {}, 415, REFUSAL, NO_STORE, b"unsupported-image: "),
    Row("9110, 15.5.21: 422: the format is right, what is in it is not",
        "GET cut off", {}, 422, REFUSAL, NO_STORE, b"broken-image: "),
    Row('9110, 15.6.3: 502: "received an invalid response from an inbound server"',
        "GET failing", {}, 502, REFUSAL, NO_STORE, b"origin-failed: "),
    Row('9110, 15.6.5: 504: "did not receive a timely response from an upstream server"',
        "GET hanging", {}, 504, REFUSAL, NO_STORE, b"origin-timeout: "),
    Row("HEAD of an error is like GET of it",
        "HEAD absent", {}, 404, REFUSAL, NO_STORE, b""),
]
# fmt: on


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(1).randbytes(3 * width * height))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    root = tmp_path_factory.mktemp("table")
    photos = root / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(jpeg())
    (photos / "text.jpg").write_bytes(b"this is no picture")
    (photos / "cut.jpg").write_bytes(jpeg(600, 400)[:2000])
    noise(400, 400).save(photos / "noise.png")
    origin = FaultyOrigin({
        "/cat.jpg": replies(jpeg(), "Content-Type: image/jpeg", "Cache-Control: max-age=3600"),
        "/private.jpg": replies(jpeg(), "Cache-Control: private"),
        "/failing.jpg": replies(b"oh", status="500 Internal Server Error"),
        "/hanging.jpg": Exchange.hang,
    })  # fmt: skip
    with origin:
        config = root / "thumbproxy.toml"
        config.write_text(
            f'cache_dir = "{root / "cache"}"\nfetch_timeout = 0.5\n'
            f'[origins]\n"" = "{photos}"\n"far/" = "{origin.url}"\n'
        )
        with servers.thumbproxy("--config", str(config)) as running:
            yield running


@pytest.fixture(scope="module")
def pictures(server: servers.Server) -> dict[tuple[str, str], servers.Reply]:
    """The whole picture for each row that needs one; what is called a miss is not asked for."""
    wanted = {(row.ask.split(" ", 1)[1], row.sent.get("Accept", "")) for row in TABLE}
    return {
        (name, accept): server.ask(PATHS[name], {"Accept": accept} if accept else {})
        for name, accept in sorted(wanted)
        if "miss" not in name and "hanging" not in name
    }


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.ask}: {row.rule[:40]}")
def test_the_reply_is_the_one_in_the_table(
    server: servers.Server, pictures: dict[tuple[str, str], servers.Reply], row: Row
) -> None:
    method, name = row.ask.split(" ", 1)
    whole = pictures.get((name, row.sent.get("Accept", "")))
    known: dict[str, str] = {}
    if whole is not None and whole.status == 200:
        known = {"etag": whole["ETag"], "date": whole["Last-Modified"]}
        known["length"] = str(len(whole.body))
    sent = {header: value.format(**known) for header, value in row.sent.items()}
    reply = server.ask(PATHS[name], sent, method)

    names = sorted(header for header in reply.headers if header not in GUNICORN)
    assert (reply.status, names) == (row.status, sorted(row.names))
    for header, value in row.values.items():
        assert reply[header] == value.format(**known)
    if isinstance(row.body, slice):
        assert reply.body == (whole or reply).body[row.body]
        assert int(reply["Content-Length"]) == len(reply.body) > 0
    else:
        assert reply.body.startswith(row.body)
        assert bool(reply.body) == bool(row.body)
