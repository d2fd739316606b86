"""Connections that are only made to addresses which were looked at first."""

from __future__ import annotations

import errno
import queue
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from thumbproxy.errors import OriginFailed
from thumbproxy.hosts import PORTS, AllowedHosts, Server
from thumbproxy.limits import Deadline
from thumbproxy.origins.addresses import AllowedNetworks

Answer = tuple[socket.AddressFamily, Any]


class Guard:
    """Decides where connections may go, and makes them.

    trusted   servers that the configuration names: they may have any address
    networks  the addresses that all others may have
    ports     the ports that others may have, who are only known from redirects
    hosts     the only others that there may be, on whatever port they are named with; None: any
    """

    def __init__(
        self,
        trusted: Iterable[Server],
        networks: AllowedNetworks,
        *,
        ports: Iterable[int] = tuple(PORTS.values()),
        hosts: AllowedHosts | None = None,
    ) -> None:
        self._trusted = frozenset((_plain(server.host), server.port) for server in trusted)
        self._networks = networks
        self._ports = frozenset(ports)
        self._hosts = hosts

    def trusts(self, server: Server) -> bool:
        return (_plain(server.host), server.port) in self._trusted

    def admit(self, server: Server) -> None:
        """Raise OriginFailed for who is not to be asked, before its name is even resolved."""
        if self.trusts(server):
            return
        if self._hosts is not None:
            if server not in self._hosts:
                raise OriginFailed(log=f"redirect to {server.url}, which is not among the hosts")
        elif server.port not in self._ports:
            raise OriginFailed(log=f"redirect to {server.url}, whose port is not in allow_ports")

    def connect(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """A connected TCP socket. Raises OriginFailed for a forbidden address, OSError.

        The name is resolved once, every answer is checked, and what was checked is what is
        connected to: a second look-up could have another answer.
        """
        answers = resolve(host, port, deadline)
        if (_plain(host), port) not in self._trusted:
            self._check(host, answers)
        error: OSError = TimeoutError("no time left to connect")
        for tried, (family, address) in enumerate(answers):
            # One address that swallows packets leaves time for the others.
            share = deadline.within(deadline.remaining / (len(answers) - tried))
            try:
                return _connect(family, address, share, deadline)
            except OSError as failure:
                error = failure
        raise error

    def _check(self, host: str, answers: list[Answer]) -> None:
        for _, address in answers:
            text = str(address[0])
            if text not in self._networks:
                raise OriginFailed(
                    log=f"{host} has the address {text}, "
                    "which is neither public nor in allow_networks"
                )


def _plain(host: str) -> str:
    """One spelling of a host: urllib3 has IPv6 literals with and without brackets."""
    return host.lower().strip("[]")


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


def resolve(host: str, port: int, deadline: Deadline) -> list[Answer]:
    """The addresses of a host. Raises OSError, TimeoutError among them."""
    host = _plain(host)
    with suppress(socket.gaierror):
        return _look_up(host, port, socket.AI_NUMERICHOST)
    # getaddrinfo() has no timeout, and a resolver that is down keeps it for half a minute. It is
    # asked by a thread that can be left behind; connections are kept, so that this is rare.
    outcome: queue.SimpleQueue[list[Answer] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            outcome.put(_look_up(host, port))
        except OSError as error:
            outcome.put(error)
        except UnicodeError as error:  # a label that is empty or too long
            outcome.put(OSError(f"{host!r} is no host name: {error}"))

    try:
        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    except RuntimeError as error:  # no more threads
        raise OSError(errno.ENOMEM, str(error)) from None
    try:
        answers = outcome.get(timeout=deadline.remaining)
    except queue.Empty:
        raise TimeoutError(f"the name {host!r} was not resolved in time") from None
    if isinstance(answers, OSError):
        try:
            raise answers
        finally:
            del answers  # or it would keep all that it comes by
    return answers


def _look_up(host: str, port: int, flags: int = 0) -> list[Answer]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]
