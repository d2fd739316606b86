"""Leases in memcached: of several hosts one does a piece of work at a time."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pylibmc

from thumbproxy.caches.seal import Seal
from thumbproxy.caches.servers import Servers, found
from thumbproxy.concurrency import Among, Hold
from thumbproxy.limits import Deadline

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_PROCESS = secrets.token_hex(8)


class SealedLease:
    """Implements concurrency.Lease among all who have one seal; a failing memcached grants all.

    host     names those among whom a nearer lease lets one do a piece of work at a time;
             "" if there is none, and each process stands for itself
    seconds  after which a lease is free though its holder has not said so
    """

    among: Among = "fleet"

    def __init__(self, seal: Seal, servers: Servers, *, host: str, seconds: int) -> None:
        self._seal = seal
        self._servers = servers
        self._host = host
        self._seconds = seconds

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        name = self._seal.key("lease", key)
        value = self._seal.frame(name, self._holder())
        hold, pause, leased = Hold.AT_ONCE, _SHORTEST_PAUSE, None
        ask = self._servers.ask
        while (leased := ask(lambda client: self._leased(name, value, client), None)) is False:
            if patience.passed:
                yield Hold.NOT
                return
            hold = Hold.AFTER_OTHERS
            time.sleep(min(pause, patience.remaining))
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            yield hold
        finally:
            if leased:  # though memcached may just have failed: others wait for this
                ask(lambda client: _returned(name, value, client), False, urgent=True)

    def _holder(self) -> bytes:
        return (self._host or f"{_PROCESS}-{os.getpid()}").encode()

    def _leased(self, name: bytes, value: bytes, client: pylibmc.Client) -> bool:
        if client.add(name.hex(), value, time=self._seconds):
            return True
        there = found(client, name)
        if there is not None and self._seal.unframe(name, there) is None:
            # Nobody's who works with us, and it may stay for ever.
            return bool(client.set(name.hex(), value, time=self._seconds))
        # Of ours one holds it at a time, and that is who asks: the one before has died.
        return bool(there == value)


def _returned(name: bytes, value: bytes, client: pylibmc.Client) -> bool:
    return client.get(name.hex()) == value and bool(client.delete(name.hex()))
