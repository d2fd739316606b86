"""Every request that is not for a thumbnail, passed on to an HTTP server as it is."""

from __future__ import annotations

import http
import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.util import SKIP_HEADER
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import ClosingIterator, get_input_stream

from thumbproxy.admission import Gate
from thumbproxy.connections import KeptHTTPPool, KeptHTTPSPool, is_stale
from thumbproxy.errors import Overloaded
from thumbproxy.responses import Response, refusal, sendable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

# RFC 9110 section 7.6.1, and what a proxy settles with its client itself.
_HOP_BY_HOP = {
    "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info",
}  # fmt: skip
_CHUNK = 64 * 1024
_KEPT_CONNECTIONS = 32
# A dot segment, encoded or not, by which a path could leave that of the upstream.
_CLIMBING = re.compile(r"(?:/|%2f|\\|%5c)(?:\.|%2e){1,2}(?:/|%2f|\\|%5c|$)", re.IGNORECASE)
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a header's name, RFC 9110 section 5.1
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")


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
        self._path = target.path.rstrip("/")
        self._timeout = Timeout(timeout)
        self._ca = ca_file
        self._kept: tuple[int, HTTPConnectionPool] | None = None

    def __repr__(self) -> str:
        scheme, host, port = self._server
        return f"Upstream({scheme}://{host}{f':{port}' if port else ''}{self._path})"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        target = _target(environ)
        if not target.startswith("/") or environ["REQUEST_METHOD"] == "CONNECT":
            # Those of proxies that clients are told to use, and of servers: "OPTIONS *".
            return refusal(400, "This server passes on paths only.")(environ, start_response)
        if self._path and _CLIMBING.search(target.partition("?")[0]):
            climbing = refusal(400, "The path of this address leads outside of the application.")
            return climbing(environ, start_response)
        response: HTTPResponse | None = None
        try:
            response = self._send(environ, target)
            status, headers = _status_line(response), _response_headers(response)
        except (ClientDisconnected, HTTPError, OSError, ValueError) as error:
            if response is not None:
                response.close()
            return self._failed(error)(environ, start_response)
        try:
            start_response(status, headers)
        except BaseException:
            response.close()
            raise
        return _Body(response)

    def _failed(self, error: Exception) -> Response:
        if isinstance(error, ClientDisconnected):
            return refusal(400, "The request was cut off.")
        log.warning("%r: %s", self, error)
        if _is_timeout(error):
            return refusal(504, "The application behind this server took too long to answer.")
        return refusal(502, "The application behind this server did not answer.")

    def _send(self, environ: WSGIEnvironment, target: str) -> HTTPResponse:
        method = environ["REQUEST_METHOD"]
        body, headers = _request_body(environ), _request_headers(environ)
        while True:
            try:
                response: Any = self._pool().urlopen(
                    method,
                    self._path + target,
                    body=body,
                    headers=headers,
                    chunked=_is_chunked(environ),
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

    def _pool(self) -> HTTPConnectionPool:
        """The connections of this process. After a fork those of the parent must not be used."""
        process = os.getpid()
        if self._kept is None or self._kept[0] != process:
            # Two threads may come here at once; the connections of one are then made for nothing.
            self._kept = process, self._new_pool()
        return self._kept[1]

    def _new_pool(self) -> HTTPConnectionPool:
        scheme, host, port = self._server
        if scheme == "http":
            return KeptHTTPPool(host, port, timeout=self._timeout, maxsize=_KEPT_CONNECTIONS)
        return KeptHTTPSPool(
            host, port, timeout=self._timeout, maxsize=_KEPT_CONNECTIONS,
            cert_reqs="CERT_REQUIRED", ca_certs=self._ca,
        )  # fmt: skip


class Gated:
    """Lets as many requests to `app` as the gate does, until their replies have been sent; the rest
    get 503 at once. So an application that hangs leaves threads for hits."""

    def __init__(self, app: Any, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._gate.enter()
        except Overloaded as error:
            again = ("Retry-After", str(error.retry_after))
            refused = refusal(error.status, "Too many requests wait already.", again)
            return refused(environ, start_response)
        try:
            return ClosingIterator(self._app(environ, start_response), self._gate.leave)
        except BaseException:
            self._gate.leave()
            raise


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


def _target(environ: WSGIEnvironment) -> str:
    """The request target that the client sent."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    raw = ""
    for name in ("RAW_URI", "REQUEST_URI"):
        # As it was sent, because decoding loses the difference of "%2F" and "/"; unless some
        # middleware has changed the path since.
        sent = str(environ.get(name, "")).partition("?")[0]
        if sent.startswith("/") and unquote_to_bytes(sent).decode("latin-1") == path:
            raw = sent
    raw = raw or quote(path.encode("latin-1"), safe="/-._~!$&'()*,;=:@") or "/"
    query = environ.get("QUERY_STRING", "")
    return raw + "?" + _LONE_PERCENT.sub("%25", query) if query else raw


def _is_chunked(environ: WSGIEnvironment) -> bool:
    return bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ


def _request_body(environ: WSGIEnvironment) -> Any:
    """The client's body as a file that ends where it ends; None for a request without one."""
    if _is_chunked(environ) or environ.get("CONTENT_LENGTH", "0") not in ("", "0"):
        return get_input_stream(environ)
    return None


def _request_headers(environ: WSGIEnvironment) -> HTTPHeaderDict:
    # Host is no header of the connection, whatever a client calls it.
    named = _listed(environ.get("HTTP_CONNECTION", "")) - {"host"}
    # Expect was answered by the server that runs us.
    dropped = _HOP_BY_HOP | named | {"expect", "content-length", "content-type"}
    headers = HTTPHeaderDict()
    for key, value in environ.items():
        name = key[5:].replace("_", "-").title()
        if key.startswith("HTTP_") and name.lower() not in dropped:
            headers[name] = value
    if environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = environ["CONTENT_TYPE"]
    if environ.get("CONTENT_LENGTH") and not _is_chunked(environ):
        headers["Content-Length"] = environ["CONTENT_LENGTH"]
    # urllib3 would say something of its own where the client said nothing.
    for name in ("Accept-Encoding", "User-Agent", "Host"):
        headers.setdefault(name, SKIP_HEADER)
    _add_forwarded(headers, environ)
    return headers


def _add_forwarded(headers: HTTPHeaderDict, environ: WSGIEnvironment) -> None:
    """Tells the upstream who asked, and how.

    Host stays the client's: the app behind builds links and redirects with it, and checks it.
    Of the rest only lists are continued. What a client itself claims to be the scheme and the
    host is replaced; the server that runs us knows which front proxies to believe
    (gunicorn: forwarded_allow_ips) and has put their word into wsgi.url_scheme.
    """
    client, scheme = environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"]
    host = environ.get("HTTP_HOST") or environ["SERVER_NAME"]
    if client:
        chain = headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{chain}, {client}" if chain else client
    headers["X-Forwarded-Proto"] = scheme
    headers["X-Forwarded-Host"] = host
    if "Forwarded" in headers:  # RFC 7239
        address = f'"[{client}]"' if ":" in client else client or "unknown"
        quoted = host.replace("\\", "\\\\").replace('"', '\\"')
        own = f'for={address};host="{quoted}";proto={scheme}'
        headers["Forwarded"] = f"{headers['Forwarded']}, {own}"


def _response_headers(response: HTTPResponse) -> list[tuple[str, str]]:
    """What is passed on. Raises ValueError for what is no header."""
    # Each line by itself: Set-Cookie cannot be joined.
    lines = [(name, _FOLD.sub(" ", value)) for name, value in response.headers.iteritems()]
    named: set[str] = set()
    for name, value in lines:
        # "A recipient of CR, LF, or NUL within a field value MUST either reject the message or
        # replace each of those characters with SP" (RFC 9110 section 5.5).
        if not (_TOKEN.fullmatch(name) and sendable((value,))):
            raise ValueError(f"the header {name[:80]!r} of its reply is malformed")
        if name.lower() == "connection":
            named |= _listed(value)
    dropped = _HOP_BY_HOP | named
    if "Transfer-Encoding" in response.headers:
        # "If a message is received with both a Transfer-Encoding and a Content-Length header
        # field, the Transfer-Encoding overrides the Content-Length" (RFC 9112 section 6.3).
        dropped = dropped | {"content-length"}
    return [(name, value) for name, value in lines if name.lower() not in dropped]


def _listed(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


def _is_timeout(error: Exception) -> bool:
    # urllib3 counts a refused connection among the timeouts.
    slow = isinstance(error, ConnectTimeoutError | ReadTimeoutError | TimeoutError)
    return slow and not isinstance(error, NewConnectionError)


def _status_line(response: HTTPResponse) -> str:
    """Raises ValueError for one that cannot be passed on."""
    reason = response.reason
    if not reason:
        known = http.HTTPStatus.__members__.values()
        reason = next((status.phrase for status in known if status == response.status), "Unknown")
    if not sendable((reason,)):
        raise ValueError("the status line of its reply is malformed")
    return f"{response.status} {reason}"
