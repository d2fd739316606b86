"""Clients that send or read slowly, or not at all, keep nobody else waiting."""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import servers
from origin import Gallery, jpeg
from PIL import Image

from thumbproxy import Thumbnails

ROOT = Path(__file__).parent.parent
THUMBS = Thumbnails([servers.KEY])
HIT = THUMBS.url("cat.jpg", width=60, format="jpg", version="v1")
LARGE = THUMBS.url("noise.png", format="png", version="v1")
THREADS = 4
# As the server has it, but that it loses patience sooner.
IMPATIENT = """
from thumbproxy.server.worker import Worker

class Impatient(Worker):
    head_seconds = 3.0
    reply_seconds = 2.0
"""


@contextmanager
def serving(place: Path, **options: Any) -> Iterator[servers.Server]:
    """One process with four threads, in front of a server."""
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_bytes(jpeg(640, 480))
    noise = Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000))
    noise.save(place / "photos" / "noise.png", compress_level=0)
    (place / "impatient.py").write_text(IMPATIENT)
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf" / "gunicorn.conf.py"),
               "--bind", f"{servers.HOST}:{port}", "--threads", str(THREADS),
               "-k", "impatient.Impatient", "thumbproxy:application()"]  # fmt: skip
    with servers.wsgi(Gallery(), validate=False) as upstream, (place / "log").open("wb") as log:
        environ = {
            **{name: value for name, value in os.environ.items() if "THUMBPROXY" not in name},
            "PYTHONPATH": f"{place}:{ROOT}",
            "THUMBPROXY_KEYS": servers.KEY,
            "THUMBPROXY_ORIGIN": str(place / "photos"),
            "THUMBPROXY_UPSTREAM": upstream.url,
            "THUMBPROXY_CACHE_DIR": str(place / "cache"),
            "THUMBPROXY_THREADS": str(THREADS),
            "WEB_CONCURRENCY": "1",
        }
        with servers.running(command, port, env=environ, stderr=log, **options) as running:
            assert running.ask(HIT).status == running.ask(LARGE).status == 200
            yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with serving(tmp_path_factory.mktemp("slow")) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def connect(stack: ExitStack, server: servers.Server, said: str) -> socket.socket:
    connection = socket.socket()
    stack.enter_context(closing(connection))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((servers.HOST, server.port))
    connection.sendall(said.encode())
    return connection


def check_hits(server: servers.Server) -> None:
    """Thirty hits, on connections of their own, one after the other. One that is held up by the
    slow ones ends when those are given up, or later."""
    for _ in range(30):
        assert server.ask(HIT).status == 200


def read_on(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(1 << 20):
        received += piece
    return received


def test_heads_that_drip_hold_no_thread_and_are_given_up(
    server: servers.Server, stack: ExitStack
) -> None:
    dripping = [connect(stack, server, f"GET {HIT} HTT") for _ in range(100)]
    for byte in b"P/1.1\r\n":
        for connection in dripping:
            connection.sendall(bytes([byte]))
    check_hits(server)
    late = dripping.pop()
    late.sendall(b"Host: here\r\nConnection: close\r\n\r\n")
    assert read_on(late).startswith(b"HTTP/1.1 200 OK\r\n"), "who is done in time gets an answer"
    began = time.monotonic()
    for connection in dripping:
        assert connection.recv(1) == b"", "hung up on"
    assert time.monotonic() - began < 10


def test_a_head_that_is_too_long_is_refused(server: servers.Server, stack: ExitStack) -> None:
    lines = "".join(f"X-{number}: {'x' * 4000}\r\n" for number in range(20))
    endless = connect(stack, server, f"GET {HIT} HTTP/1.1\r\nHost: here\r\n{lines}")
    assert endless.recv(20).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_comes_with_the_rest_of_its_head_is_no_part_of_it(
    server: servers.Server, stack: ExitStack
) -> None:
    head = (
        "POST /upload HTTP/1.1\r\nHost: here\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n"
    )
    connection = connect(stack, server, head[:30])
    time.sleep(0.2)
    connection.sendall(head[30:].encode() + bytes(200_000))
    assert connection.recv(20).startswith(b"HTTP/1.1 404 ")


def test_requests_that_come_together_are_all_answered(
    server: servers.Server, stack: ExitStack
) -> None:
    """Pipelined, and the last one in two pieces (RFC 9112 section 9.3.2)."""
    head = f"GET {HIT} HTTP/1.1\r\nHost: here\r\n\r\n"
    last = f"GET {HIT} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    connection = connect(stack, server, head + head + last[:40])
    check_hits(server)
    connection.sendall(last[40:].encode())
    assert read_on(connection).count(b"HTTP/1.1 200 OK\r\n") == 3


def test_who_does_not_read_holds_no_thread_and_gets_all_when_he_does(
    server: servers.Server, stack: ExitStack
) -> None:
    head = f"GET {LARGE} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    whole = server.ask(LARGE).body
    assert len(whole) > 2_900_000
    readers = [connect(stack, server, head) for _ in range(3 * THREADS)]
    check_hits(server)
    reader = readers.pop()
    assert read_on(reader).partition(b"\r\n\r\n")[2] == whole
    given_up = select.poll()
    given_up.register(readers[0], select.POLLHUP)
    assert given_up.poll(20_000), "the others are hung up on"


def test_who_does_not_hang_up_holds_nobody_up(server: servers.Server, stack: ExitStack) -> None:
    """gunicorn's own workers wait two seconds for each, and for nothing else meanwhile."""
    for _ in range(20):
        connection = connect(stack, server, f"GET {HIT} HTTP/1.0\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.")
    check_hits(server)


def test_bodies_that_drip_leave_threads_to_others(server: servers.Server, stack: ExitStack) -> None:
    head = "POST /upload HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nsome"
    for _ in range(3 * THREADS):
        connect(stack, server, head)
    check_hits(server)


def test_who_goes_away_takes_nothing_along(server: servers.Server) -> None:
    with ExitStack() as stack:
        for said in ("", "GET ", f"GET {LARGE} HTTP/1.1\r\nHost: here\r\n\r\n"):
            for _ in range(20):
                connect(stack, server, said)
    check_hits(server)
    assert server.process
    assert server.process.poll() is None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    (worker,) = children.split()
    descriptors = Path(f"/proc/{worker}/fd")
    deadline = time.monotonic() + 20
    while len(list(descriptors.iterdir())) > 60:
        assert time.monotonic() < deadline, "descriptors are left open"
        threading.Event().wait(0.05)


def test_more_clients_than_files_are_let_in_later(stack: ExitStack, tmp_path: Path) -> None:
    """What is left serves those who are in; the others wait until slow ones are hung up on."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    with serving(tmp_path, preexec_fn=few) as server:
        dripping = [connect(stack, server, "GET ") for _ in range(50)]
        for _ in range(5):
            assert server.ask(HIT)["Cache-Status"] == "thumbproxy; hit; detail=disk"
        del dripping
    assert "Too many open files" not in (tmp_path / "log").read_text()


FAILING = """
def application(environ, start_response):
    def body():
        yield b"a part"
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("in the middle of a reply")
        yield b" and the rest"
    start_response("200 OK", [("Content-Length", "19")])
    return body()
"""


def test_an_application_that_fails_in_the_middle_spoils_one_reply(
    stack: ExitStack, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"{servers.HOST}:{port}", "--threads",
               "8", "-k", "thumbproxy.server.worker.Worker", "failing:application"]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with (
        (tmp_path / "log").open("wb") as log,
        servers.running(command, port, env=environ, stderr=log) as server,
    ):
        for _ in range(6):
            failing = connect(stack, server, "GET /fails HTTP/1.1\r\nHost: here\r\n\r\n")
            assert server.ask("/").body == b"a part and the rest"
            assert read_on(failing).endswith(b"\r\n\r\na part")
            assert server.ask("/").body == b"a part and the rest"
    text = (tmp_path / "log").read_text()
    assert text.count("RuntimeError: in the middle of a reply") == 6
    assert text.count("Booting worker") == 1


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"), [(200, 8192, 4096), (200, 300, 300), (5000, 8192, 5000)]
)
def test_a_server_may_have_as_many_files_as_it_needs(soft: int, hard: int, allowed: int) -> None:
    program = f"""
import resource
from thumbproxy.server.connection import allowed_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allowed_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(allowed)] * 2
