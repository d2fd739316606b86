"""Whether the client of a request is still connected, as far as its server allows to find out.

The kernel is asked itself, by poll(2). Python's sockets and its `select` may wait where they were
told not to: a socket that has a timeout does, and so does everything that gevent has patched.
"""

from __future__ import annotations

import ctypes
import select
from collections.abc import Mapping
from typing import Any, Protocol

from thumbproxy.core import uwsgi
from thumbproxy.scheduling.admission import Wanted, always

# Where servers put the connection of a request.
_CONNECTIONS = ("gunicorn.socket", "gunicorn.sock", "werkzeug.socket")
# waitress has no more than a method, which knows it if channel_request_lookahead is set.
_METHOD = "waitress.client_disconnected"
_libc = ctypes.CDLL(None)


class _Connection(Protocol):
    def fileno(self) -> int: ...


def client_stays(environ: Mapping[str, Any]) -> Wanted:
    """Whether the client of a WSGI request has not hung up yet.

    A client that has said all it has to say, and still listens, looks the same as one that is gone;
    like nginx, we take both for gone. `always`, where the server shows nothing.
    """
    if _METHOD in environ:
        disconnected = environ[_METHOD]
        return lambda: not disconnected()
    connection = _connection(environ)
    if connection is None:
        return always

    def stays() -> bool:
        try:
            return not _hung_up(connection.fileno())
        except OSError:
            return False

    return stays


def _connection(environ: Mapping[str, Any]) -> _Connection | None:
    for name in _CONNECTIONS:
        if hasattr(environ.get(name), "fileno"):
            found: _Connection = environ[name]
            return found
    server = uwsgi.server() if "uwsgi.version" in environ else None
    return None if server is None else uwsgi.RequestConnection(server)


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def _hung_up(descriptor: int) -> bool:
    """Whether the other side of a connection sends nothing any more, or there is no connection.

    What it has sent before need not have been read, so this is right for TLS, too.
    """
    asked = _PollFd(descriptor, select.POLLRDHUP)
    return descriptor < 0 or _libc.poll(ctypes.byref(asked), 1, 0) > 0
