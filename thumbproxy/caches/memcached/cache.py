"""The memcached tier: shared between hosts, bytes only, each value authenticated.

Each secret of a site has a keyspace: the names and values that its seal makes (authenticated.py).
Writes go to the keyspace of the first secret, reads to those of all: so while one secret replaces
another, hosts that have changed already and hosts that have not find each other's work.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from thumbproxy.caches.base import (
    FailureRecord,
    Record,
    Removed,
    Scope,
    SourceRecord,
    merge_records,
    read_record,
)
from thumbproxy.caches.memcached.authenticated import Seal
from thumbproxy.caches.memcached.client import Client, MakeClient, strict_clients
from thumbproxy.caches.memcached.lease import SealedLease
from thumbproxy.caches.memcached.purge_log import SharedLog
from thumbproxy.caches.memcached.servers import Servers
from thumbproxy.caches.purge_log import RETENTION, Purge, PurgeLog, new_purge
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.limits import Deadline
from thumbproxy.core.media import Rendition
from thumbproxy.scheduling.coalescing import Hold, acquire_leases
from thumbproxy.telemetry.metrics import Metrics, Tier, Where
from thumbproxy.urls.codec import ImageRequest

# The server's default limit is 1 MiB for item and key together; a failed set also deletes.
LARGEST_VALUE = 1_000_000
_RENDITION = struct.Struct("!32s16sQ")
_FAILURE_SECONDS = 60
# The patience for telling others of a purge: who does so at the same time has to try again.
_PURGE_TIMES = 8
_HIT = "hit; detail=memcached"


class _Keyspace:
    """What memcached has under one seal."""

    def __init__(self, secret: str, namespace: str) -> None:
        self.seal = Seal(secret, namespace)
        self.log = SharedLog(self.seal)

    def record_key(self, source: str) -> bytes:
        return self.seal.key("record", source)

    def rendition_key(self, request: ImageRequest) -> bytes:
        """Neither signature nor time of expiry: they do not change the picture. That a format was
        negotiated may: such a picture is held to the size of what it replaces."""
        kind = "negotiated" if request.auto else "rendition"
        options, format = str(request.options.identity), request.format.value
        return self.seal.key(kind, request.source, options, format)

    def framed(self, source: str, record: Record) -> bytes:
        """A record; after the log was read."""
        epoch = self.log.last.epoch if self.log.last else ""
        payload = b"%s\n%s" % (epoch.encode(), record.to_json())
        return self.seal.frame(self.record_key(source), payload)

    def record(self, source: str, found: Mapping[bytes, bytes]) -> Record | None:
        """The record among what was found; after the log was read."""
        key = self.record_key(source)
        payload = self.seal.unframe(key, found.get(key)) or b""
        epoch, _, text = payload.partition(b"\n")
        known = self.log.last is not None and epoch == self.log.last.epoch.encode()
        return read_record(text) if known else None


class MemcachedCache:
    """Renditions and records in memcached.

    servers        "host:port" or "unix:/path", each
    secret         known to all hosts of a site and to nobody else; other sites share nothing
    others         secrets of which values are believed as well: of hosts that have not changed to
                   `secret` yet, or have changed to one that comes after it
    namespace      keeps caches of one secret apart
    host           names those among whom a nearer lease lets one do a piece of work at a time;
                   "" if there is none, and each process stands for itself
    lease_seconds  after which a lease is free though its holder has not said so
    clients        by which servers are asked
    """

    tier: Tier = "memcached"
    among: Where = "fleet"

    def __init__(
        self,
        servers: Sequence[str],
        *,
        secret: str,
        others: Sequence[str] = (),
        namespace: str = "",
        host: str = "",
        lease_seconds: int = 5,
        metrics: Metrics | None = None,
        clients: Callable[[Sequence[str]], MakeClient] = strict_clients,
    ) -> None:
        name = f"memcached {', '.join(servers)}"
        self._servers = Servers(name, clients(servers), metrics)
        self._rings = [_Keyspace(each, namespace) for each in (secret, *others)]
        self._first = self._rings[0]
        # In an order that all have, or two hosts could wait for each other.
        self._leases = [
            SealedLease(ring.seal, self._servers, host=host, seconds=lease_seconds)
            for ring in sorted(self._rings, key=lambda ring: ring.seal.order)
        ]
        self._lease_seconds = lease_seconds
        self._merged: tuple[list[PurgeLog], PurgeLog] | None = None

    def record(self, source: str) -> Record | None:
        return self._servers.ask(lambda client: self._read_record(source, client), None)

    def set_record(self, source: str, record: Record) -> Record:
        def exchange(client: Client) -> Record:
            standing = self._read_record(source, client)
            if self._purged(source, record):
                return record
            settled = merge_records(standing, record)
            self._put_record(source, settled, client.set)
            return settled

        return self._servers.ask(exchange, record)

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition, if it was made under this record; without a record nothing counts."""
        if record is None:
            return None
        stamp = _stamp(record)
        payload = self._servers.ask(lambda client: self._find(request, stamp, client), None)
        if payload is None:
            return None
        modified = _RENDITION.unpack_from(payload)[2]
        body = payload[_RENDITION.size :]
        return Rendition(body, request.format, modified, _HIT, immutable=public)

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        if len(rendition.body) > LARGEST_VALUE:
            return False
        payload = _RENDITION.pack(*_stamp(record), rendition.modified) + rendition.body

        def store(client: Client) -> bool:
            standing = self._read_record(request.source, client)
            if standing is None and not self._purged(request.source, record):
                # Lost by memcached. Only added: another host may have put a later one.
                self._put_record(request.source, record, client.add)
            elif not record.same_source(standing):
                return False
            return self._put(request, payload, client)

        return self._servers.ask(store, False)

    def purged_at(self, source: str) -> float:
        """By the log as it was read last, which is with each record."""
        return max(log.purged_at(source) for log in self._logs()) if self._logs() else 0.0

    def purge(self, scope: Scope) -> Removed:
        """What memcached has is not removed, but no longer counts. All other hosts see it in the
        log of purges, and purge themselves."""
        if self.tell([new_purge(scope)]) is None:
            raise PurgeFailed(f"{self._servers.name} does not answer")
        return Removed()

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        """A lease among hosts; a failing memcached grants all. Nobody waits for longer than one
        stands, whatever memcached says."""
        with acquire_leases(self._leases, key, patience.within(self._lease_seconds)) as turn:
            yield turn.hold

    # -- the log of purges -----------------------------------------------------------------

    def purges(self) -> PurgeLog | None:
        """The log of purges; None while memcached does not answer."""

        def read(client: Client) -> PurgeLog:
            for ring in self._rings:
                ring.log.read(client, self._heard)
            return self._log()

        return self._servers.ask(read, None)

    def tell(self, purges: Sequence[Purge]) -> PurgeLog | None:
        """Put purges into the log; the log then. None while memcached does not answer."""

        def exchange(client: Client) -> PurgeLog | None:
            told = [ring.log.tell(purges, client, self._heard) for ring in self._rings]
            return self._log() if all(told) else None

        # Not passed over for a failure of a moment ago: others would serve what is purged.
        return self._servers.ask(exchange, None, urgent=True, times=_PURGE_TIMES)

    def _logs(self) -> list[PurgeLog]:
        return [ring.log.last for ring in self._rings if ring.log.last is not None]

    def _heard(self) -> list[Purge]:
        return [purge for log in self._logs() for purge in log.purges.values()]

    def _log(self) -> PurgeLog:
        """The logs of all rings in one, which is another only when one of them is."""
        logs = self._logs()
        if len(logs) == 1:
            return logs[0]
        if self._merged is None or self._merged[0] != logs:
            dropped = max(log.dropped for log in logs)
            self._merged = logs, PurgeLog(logs[0].epoch, self._heard(), dropped=dropped)
        return self._merged[1]

    def _purged(self, source: str, record: Record) -> bool:
        """Whether the record is of a time before the last purge, as far as was read last. That of
        a failure is no news, and harms nobody."""
        if not isinstance(record, SourceRecord):
            return False
        return record.fetched_at <= self.purged_at(source)

    # -- inside ----------------------------------------------------------------------------

    def _read_record(self, source: str, client: Client) -> Record | None:
        """The latest record of all rings."""
        keys = [key for ring in self._rings for key in (ring.record_key(source), ring.log.key)]
        found = client.get_many(keys)
        for ring in self._rings:
            ring.log.known(found.get(ring.log.key), client, self._heard)
        latest: Record | None = None
        for ring in self._rings:
            record = ring.record(source, found)
            if record is None or self._purged(source, record):
                continue
            if latest is None or record.fetched_at > latest.fetched_at:
                latest = record
                if ring is not self._first:  # so that it is not lost with that ring
                    self._put_record(source, record, client.set)
        return latest

    def _put_record(self, source: str, record: Record, put: Callable[..., object]) -> None:
        key, framed = self._first.record_key(source), self._first.framed(source, record)
        put(key, framed, _lifetime(record))

    def _find(
        self, request: ImageRequest, stamp: tuple[bytes, bytes], client: Client
    ) -> bytes | None:
        for ring in self._rings:
            key = ring.rendition_key(request)
            payload = ring.seal.unframe(key, client.get(key)) or b""
            if len(payload) > _RENDITION.size and _RENDITION.unpack_from(payload)[:2] == stamp:
                if ring is not self._first:
                    self._put(request, payload, client)
                return payload
        return None

    def _put(self, request: ImageRequest, payload: bytes, client: Client) -> bool:
        key = self._first.rendition_key(request)
        framed = self._first.seal.frame(key, payload)
        return client.set(key, framed, RETENTION)


def _stamp(record: SourceRecord) -> tuple[bytes, bytes]:
    return bytes.fromhex(record.version), record.generation.encode()


def _lifetime(record: Record) -> int:
    """Seconds for which memcached is to keep a record. A failure must outlive the requests that
    were under way, whose answers it may be later than; and that there is no picture any more, the
    records of hosts that have not heard of it, which would come back here."""
    if isinstance(record, FailureRecord) and not (record.failure.withdrawn and record.modified):
        return _FAILURE_SECONDS
    return RETENTION
