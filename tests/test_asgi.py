"""Servers for ASGI: what they are told, and what they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import servers
from origin import jpeg

from thumbproxy import Thumbnails

KEY = servers.KEY
SITE = """
import sys
from thumbproxy import ThumbProxy
from thumbproxy.assembly.build import application
{imports}

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the application"]

app = {app}
"""
MIDDLEWARE = "ThumbProxy(app, origins={{'': {folder!r}}}, cache_dir={folder!r} + '/cache')"


@contextmanager
def uvicorn(folder: Path, app: str, imports: str = "") -> Iterator[servers.Server]:
    (folder / "a.jpg").write_bytes(jpeg())
    (folder / "site_to_serve.py").write_text(
        SITE.format(imports=imports, app=app.format(folder=str(folder)))
    )
    port = servers.free_port()
    command = [sys.executable, "-m", "uvicorn", "site_to_serve:app", "--port", str(port)]
    environ = {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_ORIGIN": str(folder)}
    with (
        open(folder / "log", "wb") as log,
        servers.running(command, port, env={**os.environ, **environ}, cwd=folder, stderr=log,
                        stdout=subprocess.DEVNULL) as server,
    ):  # fmt: skip
        yield server


@pytest.mark.parametrize("app", [MIDDLEWARE, "application()"], ids=["middleware", "standalone"])
def test_an_asgi_server_is_told_what_to_do(app: str, tmp_path: Path) -> None:
    with uvicorn(tmp_path, app) as server:
        assert server.ask("/").status == 500
    log = (tmp_path / "log").read_text()
    assert "NotWsgi: This is a WSGI application, and an ASGI server called it." in log
    for way in ("a2wsgi.WSGIMiddleware(app)", "asgiref.wsgi.WsgiToAsgi(app)", "thumbproxy serve"):
        assert way in log


@pytest.mark.parametrize(
    ("wrapper", "imports"),
    [
        ("a2wsgi.WSGIMiddleware", "import a2wsgi"),
        ("asgiref.wsgi.WsgiToAsgi", "import asgiref.wsgi"),
    ],
)
def test_what_it_is_told_works(wrapper: str, imports: str, tmp_path: Path) -> None:
    url = Thumbnails([KEY]).url("a.jpg", width=20, format="jpg")
    with uvicorn(tmp_path, f"{wrapper}({MIDDLEWARE})", imports) as server:
        reply = server.ask(url)
        assert (reply.status, reply["Content-Type"]) == (200, "image/jpeg")
        assert server.ask("/").body == b"the application"


def test_one_argument_or_three_are_not_wsgi() -> None:
    from thumbproxy.web.middleware import Middleware, NotWsgi  # noqa: PLC0415

    middleware = Middleware.__new__(Middleware)
    for arguments in (({"type": "lifespan"},), ({"type": "http"}, print, print)):
        with pytest.raises(NotWsgi, match="WSGIMiddleware"):
            middleware(*arguments)
