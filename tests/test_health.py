"""/healthz and /readyz: what is down, what is degraded, and who is told more than that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import nginx
import pytest
import servers
from faulty import Exchange, FaultyOrigin
from origin import Gallery, jpeg

from thumbproxy import Thumbnails
from thumbproxy.rendering.base import PoolStatus
from thumbproxy.web import health
from thumbproxy.web.health import Finding, Probe, Readiness, origin_probe

THUMBS = Thumbnails([servers.KEY])
TOKEN = "a-token-that-only-the-tests-use"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PARTS = ["disk", "memcached", "origin", "renders"]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def ready(server: servers.Server) -> tuple[int, str]:
    reply = server.ask("/readyz")
    assert reply["Cache-Control"] == "no-store"
    return reply.status, reply.body.decode()


def parts(server: servers.Server) -> dict[str, str]:
    """The states of all parts, for those who have the token."""
    told = json.loads(server.ask("/readyz", BEARER).body)
    return {name: part["state"] for name, part in told["parts"].items()}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(jpeg(64, 48))
    return folder


def serving(
    stack: ExitStack, origin: object, cache: Path, *more: str, **environ: str
) -> servers.Server:
    arguments = ("--origin", str(origin), "--cache-dir", str(cache), *more)
    environ = {"THUMBPROXY_WORKERS": "1", "THUMBPROXY_METRICS_TOKEN": TOKEN, **environ}
    server = stack.enter_context(servers.thumbproxy(*arguments, **environ))
    until(lambda: ready(server) == (200, "ok\n"))
    return server


def test_what_fails_is_told_and_what_comes_back_too(
    stack: ExitStack, photos: Path, tmp_path: Path
) -> None:
    """A cache that fails costs nobody a picture, nor an origin that fails what is kept."""
    port = servers.free_port()
    with servers.memcached(port) as memcached:
        cache = tmp_path / "cache"
        server = serving(stack, photos, cache, "--memcached", f"127.0.0.1:{port}")
        assert parts(server) == dict.fromkeys(PARTS, "ok")
        assert memcached.process
        servers.freeze(memcached.process.pid)
        until(lambda: ready(server) == (200, "degraded\n"))
        assert parts(server) == {**dict.fromkeys(PARTS, "ok"), "memcached": "down"}
        memcached.process.send_signal(signal.SIGCONT)
        until(lambda: ready(server) == (200, "ok\n"))
    moved = photos.rename(tmp_path / "moved")
    until(lambda: parts(server)["origin"] == parts(server)["memcached"] == "down")
    assert ready(server) == (200, "degraded\n")
    shutil.rmtree(cache)
    cache.touch()
    until(lambda: ready(server) == (503, "down\n"))
    assert server.ask("/healthz").body == b"ok\n", "the process answers"
    cache.unlink()
    moved.rename(photos)
    until(lambda: ready(server) == (200, "degraded\n"))
    server.ask(THUMBS.url("cat.jpg", width=9))  # which makes the cache directory again
    until(lambda: parts(server)["disk"] == "ok")


def test_a_disk_that_cannot_be_written_is_degraded(
    stack: ExitStack, photos: Path, tmp_path: Path
) -> None:
    server = serving(stack, photos, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "tmp")
    (tmp_path / "cache" / "tmp").touch()
    until(lambda: parts(server)["disk"] == "degraded")
    assert ready(server) == (200, "degraded\n")


def test_only_those_with_the_token_are_told_more_than_a_word(
    stack: ExitStack, photos: Path, tmp_path: Path
) -> None:
    server = serving(stack, photos, tmp_path / "cache")
    for wrong in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": TOKEN}):
        reply = server.ask("/readyz", wrong)
        assert (reply.status, reply.body) == (200, b"ok\n")
    told = server.ask("/readyz", BEARER)
    assert told["Content-Type"] == "application/json"
    assert json.loads(told.body)["state"] == "ok"
    assert server.ask("/readyz", method="HEAD").body == b""
    web = tmp_path / "web"
    web.mkdir()
    with nginx.running(web, f"127.0.0.1:{server.port}", tmp_path / "cache") as (_, port):
        for path in ("/healthz", "/readyz", "/metrics", "/%72eadyz", "/a/../readyz"):
            assert servers.Server(port).ask(path, BEARER).status == 404


def test_misses_that_wait_do_not_slow_it(stack: ExitStack, tmp_path: Path) -> None:
    def hang(exchange: Exchange) -> None:
        exchange.hang()

    paths = [f"/{number}.jpg" for number in range(12)]
    with FaultyOrigin(dict.fromkeys(paths, hang)) as origin:
        server = serving(stack, origin.url, tmp_path / "cache", THUMBPROXY_THREADS="8")
        for path in paths:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            url = THUMBS.url(path[1:], width=9)
            connection.sendall(f"GET {url} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        until(lambda: len(origin.requests) >= 6)  # three quarters of the threads
        for _ in range(5):
            began = time.monotonic()
            assert ready(server) == (200, "ok\n")
            assert time.monotonic() - began < 8, "no request is waited for, nor its origin"


def test_a_worker_that_stops_says_so(stack: ExitStack, photos: Path, tmp_path: Path) -> None:
    """On connections that it has; new ones get to others."""
    server = serving(stack, photos, tmp_path / "cache")
    assert server.process
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    stack.callback(connection.close)
    connection.request("GET", "/readyz")
    assert connection.getresponse().read() == b"ok\n"
    master = server.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    os.kill(int(worker), signal.SIGTERM)
    until(lambda: not listens(int(worker), server.port))
    connection.request("GET", "/readyz")
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (503, b"stopping\n")


def listens(pid: int, port: int) -> bool:
    """Whether a process has a socket that listens on a port."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in table if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    links = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(os.readlink(descriptor))
        except OSError:
            continue
    return any(f"socket:[{inode}]" in links for inode in inodes)


def test_an_http_origin_is_connected_to_and_no_more() -> None:
    with servers.wsgi(Gallery()) as origin:
        probe = origin_probe("photos/", origin.url)
        assert found(probe) == Finding("ok")
    assert probe.name == "origin photos/"
    assert found(origin_probe("", origin.url)).state == "down"


def found(probe: Probe) -> Finding:
    probe.ask()
    return probe.finding(time.monotonic() + 5)


def test_a_part_that_does_not_answer_holds_one_thread() -> None:
    held, asked = threading.Event(), []

    def look() -> Finding:
        asked.append(1)
        held.wait(20)
        return Finding("ok")

    probe = Probe("slow", look)
    for _ in range(5):
        probe.ask()
        assert probe.finding(time.monotonic() + 0.01).detail == "no answer in time"
    assert len(asked) == 1
    held.set()
    assert found(probe) == Finding("ok")
    assert found(probe) == Finding("ok")
    assert len(asked) == 1, "what was just found is told again"


def test_a_part_that_is_late_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ANSWER", 0.2)
    held = threading.Event()
    probe = Probe("late", lambda: Finding("ok" if held.wait(20) else "down"))
    assert found(probe).detail == "no answer in time"
    began = time.monotonic()
    for _ in range(100):
        assert found(probe).detail == "no answer in time"
    assert time.monotonic() - began < 10
    held.set()
    until(lambda: found(probe) == Finding("ok"))


STATES = [
    # origin, disk, ready renders of 2 -> all in all
    ("ok", "ok", 2, "ok"),
    ("ok", "ok", 1, "degraded"),
    ("ok", "ok", 0, "degraded"),
    ("down", "ok", 2, "degraded"),
    ("ok", "degraded", 2, "degraded"),
    ("ok", "down", 2, "degraded"),
    ("down", "degraded", 0, "degraded"),
    ("down", "down", 2, "down"),
    ("ok", "down", 0, "down"),
]


@pytest.mark.parametrize(("origin", "disk", "renders", "state"), STATES)
def test_down_is_what_can_neither_make_nor_look_up(
    origin: Any, disk: Any, renders: int, state: str
) -> None:
    readiness = Readiness(
        origins=[Probe("origin", lambda: Finding(origin))],
        caches=[Probe("disk", lambda: Finding(disk))],
        others=[],
        pool_status=lambda: PoolStatus("processes", 2, renders, {}),
    )
    assert readiness.look()[0] == state
