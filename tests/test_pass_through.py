"""What a gateway does to what it passes on, RFC 9110 section 7 and RFC 9112, as rules with their
sentences: `thumbproxy serve --upstream` between a socket that asks and a socket that answers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
import servers
from faulty import Exchange, FaultyOrigin
from origin import jpeg

from thumbproxy import Thumbnails

HIT = Thumbnails([servers.KEY]).url("cat.jpg", width=60, format="jpg", version="v1").encode()
# Addresses of clients, of which the first is a proxy that is trusted.
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
HERE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere"


@dataclass
class Site:
    server: servers.Server
    upstream: FaultyOrigin
    reply: bytes = HERE
    client: str = TRUSTED

    def talk(self, request: bytes) -> bytes:
        """All that is answered, until the connection is closed."""
        received = b""
        address = servers.HOST, self.server.port
        with socket.create_connection(address, 20, (self.client, 0)) as connection:
            connection.sendall(request)
            with suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    received += piece
        return received

    def ask(self, *lines: bytes, line: bytes = b"GET /a HTTP/1.1") -> bytes:
        return self.talk(b"\r\n".join([line, *lines, b"Connection: close", b"", b""]))

    def heard(self, *lines: bytes, line: bytes = b"GET /a HTTP/1.1") -> Exchange:
        """The request as the server behind got it."""
        self.upstream.requests.clear()
        assert self.ask(*lines, line=line).startswith(b"HTTP/1.")
        (request,) = self.upstream.requests
        return request

    def told(self, reply: bytes, line: bytes = b"GET /a HTTP/1.1") -> bytes:
        """What the client gets of a reply."""
        self.reply = reply
        try:
            return self.ask(b"Host: x", line=line)
        finally:
            self.reply = HERE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("through")
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_bytes(jpeg())

    def answer(exchange: Exchange) -> bool:
        exchange.send(site.reply)
        return b"keep" in site.reply

    with FaultyOrigin(answer) as upstream, (place / "log").open("wb"):
        arguments = ["--upstream", upstream.url, "--origin", str(place / "photos"),
                     "--cache-dir", str(place / "cache")]  # fmt: skip
        settings = {"THUMBPROXY_WORKERS": "1", "FORWARDED_ALLOW_IPS": TRUSTED}
        with servers.thumbproxy(*arguments, log=place / "log", **settings) as server:
            site = Site(server, upstream)
            yield site
    assert "Traceback" not in (place / "log").read_text()


def status(reply: bytes) -> int:
    return int(reply[9:12])


def field(reply: bytes, name: str) -> list[str]:
    head = reply.partition(b"\r\n\r\n")[0].decode("latin-1")
    return re.findall(rf"(?im)^{name}: *(.*?)\r?$", head)


# -- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        b"", b"Host:", b"Host: ", b"Host: site/evil?x", b"Host: a b", b"Host: a@b", b"Host: a:b",
        b"Host: a:80:80", b"Host: a#b", b"Host: a?b", b"Host: [::1", b"Host: [zz]", b"Host: a\\b",
        b"Host: a, b", b"Host: \xe9", b"Host: %zz", b"Host: http://a", b"Host: x\r\nHost: x",
        b"Host: <a>", b"Host: :80", b"Host: a:123456",
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [b"/a", HIT, b"/healthz"], ids=["passed on", "thumbnail", "own"])
def test_a_request_of_1_1_has_one_well_formed_host(site: Site, host: bytes, target: bytes) -> None:
    """ "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message
    that lacks a Host header field and to any request message that contains more than one Host
    header field line or a Host header field with an invalid field value" (RFC 9112 section 3.2)."""
    site.upstream.requests.clear()
    line = b"GET " + target + b" HTTP/1.1"
    assert status(site.ask(*([host] if host else []), line=line)) == 400
    assert site.upstream.requests == []


@pytest.mark.parametrize(
    "host", [b"x", b"X.example:8080", b"127.0.0.1", b"[::1]:80", b"a_b.example", b"a%20b", b"x:",
             b"xn--bcher-kva.example", b"a!$&'()*+,;=~"],
)  # fmt: skip
def test_every_well_formed_host_arrives(site: Site, host: bytes) -> None:
    assert site.heard(b"Host: " + host).headers["host"] == host.decode()


def test_a_request_of_1_0_without_host_gets_one(site: Site) -> None:
    """ "A client MUST send a Host header field in all HTTP/1.1 request messages" (RFC 9112
    section 3.2): ours, of which the old client said nothing, names the server that is asked."""
    asked = site.heard(line=b"GET /a HTTP/1.0")
    assert asked.headers["host"] == f"127.0.0.1:{site.upstream.port}"
    assert asked.head.startswith(b"GET /a HTTP/1.1\r\n")
    assert site.heard(b"Host: y", line=b"GET /a HTTP/1.0").headers["host"] == "y"


def test_an_absolute_target_names_the_host(site: Site) -> None:
    """ "When an origin server receives a request with an absolute-form of request-target, the
    origin server MUST ignore the received Host header field (if any) and instead use the host
    information of the request-target" (RFC 9112 section 3.2.2)."""
    asked = site.heard(b"Host: x", line=b"GET http://y.example:81/a%2Fb?c HTTP/1.1")
    assert (asked.target, asked.headers["host"]) == ("/a%2Fb?c", "y.example:81")
    assert asked.headers["x-forwarded-host"] == "y.example:81"
    assert site.heard(b"Host: x", line=b"GET http://y HTTP/1.1").target == "/"
    for target in (b"http://u:p@y/a", b"http:///a", b"http://a\\b/a"):
        assert status(site.ask(b"Host: x", line=b"GET " + target + b" HTTP/1.1")) == 400


@pytest.mark.parametrize(
    "target", [b"/a#b", b"/a?b#c", b"#", b"/#", b"http://x/a#b", HIT + b"#a", b"/healthz#"]
)
def test_a_target_has_no_fragment(site: Site, target: bytes) -> None:
    """ "origin-form = absolute-path [ "?" query ]"; "Recipients of an invalid request-line SHOULD
    respond with either a 400 (Bad Request) error or a 301" (RFC 9112 section 3)."""
    site.upstream.requests.clear()
    assert status(site.ask(b"Host: x", line=b"GET " + target + b" HTTP/1.1")) == 400
    assert site.upstream.requests == []
    assert site.heard(b"Host: x", line=b"GET /a%23b?c%23d HTTP/1.1").target == "/a%23b?c%23d"


def test_requests_and_replies_tell_by_whom_they_were_passed_on(site: Site) -> None:
    """ "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request
    message and MAY send a Via header field in forwarded response messages" (RFC 9110 section
    7.6.3), with the version of what was received."""
    assert site.heard(b"Host: x").headers["via"] == "1.1 thumbproxy"
    assert site.heard(line=b"GET / HTTP/1.0").headers["via"] == "1.0 thumbproxy"
    via = site.heard(b"Host: x", b"Via: 1.0 fred", b"Via: 2 p.example (a, b)").headers["via"]
    assert re.sub(", *", ", ", via) == "1.0 fred, 2 p.example (a, b), 1.1 thumbproxy"
    assert field(site.ask(b"Host: x"), "Via") == ["1.1 thumbproxy"]
    old = b"HTTP/1.0 200 OK\r\nVia: 1.1 a\r\nVia: 1.1 b\r\n\r\nhere"
    assert field(site.told(old), "Via") == ["1.1 a, 1.1 b, 1.0 thumbproxy"]


@pytest.mark.parametrize(
    ("method", "value", "answer"),
    [
        ("OPTIONS", "0", 200),
        ("TRACE", "0", 405),
        ("OPTIONS", "000", 200),
        ("OPTIONS", "-1", 400),
        ("TRACE", "x", 400),
        ("OPTIONS", "", 400),
        ("OPTIONS", "1, 2", 400),
        ("OPTIONS", "1", "0"),
        ("TRACE", "10", "9"),
        ("GET", "0", "0"),
        ("POST", "x", "x"),
    ],
)
def test_max_forwards_is_heeded(site: Site, method: str, value: str, answer: int | str) -> None:
    """ "Each intermediary that receives a TRACE or OPTIONS request containing a Max-Forwards header
    field MUST check and update its value prior to forwarding the request. If the received value is
    zero (0), the intermediary MUST NOT forward the request; instead, the intermediary MUST respond
    as the final recipient. [...] A recipient MAY ignore a Max-Forwards header field received with
    any other request methods" (RFC 9110 section 7.6.2)."""
    lines = (b"Host: x", f"Max-Forwards: {value}".encode())
    line = f"{method} /a HTTP/1.1".encode()
    if isinstance(answer, str):
        assert site.heard(*lines, line=line).headers["max-forwards"] == answer
        return
    site.upstream.requests.clear()
    reply = site.ask(*lines, line=line)
    assert status(reply) == answer
    if answer != 400:
        assert field(reply, "Allow")
    assert site.upstream.requests == []


def test_cookies_stay_cookies(site: Site) -> None:
    """ "If there are multiple Cookie header fields after decompression, these MUST be concatenated
    into a single octet string using the two-octet delimiter of 0x3b, 0x20 (the ASCII string "; ")
    before being passed into a non-HTTP/2 context" (RFC 9113 section 8.2.3)."""
    lines = (b"Host: x", b"Cookie: a=1", b"X-A: 1", b"Cookie: b=2,3; c=4", b"Cookie: d=5")
    assert site.heard(*lines).headers["cookie"] == "a=1; b=2,3; c=4; d=5"
    assert site.heard(b"Host: x", b"Cookie: a=1, 2").headers["cookie"] == "a=1, 2"


def test_what_is_of_the_connection_stays_there(site: Site) -> None:
    """ "Intermediaries MUST parse a received Connection header field before a message is forwarded
    and, for each connection-option in this field, remove any header or trailer field(s) from the
    message with the same name as the connection-option, and then remove the Connection header field
    itself" (RFC 9110 section 7.6.1)."""
    lines = (b"Host: x", b"Connection: X-One, x-two,Host, Content-Length, close", b"X-One: 1",
             b"X-Two: 2", b"TE: trailers, gzip", b"Trailer: X-Sum", b"Keep-Alive: 5",
             b"Proxy-Connection: a", b"Upgrade: websocket", b"X-Three: 3",
             b"Content-Length: 0")  # fmt: skip
    headers = site.heard(*lines, line=b"POST /a HTTP/1.1").headers
    assert headers["host"] == "x"
    assert headers["x-three"] == "3"
    gone = {"x-one", "x-two", "te", "trailer", "keep-alive", "proxy-connection", "upgrade"}
    assert gone.isdisjoint(headers)
    assert "connection" not in headers


FORGED = (
    b"X-Forwarded-For: 198.51.100.7", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil",
    b"X-Forwarded-Port: 1234", b"X-Forwarded-Prefix: /evil", b"X-Forwarded-Server: evil",
    b"X-Forwarded-Ssl: on", b"Forwarded: for=198.51.100.7;host=evil",
)  # fmt: skip


def test_a_trusted_proxy_is_believed_in_who_asked_and_how(site: Site) -> None:
    headers = site.heard(b"Host: x", *FORGED).headers
    told = {name: value for name, value in headers.items() if "forwarded" in name}
    assert told == {
        "x-forwarded-for": "198.51.100.7, 127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "x",
        "forwarded": 'for=198.51.100.7;host=evil, for=127.0.0.1;host="x";proto=https',
    }


def test_anybody_else_is_not(site: Site) -> None:
    headers = replace(site, client=STRANGER).heard(b"Host: x", *FORGED).headers
    told = {name: value for name, value in headers.items() if "forwarded" in name}
    assert told == {
        "x-forwarded-for": STRANGER, "x-forwarded-proto": "http", "x-forwarded-host": "x",
    }  # fmt: skip


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"deflate,chunked", b"compress, chunked"])
def test_a_coding_of_a_request_is_not_lost(site: Site, coding: bytes) -> None:
    """ "A server that receives a request message with a transfer coding it does not understand
    SHOULD respond with 501 (Not Implemented)" (RFC 9112 section 6.1)."""
    site.upstream.requests.clear()
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding
    assert status(site.talk(head + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n")) == 501
    assert site.upstream.requests == []


# -- replies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", [b"-5", b"+2", b"1_0", b"", b" ", b"2, 3", b"2,x", b"0x2", b"2 2", b"\xb2", b"2.0",
               b"9" * 5000, b",", b"2\r\nContent-Length: 3", b"\r\nContent-Length: x"],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_reply_whose_length_is_invalid_is_a_502(site: Site, length: bytes, method: bytes) -> None:
    """ "If a message is received without Transfer-Encoding and with an invalid Content-Length
    header field, then the message framing is invalid and the recipient MUST treat it as an
    unrecoverable error [...]. If it is in a response message received by a proxy, the proxy MUST
    close the connection to the server, discard the received response, and send a 502 (Bad Gateway)
    response to the client" (RFC 9112 section 6.3)."""
    reply = site.told(
        b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nhere", method + b" /a HTTP/1.1"
    )
    assert status(reply) == 502
    assert field(reply, "Content-Type") == ["text/plain; charset=utf-8"]


@pytest.mark.parametrize(
    "length", [b"2, 2", b"2,2,2", b"2\r\nContent-Length: 2", b" 2 ", b"002", b"2,", b", 2"]
)
def test_one_length_said_twice_is_one(site: Site, length: bytes) -> None:
    """ "unless the field value can be successfully parsed as a comma-separated list, all values in
    the list are valid, and all values in the list are the same (in which case, the message is
    processed with that single value used as the Content-Length field value)" (same section)."""
    reply = site.told(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nhere")
    assert status(reply) == 200
    assert field(reply, "Content-Length") == ["2"]
    assert reply.endswith(b"\r\n\r\nhe")


@pytest.mark.parametrize("line", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    "rest",
    [
        b"\r\n",
        b"Content-Length: 4\r\n\r\nhere",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nhere\r\n0\r\n\r\n",
        b"Connection: keep-alive\r\nContent-Length: 4\r\n\r\nhere",
        b"\r\nhere",
    ],
)
def test_a_reply_without_a_body_has_none(site: Site, line: bytes, rest: bytes) -> None:
    """ "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No
    Content), or 304 (Not Modified) status code is always terminated by the first empty line after
    the header fields, regardless of the header fields present in the message, and thus cannot
    contain a message body or trailer section" (RFC 9112 section 6.3)."""
    sent = b"HTTP/1.1 " + line + b"\r\nX-Kept: keep\r\n" + rest
    reply = site.told(sent)
    assert reply.startswith(b"HTTP/1.1 " + line + b"\r\n")
    assert reply.partition(b"\r\n\r\n")[2] == b""
    assert field(reply, "Transfer-Encoding") == []
    if line.startswith(b"204"):
        assert field(reply, "Content-Length") == []
    head = site.told(b"HTTP/1.1 200 OK\r\nX-Kept: keep\r\n" + rest, line=b"HEAD /a HTTP/1.1")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.partition(b"\r\n\r\n")[2] == b""
    # Nothing of a body is taken for the next reply.
    assert site.ask(b"Host: x").endswith(b"\r\n\r\nhere")


@pytest.mark.parametrize(
    ("coding", "body", "answer"),
    [
        (b"chunked", b"4\r\nhere\r\n0\r\n\r\n", b"here"),
        (b"Chunked ", b"4\r\nhere\r\n0\r\nX-Sum: 1\r\n\r\n", b"here"),
        (b"identity", b"here", b"here"),
        (b"gzip, chunked", b"4\r\nhere\r\n0\r\n\r\n", None),
        (b"gzip", b"here", None),
        (b"chunked, gzip", b"here", None),
        (b"chunked, chunked", b"4\r\nhere\r\n0\r\n\r\n", None),
        (b"gzip\r\nTransfer-Encoding: chunked", b"4\r\nhere\r\n0\r\n\r\n", None),
        (b"xchunked", b"here", None),
        (b"chunked\r\nContent-Length: 99", b"4\r\nhere\r\n0\r\n\r\n", b"here"),
        (b"chunked\r\nContent-Length: x", b"4\r\nhere\r\n0\r\n\r\n", b"here"),
    ],
)  # fmt: skip
def test_a_coding_of_a_reply_is_undone_or_refused(
    site: Site, coding: bytes, body: bytes, answer: bytes | None
) -> None:
    """We say no TE, so "a sender MUST NOT" apply any but chunked; and "Transfer-Encoding overrides
    the Content-Length" (RFC 9112 sections 7.4 and 6.3)."""
    reply = site.told(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n\r\n" + body)
    if answer is None:
        assert status(reply) == 502
        return
    assert status(reply) == 200
    assert field(reply, "Content-Length") == []
    assert (
        re.sub(rb"(^|\r\n)[0-9a-fA-F]+\r\n", b"", reply.partition(b"\r\n\r\n")[2]).strip() == answer
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + HERE,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n",
    ],
)
def test_a_protocol_that_nobody_asked_for_is_a_502(site: Site, reply: bytes) -> None:
    """ "A server MUST NOT switch to a protocol that was not indicated by the client in the
    corresponding request's Upgrade header field" (RFC 9110 section 7.8)."""
    assert status(site.told(reply)) == 502
    line = b"GET /a HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
    assert status(site.told(reply, line)) == 502


def test_interim_replies_end_here(site: Site) -> None:
    """WSGI has no words for them. "A proxy MUST forward 1xx responses unless the proxy itself
    requested the generation of the 1xx response" (RFC 9110 section 15.2): docs/serving.md says that
    they are not."""
    for interim in (b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a.css>"):
        reply = site.told(b"HTTP/1.1 " + interim + b"\r\n\r\n" + HERE)
        assert status(reply) == 200
        assert reply.count(b"HTTP/1.1") == 1
        assert field(reply, "Link") == []


def test_of_a_reply_only_its_own_headers_are_passed_on(site: Site) -> None:
    """RFC 9110 section 7.6.1, as for requests."""
    reply = site.told(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: X-One, close\r\nX-One: 1\r\n"
        b"Keep-Alive: 5\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"X-Two: 2\r\n\r\nhere"
    )
    assert field(reply, "Set-Cookie") == ["a=1", "b=2"]
    assert field(reply, "X-Two") == ["2"]
    for name in ("X-One", "Keep-Alive", "Trailer", "Upgrade"):
        assert field(reply, name) == []
