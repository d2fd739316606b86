"""Applications: gunicorn loads them from here, and the environment says what and where.

BENCHMARK_URL   the path that is asked for
BENCHMARK_STEP  up to where bare() does the work for it: "", "verify" or "find"
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from werkzeug.test import create_environ

from thumbproxy.assembly.build import application, parts
from thumbproxy.assembly.factories import configured_origins
from thumbproxy.config.settings import Settings

from .photo import ACCEPT

App = Callable[..., Any]


def bare() -> App:
    """The very reply of the application from memory, after a part of the work for it is done."""
    url = os.environ["BENCHMARK_URL"]
    status, headers, body = reply(application(), url)
    settings = Settings.load(None, os.environ)
    site = parts(settings, configured_origins(settings))
    find = site.thumbnailer.get

    def parsed(environ: dict[str, Any]) -> Any:
        return site.urls.parse(environ["PATH_INFO"])

    steps: dict[str, Callable[..., Any]] = {
        "": id,
        "verify": parsed,
        "find": lambda environ: find(parsed(environ), environ),
    }
    step = steps[os.environ.get("BENCHMARK_STEP", "")]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        step(environ)
        start_response(status, headers)
        return [body]

    return app


def reply(app: App, url: str) -> tuple[str, list[tuple[str, str]], bytes]:
    said: list[Any] = []
    for _ in range(2):  # the first one may be made
        body = b"".join(app(create_environ(url, headers=ACCEPT), lambda *head: said.append(head)))
    assert said[-1][0] == "200 OK", said
    return said[-1][0], said[-1][1], body


def loop(count: int) -> None:
    """So many hits without a server, after the one that may make the picture."""
    app, url = application(), os.environ["BENCHMARK_URL"]
    reply(app, url)
    environ = create_environ(url, headers=ACCEPT)
    for _ in range(count):
        b"".join(app(environ, lambda *_: None))
