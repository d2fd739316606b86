"""Reloads, restarts and stops under load fail nobody; slow clients hold no thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from itertools import count
from pathlib import Path

import pytest
import servers
from origin import jpeg

from thumbproxy import Thumbnails

ROOT = Path(__file__).parent.parent
THUMBS = Thumbnails([servers.KEY])
CLIENTS = 5
PACE = 0.1  # seconds between two requests of a client: 50/s together
HIT = THUMBS.url("cat.jpg", width=60, format="jpg", version="v1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(jpeg(640, 480))
    return folder


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def session(leader: int) -> dict[int, str]:
    """The processes of a session, which all that a server starts belong to, and their names."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, sid = (place / "stat").read_text().rpartition(") ")[2].split()[:4]
            if int(sid) == leader and state != "Z":
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


class Load:
    """50 requests a second, of each client by turns a hit and a miss; two of the clients keep their
    connection, two do now and then, one never does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.hung_up: list[str] = []  # on a kept connection, before a byte: a client asks again
        self.failed: list[str] = []
        self._widths = count(100)
        self._stop = threading.Event()
        self._stopped_serving = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, number: int) -> None:
        """Until so many more are answered."""
        enough = self.answered + number
        until(lambda: self.answered >= enough or self.failed)

    def ends(self) -> None:
        """From here on nobody need be let in."""
        self._stopped_serving.set()

    def _ask(self, client: int) -> None:
        connection: HTTPConnection | None = None
        for turn in count():
            if self._stop.wait(PACE):
                break
            if connection is None or client == 0 or (client < 3 and turn % 7 == 0):
                if connection is not None:
                    connection.close()
                connection = HTTPConnection(servers.HOST, self.port, timeout=20)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    if not self._stopped_serving.is_set():
                        self.failed.append("refused")
                    break
                fresh = True
            else:
                fresh = False
            connection = self._exchange(connection, fresh, hit=turn % 2 == 0)
        if connection is not None:
            connection.close()

    def _exchange(
        self, connection: HTTPConnection, fresh: bool, *, hit: bool
    ) -> HTTPConnection | None:
        width = next(self._widths)
        path = HIT if hit else THUMBS.url("cat.jpg", width=width, format="jpg")
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            (self.failed if fresh else self.hung_up).append(repr(error))
            return None
        except (HTTPException, OSError) as error:
            self.failed.append(repr(error))
            return None
        if response.status != 200 or not body.endswith(b"\xff\xd9"):
            self.failed.append(f"{response.status} {body[:80]!r}")
        with self._lock:
            self.answered += 1
        return None if response.will_close else connection


@contextmanager
def gunicorn(photos: Path, cache: Path) -> Iterator[servers.Server]:
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf" / "gunicorn.conf.py"),
               "--bind", f"{servers.HOST}:{port}", "thumbproxy:application()"]  # fmt: skip
    environ = {
        **{name: value for name, value in os.environ.items() if "THUMBPROXY" not in name},
        "THUMBPROXY_KEYS": servers.KEY,
        "THUMBPROXY_ORIGIN": str(photos),
        "THUMBPROXY_CACHE_DIR": str(cache),
        "WEB_CONCURRENCY": "2",
    }
    with servers.running(command, port, env=environ, stderr=subprocess.DEVNULL) as server:
        yield server


@contextmanager
def serving(photos: Path, cache: Path, **environ: str) -> Iterator[servers.Server]:
    arguments = ("--origin", str(photos), "--cache-dir", str(cache))
    with servers.thumbproxy(*arguments, log=cache.parent / "log", **environ) as server:
        yield server


@contextmanager
def idle(server: servers.Server, number: int) -> Iterator[None]:
    """Connections that were used once, and are kept."""
    with ExitStack() as stack:
        for _ in range(number):
            connection = HTTPConnection(servers.HOST, server.port, timeout=20)
            stack.callback(connection.close)
            connection.request("GET", HIT)
            connection.getresponse().read()
        yield


def replaced(master: int, old: set[int]) -> None:
    """Until other workers serve in place of these."""
    until(lambda: len(children(master)) == 2 and children(master).isdisjoint(old))


def reload(master: int) -> None:
    until(lambda: len(children(master)) == 2)
    old = children(master)
    os.kill(master, signal.SIGHUP)
    replaced(master, old)


def stop(server: servers.Server, load: Load) -> None:
    assert server.process
    load.ends()
    server.process.terminate()
    assert server.process.wait(15) == 0


@pytest.mark.parametrize("started", [serving, gunicorn])
def test_reloads_and_a_stop_fail_no_request_and_leave_no_process(
    photos: Path, tmp_path: Path, started: Callable[..., Iterator[servers.Server]]
) -> None:
    with started(photos, tmp_path / "cache") as server:  # type: ignore[attr-defined]
        assert server.process
        master = server.process.pid
        with Load(server.port) as load:
            load.more(10)
            reload(master)
            if started is serving:
                reload(master)
            load.more(10)
            # Connections that nobody uses let the server take its time, in which others come.
            with idle(server, 6):
                stop(server, load)
        assert (load.failed, load.hung_up) == ([], [])
        until(lambda: not session(master))


def test_a_server_is_replaced_by_a_new_one_without_a_failed_request(
    photos: Path, tmp_path: Path
) -> None:
    """USR2 starts another master on the same socket; TERM ends the old one."""
    with serving(photos, tmp_path / "cache") as server:
        assert server.process
        old = server.process.pid
        until(lambda: len(children(old)) == 2)
        workers = children(old)
        with Load(server.port) as load:
            load.more(5)
            os.kill(old, signal.SIGUSR2)
            until(lambda: children(old) - workers)
            (new,) = children(old) - workers
            until(lambda: len(children(new)) == 2)
            load.more(20)
            server.process.terminate()
            assert server.process.wait(15) == 0
            load.more(10)
            load.ends()
            os.kill(new, signal.SIGTERM)
            until(lambda: not session(old))
        assert (load.failed, load.hung_up) == ([], [])


def test_workers_are_replaced_after_max_requests_without_a_failed_request(
    photos: Path, tmp_path: Path
) -> None:
    with serving(photos, tmp_path / "cache", THUMBPROXY_MAX_REQUESTS="30") as server:
        assert server.process
        until(lambda: len(children(server.process.pid)) == 2)
        first = children(server.process.pid)
        with Load(server.port) as load:
            load.more(100)
            until(lambda: children(server.process.pid).isdisjoint(first))
            load.more(5)
            stop(server, load)
        assert (load.failed, load.hung_up) == ([], [])


def test_a_reload_takes_over_a_new_configuration_and_refuses_a_broken_one(
    photos: Path, tmp_path: Path
) -> None:
    config = tmp_path / "thumbproxy.toml"
    good = f'origin = "{photos}"\ncache_dir = "{tmp_path / "cache"}"\n'
    config.write_text(good)
    with servers.thumbproxy("--config", str(config), log=tmp_path / "log") as server:
        assert server.process
        master = server.process.pid
        assert "max-age=2592000," in server.ask(THUMBS.url("cat.jpg", width=9))["Cache-Control"]
        config.write_text(f"{good}max_age = 77\n")
        reload(master)
        assert "max-age=77," in server.ask(THUMBS.url("cat.jpg", width=9))["Cache-Control"]
        workers = children(master)
        config.write_text(f"{good}max_age = -1\nkeyz = 3\n")
        os.kill(master, signal.SIGHUP)
        until(lambda: "keyz" in (tmp_path / "log").read_text())
        assert "max-age=77," in server.ask(THUMBS.url("cat.jpg", width=9))["Cache-Control"]
        assert children(master) == workers
        config.write_text(f"{good}max_age = 78\n")
        reload(master)
        assert "max-age=78," in server.ask(THUMBS.url("cat.jpg", width=9))["Cache-Control"]
    log = (tmp_path / "log").read_text()
    assert "the configuration stays as it was" in log
    assert "max_age" in log
    assert "keyz" in log
