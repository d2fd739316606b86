"""Where memcached servers listen, as a configuration names them."""

from __future__ import annotations

import errno
import os
import socket
import struct

from thumbproxy.core.connecting import Lookup, connected
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline

UNIX = "unix:"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


class Endpoint:
    """A server: "host:port", "[IPv6 address]:port" or "unix:/path".

    host  as it is in the name of the server by which keys are placed: without brackets; a path
    port  0 of a path
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_path = text.startswith(UNIX)
        host, _, port = text.rpartition(":")
        self.host = text.removeprefix(UNIX) if self.is_path else host.strip("[]")
        self.port = 0 if self.is_path else int(port)
        # The look-up of the name: one at most, kept as long as its addresses are good.
        self._lookups = PerProcess[list[Lookup]](list)

    def connect(self, deadline: Deadline) -> socket.socket:
        """A connected socket. Raises OSError, PermissionError where somebody else may have taken
        the place of the server."""
        return self._connect_path(deadline) if self.is_path else self._connect_host(deadline)

    def _connect_host(self, deadline: Deadline) -> socket.socket:
        lookups = self._lookups.value
        if not lookups:
            lookups.append(Lookup(self.host, self.port))
        lookup = lookups[-1]
        try:
            connection = connected(lookup.addresses(deadline), deadline)
        except OSError:
            # One that is slow goes on, and has its answer for a later question.
            if lookup.answered and lookup in lookups:
                lookups.remove(lookup)
            raise
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _connect_path(self, deadline: Deadline) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(deadline.remaining or 0.001)
            connection.connect(self.host)
            self._check_peer(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_peer(self, connection: socket.socket) -> None:
        """Whoever owns the directory decides who may put a socket there. In one where everybody
        may, such as /tmp, that is root: and then the server has to be root's, or ours."""
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        listener = _CREDENTIALS.unpack(credentials)[1]
        owner = os.stat(os.path.dirname(self.host) or ".").st_uid
        if listener not in (0, os.geteuid(), owner):
            raise PermissionError(
                errno.EPERM,
                f"user {listener} listens there, whom neither this process nor the folder "
                "belongs to",
                self.host,
            )
