"""Real servers for tests: each on a free port of the loopback interface, ended by its own id, or
with the process that started it, however that ends."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

from werkzeug.serving import WSGIRequestHandler, make_server

KEY = "a-key-that-only-the-tests-use"
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


@dataclass(frozen=True)
class Server:
    """A server that listens; `process` where it is one."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Reply:
        """One request on a connection of its own; the path goes onto the wire as it is."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Until a connection is accepted; fails when the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < deadline, "the server does not listen"
            threading.Event().wait(0.02)
        else:
            return


def freeze(pid: int) -> None:
    """Stop all threads of a process, and come back when they have stopped."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while any(") T " not in (task / "stat").read_text() for task in tasks.iterdir()):
        threading.Event().wait(0.001)


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/bin:/usr/sbin")
    assert path, f"{name} is not installed; `make setup` does that"
    return path


def mortal(command: list[str], user: str | None = None) -> list[str]:
    """The command, told to end by the kernel when the thread that starts it has ended.

    user: whose it is, instead of root's. A program that changes its user by itself would lose what
    it is to be told.
    """
    change = ["--reuid", user, "--clear-groups"] if user and os.geteuid() == 0 else []
    return [program("setpriv"), *change, "--pdeathsig", "TERM", "--", *command]


@contextmanager
def running(
    command: list[str], port: int, user: str | None = None, **options: Any
) -> Iterator[Server]:
    process = subprocess.Popen(mortal(command, user), start_new_session=True, **options)
    try:
        wait_for(port, process)
        yield Server(port, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def memcached(port: int | None = None) -> Iterator[Server]:
    port = port or free_port()
    command = [program("memcached"), "-l", HOST, "-p", str(port), "-U", "0", "-m", "64"]
    with running(command, port, "nobody") as server:
        yield server


@contextmanager
def memcached_at(path: Path, user: str = "root") -> Iterator[None]:
    """One that listens on a Unix socket."""
    command = [program("memcached"), "-s", str(path), "-a", "0777", "-m", "64", "-u", user]
    process = subprocess.Popen(mortal(command), start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while not _accepts(path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
        yield
    finally:
        process.terminate()
        process.wait(15)
        path.unlink(missing_ok=True)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


@contextmanager
def thumbproxy(
    *arguments: str, port: int | None = None, log: Path | None = None, **environ: str
) -> Iterator[Server]:
    """`thumbproxy serve` with one key; its log goes to our standard error, or into a file."""
    port = port or free_port()
    recorded = Path(__file__).with_name("recorded.py")
    command = [sys.executable, str(recorded), "serve", "--bind", f"{HOST}:{port}", *arguments]
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    environ = {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_WORKERS": "2", **environ}
    with (
        open(log or os.devnull, "ab") as errors,
        running(command, port, env={**clean, **environ}, stderr=errors) as server,
    ):
        yield server


class _Quiet(WSGIRequestHandler):
    # A connection for each request, so that no thread outlives the test in which it answered.
    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        environ["REMOTE_PORT"] = str(environ["REMOTE_PORT"])  # PEP 3333 wants text
        return environ


@contextmanager
def wsgi(app: Any, *, validate: bool = True) -> Iterator[Server]:
    """A WSGI application behind a threaded server, each call checked against PEP 3333."""
    checked = validator(app) if validate else app
    server = make_server(HOST, 0, checked, threaded=True, request_handler=_Quiet)
    server.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Server(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
