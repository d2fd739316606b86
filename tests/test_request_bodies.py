"""Clients that go away, stall or drip inside the body of a request take neither a thread nor a
place nor a connection of the server behind: with real servers on both sides."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import servers
from faulty import FaultyOrigin, replies
from origin import jpeg

from thumbproxy import Thumbnails
from thumbproxy.server import request_bodies
from thumbproxy.server.request_bodies import Body, Chunks, Length, Room

ROOT = Path(__file__).parent.parent
HIT = Thumbnails([servers.KEY]).url("cat.jpg", width=60, format="jpg", version="v1")
CROWD = 130
IMPATIENT = """
from thumbproxy.server.worker import Worker

class Impatient(Worker):
    body_seconds = 3.0
"""
HEAD = "POST /cut HTTP/1.1\r\nHost: here\r\n"
DRIPPING = HEAD + "Content-Length: 100000\r\n\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
# Requests whose bodies end too early.
CUT = {
    "nothing of a length": HEAD + "Content-Length: 100\r\n\r\n",
    "a part of a length": HEAD + "Content-Length: 100\r\n\r\nxxxxxxxxxx",
    "a long part": HEAD + "Content-Length: 400000\r\n\r\n" + "x" * 200_000,
    "a length, expected": HEAD + "Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "a length of GET": "GET" + HEAD[4:] + "Content-Length: 9\r\n\r\nabc",
    "no chunk": CHUNKED,
    "a chunk's size": CHUNKED + "1",
    "a chunk's extension": CHUNKED + "5;name=val",
    "a size and CR": CHUNKED + "5\r",
    "a part of a chunk": CHUNKED + "5\r\nab",
    "a chunk without its end": CHUNKED + "5\r\nabcde\r",
    "no last chunk": CHUNKED + "5\r\nabcde\r\n",
    "the last size": CHUNKED + "5\r\nabcde\r\n0\r\n",
    "a trailer": CHUNKED + "5\r\nabcde\r\n0\r\nX-Sum: 1",
    "trailers without an end": CHUNKED + "5\r\nabcde\r\n0\r\nX-Sum: 1\r\n",
    "chunks, expected": CHUNKED.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n") + "5",
}


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Tells what it was sent."""
    digest, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(65536):
        digest.update(piece)
        length += len(piece)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{length} {digest.hexdigest()}".encode()]


@dataclass
class Site:
    server: servers.Server
    upstream: FaultyOrigin
    log: Path

    def connect(self, stack: ExitStack, said: str | bytes = b"") -> socket.socket:
        connection = socket.create_connection((servers.HOST, self.server.port), 30)
        stack.enter_context(closing(connection))
        connection.sendall(said.encode() if isinstance(said, str) else said)
        return connection

    def check_others(self) -> None:
        """Hits and requests that are passed on are answered, whatever else goes on."""
        for _ in range(10):
            assert self.server.ask(HIT).status == 200
            assert self.server.ask("/other").body == b"here"

    def heard(self) -> list[str]:
        return [asked.target for asked in self.upstream.requests if asked.target != "/other"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One process with few threads, in front of a server."""
    place = tmp_path_factory.mktemp("bodies")
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_bytes(jpeg())
    (place / "impatient.py").write_text(IMPATIENT)
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf" / "gunicorn.conf.py"),
               "--bind", f"{servers.HOST}:{port}", "--threads", "4",
               "-k", "impatient.Impatient", "thumbproxy:application()"]  # fmt: skip
    with FaultyOrigin(replies(b"here")) as upstream, (place / "log").open("wb") as log:
        environ = {
            **{name: value for name, value in os.environ.items() if "THUMBPROXY" not in name},
            "PYTHONPATH": f"{place}:{ROOT}",
            "THUMBPROXY_KEYS": servers.KEY,
            "THUMBPROXY_ORIGIN": str(place / "photos"),
            "THUMBPROXY_UPSTREAM": upstream.url,
            "THUMBPROXY_CACHE_DIR": str(place / "cache"),
            "THUMBPROXY_THREADS": "4",
            "WEB_CONCURRENCY": "1",
        }
        with servers.running(command, port, env=environ, stderr=log) as running:
            found = Site(running, upstream, place / "log")
            found.check_others()
            yield found
    assert "Traceback" not in (place / "log").read_text()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def everything(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def final(reply: bytes) -> bytes:
    return reply.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("cut", CUT)
def test_who_says_no_more_inside_a_body_is_told_so_and_nobody_else_hears_of_it(
    site: Site, stack: ExitStack, cut: str
) -> None:
    """Half-closed: it still listens. The server behind is not to blame, so it is no 502."""
    connection = site.connect(stack, CUT[cut])
    connection.shutdown(socket.SHUT_WR)
    reply = final(everything(connection))
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in reply
    assert b"\r\nCache-Control: no-store\r\n" in reply
    assert site.heard() == []


@pytest.mark.parametrize("rest", ["\r\n", "Content-Length: 2\r\n\r\nab"])
def test_who_says_no_more_behind_a_request_gets_a_reply(
    site: Site, stack: ExitStack, rest: str
) -> None:
    connection = site.connect(stack, "PUT /other HTTP/1.1\r\nHost: here\r\n" + rest)
    connection.shutdown(socket.SHUT_WR)
    assert everything(connection).endswith(b"\r\n\r\nhere")


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_crowd_that_goes_away_inside_bodies_leaves_everything_to_others(
    site: Site, reset: bool
) -> None:
    for number in range(CROWD):
        said = list(CUT.values())[number % len(CUT)]
        with ExitStack() as stack:
            connection = site.connect(stack, said)
            if reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    site.check_others()
    assert site.heard() == []


def test_a_crowd_that_stalls_or_drips_leaves_everything_to_others_and_is_given_up(
    site: Site, stack: ExitStack
) -> None:
    cuts = list(CUT.values())
    stalled = [site.connect(stack, cuts[number % len(cuts)]) for number in range(CROWD // 2)]
    dripping = [site.connect(stack, DRIPPING) for _ in range(CROWD // 2)]
    stopped = threading.Event()

    def drip() -> None:
        while not stopped.wait(0.1):
            for connection in dripping:
                with suppress(OSError):
                    connection.send(b"a")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        site.check_others()
        for connection in stalled:
            reply = final(everything(connection))
            assert reply.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"\r\nConnection: close\r\n" in reply
        for connection in dripping:  # a reset may destroy what was said
            assert final(everything(connection))[:12] in (b"HTTP/1.1 408", b"")
    finally:
        stopped.set()
        thread.join()
    assert site.heard() == []


def test_bodies_that_come_slowly_but_steadily_arrive(site: Site, stack: ExitStack) -> None:
    """Longer than a stalled one may take, and no thread waits for them."""
    head = (
        "POST /other HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 32768\r\n\r\n"
    )
    clients = [site.connect(stack, head) for _ in range(12)]
    for _ in range(7):
        for connection in clients:
            connection.sendall(bytes(4096))
        threading.Event().wait(0.5)
        assert site.server.ask(HIT).status == 200
    for connection in clients:
        connection.sendall(bytes(4096))
        assert everything(connection).endswith(b"\r\n\r\nhere")


def test_a_thumbnail_waits_for_no_body(site: Site, stack: ExitStack) -> None:
    connection = site.connect(
        stack, f"GET {HIT} HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"
    )
    assert connection.recv(12) == b"HTTP/1.1 200"


def test_a_malformed_chunk_is_refused_and_not_passed_on(site: Site, stack: ExitStack) -> None:
    for chunk in ("zz\r\n", "5\r\nabcdefg\r\n", "-1\r\n", "5;\x01\r\nabcde\r\n0\r\n\r\n", "\n"):
        connection = site.connect(stack, CHUNKED + chunk)
        assert connection.recv(12) == b"HTTP/1.1 400", chunk
    assert site.heard() == []


# -- in front of an application ---------------------------------------------------------------


@pytest.fixture(scope="module")
def before_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The middleware and our server, in front of an application that reads bodies."""
    place = tmp_path_factory.mktemp("app")
    (place / "site_app.py").write_text(
        "from test_request_bodies import application as app\n"
        "from thumbproxy.assembly.build import ThumbProxy\n"
        f"application = ThumbProxy(app, keys=[{servers.KEY!r}], cache_dir={str(place)!r})\n"
    )
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"{servers.HOST}:{port}", "--threads",
               "4", "-k", "thumbproxy.server.gunicorn_app.Worker", "--worker-tmp-dir", "/dev/shm",
               "--graceful-timeout", "60", "site_app"]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": f"{place}:{ROOT}:{ROOT / 'tests'}"}
    with (
        (place / "log").open("wb") as log,
        servers.running(command, port, env=environ, stderr=log) as running,
    ):
        yield running
    assert "Traceback" not in (place / "log").read_text()


@pytest.mark.parametrize("cut", CUT)
def test_an_application_is_not_called_for_a_body_that_is_cut_off(
    before_app: servers.Server, cut: str
) -> None:
    with socket.create_connection((servers.HOST, before_app.port), 30) as connection:
        connection.sendall(CUT[cut].encode())
        connection.shutdown(socket.SHUT_WR)
        assert final(everything(connection)).startswith(b"HTTP/1.1 400 ")


def framed(body: bytes, chunk: int) -> bytes:
    """chunk: bytes of a chunk; 0 for Content-Length."""
    if not chunk:
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Sum: 1\r\n\r\n"


@pytest.mark.parametrize("chunk", [0, 300, 70_000], ids=["length", "small chunks", "large chunks"])
@pytest.mark.parametrize("size", [1, 65_536, 300_000])
def test_bodies_arrive_whole_and_what_follows_them_is_the_next_request(
    before_app: servers.Server, size: int, chunk: int
) -> None:
    body = os.urandom(size)
    request = b"POST /a HTTP/1.1\r\nHost: here\r\n" + framed(body, chunk)
    last = b"POST /a HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + framed(body, chunk)
    sent = request + request + last
    with socket.create_connection((servers.HOST, before_app.port), 30) as connection:
        for at in range(0, len(sent), 100_001):  # cut anywhere
            connection.sendall(sent[at : at + 100_001])
        told = f"{size} {hashlib.sha256(body).hexdigest()}".encode()
        assert everything(connection).count(told) == 3


def test_a_body_too_long_to_be_kept_streams_and_ends_with_its_client(
    before_app: servers.Server,
) -> None:
    size = 65 * 1024 * 1024
    piece, digest = os.urandom(1024 * 1024), hashlib.sha256()
    head = (
        b"POST /a HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    )
    with socket.create_connection((servers.HOST, before_app.port), 60) as connection:
        connection.sendall(head)
        for _ in range(65):
            connection.sendall(piece)
            digest.update(piece)
        assert f"{size} {digest.hexdigest()}".encode() in everything(connection)


def test_a_stop_waits_for_no_body(tmp_path: Path, stack: ExitStack) -> None:
    """Neither stalled nor dripping, though they would have more time otherwise."""
    (tmp_path / "photos").mkdir()
    with FaultyOrigin(replies(b"here")) as upstream:
        arguments = ["--upstream", upstream.url, "--origin", str(tmp_path / "photos"),
                     "--cache-dir", str(tmp_path / "cache"), "--threads", "4"]  # fmt: skip
        with servers.thumbproxy(*arguments, THUMBPROXY_WORKERS="1") as server:
            site = Site(server, upstream, tmp_path)
            dripping = [site.connect(stack, DRIPPING) for _ in range(40)]
            for said in list(CUT.values()) * 3:
                site.connect(stack, said)
            assert server.ask("/other").body == b"here"
            stopped = threading.Event()

            def drip() -> None:
                while not stopped.wait(0.1):
                    for connection in dripping:
                        with suppress(OSError):
                            connection.send(b"a")

            thread = threading.Thread(target=drip)
            thread.start()
            assert server.process
            server.process.terminate()
            try:
                server.process.wait(12)
            finally:
                stopped.set()
                thread.join()
            assert site.heard() == []


# -- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunks_end_where_they_end(step: int) -> None:
    body = b"5;a=b\r\nhello\r\n00a\r\n0123456789\r\n0\r\nX-A: b\r\nX-B: c\r\n\r\n"
    sent, chunks, used = body + b"GET / HTTP", Chunks(), 0
    for at in range(0, len(sent), step):
        used += chunks.take(sent[at : at + step])
    assert chunks.ended
    assert used == len(body)


@pytest.mark.parametrize(
    "line", [b"zz\r\n", b"\r\n", b"5\n", b"-5\r\n", b"5 5\r\n", b"0x5\r\n", b"f" * 16 + b"\r\n",
             b"0" * 20_000, b"5;" + b"a" * 20_000,
             b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n", b"0\r\nX-A: b\n\r\n"],
)  # fmt: skip
def test_a_malformed_chunk_is_noticed(line: bytes) -> None:
    chunks = Chunks()
    chunks.take(line)
    assert chunks.malformed


def read(body: Body) -> bytes:
    return b"".join(iter(lambda: body.read(10_000), b""))


def test_a_body_is_kept_in_memory_and_then_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    room, data = Room(), os.urandom(200_000)
    body = Body(Length(200_000), room)
    for at in range(0, 210_000, 30_000):
        assert body.add(data[at : at + 30_000]) == b""
    assert body.ready
    assert body.add(b"next") == b"next"
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert read(body) == data
    monkeypatch.setattr(request_bodies, "_MOST_IN_ALL", 100_000)
    assert room.full
    body.close()
    assert not room.full
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("bound", ["_MOST_OF_ONE", "_MOST_IN_ALL"])
def test_of_a_long_body_no_more_is_kept_than_may_be(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(request_bodies, bound, 100_000)
    body, data = Body(Length(1_000_000), Room()), os.urandom(1_000_000)
    kept = 0
    while not body.ready:
        body.add(data[kept : kept + 10_000])
        kept += 10_000
    assert 100_000 <= kept < 250_000
    assert read(body) == data[:kept]
    body.close()


def test_where_no_file_can_be_made_a_body_is_read_on_by_its_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(request_bodies.tempfile, "TemporaryFile", full)
    room = Room()
    for _ in range(2):
        body = Body(Length(1_000_000), room)
        body.add(bytes(60_000))
        assert not body.ready
        body.add(bytes(60_000))
        assert body.ready
        assert read(body) == bytes(120_000)
    assert caplog.text.count("no space is left") == 1
