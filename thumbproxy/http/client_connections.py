"""urllib3's connections, kept alive, that tell a server which fails from a kept connection that
has grown stale, and notice an answer that comes before the request is sent."""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from thumbproxy.http.framing import FinalResponse

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


def is_timeout(error: BaseException) -> bool:
    """Whether a server did not answer in time, or did not take what it was sent."""
    # urllib3 counts a refused connection among the timeouts.
    return any(
        isinstance(cause, ConnectTimeoutError | ReadTimeoutError | TimeoutError)
        and not isinstance(cause, NewConnectionError)
        for cause in _causes(error)
    )


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


# The beginning of a response that is an error.
_REFUSAL = re.compile(rb"HTTP/1\.[01] [45]")


def _refuses(sock: socket.socket) -> bool:
    """Whether what has come is an error, or the end of the connection."""
    come = sock.recv(16, socket.MSG_PEEK)
    return not come or _REFUSAL.match(come) is not None


class Kept(_Base):
    """Mixed into a connection: tells when it has grown stale, and stops sending a request to a
    server that has answered it already."""

    response_class = FinalResponse
    _answered = False
    _cut = False  # the request was not sent whole

    def connect(self) -> None:
        self._answered = self._cut = False
        super().connect()

    def send(self, data: Any) -> None:
        try:
            if type(self.sock) is socket.socket:
                self._send_unrefused(self.sock, memoryview(data))
            else:  # not yet connected; or TLS, whose own messages make it readable
                super().send(data)
        except OSError:
            self._cut = True
            raise

    def _send_unrefused(self, sock: socket.socket, data: memoryview) -> None:
        """Raises BrokenPipeError, after which urllib3 reads the response, if it is a refusal.

        "A client that receives a response while it is still sending the associated request SHOULD
        continue sending that request unless it receives an explicit indication to the contrary"
        (RFC 9110 section 7.5). That is an error, the end of the connection, or that the server
        takes nothing until the timeout.
        """
        poll, timeout, answered = select.poll(), sock.gettimeout(), False
        poll.register(sock, select.POLLOUT | select.POLLIN)
        while data:
            ready = poll.poll(None if timeout is None else timeout * 1000)
            if not ready and not answered:
                raise TimeoutError("it neither takes the request nor answers it")
            if not ready or (ready[0][1] & select.POLLIN and not answered and _refuses(sock)):
                raise BrokenPipeError("it has answered before it had the whole request")
            if ready[0][1] & select.POLLIN and not answered:
                answered = True
                poll.modify(sock, select.POLLOUT)
            else:
                data = data[sock.send(data) :]

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except ConnectionError as error:  # http.client.RemoteDisconnected is one
            if self._answered:
                raise StaleConnection(str(error)) from error
            raise
        self._answered = True
        if self._cut and self.sock is not None:
            # What is sent next would be taken for the rest. The response has the socket, too, and
            # is read on.
            self.sock.close()
            self.sock = None
        return response


class KeptHTTPConnection(Kept, HTTPConnection):
    pass


class KeptHTTPSConnection(Kept, HTTPSConnection):
    pass


class KeptHTTPPool(HTTPConnectionPool):
    ConnectionCls = KeptHTTPConnection


class KeptHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = KeptHTTPSConnection
