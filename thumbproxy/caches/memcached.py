"""The memcached tier: shared between hosts, bytes only, believed only when it proves itself.

A value is a frame: magic with the format's version, a MAC over its key and the payload, and the
payload. So a reply to another request (a connection shared by a fork), a truncated value, one of
another release, or one that somebody else wrote, is a miss. Keys are hexadecimal digests: nothing
of a URL gets into the protocol.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pylibmc

from thumbproxy.caches.base import (
    FailureRecord,
    Record,
    Removed,
    Scope,
    SourceRecord,
    read_record,
    settle,
)
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.purges import RETENTION, Purge, PurgeLog, new_log, new_purge, read_log
from thumbproxy.concurrency import Hold
from thumbproxy.errors import PurgeFailed
from thumbproxy.limits import Deadline
from thumbproxy.media import Rendition
from thumbproxy.metrics import Metrics, Tier, Where
from thumbproxy.urls import ImageRequest

T = TypeVar("T")

# The server's default limit is 1 MiB for item and key together; a failed set also deletes.
LARGEST_VALUE = 1_000_000
# Of all the timeouts of libmemcached this alone holds against a server that has stopped.
_POLL_TIMEOUT_MS = 50
_PAUSE_SECONDS = 1.0
_MAGIC = b"thumbproxy\x01\n"
_FRAME = struct.Struct(f"!{len(_MAGIC)}s16s")
_RENDITION = struct.Struct("!32s16sQ")
_FAILURE_SECONDS = 60
_ATTEMPTS = 20
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_HIT = "hit; detail=memcached"


class MemcachedCache:
    """Renditions and records in memcached.

    servers        "host:port", each
    secret         known to all hosts of a site and to nobody else; other sites share nothing
    namespace      keeps caches of one secret apart
    host           names those among whom a nearer lease lets one do a piece of work at a time;
                   "" if there is none, and each process stands for itself
    lease_seconds  after which a lease is free though its holder has not said so
    """

    tier: Tier = "memcached"
    among: Where = "fleet"

    def __init__(
        self,
        servers: Sequence[str],
        *,
        secret: str,
        namespace: str = "",
        host: str = "",
        lease_seconds: int = 12,
        metrics: Metrics | None = None,
    ) -> None:
        self._servers = list(servers)
        # Not the secret itself: it signs URLs, and a MAC must not be taken for a signature.
        self._secret = hashlib.sha256(
            f"thumbproxy/memcached\0{namespace}\0{secret}".encode()
        ).digest()
        self._host = host
        self._lease_seconds = lease_seconds
        self._breaker = Breaker(
            f"memcached {', '.join(servers)}", _PAUSE_SECONDS, self.tier, metrics or Metrics()
        )
        self._local = threading.local()
        self._process = secrets.token_hex(8)
        self._log_key = self._key("purges")
        self._log: tuple[bytes, PurgeLog] | None = None

    def record(self, source: str) -> Record | None:
        key = self._record_key(source)
        return self._ask(lambda client: self._read_record(source, key, client), None)

    def set_record(self, source: str, record: Record) -> Record:
        key = self._record_key(source)

        def exchange(client: pylibmc.Client) -> Record:
            standing = self._read_record(source, key, client)
            if self._purged(source, record):
                return record
            settled = settle(standing, record)
            client.set(key.hex(), self._record_frame(key, settled), time=_lifetime(settled))
            return settled

        return self._ask(exchange, record)

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition, if it was made under this record; without a record nothing counts."""
        if record is None:
            return None
        key = self._rendition_key(request)
        payload = self._ask(lambda client: self._unframe(key, client.get(key.hex())), None)
        if payload is None or len(payload) <= _RENDITION.size:
            return None
        version, generation, modified = _RENDITION.unpack_from(payload)
        if (version, generation) != _stamp(record):
            return None
        body = payload[_RENDITION.size :]
        return Rendition(body, request.format, modified, _HIT, immutable=public)

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        if len(rendition.body) > LARGEST_VALUE:
            return False
        source, key = request.source, self._rendition_key(request)
        record_key = self._record_key(source)
        payload = _RENDITION.pack(*_stamp(record), rendition.modified) + rendition.body

        def store(client: pylibmc.Client) -> bool:
            standing = self._read_record(source, record_key, client)
            if standing is None and not self._purged(source, record):
                # Lost by memcached. Only added: another host may have put a later one.
                framed = self._record_frame(record_key, record)
                client.add(record_key.hex(), framed, time=_lifetime(record))
            elif not record.same_source(standing):
                return False
            framed = self._frame(key, payload)
            return bool(client.set(key.hex(), framed, time=RETENTION))

        return self._ask(store, False)

    def purged_at(self, source: str) -> float:
        """By the log as it was read last, which is with each record."""
        return self._log[1].purged_at(source) if self._log else 0.0

    def purge(self, scope: Scope) -> Removed:
        """What memcached has is not removed, but no longer counts. All other hosts see it in the
        log of purges, and purge themselves."""
        if self.tell([new_purge(scope)]) is None:
            raise PurgeFailed(f"memcached {', '.join(self._servers)} does not answer")
        return Removed()

    # -- the log of purges -----------------------------------------------------------------

    def purges(self) -> PurgeLog | None:
        """The log of purges; None while memcached does not answer."""
        return self._ask(self._read_log, None)

    def tell(self, purges: Sequence[Purge]) -> PurgeLog | None:
        """Put purges into the log; the log then. None while memcached does not answer."""

        def exchange(client: pylibmc.Client) -> PurgeLog | None:
            key = self._log_key.hex()
            for _ in range(_ATTEMPTS):
                self._read_log(client)  # which makes one where there is none
                value, token = client.gets(key)
                log = self._opened_log(value)
                if log is not None:
                    told = log.with_purges(purges)
                    if client.cas(key, self._frame(self._log_key, told.to_json()), token):
                        return told
            return None

        # Not passed over for a failure of a moment ago: others would serve what is purged.
        return self._ask(exchange, None, urgent=True)

    def _read_log(self, client: pylibmc.Client) -> PurgeLog:
        return self._known_log(_found(client, self._log_key), client)

    def _known_log(self, value: Any, client: pylibmc.Client) -> PurgeLog:
        """The log in `value`. Where there is none, what this process knows is put there; nobody
        knows what else was in it, so nothing that was shared before counts any more."""
        log = self._opened_log(value)
        if log is None:
            known = self._log[1].purges.values() if self._log else ()
            log = new_log(known)
            framed = self._frame(self._log_key, log.to_json())
            if value is not None:
                client.set(self._log_key.hex(), framed)
            elif not client.add(self._log_key.hex(), framed):  # somebody else was faster
                return self._opened_log(client.get(self._log_key.hex())) or log
            self._log = framed, log
        return log

    def _opened_log(self, value: Any) -> PurgeLog | None:
        if self._log is not None and self._log[0] == value:
            return self._log[1]
        payload = self._unframe(self._log_key, value)
        log = None if payload is None else read_log(payload)
        if log is not None:
            self._log = value, log
        return log

    def _purged(self, source: str, record: Record) -> bool:
        """Whether the record is of a time before the last purge, as far as was read last. That of
        a failure is no news, and harms nobody."""
        if self._log is None or not isinstance(record, SourceRecord):
            return False
        return record.fetched_at <= self._log[1].purged_at(source)

    # -- leases ----------------------------------------------------------------------------

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        """A lease among hosts; a failing memcached grants all."""
        name = self._key("lease", key)
        value = self._frame(name, self._holder())
        hold, pause, leased = Hold.AT_ONCE, _SHORTEST_PAUSE, None
        while (
            leased := self._ask(lambda client: self._leased(name, value, client), None)
        ) is False:
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
                self._ask(lambda client: self._returned(name, value, client), False, urgent=True)

    def _holder(self) -> bytes:
        return (self._host or f"{self._process}-{os.getpid()}").encode()

    def _leased(self, name: bytes, value: bytes, client: pylibmc.Client) -> bool:
        if client.add(name.hex(), value, time=self._lease_seconds):
            return True
        found = _found(client, name)
        if found is not None and self._unframe(name, found) is None:
            # Nobody's who works with us, and it may stay for ever.
            return bool(client.set(name.hex(), value, time=self._lease_seconds))
        # Of ours one holds it at a time, and that is who asks: the one before has died.
        return bool(found == value)

    def _returned(self, name: bytes, value: bytes, client: pylibmc.Client) -> bool:
        return client.get(name.hex()) == value and bool(client.delete(name.hex()))

    # -- inside ----------------------------------------------------------------------------

    def _record_key(self, source: str) -> bytes:
        return self._key("record", source)

    def _rendition_key(self, request: ImageRequest) -> bytes:
        """Neither signature nor time of expiry: they do not change the picture. That a format was
        negotiated may: such a picture is held to the size of what it replaces."""
        kind = "negotiated" if request.auto else "rendition"
        return self._key(kind, request.source, str(request.options.identity), request.format.value)

    def _key(self, *parts: str) -> bytes:
        return hmac.digest(self._secret, "\0".join(parts).encode(), "sha256")

    def _frame(self, key: bytes, payload: bytes) -> bytes:
        return _FRAME.pack(_MAGIC, self._mac(key, payload)) + payload

    def _unframe(self, key: bytes, value: Any) -> bytes | None:
        """The payload of a value that we framed for this key; None for anything else."""
        if not isinstance(value, bytes) or len(value) < _FRAME.size:
            return None
        magic, mac = _FRAME.unpack_from(value)
        payload = value[_FRAME.size :]
        genuine = hmac.compare_digest(mac, self._mac(key, payload))
        return payload if genuine and magic == _MAGIC else None

    def _mac(self, key: bytes, payload: bytes) -> bytes:
        return hmac.digest(self._secret, key + payload, "sha256")[:16]

    def _read_record(self, source: str, key: bytes, client: pylibmc.Client) -> Record | None:
        found = client.get_multi([key.hex(), self._log_key.hex()])
        log = self._known_log(found.get(self._log_key.hex()), client)
        payload = self._unframe(key, found.get(key.hex())) or b""
        epoch, _, text = payload.partition(b"\n")
        record = read_record(text) if epoch == log.epoch.encode() else None
        return None if record is None or self._purged(source, record) else record

    def _record_frame(self, key: bytes, record: Record) -> bytes:
        """After the log was read."""
        epoch = self._log[1].epoch if self._log else ""
        return self._frame(key, b"%s\n%s" % (epoch.encode(), record.to_json()))

    def _ask(
        self, question: Callable[[pylibmc.Client], T], otherwise: T, *, urgent: bool = False
    ) -> T:
        """The answer, or `otherwise` when memcached fails or, unless it is urgent, has just
        failed."""
        if self._breaker.open and not urgent:
            return otherwise
        try:
            answer = question(self._client())
        except (pylibmc.Error, OSError, ValueError) as error:
            self._local.client = None  # replies to this question may still come: not to be reused
            self._breaker.failed(error)
            return otherwise
        self._breaker.succeeded()
        return answer

    def _client(self) -> pylibmc.Client:
        """This thread's client, made in this process: a forked connection mixes up replies."""
        local, pid = self._local, os.getpid()
        if getattr(local, "client", None) is None or local.pid != pid:
            local.client = _BytesClient(
                self._servers,
                behaviors={
                    "_poll_timeout": _POLL_TIMEOUT_MS,
                    "connect_timeout": _POLL_TIMEOUT_MS,
                    "tcp_nodelay": True,
                    "ketama": True,
                    "cas": True,
                },
            )
            local.pid = pid
        client: pylibmc.Client = local.client
        return client


class _BytesClient(pylibmc.Client):  # type: ignore[misc]
    """Stores bytes as they are. pylibmc would unpickle what the server calls a pickle."""

    def serialize(self, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, value: bytes, flags: int) -> bytes:
        # What has flags is not ours. It is no value, but it is there: `add` would fail for ever.
        return b"" if flags else value


def _found(client: pylibmc.Client, key: bytes) -> bytes | None:
    """A value, or None if there is none. To `get`, one of no bytes is none; but `add` finds it."""
    found: bytes | None = client.get_multi([key.hex()]).get(key.hex())
    return found


def _stamp(record: SourceRecord) -> tuple[bytes, bytes]:
    return bytes.fromhex(record.version), record.generation.encode()


def _lifetime(record: Record) -> int:
    """Seconds for which memcached is to keep a record. A failure must outlive the requests that
    were under way, whose answers it may be later than."""
    if isinstance(record, FailureRecord):
        return _FAILURE_SECONDS
    return RETENTION
