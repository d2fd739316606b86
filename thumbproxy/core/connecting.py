"""TCP connections with a deadline."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from thumbproxy.core.limits import Deadline

Answer = tuple[socket.AddressFamily, Any]


class Lookup:
    """The addresses of a host.

    getaddrinfo() has no timeout, and a resolver that is down keeps it for half a minute. So it is
    asked by a thread that can be left behind; an address needs none. Raises OSError if there can be
    no thread.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._answered = threading.Event()
        self._answers: list[Answer] = []
        # Not an exception that was raised: it would keep all that it comes by.
        self._fault: tuple[type[OSError], tuple[Any, ...]] | None = None
        with suppress(socket.gaierror):
            self._answers = _look_up(host, port, socket.AI_NUMERICHOST)
            self._answered.set()
            return
        asking = threading.Thread(
            target=self._ask, args=(port,), name=f"resolve {host}", daemon=True
        )
        try:
            asking.start()
        except RuntimeError as error:  # no more threads
            raise OSError(errno.ENOMEM, str(error)) from None

    @property
    def answered(self) -> bool:
        return self._answered.is_set()

    def addresses(self, deadline: Deadline) -> list[Answer]:
        """Raises OSError, TimeoutError among them; after that one it may be asked again."""
        if not self._answered.wait(deadline.remaining):
            raise TimeoutError(f"the name {self._host!r} was not resolved in time")
        if self._fault is not None:
            kind, why = self._fault
            raise kind(*why)
        return self._answers

    def _ask(self, port: int) -> None:
        try:
            self._answers = _look_up(self._host, port)
        except OSError as error:
            self._fault = type(error), error.args
        except UnicodeError as error:  # a label that is empty or too long
            self._fault = OSError, (f"{self._host!r} is no host name: {error}",)
        finally:
            self._answered.set()


def resolve(host: str, port: int, deadline: Deadline) -> list[Answer]:
    """The addresses of a host. Raises OSError, TimeoutError among them."""
    return Lookup(plain(host), port).addresses(deadline)


def plain(host: str) -> str:
    """One spelling of a host: IPv6 literals come with and without brackets."""
    return host.lower().strip("[]")


def _look_up(host: str, port: int, flags: int = 0) -> list[Answer]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def connected(answers: Sequence[Answer], deadline: Deadline) -> socket.socket:
    """A TCP socket, connected to one of the addresses; its timeout is what is left of the time.
    Raises OSError."""
    error: OSError = TimeoutError("no time left to connect")
    for tried, (family, address) in enumerate(answers):
        # One address that swallows packets leaves time for the others.
        share = deadline.within(deadline.remaining / (len(answers) - tried))
        try:
            return _connect(family, address, share, deadline)
        except OSError as failure:
            error = failure
    raise error


def _connect(
    family: socket.AddressFamily, address: Any, share: Deadline, whole: Deadline
) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_time_left(share))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect(address)
        # A TLS handshake comes next.
        connection.settimeout(_time_left(whole))
    except BaseException:
        connection.close()
        raise
    return connection


def _time_left(deadline: Deadline) -> float:
    # 0 would make the socket non-blocking.
    if deadline.passed:
        raise TimeoutError("no time left to connect")
    return deadline.remaining or 0.001
