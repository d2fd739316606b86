"""Questions to memcached servers, which may not answer. pylibmc, with what it takes to trust it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pylibmc

from thumbproxy.caches.breaker import Breaker
from thumbproxy.forking import PerProcess
from thumbproxy.metrics import Metrics

T = TypeVar("T")
# Of all the timeouts of libmemcached this alone holds against a server that has stopped.
_POLL_TIMEOUT_MS = 50
_PAUSE_SECONDS = 1.0
# A forked connection mixes up replies, and one that is closed says so to the server on behalf of
# all who have it. So a child leaves its parent's alone, for ever.
_parents: list[list[pylibmc.Client]] = []


class Servers:
    """servers: "host:port", each"""

    def __init__(self, servers: Sequence[str], metrics: Metrics | None = None) -> None:
        self._servers = list(servers)
        self.name = f"memcached {', '.join(servers)}"
        self._breaker = Breaker(self.name, _PAUSE_SECONDS, "memcached", metrics or Metrics())
        self._idle = PerProcess[list[pylibmc.Client]](list, _parents.append)

    def ask(
        self, question: Callable[[pylibmc.Client], T], otherwise: T, *, urgent: bool = False
    ) -> T:
        """The answer, or `otherwise` when memcached fails or, unless it is urgent, has just
        failed."""
        if not (self._breaker.admits() or urgent):
            return otherwise
        idle = self._idle.value
        try:
            client = idle.pop()
        except IndexError:  # others have them all
            client = self._new_client()
        try:
            answer = question(client)
        except pylibmc.TooBig:
            answer = otherwise  # its largest item is smaller than usual; but it is well
        except (pylibmc.Error, OSError, ValueError) as error:
            # The client is not used again: replies to this question may still come.
            self._breaker.failed(f"{error}")
            return otherwise
        idle.append(client)
        self._breaker.succeeded()
        return answer

    def _new_client(self) -> pylibmc.Client:
        return _BytesClient(
            self._servers,
            behaviors={
                "_poll_timeout": _POLL_TIMEOUT_MS,
                "connect_timeout": _POLL_TIMEOUT_MS,
                "tcp_nodelay": True,
                "ketama": True,
                "cas": True,
            },
        )


class _BytesClient(pylibmc.Client):  # type: ignore[misc]
    """Stores bytes as they are. pylibmc would unpickle what the server calls a pickle."""

    def serialize(self, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, value: bytes, flags: int) -> bytes:
        # What has flags is not ours. It is no value, but it is there: `add` would fail for ever.
        return b"" if flags else value


def found(client: pylibmc.Client, key: bytes) -> bytes | None:
    """A value, or None if there is none. To `get`, one of no bytes is none; but `add` finds it."""
    value: bytes | None = client.get_multi([key.hex()]).get(key.hex())
    return value
