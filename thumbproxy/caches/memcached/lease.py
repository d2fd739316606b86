"""Leases in memcached: of several hosts one does a piece of work at a time.

Whoever can write to memcached can put back a lease that is over, and keep it there. So a lease
says, under its seal, when it was taken, and is believed for some seconds, however long it is there.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from thumbproxy.caches.memcached.authenticated import Seal
from thumbproxy.caches.memcached.client import Client
from thumbproxy.caches.memcached.servers import Servers
from thumbproxy.caches.purge_log import SKEW
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Among, Hold

_ATTEMPTS = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_PROCESS = secrets.token_hex(8)
_TAKEN_AT = struct.Struct("!d")  # unix seconds


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
        hold, pause, leased = Hold.AT_ONCE, _SHORTEST_PAUSE, None
        ask = self._servers.ask
        while (leased := ask(lambda client: self._leased(name, client), None)) is False:
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
                ask(lambda client: self._returned(name, client), False, urgent=True)

    @property
    def _holder(self) -> bytes:
        return (self._host or f"{_PROCESS}-{os.getpid()}").encode()

    def _leased(self, name: bytes, client: Client) -> bool:
        """Whether the work is ours to do now; not while another's lease stands."""
        value = self._seal.frame(name, _TAKEN_AT.pack(time.time()) + self._holder)
        for _ in range(_ATTEMPTS):
            if client.add(name, value, self._seconds):
                return True
            there, token = client.gets(name)
            if there is None:
                continue
            holder = self._holder_of(name, there)
            # Of ours one holds it at a time, and that is who asks: the one before has died.
            if holder is not None and holder != self._holder:
                return False
            if client.cas(name, value, token, self._seconds):
                return True
        return True  # nobody has it, and nobody can have it: such a memcached keeps none

    def _holder_of(self, name: bytes, value: bytes) -> bytes | None:
        """Who has taken this lease; None if nobody has who works with us, or too long ago."""
        payload = self._seal.unframe(name, value)
        if payload is None or len(payload) < _TAKEN_AT.size:
            return None
        (taken_at,) = _TAKEN_AT.unpack_from(payload)
        stands = -SKEW <= time.time() - taken_at <= self._seconds + SKEW
        return payload[_TAKEN_AT.size :] if stands else None

    def _returned(self, name: bytes, client: Client) -> bool:
        there = client.get(name)
        ours = there is not None and self._holder_of(name, there) == self._holder
        return ours and client.delete(name)
