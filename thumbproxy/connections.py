"""urllib3's connections, kept alive, that tell a server which fails from a kept connection that
has grown stale, and that know every interim response."""

from __future__ import annotations

import http.client
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
