"""Bad HTTP at the socket of a real server: each gets its status or a closed connection, in time,
nothing of it is kept, no process ends, nothing is logged as a fault, and the next request is fine.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nginx
import pytest
import servers
from echo import Echo, EchoServer, serving
from faulty import Exchange, FaultyOrigin, replies
from origin import jpeg
from PIL import Image

from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer

URLS = UrlCodec(Signer([servers.KEY]))
THREADS = 8
WRONG_SIGNATURE = b"/_.AAAAAAAAAAAAAAAAAAAAAA.jpg"


def path_of(source: str, **options: int) -> bytes:
    return URLS.build(source, Options(**options), "jpg").encode()


HIT = path_of("cat.jpg", width=32)
GET = b"GET " + HIT + b" HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"


@dataclass
class Site:
    """A server with a picture in its cache. rightly: what else tests had it keep."""

    server: servers.Server
    cache: Path
    log: Path
    far: FaultyOrigin
    release: threading.Event
    rightly: set[str] = field(default_factory=set)

    def connect(self) -> socket.socket:
        return socket.create_connection((servers.HOST, self.server.port), 20)

    def talk(self, data: bytes, *, half: bool = False) -> bytes:
        """What is answered until the connection is closed. half: nothing more comes from us."""
        with self.connect() as connection:
            with suppress(OSError):  # closed before it has read all
                connection.sendall(data)
                if half:
                    connection.shutdown(socket.SHUT_WR)
            return everything(connection)

    def workers(self) -> set[str]:
        assert self.server.process
        pid = self.server.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def kept(self) -> set[str]:
        trees = ("public", "private", "sources", "tmp")
        return {str(path) for tree in trees for path in (self.cache / tree).rglob("*")}


def everything(connection: socket.socket) -> bytes:
    """All that comes until the end; what a reset destroys is missing."""
    received = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def statuses(data: bytes) -> list[int]:
    """Of replies that follow each other with nothing between them."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", head)
        assert line, head
        length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
        data = data[int(length[1]) if length else 0 :]
        found.append(int(line[1]))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp = tmp_path_factory.mktemp("site")
    photos = tmp / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(jpeg())
    Image.effect_noise((2400, 1800), 90).convert("RGB").save(photos / "large.jpg", quality=95)
    release = threading.Event()

    def late(exchange: Exchange) -> object:
        release.wait(20)
        return replies(jpeg())(exchange)

    with FaultyOrigin(late) as far:
        settings = tmp / "thumbproxy.toml"
        settings.write_text(f'[origins]\n"" = "{photos}"\n"far/" = "{far.url}"\n')
        log = tmp / "log"
        arguments = ["--config", str(settings), "--cache-dir", str(tmp / "cache")]
        with servers.thumbproxy(*arguments, "--threads", str(THREADS), log=log) as server:
            yield Site(server, tmp / "cache", log, far, release)


@pytest.fixture(autouse=True)
def unharmed(site: Site) -> Iterator[None]:
    """What every test of this file is about, besides what it says itself."""
    assert statuses(site.talk(LAST)) == [200]
    workers, kept = site.workers(), site.kept()
    yield
    reply = site.talk(LAST)
    assert statuses(reply) == [200]
    assert b"thumbproxy; hit" in reply
    assert site.workers() == workers
    assert site.kept() <= kept | site.rightly
    assert "Traceback" not in site.log.read_text()


def test_what_is_no_request_is_refused_and_the_connection_closed(site: Site) -> None:
    for line in (
        b"\x00\x01\x02garbage", b"", b"GET", b"GET /", b"GET " + HIT, b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 more", b"GET / HTTP/3.0", b"GET / HTTQ/1.1", b"G3T\x7f / HTTP/1.1",
        b"get / http/1.1", b"PRI * HTTP/2.0", b"A" * 100 + b" / HTTP/1.1",
        b"GET 127.0.0.1:22 HTTP/1.1", b"GET * HTTP/1.1", b"GET /a\x00b HTTP/1.1",
        b"GET /a\rb HTTP/1.1", b"GET /a\nb HTTP/1.1", b"GET /\xff\xfe HTTP/1.1",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2",
    ):  # fmt: skip
        assert statuses(site.talk(line + b"\r\nHost: x\r\n\r\n" + LAST)) == [400], line


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Host: y", 400),
        (b"X A: b", 400),
        (b"X-A : b", 400),
        (b"nothing", 400),
        (b": b", 400),
        (b"X-A: a\x00b", 400),
        (b"X-A: a\rb", 400),
        (b"X-A: a\nX-B: b", 400),
        (b"X-A: a\r\n b", 400),
        (b"X-A: " + b"a" * 9000, 431),
        (b"Accept: " + b"image/webp," * 9300, 431),
        (b"\r\n".join(b"X-%d: y" % i for i in range(200)), 431),
        (b"Range: bytes=" + b",".join(b"%d-%d" % (i, i) for i in range(2000)), 431),
        (b"\r\n".join([b"Accept: " + b"image/webp;q=0.1," * 470] * 150), 431),
        (b"Expect: 200-ok", 417),
    ],
    ids=lambda value: str(value)[:24],
)
def test_headers_that_cannot_be_are_refused(site: Site, header: bytes, status: int) -> None:
    assert statuses(site.talk(GET + header + b"\r\n\r\n" + LAST)) == [status]


@pytest.mark.parametrize("size", [4095, 8192, 1_000_000])
def test_a_request_line_that_is_too_long_is_a_414(site: Site, size: int) -> None:
    line = b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    # More than all headers may have is a 431. The rest of what was sent may destroy the reply on
    # its way (RST).
    assert statuses(site.talk(line)) in ([414], [431], [])


def test_headers_without_end_are_not_collected_for_ever(site: Site) -> None:
    assert statuses(site.talk(GET + b"X: y\r\n" * 200_000)) in ([431], [])


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: -1", b"Content-Length: +4", b"Content-Length: 4x", b"Content-Length: 0x4",
        b"Content-Length: 4, 4", b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length:",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: \x00chunked",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_where_a_body_ends_is_never_guessed(site: Site, method: bytes, header: bytes) -> None:
    """What follows is not answered: it might be the body, or a request of somebody else's."""
    request = method + b" " + HIT + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n0\r\n\r\n"
    assert statuses(site.talk(request + LAST)) in ([400], [501])


@pytest.mark.parametrize("chunk", [b"zz", b"-5", b"5;", b"0x5", b"+5", b"5 5", b" 5", b"5_0"])
def test_a_chunk_that_cannot_be_ends_the_connection(site: Site, chunk: bytes) -> None:
    request = GET + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\nhello\r\n0\r\n\r\n"
    answered = statuses(site.talk(request + LAST))
    # The picture needs no body: it may be answered before that is read.
    assert answered in ([200, 400], [400], [200]), answered


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: %d\r\n\r\n%b" % (len(LAST), LAST),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST),
    ],
)
def test_a_body_is_no_request(site: Site, body: bytes) -> None:
    assert statuses(site.talk(GET + body + LAST)) == [200, 200]
    post = b"POST" + GET[3:]
    assert statuses(site.talk(post + body + LAST)) == [405, 200]


@pytest.mark.parametrize(
    "announced", [b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked"]
)
def test_a_body_that_never_comes_is_not_waited_for_before_the_reply(
    site: Site, announced: bytes
) -> None:
    with site.connect() as connection:
        connection.sendall(GET + announced + b"\r\n\r\nffffffffffffffff\r\nhello")
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_pipelined_requests_are_answered_in_their_order(site: Site) -> None:
    wrong = b"GET /thumb/cat.jpg" + WRONG_SIGNATURE + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    post = b"POST" + GET[3:] + b"Content-Length: 3\r\n\r\nabc"
    other = b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"
    hit = GET + b"\r\n"
    sent = [hit, wrong, post, other, hit] * 5
    assert statuses(site.talk(b"".join(sent) + LAST)) == [200, 403, 405, 404, 200] * 5 + [200]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://x" + HIT + b" HTTP/1.1", 200),
        (b"GET http://elsewhere.example" + HIT + b" HTTP/1.1", 200),
        (b"GET " + HIT + b"?" + b"a" * 2000 + b" HTTP/1.1", 200),
        (b"GET " + HIT + b" HTTP/1.0", 200),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"GET file:///etc/passwd HTTP/1.1", 404),
        (b"GET //etc/passwd HTTP/1.1", 404),
        (b"GET /thumb/../../etc/passwd HTTP/1.1", 404),
        (b"GET /thumb/%2e%2e/%2e%2e/etc/passwd" + WRONG_SIGNATURE + b" HTTP/1.1", 403),
        (b"GET /thumb/a%00b.jpg" + WRONG_SIGNATURE + b" HTTP/1.1", 403),
        (b"GET /thumb/a%0d%0aSet-Cookie:%20x=1" + WRONG_SIGNATURE + b" HTTP/1.1", 403),
        (b"GET /thumb/%ff%fe" + WRONG_SIGNATURE + b" HTTP/1.1", 404),
        (b"BREW " + HIT + b" HTTP/1.1", 405),
        (b"TRACE " + HIT + b" HTTP/1.1", 405),
        (b"PURGE " + HIT + b" HTTP/1.1", 405),
    ],
    ids=lambda value: str(value)[:60],
)
def test_odd_targets_and_methods(site: Site, line: bytes, status: int) -> None:
    reply = site.talk(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(reply) == [status]
    assert b"Set-Cookie" not in reply


@pytest.mark.parametrize(
    "header",
    [
        b"Range: bytes=" + b",".join(b"0-" for _ in range(2500)),
        b"Range: bytes=" + b"9" * 8000 + b"-",
        b"If-None-Match: " + b'"a",' * 2000,
        b"If-Modified-Since: " + b"Mon, " * 1600,
        b"Accept: " + b"a/b," * 2000,
        b"\r\n".join([b"Accept: " + b"image/webp;q=0.1," * 470] * 4),
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13",
        b"SCRIPT_NAME: /thumb\r\nPATH_INFO: /metrics",
        b"X_Forwarded_For: 1\r\nContent_Length: 5",
        b"X-Forwarded-For: " + b"1.2.3.4, " * 800,
        b"Cookie: " + b"a=b;" * 2000,
        b"Authorization: Bearer \xff\xfe",
    ],
    ids=lambda value: str(value)[:32],
)
def test_what_is_only_odd_costs_nothing_and_changes_nothing(site: Site, header: bytes) -> None:
    assert statuses(site.talk(GET + header + b"\r\nConnection: close\r\n\r\n")) == [200]


def test_who_waits_for_a_100_gets_one(site: Site) -> None:
    request = GET + b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    assert statuses(site.talk(request)) in ([100, 200], [200])


def test_tls_on_a_plain_port_is_no_request(site: Site) -> None:
    hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(189)
    assert statuses(site.talk(hello, half=True)) in ([], [400])


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_who_goes_away_in_the_middle_of_a_request_is_forgotten(site: Site, reset: bool) -> None:
    request = b"POST" + GET[3:] + b"Content-Length: 10\r\n\r\n12345"
    for end in range(0, len(request), 5):
        with site.connect() as connection:
            connection.sendall(request[:end])
            if reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_who_goes_away_in_the_middle_of_a_reply_is_forgotten(site: Site) -> None:
    target = path_of("large.jpg", width=2000, quality=95)
    request = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n"
    assert len(site.talk(request + b"Connection: close\r\n\r\n")) > 500_000
    site.rightly |= site.kept()
    for _ in range(2 * THREADS + 4):
        with site.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall((request + b"\r\n") * 3)
            assert connection.recv(12) == b"HTTP/1.1 200"
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_who_says_no_more_but_listens_gets_what_is_there(site: Site) -> None:
    assert statuses(site.talk(LAST, half=True)) == [200]
    assert statuses(site.talk(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", half=True)) == [200]


def test_who_says_no_more_is_taken_for_gone_while_a_picture_is_made(site: Site) -> None:
    """As by nginx: on the wire it cannot be told from a client that has hung up."""
    asked = len(site.far.requests)
    with site.connect() as connection:
        target = path_of("far/cat.jpg", width=8)
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting = threading.Event()
        while len(site.far.requests) == asked:
            waiting.wait(0.01)
        connection.shutdown(socket.SHUT_WR)
        site.release.set()
        reply = everything(connection)
    assert statuses(reply) == [499]
    assert b"Cache-Control: no-store" in reply
    site.rightly |= {path for path in site.kept() if ".jpg/w_8" not in path}  # the original


def test_slow_senders_take_nothing_from_others(site: Site) -> None:
    """There are more of them than the server has threads."""
    with slow_senders(site, 4 * THREADS) as connections:
        for _ in range(20):
            assert statuses(site.talk(LAST)) == [200]
        for connection in connections:
            connection.sendall(LAST[7:])
            assert statuses(everything(connection)) == [200]
            connection.close()


@contextmanager
def slow_senders(site: Site, count: int) -> Iterator[list[socket.socket]]:
    connections = [site.connect() for _ in range(count)]
    try:
        for connection in connections:
            connection.sendall(LAST[:7])
        yield connections
    finally:
        for connection in connections:
            connection.close()


def test_nginx_hangs_up_on_who_sends_too_slowly(tmp_path: Path) -> None:
    shorter = {"client_header_timeout 15s;": "client_header_timeout 300ms;"}
    with (
        serving(EchoServer(("127.0.0.1", 0), Echo)) as upstream,
        nginx.running(tmp_path, upstream, tmp_path, shorter) as address,
        socket.create_connection(address, 10) as connection,
    ):
        connection.sendall(LAST[:-2])
        assert b"X-Asked" not in everything(connection)
