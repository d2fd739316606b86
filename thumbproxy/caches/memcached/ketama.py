"""Which of several servers has a key: as libmemcached places keys that pylibmc asks for with
`ketama`, so that hosts that ask by different clients share what they keep.

Each server has 100 points on a ring of 32 bits. A key is where the first point at or after its
own hash is. Taking a server away moves only the keys that it had.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from thumbproxy.core.endpoints import Endpoint

_POINTS = 100
_DEFAULT_PORT = 11211


class Ring:
    __slots__ = ("_hashes", "_servers")

    def __init__(self, servers: Sequence[Endpoint]) -> None:
        points = sorted(
            (_hash(f"{_name(server)}-{point}".encode()), number)
            for number, server in enumerate(servers)
            for point in range(_POINTS)
        )
        self._hashes = [hash for hash, _ in points]
        self._servers = [number for _, number in points]

    def place(self, name: bytes) -> int:
        """The number of the server that has what is called `name`."""
        return self._servers[bisect_left(self._hashes, _hash(name)) % len(self._servers)]


def _name(server: Endpoint) -> str:
    return server.host if server.port == _DEFAULT_PORT else f"{server.host}:{server.port}"


def _hash(text: bytes) -> int:
    """Jenkins's one_at_a_time, which is libmemcached's default."""
    value = 0
    for byte in text:
        value = (value + byte) * 1025 & 0xFFFFFFFF
        value ^= value >> 6
    value = value * 9 & 0xFFFFFFFF
    value ^= value >> 11
    return value * 32769 & 0xFFFFFFFF
