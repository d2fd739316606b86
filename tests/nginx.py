"""A real nginx with conf/nginx.conf, on a free port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = Path(__file__).parent.parent / "conf" / "nginx.conf"
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def fitted(port: int, upstream: str, public: Path, folder: Path) -> str:
    """conf/nginx.conf with its lines marked [fit] fitted, and nothing written outside `folder`."""
    changes = {
        "user www-data;": "user root;" if os.geteuid() == 0 else "",
        "server 127.0.0.1:8080;": f"server {upstream};",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/var/cache/thumbproxy/public": str(public),
        "http {": "http {"
        + "".join(f"\n    {name}_temp_path {folder / name};" for name in _TEMPORARY),
    }
    text = CONF.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is in nginx.conf {text.count(old)} times"
        text = text.replace(old, new)
    return text


@contextmanager
def running(folder: Path, upstream: str, cache: Path) -> Iterator[tuple[str, int]]:
    """nginx serving `cache`/public and asking `upstream` ("host:port"): its host and port.

    folder: an empty one for nginx's own files; error.log is in it.
    """
    assert PROGRAM, "nginx is not installed; `make setup` does that"
    with socket.socket() as listening:
        # nginx takes over a socket that listens, as in an upgrade of its program: so the port
        # is ours from the beginning, and connections wait until nginx is there.
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        listening.set_inheritable(True)
        address = listening.getsockname()
        conf = folder / "nginx.conf"
        conf.write_text(fitted(address[1], upstream, cache / "public", folder))
        with (folder / "error.log").open("wb") as log:
            directives = f"daemon off; pid {folder / 'nginx.pid'};"
            process = subprocess.Popen(
                [PROGRAM, "-p", str(folder), "-c", str(conf), "-e", "stderr", "-g", directives],
                stderr=log,
                pass_fds=[listening.fileno()],
                env={"NGINX": f"{listening.fileno()};"},
            )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)
