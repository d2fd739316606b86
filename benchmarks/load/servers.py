"""`thumbproxy serve` and what it needs, each in a session of its own on a port of loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server, socket
from typing import NamedTuple

from thumbproxy import Thumbnails

HOST = "127.0.0.1"
KEY = "a-key-that-only-this-benchmark-uses"
TOKEN = "a-token-that-only-this-benchmark-uses"
THUMBS = Thumbnails([KEY])


class Server(NamedTuple):
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def free_port() -> int:
    with create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


def listening(port: int) -> bool:
    with socket() as client:
        return client.connect_ex((HOST, port)) == 0


def healthy(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def start(command: list[str], port: int, log: Path, **environ: str) -> subprocess.Popen[bytes]:
    """A process that listens on `port` when this returns; what it says goes into `log`."""
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    with open(log, "ab") as said:
        process = subprocess.Popen(
            command, env={**clean, **environ}, stdout=said, stderr=said, start_new_session=True
        )
    while not listening(port):
        if process.poll() is not None:
            sys.exit(f"{command[:4]} ended with {process.returncode}: {log.read_text()[-2000:]}")
        time.sleep(0.02)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def serve(home: Path, origin: str, **settings: object) -> Iterator[Server]:
    """`thumbproxy serve` with its cache and log in `home`; settings by their names."""
    port = free_port()
    command = [sys.executable, "-m", "thumbproxy", "serve", "--bind", f"{HOST}:{port}",
               "--origin", origin, "--cache-dir", str(home / "cache")]  # fmt: skip
    said = {f"THUMBPROXY_{name.upper()}": str(value) for name, value in settings.items()}
    process = start(command, port, home / "serve.log", THUMBPROXY_KEYS=KEY, **said)
    try:
        wait_until(lambda: healthy(port))  # it listens for a moment before that, to see if it can
        yield Server(port, process.pid)
    finally:
        stop(process)


def found(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return path or sys.exit(f"{program} is not installed; apt-get install {program}")
