"""The servers that are compared, each in a session of its own on a free port of loopback."""

from __future__ import annotations

import base64
import hmac
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server, socket
from typing import Any

from .photo import KEY, NAME, PINNED, WIDTH

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
OURS = "thumbproxy:application()"
BARE = "benchmarks.serving.applications:bare()"


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[int]:
    """A server that listens on `port`: its process id, which is its session's as well."""
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    process = subprocess.Popen(command, env={**clean, **environ}, start_new_session=True)
    try:
        while not listening(port):
            if process.poll() is not None:
                sys.exit(f"serving: {command[:3]} ended with {process.returncode}")
            time.sleep(0.025)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def listening(port: int) -> bool:
    with socket() as client:
        return client.connect_ex((HOST, port)) == 0


def free_port() -> int:
    with create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def gunicorn(app: str, **environ: str) -> Iterator[tuple[int, int]]:
    """port, process id. `environ` is without the prefix THUMBPROXY_ for its settings."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf/gunicorn.conf.py"),
               "--workers", "1", "--log-level", "warning", "--chdir", str(ROOT),
               "--bind", f"{HOST}:{port}", app]  # fmt: skip
    with running(command, port, **settings_of(**environ)) as pid:
        yield port, pid


def settings_of(**values: str) -> dict[str, str]:
    named = {name if name.isupper() else f"THUMBPROXY_{name.upper()}": value
             for name, value in values.items()}  # fmt: skip
    return {"THUMBPROXY_KEYS": KEY, "BENCHMARK_URL": PINNED, **named}


@contextmanager
def nginx(folder: Path, conf: str) -> Iterator[tuple[int, int]]:
    """port, process id. `conf` has PORT where the port goes, and begins its block with `http {`."""
    folder.mkdir()
    port = free_port()
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"\n{name}_temp_path {folder / name};" for name in temporary)
    text = conf.replace("PORT", f"{HOST}:{port}").replace("http {", f"http {{{paths}")
    (folder / "nginx.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    command = [found("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr",
               "-g", f"daemon off; pid {folder / 'pid'}; worker_processes 1; {user}"]  # fmt: skip
    with running(command, port) as pid:
        yield port, pid


def our_conf(public: Path, upstream: int) -> str:
    """conf/nginx.conf fitted, for one worker."""
    text = (ROOT / "conf/nginx.conf").read_text()
    text = re.sub("^(user .*|worker_processes .*)$", "", text, flags=re.MULTILINE)
    text = text.replace("server 127.0.0.1:8080;", f"server {HOST}:{upstream};")
    text = text.replace("listen 80;", "listen PORT;")
    text = text.replace("/var/cache/nginx-thumbproxy", str(public.parent.parent / "copies"))
    return text.replace("/var/cache/thumbproxy/public", str(public))


def static_conf(public: Path) -> str:
    return f"""events {{}}
        http {{
            types {{ image/webp webp; }} sendfile on; tcp_nopush on; access_log off;
            server {{ listen PORT; location /thumb/ {{ alias {public}/; }} }}
        }}"""


@contextmanager
def memcached() -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [found("memcached"), "-l", HOST, "-p", str(port), "-U", "0", "-u", "nobody"]
    with running(command, port) as pid:
        yield port, pid


@contextmanager
def origin(photos: Path) -> Iterator[str]:
    """A web server that has the photo, and says nothing of how long it is fresh: an hour."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=str(photos)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def thumbor(python: str, home: Path) -> Iterator[tuple[int, int]]:
    """port, process id of thumbor that signs its URLs too and keeps its results as files."""
    port = free_port()
    (home / "thumbor.conf").write_text(
        f"SECURITY_KEY = '{KEY}'\nALLOW_UNSAFE_URL = False\n"
        f"LOADER = 'thumbor.loaders.file_loader'\nFILE_LOADER_ROOT_PATH = '{home / 'photos'}'\n"
        "STORAGE = 'thumbor.storages.no_storage'\n"
        "RESULT_STORAGE = 'thumbor.result_storages.file_storage'\n"
        f"RESULT_STORAGE_FILE_STORAGE_ROOT_PATH = '{home / 'thumbor'}'\n"
        "RESULT_STORAGE_EXPIRATION_SECONDS = 0\n"
    )
    command = [python, "-m", "thumbor.server", "--ip", HOST, "--port", str(port), "--conf",
               str(home / "thumbor.conf"), "--processes", "1", "-l", "error"]  # fmt: skip
    with running(command, port) as pid:
        yield port, pid


def thumbor_path() -> str:
    path = f"{WIDTH}x0/filters:format(webp):quality(82)/{NAME}"
    mac = hmac.digest(KEY.encode(), path.encode(), "sha1")
    return f"/{base64.urlsafe_b64encode(mac).decode()}/{path}"


def found(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return path or sys.exit(f"serving: {program} is not installed; apt-get install {program}")
