"""A stop behind a load balancer: it is announced, and nobody is refused meanwhile; and idle
connections are kept for as long as is set."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import servers
from origin import jpeg

from thumbproxy import Thumbnails
from thumbproxy.config.settings import Settings
from thumbproxy.server.gunicorn_app import gunicorn_options

CONF = Path(__file__).parent.parent / "conf" / "gunicorn.conf.py"
HIT = Thumbnails([servers.KEY]).url("cat.jpg", width=60, format="jpg", version="v1")
LONG = "600"  # seconds that no test waits for


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(jpeg(640, 480))
    return folder


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@contextmanager
def serve(photos: Path, **environ: str) -> Iterator[servers.Server]:
    arguments = ("--origin", str(photos), "--cache-dir", str(photos.parent / "cache"))
    with servers.thumbproxy(*arguments, log=photos.parent / "log", **environ) as server:
        yield server


@contextmanager
def gunicorn(photos: Path, **environ: str) -> Iterator[servers.Server]:
    port = servers.free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        str(CONF),
        "--bind",
        f"{servers.HOST}:{port}",
    ]
    command += ["thumbproxy:application()"]
    told = {
        **{name: text for name, text in os.environ.items() if "THUMBPROXY" not in name},
        "THUMBPROXY_KEYS": servers.KEY,
        "THUMBPROXY_WORKERS": "2",
        "THUMBPROXY_ORIGIN": str(photos),
        "THUMBPROXY_CACHE_DIR": str(photos.parent / "cache"),
        **environ,
    }
    log = (photos.parent / "log").open("ab")
    with log, servers.running(command, port, env=told, stderr=log) as server:
        yield server


class Kept:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection(servers.HOST, port, timeout=30)
        self._connection.connect()
        assert self._connection.sock
        self._socket = self._connection.sock

    def ask(self, path: str) -> tuple[int, bytes]:
        """On the same connection as ever."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        body = response.read()
        assert self._connection.sock is self._socket, "it has been closed"
        return response.status, body

    def ended(self) -> bytes:
        """Wait until the server closes it: what came before."""
        return self._socket.recv(100)

    def close(self) -> None:
        self._connection.close()


def statuses(server: servers.Server, path: str) -> set[int]:
    """On connections of their own, which all workers get some of."""
    return {server.ask(path).status for _ in range(20)}


def stop(server: servers.Server, by: int = signal.SIGTERM) -> subprocess.Popen[bytes]:
    assert server.process
    server.process.send_signal(by)
    return server.process


@pytest.mark.parametrize("started", [serve, gunicorn])
def test_a_stop_is_announced_and_refuses_nobody_until_a_second_term(
    started: Callable[..., Iterator[servers.Server]], photos: Path
) -> None:
    with started(photos, THUMBPROXY_DRAIN_DELAY=LONG) as server:  # type: ignore[attr-defined]
        until(lambda: statuses(server, "/readyz") == {200})
        with closing(Kept(server.port)) as kept:
            assert kept.ask("/readyz")[0] == 200
            process = stop(server)
            until(lambda: kept.ask("/readyz") == (503, b"stopping\n"))
            # What one of the workers says, all say: at once, and on new connections as well.
            assert statuses(server, "/readyz") == {503}
            assert statuses(server, "/healthz") == {200}
            assert statuses(server, HIT) == {200}
            assert kept.ask(HIT)[0] == 200
            process.send_signal(signal.SIGHUP)
            until(lambda: "Handling signal: hup" in (photos.parent / "log").read_text())
            assert statuses(server, HIT) == {200}
            assert statuses(server, "/readyz") == {503}, "new workers say it, too"
            stop(server)
            assert process.wait(30) == 0


def test_a_stop_comes_when_the_delay_is_over(photos: Path) -> None:
    with serve(photos, THUMBPROXY_DRAIN_DELAY="0.5", THUMBPROXY_WORKERS="1") as server:
        began = time.monotonic()
        assert stop(server).wait(30) == 0
        assert time.monotonic() - began >= 0.5
    assert "about to stop, in 0.5 s" in (photos.parent / "log").read_text()


def test_idle_connections_end_in_their_time_and_an_impatient_stop_at_once(photos: Path) -> None:
    environ = {"THUMBPROXY_KEEP_ALIVE": "1", "THUMBPROXY_DRAIN_DELAY": LONG}
    with serve(photos, THUMBPROXY_WORKERS="1", **environ) as server:
        with closing(Kept(server.port)) as kept:
            assert kept.ask("/healthz")[0] == 200
            assert kept.ask("/healthz")[0] == 200
            assert kept.ended() == b""
        stop(server)
        until(lambda: server.ask("/readyz").body == b"stopping\n")
        stop(server, signal.SIGQUIT).wait(30)


@pytest.mark.parametrize("seconds", [0, 95, 620, 3700])
def test_gunicorn_is_told_how_long(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(keys=(servers.KEY,), keep_alive=seconds)
    assert gunicorn_options(settings)["keepalive"] == seconds
    monkeypatch.setenv("THUMBPROXY_KEEP_ALIVE", str(seconds))
    assert runpy.run_path(str(CONF))["keepalive"] == seconds
