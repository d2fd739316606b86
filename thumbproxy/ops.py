"""What operators ask the standalone server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from thumbproxy.responses import Environ, Response

HEALTH_PATH = "/healthz"


def plain(status: int, text: str) -> Response:
    """A short reply for people and probes, never stored."""
    body = f"{text}\n".encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(status, headers, body)


def not_found(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application behind a server that only makes thumbnails."""
    return plain(404, "Nothing is served here but thumbnails.")(environ, start_response)


class Health:
    """Answers /healthz while this process can answer at all; passes on everything else."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == HEALTH_PATH:
            return plain(200, "ok")(environ, start_response)
        return self._app(environ, start_response)
