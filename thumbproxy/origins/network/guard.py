"""Connections that are made only to addresses that were checked before."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from thumbproxy.core.connecting import Answer, connected, plain, resolve
from thumbproxy.core.errors import OriginFailed
from thumbproxy.core.limits import Deadline
from thumbproxy.origins.network.addresses import AllowedNetworks
from thumbproxy.urls.hosts import PORTS, AllowedHosts, Server


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
        self._trusted = frozenset((plain(server.host), server.port) for server in trusted)
        self._networks = networks
        self._ports = frozenset(ports)
        self._hosts = hosts

    def trusts(self, server: Server) -> bool:
        return (plain(server.host), server.port) in self._trusted

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
        if (plain(host), port) not in self._trusted:
            self._check(host, answers)
        return connected(answers, deadline)

    def _check(self, host: str, answers: list[Answer]) -> None:
        for _, address in answers:
            text = str(address[0])
            if text not in self._networks:
                raise OriginFailed(
                    log=f"{host} has the address {text}, "
                    "which is neither public nor in allow_networks"
                )
