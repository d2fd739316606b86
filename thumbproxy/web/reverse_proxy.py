"""Forwards every request that is not for a thumbnail to an HTTP server, unchanged."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse, Timeout
from urllib3.exceptions import HTTPError
from werkzeug.wsgi import ClosingIterator, get_input_stream

from thumbproxy.core.errors import Overloaded
from thumbproxy.core.forking import PerProcess
from thumbproxy.http.client_connections import KeptHTTPPool, KeptHTTPSPool, is_stale, is_timeout
from thumbproxy.http.forwarding import (
    has_body,
    is_chunked,
    request_headers,
    response_headers,
    status_line,
    target_of,
    unforwardable,
)
from thumbproxy.http.responses import Response, refusal
from thumbproxy.scheduling.admission import ConcurrencyLimit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_BLOCK = 16 * 1024  # of a request's body, as urllib3 sends it
_KEPT_CONNECTIONS = 32
# A dot segment, encoded or not, by which a path could leave that of the upstream.
_CLIMBING = re.compile(r"(?:/|%2f|\\|%5c)(?:\.|%2e){1,2}(?:/|%2f|\\|%5c|$)", re.IGNORECASE)


class Upstream:
    """A WSGI app that hands each request to the server at `base_url` and its reply back.

    Bodies stream both ways and are never held whole; redirects, codings and errors of the
    upstream are the client's business.

    base_url  scheme and host of the upstream; a path is put before the path of the request
    timeout   seconds for connecting, and then for each wait for a byte, until it is a 504
    ca_file   PEM file of the authorities that are trusted; default: the system's
    Raises ValueError for a URL that cannot be used.
    """

    def __init__(self, base_url: str, *, timeout: float = 60.0, ca_file: str | None = None) -> None:
        target = urlsplit(base_url)
        if "@" in target.netloc:  # not shown: it is a secret
            raise ValueError("a URL with a user name or a password cannot be an upstream")
        if target.scheme not in ("http", "https") or not target.hostname:
            raise ValueError(f"{base_url!r} cannot be an upstream: write it like http://host:port")
        if target.query or target.fragment:
            raise ValueError(f"{base_url!r} cannot be an upstream: it must be host and path only")
        self._server = target.scheme, target.hostname, target.port
        self._authority = target.netloc
        self._path = target.path.rstrip("/")
        # Not a method: connections are closed when the last reference to us goes.
        self._pool = PerProcess(partial(_pool, *self._server, Timeout(timeout), ca_file))

    def __repr__(self) -> str:
        scheme, host, port = self._server
        return f"Upstream({scheme}://{host}{f':{port}' if port else ''}{self._path})"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host, target = target_of(environ)
        refused = unforwardable(environ) or self._unreachable(environ, target)
        if refused is not None:
            return refused(environ, start_response)
        response: HTTPResponse | None = None
        try:
            # Read first, so that the upstream hears nothing of a request that is cut off at once.
            body = ClientBody(environ) if has_body(environ) else None
            headers = request_headers(environ, host, self._authority)
            response = self._send(environ["REQUEST_METHOD"], target, headers, body)
            reply = _reply_of(response)
        except BodyFault as fault:
            return refusal(fault.status, fault.reason)(environ, start_response)
        except (HTTPError, OSError, ValueError) as error:
            if response is not None:
                response.close()
            return self._failed(error)(environ, start_response)
        try:
            start_response(*reply)
        except BaseException:
            response.close()
            raise
        return _Body(response)

    def _unreachable(self, environ: WSGIEnvironment, target: str) -> Response | None:
        if not target.startswith("/") or environ["REQUEST_METHOD"] == "CONNECT":
            # Those of proxies that clients are told to use, and of servers: "OPTIONS *".
            return refusal(400, "This server passes on paths only.")
        if self._path and _CLIMBING.search(target.partition("?")[0]):
            return refusal(400, "The path of this address leads outside of the application.")
        return None

    def _failed(self, error: Exception) -> Response:
        log.warning("%r: %s", self, error)
        if is_timeout(error):
            return refusal(504, "The application behind this server took too long to answer.")
        return refusal(502, "The application behind this server did not answer.")

    def _send(
        self, method: str, target: str, headers: HTTPHeaderDict, body: ClientBody | None
    ) -> HTTPResponse:
        while True:
            try:
                response: Any = self._pool.value.urlopen(
                    method,
                    self._path + target,
                    body=body,  # type: ignore[arg-type]  # a file is one that can be read
                    headers=headers,
                    chunked=body is not None and body.chunked,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                )
            except HTTPError as error:
                # "a user agent MUST NOT automatically retry a request with a non-idempotent
                # method" (RFC 9110 section 9.2.2); and a body can be read only once.
                repeatable = body is None and method in ("GET", "HEAD", "OPTIONS")
                if not (repeatable and is_stale(error)):
                    raise
            else:
                return response  # type: ignore[no-any-return]


def _pool(
    scheme: str, host: str, port: int | None, timeout: Timeout, ca_file: str | None
) -> HTTPConnectionPool:
    if scheme == "http":
        return KeptHTTPPool(host, port, timeout=timeout, maxsize=_KEPT_CONNECTIONS)
    return KeptHTTPSPool(
        host, port, timeout=timeout, maxsize=_KEPT_CONNECTIONS,
        cert_reqs="CERT_REQUIRED", ca_certs=ca_file,
    )  # fmt: skip


class Gated:
    """Lets as many requests to `app` as the limit allows, until their replies have been sent; the
    rest get 503 at once. So an application that hangs leaves threads for hits."""

    def __init__(self, app: Any, limit: ConcurrencyLimit) -> None:
        self._app = app
        self._limit = limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            leave = self._limit.enter()
        except Overloaded as error:
            again = ("Retry-After", str(error.retry_after))
            refused = refusal(error.status, "Too many requests wait already.", again)
            return refused(environ, start_response)
        try:
            return ClosingIterator(self._app(environ, start_response), leave)
        except BaseException:
            leave()
            raise


class BodyFault(Exception):
    """A request's body did not come whole: the client's fault, whoever reads it."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class ClientBody:
    """A request's body as a file that ends where it ends. Raises BodyFault where it was cut off,
    or does not come: what servers raise for that differs, or is nothing at all.

    chunked  whether its length is not known before
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.chunked = is_chunked(environ)
        self._stream = get_input_stream(environ)
        length = environ.get("CONTENT_LENGTH", "")
        if not self.chunked and not (length.isascii() and length.isdigit()):
            raise BodyFault(400, "The Content-Length of this request is no number.")
        self._left = None if self.chunked else int(length)
        self._first = self._read(_BLOCK)

    def read(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._read(size)

    def _read(self, size: int) -> bytes:
        if self._left == 0:
            return b""
        try:
            data = self._stream.read(size if self._left is None else min(size, self._left))
        except TimeoutError as error:
            raise BodyFault(408, "The body of this request did not come in time.") from error
        except Exception as error:
            raise BodyFault(400, "The body of this request is malformed or cut off.") from error
        if self._left is not None:
            if not data:
                raise BodyFault(400, "The body of this request was cut off.")
            self._left -= len(data)
        return data


class _Body:
    """The response's bytes as they come. Closing it early closes the connection as well."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        # A fault here, the end before the announced length among them, is raised to the WSGI
        # server: it breaks the connection, and the client knows that the reply is not whole.
        while chunk := self._response.read1(_CHUNK, decode_content=False):
            yield chunk

    def close(self) -> None:
        self._response.close()


def _reply_of(response: HTTPResponse) -> tuple[str, list[tuple[str, str]]]:
    """Status line and headers. Raises ValueError for what cannot be passed on."""
    lines = response.headers.iteritems()
    headers = response_headers(lines, status=response.status, version=response.version)
    return status_line(response.status, response.reason), headers
