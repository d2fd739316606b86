"""Endpoints for operators: metrics and purges."""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thumbproxy.http.responses import Environ, Response
from thumbproxy.purging.purger import PurgeResult, scope_of
from thumbproxy.telemetry.metrics import COUNTING

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"
# The name is prometheus-client's: where processes share what they count.
SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def plain(status: int, text: str) -> Response:
    """A short reply for people and probes, never stored."""
    return _reply(status, f"{text}\n".encode(), "text/plain; charset=utf-8")


def json_reply(status: int, text: str) -> Response:
    """A reply for programs, never stored."""
    return _reply(status, f"{text}\n".encode(), "application/json")


def _reply(status: int, body: bytes, content_type: str) -> Response:
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(status, headers, body)


def not_found(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application behind a server that only makes thumbnails."""
    return plain(404, "Nothing is served here but thumbnails.")(environ, start_response)


class MetricsPage:
    """Answers /metrics for those who have the token; passes on everything else.

    token  "" for no such page. Else prometheus-client is needed.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], token: str) -> None:
        self._app = app
        self._token = token

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != METRICS_PATH or not self._token:
            return self._app(environ, start_response)
        return self._page(environ)(environ, start_response)

    def _page(self, environ: Environ) -> Response:
        if not bears(environ, self._token):
            return _challenge("unauthorized: Metrics are shown to those who have the token.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            refusal = plain(405, "method-not-allowed: Metrics are read with GET.")
            refusal.headers.append(("Allow", "GET, HEAD"))
            return refusal
        return _reply(200, *_exposition(environ.get("HTTP_ACCEPT", "")))


class PurgePage:
    """Answers PURGE for those who have the token (16 bytes at least).

    purge  purges a source, a folder or everything; raises BadSource for what is neither
    """

    def __init__(self, purge: Callable[[str], PurgeResult], token: str) -> None:
        self._purge = purge
        self._token = token

    def __call__(self, environ: Environ, path: Callable[[], str]) -> Response:
        """path: the decoded path below the prefix, which is not looked at without the token."""
        if not bears(environ, self._token):
            return _challenge("unauthorized: Purging is for those who have the token.")
        result = self._purge(scope_of(path()))
        # What could not be purged can be tried again; the body says what that is.
        return json_reply(200 if result.complete else 503, result.to_json())


def _challenge(text: str) -> Response:
    refusal = plain(401, text)
    refusal.headers.append(("WWW-Authenticate", 'Bearer realm="thumbproxy"'))
    return refusal


def bears(environ: Environ, token: str) -> bool:
    """Whether a request has `Authorization: Bearer <token>` (RFC 6750 section 2.1)."""
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # WSGI hands over bytes as latin-1 (PEP 3333); `compare_digest` takes no such text.
    known = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return known and scheme.lower() == "bearer"


def _exposition(accept: str) -> tuple[bytes, str]:
    """All that was counted, in the format that the client wants, and its content type."""
    # An extra; and when it is imported matters: see metrics.
    from prometheus_client import REGISTRY, CollectorRegistry  # noqa: PLC0415
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    encode, content_type = choose_encoder(accept)
    directory = os.environ.get(SHARED_DIRECTORY)
    if not directory:
        with COUNTING:
            return encode(REGISTRY), content_type
    registry = CollectorRegistry()
    registry.register(_Shared(directory))
    with settled(directory, fcntl.LOCK_SH):
        return encode(registry), content_type


class _Shared:
    """Collects what all processes counted, from the files that prometheus-client keeps."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterable[Any]:
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        # A file that was just made is empty for a moment, and prometheus-client would fail.
        files = [str(path) for path in self._directory.glob("*.db") if path.stat().st_size]
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call,no-any-return]


@contextmanager
def settled(directory: str, operation: int) -> Iterator[None]:
    """While files of a shared directory do not come or go, as `fcntl.flock` has it.

    A process that dies must be counted once: in its own file, or in the one of all the dead.
    Raises BlockingIOError with LOCK_NB while another holds it.
    """
    descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        # Closing alone would leave it to those who were forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
