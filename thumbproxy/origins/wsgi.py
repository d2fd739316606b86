"""An origin whose sources are served by a WSGI application in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from werkzeug.datastructures import Headers

from thumbproxy.core.errors import OriginFailed, OriginTimeout, SourceTooLarge
from thumbproxy.origins.base import PERSONAL, Fetched, FetchRequest
from thumbproxy.origins.network.exchange import Reply, fetch_by, request_headers
from thumbproxy.origins.targets import request_target
from thumbproxy.urls.hosts import redact_url

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

# What an app learns of the client's request: by whom and how it is run. Unless its host is named,
# also how the client calls it: apps check that (Django's ALLOWED_HOSTS) and build redirects.
_SERVER = (
    "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "wsgi.multithread", "wsgi.multiprocess",
    "wsgi.run_once", "wsgi.errors",
)  # fmt: skip
_PORTS = {"http": "80", "https": "443"}
# Stands for the app in URLs. The Host of a client is no part of a URL of ours: it can hold a "?"
# or a "/", and would then decide which path is asked for.
_HERE = "wsgi-app.invalid"


class WsgiOrigin:
    """The sources that `app` answers GET requests for, called in the thread that asks.

    immutable  a path of it is never used for another picture again
    host       what the app is told in place of what the client says: "www.example.com", and before
               it "https://" for an app that must not be asked by http. Then no client has a say in
               what it answers; for `warm`, which has no client, it is what makes Django answer

    Raises ValueError for a host that is none.

    Example:

        from thumbproxy import ThumbProxy, WsgiOrigin

        origins = {"": WsgiOrigin(app, host="https://www.example.com")}
        app = ThumbProxy(app, keys=["your signing key"], origins=origins)
    """

    local = False

    def __init__(
        self, app: WSGIApplication, *, immutable: bool = False, host: str | None = None
    ) -> None:
        self.immutable = immutable
        self.personal = host is None
        self._app = app
        scheme, _, name = (host or "").rpartition("://")
        self._named = {} if host is None else _named(scheme or "http", name)

    def __repr__(self) -> str:
        return f"WsgiOrigin({self._app!r})"

    def check(self, path: str) -> None:
        """Whatever is asked for may be there."""

    def fetch(self, request: FetchRequest) -> Fetched:
        server = self._server(request.client)

        @contextmanager
        def ask(url: str, request: FetchRequest) -> Iterator[Reply]:
            environ = server | _addressed(url, server)
            for name, value in request_headers(request).items():
                environ["HTTP_" + name.upper().replace("-", "_")] = value
            call = _Call(self._app, environ, request)
            try:
                yield call.reply()
            finally:
                call.close()

        script = quote(server["SCRIPT_NAME"].encode("latin-1"))
        start = f"{server['wsgi.url_scheme']}://{_HERE}{script}/{request_target(request.path)}"
        return fetch_by(ask, start, request)

    def fingerprint(self, path: str) -> str | None:
        return None

    def _server(self, client: Mapping[str, Any]) -> dict[str, Any]:
        """The part of the environ that is the same for every URL."""
        server: dict[str, Any] = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.errors": sys.stderr,
        }
        told = (*_SERVER, *PERSONAL) if self.personal else _SERVER
        server.update({name: client[name] for name in told if name in client})
        server["SCRIPT_NAME"] = server["SCRIPT_NAME"].rstrip("/")
        return server | self._named


def _named(scheme: str, host: str) -> dict[str, Any]:
    """What an app is told of how it is called. Raises ValueError for another scheme."""
    if scheme not in _PORTS or not host:
        raise ValueError(f"{scheme}://{host} is no host like https://www.example.com")
    return {
        "HTTP_HOST": host,
        "HTTP_X_FORWARDED_PROTO": scheme,
        "SERVER_PORT": _PORTS[scheme],
        "wsgi.url_scheme": scheme,
    }


def _addressed(url: str, server: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the environ that a URL decides. Raises OriginFailed for one of another app."""
    try:
        target = urlsplit(url)
        path = unquote_to_bytes(target.path).decode("latin-1")
        ours = _is_same_host(target, server) and path.startswith(server["SCRIPT_NAME"] + "/")
    except ValueError:
        ours = False
    if not ours:
        raise OriginFailed(
            log=f"redirect to {redact_url(url)}, which is not of the app that was asked"
        )
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path[len(server["SCRIPT_NAME"]) :],
        "QUERY_STRING": target.query,
        "wsgi.input": io.BytesIO(),
    }
    if target.scheme != server["wsgi.url_scheme"]:
        port = _PORTS[target.scheme]
        environ |= {"wsgi.url_scheme": target.scheme, "SERVER_PORT": port}
        # Where a front proxy tells the scheme, the app believes that and not the server.
        told = {"HTTP_X_FORWARDED_PROTO": target.scheme, "HTTP_X_FORWARDED_PORT": port}
        environ |= {name: value for name, value in told.items() if name in server}
    return environ


def _is_same_host(target: SplitResult, server: Mapping[str, Any]) -> bool:
    if target.netloc == _HERE:
        return True
    names = {server.get("HTTP_HOST", ""), server.get("HTTP_X_FORWARDED_HOST", "")} - {""}
    if target.scheme == server["wsgi.url_scheme"]:
        return target.netloc.lower() in {name.lower() for name in names}
    # From http to https the port changes, and only the names can be compared.
    hosts = {urlsplit(f"//{name}").hostname for name in names}
    return target.scheme in _PORTS and "@" not in target.netloc and target.hostname in hosts


class _Call:
    """One call of the app, as PEP 3333 has it."""

    def __init__(
        self, app: WSGIApplication, environ: dict[str, Any], request: FetchRequest
    ) -> None:
        self._app = app
        self._environ = environ
        self._deadline = request.deadline
        self._limit = request.limits.source_bytes
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._written: list[bytes] = []
        self._written_length = 0
        self._body_began = False
        self._iterable: Iterable[bytes] = ()

    def reply(self) -> Reply:
        """Calls the app, and takes chunks of its iterable until it has named a status."""
        with self._blame():
            self._iterable = self._app(self._environ, self._start_response)
            chunks = iter(self._iterable)
        # An app may name its status as late as when it is asked for the first chunk.
        first = b"" if self._status else self._next(chunks)
        with self._blame():
            status = int(self._status.split(" ", 1)[0])
            headers = Headers(self._headers)
        self._body_began = True
        return Reply(status, headers, self._chunks(first, chunks))

    def close(self) -> None:
        close = getattr(self._iterable, "close", None)
        if close is not None:
            with self._blame():
                close()

    def _chunks(self, chunk: bytes | None, rest: Iterator[bytes]) -> Iterator[bytes]:
        while chunk is not None:
            yield from self._drain()
            yield chunk
            chunk = self._next(rest)
        yield from self._drain()

    def _next(self, chunks: Iterator[bytes]) -> bytes | None:
        with self._blame():
            chunk = next(chunks, None)
            if not isinstance(chunk, bytes | None):
                raise TypeError(f"a chunk of the body is of type {type(chunk).__name__}")
            return chunk

    def _drain(self) -> list[bytes]:
        """What write() took since the last time, in its place in the body."""
        if self._written_length > self._limit:  # told here too, should the app have swallowed it
            raise self._too_large()
        written, self._written = self._written, []
        return written

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        if exc_info is not None and exc_info[1] is not None and self._body_began:
            # "if exc_info is provided, and the HTTP headers have already been sent,
            # start_response() must raise an error, and should re-raise using the exc_info tuple"
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._status:
            raise AssertionError("start_response() was called twice without exc_info")
        self._status, self._headers = status, list(headers)
        return self._write

    def _write(self, chunk: bytes) -> None:
        # Whoever reads the body counts and looks at the clock, but an app that writes it all
        # before it returns has no reader yet.
        self._body_began = True
        self._written_length += len(chunk)
        if self._deadline.passed:
            raise OriginTimeout
        if self._written_length > self._limit:
            raise self._too_large()
        self._written.append(chunk)

    def _too_large(self) -> SourceTooLarge:
        path = self._environ["PATH_INFO"]
        return SourceTooLarge(
            log=f"{path!r}: more bytes than max_source_bytes, which is {self._limit}"
        )

    @contextmanager
    def _blame(self) -> Iterator[None]:
        """What the app raises becomes OriginFailed, except our own errors out of write()."""
        try:
            yield
        except (SourceTooLarge, OriginTimeout):
            raise
        except Exception as error:
            path = self._environ["PATH_INFO"]
            told = f"{type(error).__name__}: {error}"
            raise OriginFailed(log=f"the app failed on {path!r}: {told}") from error
