"""memcached by pylibmc, which is libmemcached: for servers that are trusted.

Both take what a server says as it comes. pylibmc has room for as many values as were asked for, and
libmemcached for keys of 250 bytes; neither bounds values, nor the time that one takes. So
whoever is the server can do with this process as it likes (SECURITY.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import pylibmc

from thumbproxy.caches.memcached import protocol
from thumbproxy.caches.memcached.client import MakeClient
from thumbproxy.caches.memcached.protocol import Patience
from thumbproxy.core.endpoints import UNIX

# A client that is closed says so to the server, on a connection that a child has from its parent.
# So a child leaves its parent's alone, for ever.
_parents: list[pylibmc.Client] = []


class LibmemcachedClient:
    """Implements Client; of patience it knows nothing, but a server that is silent for SILENCE
    has failed.

    Names are bytes that we hold: those of `str` are freed by pylibmc's `gets` before they are used.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self.patience = Patience(0)
        milliseconds = round(1000 * protocol.SILENCE)
        self._client = _BytesClient(
            [server.removeprefix(UNIX) for server in servers],
            behaviors={
                # Of all its timeouts this alone holds against a server that has stopped.
                "_poll_timeout": milliseconds,
                "connect_timeout": milliseconds,
                "tcp_nodelay": True,
                "ketama": True,
                "cas": True,
            },
        )

    def get(self, key: bytes) -> bytes | None:
        # Its own `get` takes a value of no bytes for none.
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        names = {_name(key): key for key in keys}
        found = self._client.get_multi(list(names))
        return {names[name]: value for name, value in found.items()}

    def gets(self, key: bytes) -> tuple[bytes | None, bytes]:
        name = _name(key)
        value, token = self._client.gets(name)
        return value, b"%d" % token if value is not None else b""

    def set(self, key: bytes, value: bytes, seconds: int = 0) -> bool:
        name = _name(key)
        try:
            return bool(self._client.set(name, value, time=seconds))
        except pylibmc.TooBig:  # its largest item is smaller than usual; but it is well
            return False

    def add(self, key: bytes, value: bytes, seconds: int = 0) -> bool:
        name = _name(key)
        return bool(self._client.add(name, value, time=seconds))

    def cas(self, key: bytes, value: bytes, token: bytes, seconds: int = 0) -> bool:
        name = _name(key)
        try:
            return bool(self._client.cas(name, value, int(token), time=seconds))
        except pylibmc.NotFound:
            return False

    def delete(self, key: bytes) -> bool:
        name = _name(key)
        return bool(self._client.delete(name))

    def close(self) -> None:
        """It closes its connections when it is gone."""

    def abandon(self) -> None:
        _parents.append(self._client)


class _BytesClient(pylibmc.Client):  # type: ignore[misc]
    """Stores bytes as they are. pylibmc would unpickle what the server calls a pickle."""

    def serialize(self, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, value: bytes, flags: int) -> bytes:
        # What has flags is not ours. It is no value, but it is there: `add` fails.
        return b"" if flags else value


def _name(key: bytes) -> bytes:
    return key.hex().encode()


def libmemcached_clients(servers: Sequence[str]) -> MakeClient:
    """Makes clients of servers: "host:port" or "unix:/path", each."""
    return lambda: LibmemcachedClient(servers)
