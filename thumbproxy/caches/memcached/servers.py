"""Queries to memcached servers, any of which may fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.memcached.client import Client, MakeClient
from thumbproxy.caches.memcached.protocol import Patience
from thumbproxy.core.forking import PerProcess
from thumbproxy.telemetry.metrics import Metrics

T = TypeVar("T")
_PAUSE_SECONDS = 1.0


class Servers:
    """The servers of a cache, by as many clients as threads ask at the same time.

    name         for messages
    make_client  a new client of them; quick, and asks nobody
    """

    def __init__(self, name: str, make_client: MakeClient, metrics: Metrics | None = None) -> None:
        self.name = name
        self._make_client = make_client
        self._breaker = Breaker(name, _PAUSE_SECONDS, "memcached", metrics or Metrics())
        self._idle = PerProcess[list[Client]](list, _abandon)

    def ask(
        self,
        question: Callable[[Client], T],
        otherwise: T,
        *,
        urgent: bool = False,
        times: float = 1,
    ) -> T:
        """The answer, or `otherwise` when memcached fails or, unless it is urgent, has just
        failed. Never raises what goes wrong with a question: a tier that fails is a miss.

        times: as patient as usual
        """
        if not (self._breaker.admits() or urgent):
            return otherwise
        idle = self._idle.value
        try:
            client = idle.pop()
        except IndexError:  # others have them all
            client = None
        try:
            client = client or self._make_client()
            client.patience = Patience(times)
            answer = question(client)
        except Exception as error:
            if client is not None:
                client.close()
            self._breaker.failed(str(error) if isinstance(error, OSError) else repr(error))
            return otherwise
        idle.append(client)
        self._breaker.succeeded()
        return answer


def _abandon(parents: list[Client]) -> None:
    """A forked connection mixes up replies. So a child makes its own."""
    for client in parents:
        client.abandon()
