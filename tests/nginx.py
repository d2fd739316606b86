"""A real nginx with conf/nginx.conf, on a free port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from servers import mortal

CONF = Path(__file__).parent.parent / "conf" / "nginx.conf"
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def as_root() -> bool:
    return os.geteuid() == 0


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def fitted(
    port: int, upstream: str, public: Path, folder: Path, more: Mapping[str, str] = {}
) -> str:
    """conf/nginx.conf with its lines marked [fit] fitted, and nothing written outside `folder`.

    more: what else a test changes, old text to new.
    """
    changes = {
        "user www-data;": "user root;" if os.geteuid() == 0 else "",
        "server 127.0.0.1:8080;": f"server {upstream};",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/var/cache/thumbproxy/public": str(public),
        "/var/cache/nginx-thumbproxy": str(folder / "cache"),
        "http {": "http {"
        + "".join(f"\n    {name}_temp_path {folder / name};" for name in _TEMPORARY),
        **more,
    }
    text = CONF.read_text()
    for old, new in changes.items():
        times = 2 if old == "/var/cache/thumbproxy/public" else 1
        assert text.count(old) == times, f"{old!r} is in nginx.conf {text.count(old)} times"
        text = text.replace(old, new)
    return text


@contextmanager
def running(
    folder: Path, upstream: str, cache: Path, more: Mapping[str, str] = {}
) -> Iterator[tuple[str, int]]:
    """nginx serving `cache`/public and asking `upstream` ("host:port"): its host and port.

    folder: an empty one for nginx's own files: error.log, nginx.pid, and its copies in cache/.
    more: changes of the configuration, old text to new.
    """
    assert PROGRAM, "nginx is not installed; `make setup` does that"
    with socket.socket() as listening:
        # nginx takes over a socket that listens, as in an upgrade of its program: so the port
        # is ours from the beginning, and connections wait until nginx is there.
        listening.bind(("127.0.0.1", 0))
        listening.listen(511)  # as many as nginx would let wait
        # Else a process of nginx waits for ever for a connection that the other one took.
        listening.setblocking(False)
        listening.set_inheritable(True)
        address = listening.getsockname()
        conf = folder / "nginx.conf"
        conf.write_text(fitted(address[1], upstream, cache / "public", folder, more))
        with (folder / "error.log").open("wb") as log:
            directives = f"daemon off; pid {folder / 'nginx.pid'};"
            process = subprocess.Popen(
                mortal(
                    [PROGRAM, "-p", str(folder), "-c", str(conf), "-e", "stderr", "-g", directives]
                ),
                stderr=log,
                pass_fds=[listening.fileno()],
                env={"NGINX": f"{listening.fileno()};"},
            )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)
