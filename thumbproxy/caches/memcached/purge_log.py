"""The log of purges in memcached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from thumbproxy.caches.memcached.authenticated import Seal
from thumbproxy.caches.memcached.client import Client
from thumbproxy.caches.purge_log import Purge, PurgeLog, new_log, read_log

_ATTEMPTS = 20
# The purges that this process knows of.
Heard = Callable[[], Iterable[Purge]]


class SharedLog:
    """The log of all who have one seal.

    last  as this process has read it last
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self.key = seal.key("purges")
        # With the value that it was read from, which need not be read twice.
        self._read: tuple[bytes, PurgeLog] | None = None

    @property
    def last(self) -> PurgeLog | None:
        return self._read[1] if self._read else None

    def read(self, client: Client, heard: Heard) -> PurgeLog:
        return self.known(client.get(self.key), client, heard)

    def known(self, value: bytes | None, client: Client, heard: Heard) -> PurgeLog:
        """The log in `value`. Where there is none, what this process has heard of is put there;
        nobody knows what else was in it, so nothing that was shared before counts any more."""
        log = self._opened(value)
        if log is None:
            log = new_log(heard())
            framed = self._seal.frame(self.key, log.to_json())
            if value is not None:
                client.set(self.key, framed)
            elif not client.add(self.key, framed):  # somebody else was faster
                return self._opened(client.get(self.key)) or log
            self._read = framed, log
        return log

    def tell(self, purges: Sequence[Purge], client: Client, heard: Heard) -> bool:
        """Put purges into the log. Whether it was done."""
        for _ in range(_ATTEMPTS):
            self.read(client, heard)  # which makes one where there is none
            value, token = client.gets(self.key)
            log = self._opened(value)
            if log is not None:
                framed = self._seal.frame(self.key, log.with_purges(purges).to_json())
                if client.cas(self.key, framed, token):
                    self._opened(framed)
                    return True
        return False

    def _opened(self, value: bytes | None) -> PurgeLog | None:
        if self._read is not None and self._read[0] == value:
            return self._read[1]
        payload = self._seal.unframe(self.key, value)
        log = None if payload is None else read_log(payload)
        if log is not None and value is not None:
            self._read = value, log
        return log
