"""Connections for fetching sources: a deadline for the whole response, and checked addresses."""

from __future__ import annotations

import functools
import io
import socket
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from thumbproxy.core.limits import Deadline
from thumbproxy.http.client_connections import Kept
from thumbproxy.http.framing import FinalResponse
from thumbproxy.origins.network.guard import Guard

_BUFFER = 64 * 1024

if TYPE_CHECKING:
    _PoolBase = HTTPConnectionPool
else:
    _PoolBase = object


class _TimedReader(io.RawIOBase):
    """Reads a socket until a deadline. The socket's own timeout is for each read, and never ends
    a reply that comes a byte at a time."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._socket = connection
        self._file = connection.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline.remaining
        if not remaining:
            raise TimeoutError("the deadline has passed")
        self._socket.settimeout(remaining)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class TimedResponse(FinalResponse):
    folds = False

    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, deadline), _BUFFER)


class _Guarded(Kept):
    """Takes its timeout as the time for everything, and connects where its guard allows."""

    guard: Guard

    def _new_conn(self) -> socket.socket:
        try:
            return self.guard.connect(self._dns_host, self.port, Deadline(self.timeout or 0.0))
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host}: {error}") from error
        except OSError as error:
            raise NewConnectionError(self, f"{self.host}: {error}") from error

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        # urllib3 has set `timeout` to what is left of urllib3.Timeout(total=…).
        deadline = Deadline(self.timeout or 0.0)
        timed: Any = functools.partial(TimedResponse, deadline=deadline)
        self.response_class = timed
        return super().getresponse()


class GuardedHTTPConnection(_Guarded, HTTPConnection):
    pass


class GuardedHTTPSConnection(_Guarded, HTTPSConnection):
    pass


class _GuardedPool(_PoolBase):
    def __init__(self, *args: Any, guard: Guard, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = guard

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.guard = self._guard
        return connection


class GuardedHTTPPool(_GuardedPool, HTTPConnectionPool):
    ConnectionCls = GuardedHTTPConnection


class GuardedHTTPSPool(_GuardedPool, HTTPSConnectionPool):
    ConnectionCls = GuardedHTTPSConnection
