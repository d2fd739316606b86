"""Origins that misbehave, in front of a whole server: each costs its own picture, and no more.

Every fault has its status, told in time; of it nothing is kept; the origin is left in peace for a
while; and the next picture is fine.
"""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
from faulty import Exchange, FaultyOrigin, Script, replies, sends
from origin import opened
from pictures import encoded
from PIL import Image

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])
DEADLINE = 1.0  # seconds for a fetch
IN_TIME = DEADLINE + 0.5
LARGEST = 200_000  # bytes of a source
REDIRECTS = 3
AT_ONCE = 6
OK = b"HTTP/1.1 200 OK\r\n"
PHOTO = encoded(Image.effect_noise((200, 150), 60).convert("RGB"), "JPEG")
DRAWING = encoded(Image.effect_noise((120, 90), 60).convert("RGB"), "PNG")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(*rest: bytes) -> Script:
    return sends(OK + b"Transfer-Encoding: chunked\r\n\r\n", *rest)


def dripping(before: bytes, slowly: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(before)
        exchange.drip(slowly, every=0.05)

    return script


def hanging(before: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(before)
        exchange.hang()

    return script


def resetting(before: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(before)
        exchange.reset()

    return script


def endless(before: bytes, again: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(before)
        while True:
            exchange.send(again)

    return script


def found(location: str) -> Script:
    return replies(b"elsewhere", f"Location: {location}", status="302 Found")


class Row(NamedTuple):
    """What an origin does with any request, and what is to be said of it."""

    script: Script
    said: str


FAILED, LATE = "502 origin-failed", "504 origin-timeout"
BROKEN, NO_IMAGE, LARGE = "422 broken-image", "415 unsupported-image", "413 source-too-large"
LENGTH = b"Content-Length: %d\r\n\r\n"
HALF = PHOTO[: len(PHOTO) // 2]
ROWS: Mapping[str, Row] = {
    "cut off with a length": Row(replies(HALF, length=len(PHOTO)), FAILED),
    "cut off without a length": Row(replies(HALF, length=None), BROKEN),
    "a PNG cut off without a length": Row(replies(DRAWING[:-500], length=None), BROKEN),
    "cut off at a chunk": Row(chunked(chunk(HALF)), FAILED),
    "the last chunk too early": Row(chunked(chunk(HALF), b"0\r\n\r\n"), BROKEN),
    "cut off in a chunk": Row(chunked(chunk(PHOTO)[:-100]), FAILED),
    "cut off in the headers": Row(sends(OK + b"Content-Type: image/jpeg\r\nX-"), FAILED),
    "cut off between headers": Row(sends(OK + b"Content-Type: image/jpeg\r\n"), FAILED),
    "closed unanswered": Row(sends(), FAILED),
    "nothing": Row(replies(b""), NO_IMAGE),
    "reset at once": Row(Exchange.reset, FAILED),
    "reset in the headers": Row(resetting(OK), FAILED),
    "reset in the body": Row(resetting(OK + LENGTH % len(PHOTO) + HALF), FAILED),
    "headers that drip": Row(dripping(OK, b"X-A: b\r\n" * 100), LATE),
    "a body that drips": Row(dripping(OK + LENGTH % len(PHOTO), PHOTO), LATE),
    "chunks that drip": Row(
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"x") * 99), LATE
    ),
    "no answer": Row(hanging(b""), LATE),
    "no end of the headers": Row(hanging(OK), LATE),
    "no end of the body": Row(hanging(OK + LENGTH % len(PHOTO) + HALF), LATE),
    "no end of the chunks": Row(
        hanging(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(PHOTO)), LATE
    ),
    "a redirect in circles": Row(found("?"), FAILED),
    "a redirect that waits": Row(dripping(b"HTTP/1.1 302 Found\r\n", b"Location: /\r\n" * 9), LATE),
    "a redirect inside": Row(found("http://127.0.0.1:{inside}/cat.jpg"), FAILED),
    "a redirect to metadata": Row(found("http://169.254.169.254/latest/meta-data/"), FAILED),
    "a redirect to a file": Row(found("file:///etc/passwd"), FAILED),
    "a redirect to another port": Row(found("http://www.example.com:11211/"), FAILED),
    "a redirect with a password": Row(found("http://us:pw@127.0.0.1:{inside}/"), FAILED),
    "a redirect to nowhere": Row(replies(b"", status="302 Found"), FAILED),
    "a bomb, said to be gzip": Row(
        replies(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip"), FAILED
    ),
    "a bomb, not said to be one": Row(replies(gzip.compress(bytes(10_000_000))), NO_IMAGE),
    "a PNG that is a bomb": Row(
        replies(
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\1\0\0\0\0"
            + zlib.crc32(b"IHDR\0\1\0\0\0\1\0\0\1\0\0\0\0").to_bytes(4, "big")
        ),
        BROKEN,
    ),
    "a part": Row(
        replies(HALF, f"Content-Range: bytes 0-9/{len(PHOTO)}", status="206 Partial Content"),
        FAILED,
    ),
    "two lengths": Row(sends(OK + b"Content-Length: 9\r\n" + LENGTH % len(PHOTO) + PHOTO), FAILED),
    "a length and chunks": Row(
        sends(OK + b"Transfer-Encoding: chunked\r\n" + LENGTH % 9 + chunk(PHOTO) + b"0\r\n\r\n"),
        FAILED,
    ),
    "a chunk of less than nothing": Row(chunked(b"-5\r\n" + PHOTO), FAILED),
    "endless headers": Row(endless(OK, b"X-A: b\r\n" * 100), FAILED),
    "an endless header": Row(endless(OK + b"X-A: ", b"b" * 9999), FAILED),
    "endless interim responses": Row(endless(b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 99), FAILED),
    "an endless body": Row(endless(OK + b"\r\n", PHOTO), LARGE),
    "endless chunks": Row(
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", chunk(PHOTO)), LARGE
    ),
    "a length over the limit": Row(replies(b"", length=LARGEST + 1), LARGE),
    "a header that a bare CR hides": Row(
        sends(OK + b"X-A: b\rContent-Length: 4\r\n" + LENGTH % len(PHOTO) + PHOTO), FAILED
    ),
    "no HTTP": Row(sends(b"SSH-2.0-OpenSSH_9.2\r\n"), FAILED),
    "a page, said to be a picture": Row(
        replies(b"<html><body>Please log in</body></html>", "Content-Type: image/jpeg"), NO_IMAGE
    ),
    "a script in an SVG": Row(replies(b"<svg onload='alert(1)'/>"), NO_IMAGE),
    "a bad gateway": Row(replies(b"", status="502 Bad Gateway"), FAILED),
    "forbidden": Row(replies(b"", status="403 Forbidden"), "403 source-refused"),
    "unavailable for legal reasons": Row(replies(PHOTO, status="451 No"), "451 source-blocked"),
    "too many requests": Row(
        replies(b"", "Retry-After: 1", status="429 Too Many"), "503 origin-busy"
    ),
    "not there": Row(replies(PHOTO, status="404 Not Found"), "404 source-not-found"),
    "a 304 to no condition": Row(
        replies(b"", status="304 Not Modified", length=None), FAILED
    ),
}  # fmt: skip
# Those that fail before there is a request are origins of their own.
ELSEWHERE = {
    "full/nobody accepts": LATE,
    "tls/no handshake": LATE,
    "drip/a handshake that drips": LATE,
    "gone/nobody listens": FAILED,
}
EXPECTED = {**{name: row.said for name, row in ROWS.items()}, **ELSEWHERE}


class NoTls(FaultyOrigin):
    """Accepts, and begins a handshake, a byte at a time or not at all."""

    def __init__(self, begin: bytes) -> None:
        super().__init__({})
        self._begin = begin

    def _serve(self, connection: Any) -> None:
        with connection:
            for byte in self._begin:
                if self._stopped.wait(0.05):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
            self._stopped.wait()


class Site(NamedTuple):
    server: servers.Server
    origin: FaultyOrigin
    inside: FaultyOrigin
    cache: Path


def scripts(inside: FaultyOrigin) -> dict[str, Script]:
    """The rows by the path that asks for them. A place of a redirect may be that of `inside`."""

    def placed(script: Script) -> Script:
        def answer(exchange: Exchange) -> object:
            send = exchange.send

            def translated(data: bytes) -> None:
                send(data.replace(b"{inside}", str(inside.port).encode()))

            exchange.send = translated  # type: ignore[method-assign]
            return script(exchange)

        return answer

    rows = {f"/{number}": placed(row.script) for number, row in enumerate(ROWS.values())}
    return {**rows, "/good": replies(PHOTO)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faulty")
    config, cache = folder / "thumbproxy.toml", folder / "cache"
    with ExitStack() as stack:
        inside = stack.enter_context(FaultyOrigin(replies(PHOTO)))
        origin = stack.enter_context(FaultyOrigin(scripts(inside)))
        mute = stack.enter_context(NoTls(b""))
        slow = stack.enter_context(NoTls(b"\x16\x03\x03\x00\x7a\x02" + bytes(122)))
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # a queue of length 0 holds one or two
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        config.write_text(f"""
            fetch_timeout = {DEADLINE}
            request_timeout = 5
            max_source_bytes = {LARGEST}
            max_redirects = {REDIRECTS}
            allow_ports = [80, 443, {inside.port}]
            threads = 32
            workers = 1
            failure_ttl = 60
            not_found_ttl = 60
            [origins]
            "" = "{origin.url}"
            "full/" = "http://127.0.0.1:{full.getsockname()[1]}"
            "tls/" = "https://127.0.0.1:{mute.port}"
            "drip/" = "https://127.0.0.1:{slow.port}"
            "gone/" = "http://127.0.0.1:{servers.free_port()}"
        """)
        arguments = ("--config", str(config), "--cache-dir", str(cache))
        server = stack.enter_context(
            servers.thumbproxy(*arguments, log=folder / "log", THUMBPROXY_WORKERS="1")
        )
        yield Site(server, origin, inside, cache)


class Told(NamedTuple):
    said: list[str]
    seconds: float
    good: int


def tell(site: Site, source: str, number: int) -> Told:
    """What three clients are told of a source, each of another size; and of a good one after it."""
    said, longest = [], 0.0
    for width in (30, 40, 50):
        began = time.monotonic()
        reply = site.server.ask(THUMBS.url(source, width=width, format="jpg"))
        longest = max(longest, time.monotonic() - began)
        said.append(f"{reply.status} {reply.body.decode('latin-1').partition(':')[0]}")
    good = site.server.ask(THUMBS.url("good", width=100 + number, format="jpg"))
    assert good.status != 200 or opened(good.body).width == 100 + number
    return Told(said, longest, good.status)


def tell_in_time(site: Site, name: str, source: str, number: int) -> Told:
    """As the machine may be busy with other things, a fault that is late has two more chances, each
    under a name of its own."""
    for attempt in range(3):
        told = tell(site, f"{source}?{attempt}", number)
        if told.seconds < IN_TIME and told.said == [EXPECTED[name]] * 3:
            break
    return told


@pytest.fixture(scope="module")
def told(site: Site) -> dict[str, Told]:
    """All of it is asked for once, some at a time; what each was told is looked at one by one."""
    assert site.server.ask(THUMBS.url("good", width=99, format="jpg")).status == 200
    sources = {name: str(number) for number, name in enumerate(ROWS)}
    sources |= {name: name for name in ELSEWHERE}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {
            name: pool.submit(tell_in_time, site, name, source, number)
            for number, (name, source) in enumerate(sources.items())
        }
        return {name: future.result() for name, future in asked.items()}


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_has_its_status_in_time_and_harms_no_other_picture(
    told: dict[str, Told], fault: str
) -> None:
    assert told[fault].said == [EXPECTED[fault]] * 3
    assert told[fault].seconds < IN_TIME
    assert told[fault].good == 200


def test_an_origin_that_fails_is_left_in_peace(site: Site, told: dict[str, Told]) -> None:
    """Whatever its fault: it is asked once for all sizes, twice if it closed a connection that was
    kept, and in circles as often as redirects are followed."""
    asked = Counter(request.target for request in site.origin.requests)
    assert asked.pop("/good") == 1
    allowed = {"closed unanswered": 2, "reset at once": 2, "reset in the headers": 2,
               "a redirect in circles": 1 + REDIRECTS}  # fmt: skip
    for target, times in asked.items():
        fault = list(ROWS)[int(target.strip("/").partition("?")[0])]
        assert times <= allowed.get(fault, 1), fault


def test_nothing_of_a_fault_is_kept(site: Site, told: dict[str, Told]) -> None:
    """But that it failed: a record, which keeps the origin in peace. What came whole for all that
    HTTP tells is at hand until it is asked for again, and no picture has been made of it."""
    files = [path.relative_to(site.cache) for path in site.cache.rglob("*") if path.is_file()]
    pictures = [path for path in files if path.suffix == ".jpg"]
    assert {path.parent for path in pictures} == {Path("private/good")}
    assert [path for path in files if path.parts[0] in ("public", "tmp")] == []
    kept = {(site.cache / path).read_bytes() for path in files if path.parts[0] == "sources"}
    assert PHOTO in kept
    assert kept <= {PHOTO, HALF, DRAWING[:-500]}


def test_no_redirect_leads_inside(site: Site, told: dict[str, Told]) -> None:
    assert site.inside.reached() == 0


def test_the_server_has_survived_it_all(site: Site, told: dict[str, Told]) -> None:
    assert site.server.process is not None
    assert site.server.process.poll() is None
    assert site.server.ask("/healthz").status == 200
