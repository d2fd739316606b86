"""urllib3's connections, kept alive, that tell a server which fails from a kept connection that
has grown stale, and that know every interim response."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    _Base = HTTPConnection
else:
    _Base = object


class StaleConnection(ConnectionResetError):
    """A kept connection was closed by the server before it answered: asking again is safe."""


def is_stale(error: BaseException | None) -> bool:
    """Whether a StaleConnection is what `error` was raised for."""
    while error is not None and not isinstance(error, StaleConnection):
        error = error.__cause__ or error.__context__
    return error is not None


_WORDS: dict[type[OSError], str] = {
    ConnectionRefusedError: "connection refused by",
    ConnectionResetError: "connection closed by",
    TimeoutError: "no whole answer in time from",
}


def told(error: BaseException, server: str) -> str:
    """What kept us from an answer of `server` ("host:port"), in words; "" if that is not known.

    Libraries wrap what happened in layers and show them all, with the request. Here is nothing of
    the request, so no secret either.
    """
    for cause in _causes(error):
        for kind, words in _WORDS.items():
            if isinstance(cause, kind):
                return f"{words} {server}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {server} is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return f"no connection to {server}: {cause.strerror}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised for: chained, or kept in it as urllib3 does."""
    seen: list[object] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and not any(cause is known for known in seen):
            seen.append(cause)
            yield cause
            waiting += [cause.__cause__ or cause.__context__, getattr(cause, "reason", None)]
            waiting += cause.args


class FinalResponse(http.client.HTTPResponse):
    """Skips every interim response. http.client does so only for 100, and would take a
    103 (Early Hints, RFC 8297) for the final one."""

    def begin(self) -> None:
        super().begin()
        lines = self.headers.get_all("Content-Length", [])
        # http.client reads the first and ignores the others. urllib3 refuses them, but too late:
        # the response stays open.
        if len({value.strip() for line in lines for value in line.split(",")}) > 1:
            raise http.client.HTTPException(f"more than one Content-Length: {lines}")

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        interim = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, int(http.HTTPStatus.CONTINUE) if interim else status, reason


class Kept(_Base):
    """Mixed into a connection: tells when it has grown stale."""

    response_class = FinalResponse
    _answered = False

    def connect(self) -> None:
        self._answered = False
        super().connect()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except ConnectionError as error:  # http.client.RemoteDisconnected is one
            if self._answered:
                raise StaleConnection(str(error)) from error
            raise
        self._answered = True
        return response


class KeptHTTPConnection(Kept, HTTPConnection):
    pass


class KeptHTTPSConnection(Kept, HTTPSConnection):
    pass


class KeptHTTPPool(HTTPConnectionPool):
    ConnectionCls = KeptHTTPConnection


class KeptHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = KeptHTTPSConnection
