"""An HTTP server may do what it likes: a fetch ends in time, and is whole or fails."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from faulty import Exchange, FaultyOrigin, Script, replies, sends

from thumbproxy.core.errors import OriginFailed, OriginTimeout, SourceNotFound, SourceTooLarge
from thumbproxy.core.limits import Limits
from thumbproxy.origins.http import HttpOrigin

OK = b"HTTP/1.1 200 OK\r\n"
SLOW = 0.3


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def drip_headers(exchange: Exchange) -> None:
    exchange.drip(OK + b"X-A: b\r\n" * 1000, every=0.02)


def drip_interim(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, every=0.002)


def drip_body(exchange: Exchange) -> None:
    exchange.send(OK + b"Content-Length: 1000\r\n\r\n")
    exchange.drip(b"x" * 1000, every=0.02)


def drip_chunks(exchange: Exchange) -> None:
    exchange.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    exchange.drip(b"1\r\nx\r\n" * 1000, every=0.02)


def drip_trailers(exchange: Exchange) -> None:
    exchange.send(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    exchange.drip(b"X-A: b\r\n" * 1000, every=0.02)


def hang_in_body(exchange: Exchange) -> None:
    exchange.send(OK + b"Content-Length: 1000\r\n\r\nx")
    exchange.hang()


def redirect_slowly(exchange: Exchange) -> bool:
    exchange.drip(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n", every=0.003)
    return True


@pytest.mark.parametrize(
    "script",
    [
        Exchange.hang,
        drip_headers,
        drip_interim,
        drip_body,
        drip_chunks,
        drip_trailers,
        hang_in_body,
        redirect_slowly,
    ],
)
def test_the_deadline_holds_against_everything_slow(ask: Any, script: Script) -> None:
    with FaultyOrigin(script) as server:
        origin = HttpOrigin(server.url)
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            origin.fetch(ask("cat.jpg", seconds=SLOW, limits=Limits(redirects=1000)))
        assert time.monotonic() - began < SLOW + 0.5


def test_the_deadline_holds_when_nobody_accepts(ask: Any) -> None:
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a queue of length 0 holds one or two
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        origin = HttpOrigin(f"http://127.0.0.1:{full.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            origin.fetch(ask("cat.jpg", seconds=SLOW))
        assert time.monotonic() - began < SLOW + 0.5


def endless_headers(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000)


def endless_line(exchange: Exchange) -> None:
    exchange.send(OK + b"X-A: ")
    while True:
        exchange.send(b"b" * 65536)


def endless_interim(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def chunked(body: bytes) -> Script:
    return sends(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body)


def reset_in_headers(exchange: Exchange) -> None:
    exchange.send(OK)
    exchange.reset()


def reset_in_body(exchange: Exchange) -> None:
    exchange.send(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000)
    exchange.reset()


GZIPPED = gzip.compress(b"picture" * 100)
# All of IANA's registry, however they are written.
CODED = [
    *(
        [f"Content-Encoding: {name}"]
        for name in (
            "gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd", "dcb", "dcz",
            "exi", "pack200-gzip", "aes128gcm", "GZip", "identity, gzip", "gzip, identity",
            "none,br", ", ,zstd ,", "gzip, gzip", "gzip;q=1", '"gzip"', "utf-8,DEFLATE",
        )
    ),
    ["Content-Encoding: binary", "Content-Encoding: gzip"],
    ["Content-Encoding:", "Content-Encoding: br"],
]  # fmt: skip
# What servers send with bodies that are as they should be.
NO_CODING = [
    *(
        [f"Content-Encoding: {name}"]
        for name in (
            "undefined", "aws-chunked", "UTF-8", "binary", "none", "null", "x", "", ",", "IDENTITY",
            "identity, identity", "none, utf-8", "image/jpeg", "base64", "gzipped", "8bit", "*",
        )
    ),
    ["Content-Encoding: none", "Content-Encoding: binary"],
]  # fmt: skip
BROKEN = {
    "closed at once": sends(),
    "no HTTP": sends(b"220 smtp.example.com ESMTP\r\n\r\n"),
    "HTTP/0.9": sends(b"<html>"),
    "no status": sends(b"HTTP/1.1 abc OK\r\n\r\n"),
    "endless headers": endless_headers,
    "endless line": endless_line,
    "reset in headers": reset_in_headers,
    "reset in body": reset_in_body,
    "cut off in headers": sends(OK + b"Content-Le"),
    "shorter than announced": replies(b"pict", length=7),
    "nothing of what was announced": replies(b"", length=7),
    "a chunk cut off": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\npict"),
    "no last chunk": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\npict\r\n"),
    "no chunks": sends(OK + b"Transfer-Encoding: chunked\r\n\r\npicture"),
    "chunks and a length that differ": sends(
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n4\r\npict\r\n0\r\n\r\n"
    ),
    "two lengths": sends(OK + b"Content-Length: 7\r\nContent-Length: 4\r\n\r\npicture"),
    "two lengths in a line": sends(OK + b"Content-Length: 7, 4\r\n\r\npicture"),
    "a negative length": sends(OK + b"Content-Length: -7\r\n\r\npicture"),
    "a length that is none": sends(OK + b"Content-Length: seven\r\n\r\npicture"),
    "cut off between headers": sends(OK + b"Content-Type: image/png\r\n"),
    "a bare CR in a header": sends(OK + b"X-A: b\rContent-Length: 4\r\n\r\npicture"),
    "a bare CR at the end": sends(OK + b"X-A: b\r\r\nContent-Length: 7\r\n\r\npicture"),
    "a bare CR in the status": sends(b"HTTP/1.1 200 O\rK\r\nContent-Length: 7\r\n\r\npicture"),
    "NUL in a header": sends(OK + b"X-A: b\0c\r\nContent-Length: 7\r\n\r\npicture"),
    "a folded header": sends(OK + b"X-A: b\r\n c\r\nContent-Length: 7\r\n\r\npicture"),
    "a folded length": sends(OK + b"Content-Length:\r\n 7\r\n\r\npicture"),
    "no colon": sends(OK + b"X-A\r\nContent-Length: 7\r\n\r\npicture"),
    "space before the colon": sends(OK + b"Content-Length : 7\r\n\r\npicture"),
    "no name": sends(OK + b": b\r\nContent-Length: 7\r\n\r\npicture"),
    "101 headers": sends(OK + b"X-A: b\r\n" * 101 + b"Content-Length: 7\r\n\r\npicture"),
    "70 KB of headers": sends(OK + (b"X-A: " + b"b" * 7000 + b"\r\n") * 10 + b"\r\npicture"),
    "endless interim responses": endless_interim,
    "another coding of the transfer": sends(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n"),
    "a chunk below zero": chunked(b"-7\r\npicture\r\n0\r\n\r\n"),
    "a chunk with 0x": chunked(b"0x7\r\npicture\r\n0\r\n\r\n"),
    "a chunk with _": chunked(b"0_7\r\npicture\r\n0\r\n\r\n"),
    "a chunk with a bare CR": chunked(b"7;a\rb\r\npicture\r\n0\r\n\r\n"),
    "an endless chunk line": chunked(b"7;" + b"a" * 70_000 + b"\r\npicture\r\n0\r\n\r\n"),
    "gzip despite identity": replies(GZIPPED, "Content-Encoding: gzip"),
    **{f"coded: {lines}": replies(b"picture", *lines) for lines in CODED},
    "206": replies(b"pict", "Content-Range: bytes 0-3/7", status="206 Partial Content"),
    "204": sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "203": replies(b"picture", status="203 Non-Authoritative Information"),
    "300": replies(b"", "Location: /b", status="300 Multiple Choices"),
    "400": replies(b"", status="400 Bad Request"),
    "500": replies(b"", status="500 Internal Server Error"),
    "503": replies(b"", status="503 Service Unavailable"),
    "304 to no condition": sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "101": sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "a redirect to nowhere": replies(b"", status="302 Found"),
    "a redirect in circles": replies(b"", "Location: /cat.jpg", status="302 Found"),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_fails(ask: Any, script: Script) -> None:
    with FaultyOrigin(script) as server, pytest.raises(OriginFailed) as caught:
        HttpOrigin(server.url).fetch(ask("cat.jpg"))
    assert caught.value.log


WHOLE = {
    "length": replies(b"picture"),
    "no length": replies(b"picture", length=None),
    "chunks": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\npict\r\n3\r\nure\r\n0\r\n\r\n"),
    "the same length twice": sends(OK + b"Content-Length: 7, 7\r\n\r\npicture"),
    "HTTP/1.0": sends(b"HTTP/1.0 200 OK\r\n\r\npicture"),
    "bare LF": sends(b"HTTP/1.1 200 OK\nContent-Length: 7\n\npicture"),
    "headers of any bytes": sends(OK + b"X-A: \x85\xe9\t\x80\r\nContent-Length: 7\r\n\r\npicture"),
    "a chunk with more to it": chunked(b"7 ;a=b\r\npicture\r\n0\r\n\r\n"),
    "identity said": replies(b"picture", "Content-Encoding: identity"),
    **{f"no coding: {lines}": replies(b"picture", *lines) for lines in NO_CODING},
    "early hints": sends(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", OK,
        b"Content-Length: 7\r\n\r\npicture",
    ),
}  # fmt: skip


@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE.keys())
def test_what_is_whole_is_taken(ask: Any, script: Script) -> None:
    with FaultyOrigin(script) as server:
        assert HttpOrigin(server.url).fetch(ask("cat.jpg")).body == b"picture"


def endless_body(exchange: Exchange) -> None:
    exchange.send(OK + b"\r\n")
    while True:
        exchange.send(b"x" * 65536)


@pytest.mark.parametrize("script", [endless_body, replies(b"", length=10**12)])
def test_a_body_without_end_is_too_large(ask: Any, script: Script) -> None:
    with FaultyOrigin(script) as server, pytest.raises(SourceTooLarge):
        HttpOrigin(server.url).fetch(ask("cat.jpg", limits=Limits(source_bytes=100_000)))


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_an_origin_may_be_an_ipv6_literal(ask: Any) -> None:
    with FaultyOrigin(replies(b"picture"), host="::1") as server:
        assert HttpOrigin(server.url).fetch(ask("cat.jpg")).body == b"picture"
    assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_what_the_server_does_not_have_is_not_found(ask: Any, status: str) -> None:
    with FaultyOrigin(replies(b"", status=status)) as server, pytest.raises(SourceNotFound):
        HttpOrigin(server.url).fetch(ask("cat.jpg"))


def test_nobody_there_is_a_failure(ask: Any) -> None:
    with FaultyOrigin({}) as server:
        url = server.url
    with pytest.raises(OriginFailed):
        HttpOrigin(url).fetch(ask("cat.jpg"))


def test_a_name_that_does_not_exist_is_a_failure(ask: Any) -> None:
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid"):
        with pytest.raises((OriginFailed, OriginTimeout)):
            HttpOrigin(f"http://{host}").fetch(ask("cat.jpg", seconds=1))


def test_the_request_says_what_it_must_and_nothing_of_the_client(ask: Any) -> None:
    client = {"HTTP_COOKIE": "a=1", "HTTP_AUTHORIZATION": "Basic x", "HTTP_HOST": "public.example"}
    with FaultyOrigin(replies(b"picture", "Set-Cookie: session=1; Path=/")) as server:
        origin = HttpOrigin(server.url + "/base/", headers={"X-Token": "secret"})
        origin.fetch(ask("cat.jpg", client=client))
        origin.fetch(ask("cat.jpg", client=client, etag='"1"', last_modified="then", fresh=True))
    first, second = server.requests
    assert (first.method, first.target) == ("GET", "/base/cat.jpg")
    version = first.headers.pop("user-agent")
    assert version.startswith("thumbproxy/")
    assert first.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "cdn-loop": "thumbproxy",
        "x-token": "secret",
    }
    assert second.headers["if-none-match"] == '"1"'
    assert second.headers["if-modified-since"] == "then"
    assert second.headers["cache-control"] == "max-age=0"
    assert "cookie" not in second.headers


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a b/c%.jpg", "/a%20b/c%25.jpg"),
        ("a+b~c.jpg", "/a%2Bb~c.jpg"),
        ("a%20b.jpg", "/a%2520b.jpg"),
        ("été.jpg", "/%C3%A9t%C3%A9.jpg"),
        ("a#b.jpg", "/a%23b.jpg"),
        ("cat.jpg?w=1&x=a b#c", "/cat.jpg?w=1&x=a%20b%23c"),
        ("cat.jpg?x=%41%zz%+é", "/cat.jpg?x=A%25zz%25+%C3%A9"),
        ("cat.jpg?a?b/../c", "/cat.jpg?a?b/../c"),
        ("cat.jpg?x=%2F%3D", "/cat.jpg?x=%2F%3D"),
    ],
)
def test_a_source_becomes_a_request_target(ask: Any, source: str, target: str) -> None:
    with FaultyOrigin(replies(b"picture")) as server:
        HttpOrigin(server.url).fetch(ask(source))
    assert server.requests[0].target == target


def test_a_304_keeps_our_validators_and_tells_the_new_lifetime(ask: Any) -> None:
    reply = sends(b'HTTP/1.1 304 Not Modified\r\nETag: "2"\r\nCache-Control: max-age=9\r\n\r\n')
    with FaultyOrigin(reply) as server:
        fetched = HttpOrigin(server.url).fetch(ask("cat.jpg", etag='"1"'))
    assert (fetched.body, fetched.validators.etag, fetched.lifetime) == (None, '"1"', 9)


def test_an_etag_of_any_bytes_is_sent_back_as_it_came(ask: Any) -> None:
    etag = b'"\xe9\xff\x80"'
    with FaultyOrigin(sends(OK + b"ETag: " + etag + b"\r\n\r\npicture")) as server:
        origin = HttpOrigin(server.url)
        validators = origin.fetch(ask("cat.jpg")).validators
        origin.fetch(ask("cat.jpg", validators=validators))
    assert server.requests[1].headers["if-none-match"].encode("latin-1") == etag


def test_connections_are_kept(ask: Any) -> None:
    missing = replies(b"", status="304 Not Modified", length=None)
    routes = {"/a": replies(b"picture"), "/b": lambda exchange: missing(exchange) or True}
    with FaultyOrigin(routes) as server:
        origin = HttpOrigin(server.url)
        for path in ("a", "b", "a", "a"):
            origin.fetch(ask(path, etag='"1"'))
        assert server.connections == 1


def test_a_kept_connection_that_the_server_closes_meanwhile_is_no_failure(ask: Any) -> None:
    """It answers one request on each connection, promises more, and closes on the second."""
    seen: set[int] = set()

    def script(exchange: Exchange) -> bool:
        if id(exchange.connection) in seen:
            return False
        seen.add(id(exchange.connection))
        return bool(replies(b"picture")(exchange))

    with FaultyOrigin(script) as server:
        origin = HttpOrigin(server.url)
        for _ in range(3):
            assert origin.fetch(ask("cat.jpg")).body == b"picture"


def test_however_many_connections_are_kept_a_server_that_closes_them_is_asked_twice(
    ask: Any,
) -> None:
    together = threading.Barrier(6)

    def script(exchange: Exchange) -> bool:
        if exchange.target == "/bad.jpg":
            return False
        together.wait(10)  # so that each has a connection of its own
        return bool(replies(b"picture")(exchange))

    with FaultyOrigin(script) as server:
        origin = HttpOrigin(server.url)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(origin.fetch, [ask("cat.jpg") for _ in range(6)]))
        assert server.connections == 6
        with pytest.raises(OriginFailed):
            origin.fetch(ask("bad.jpg"))
        assert [request.target for request in server.requests].count("/bad.jpg") == 2


def test_a_new_connection_that_is_closed_is_not_tried_again(ask: Any) -> None:
    with FaultyOrigin(sends()) as server, pytest.raises(OriginFailed):
        HttpOrigin(server.url).fetch(ask("cat.jpg"))
    assert len(server.requests) == 1


def test_a_forked_process_makes_its_own_connections(ask: Any) -> None:
    with FaultyOrigin(replies(b"picture")) as server:
        origin = HttpOrigin(server.url)
        origin.fetch(ask("cat.jpg"))
        child = os.fork()
        if not child:
            body = origin.fetch(ask("cat.jpg")).body
            os._exit(0 if body == b"picture" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == 2


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "/srv/media", "http://", "http://user:pw@a.example/", "http://a.example/?x",
     "http://a.example/#x", "http://a.example:port/", ""],
)  # fmt: skip
def test_a_base_url_that_cannot_be_used_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be the URL"):
        HttpOrigin(url)
