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
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pylibmc

from thumbproxy.caches.base import SourceRecord, settle
from thumbproxy.caches.breaker import Breaker
from thumbproxy.media import Rendition
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
_GONE = b"gone"
_HIT = "hit; detail=memcached"


class MemcachedCache:
    """Renditions and records in memcached.

    servers    "host:port", each
    secret     known to all hosts of a site and to nobody else; other sites share nothing with it
    namespace  keeps caches of one secret apart
    """

    def __init__(self, servers: Sequence[str], *, secret: str, namespace: str = "") -> None:
        self._servers = list(servers)
        # Not the secret itself: it signs URLs, and a MAC must not be taken for a signature.
        self._secret = hashlib.sha256(
            f"thumbproxy/memcached\0{namespace}\0{secret}".encode()
        ).digest()
        self._breaker = Breaker(f"memcached {', '.join(servers)}", _PAUSE_SECONDS)
        self._local = threading.local()

    def record(self, source: str) -> SourceRecord | None:
        key = self._record_key(source)
        return self._ask(lambda client: self._read_record(key, client), None)

    def set_record(self, source: str, record: SourceRecord) -> SourceRecord:
        key = self._record_key(source)

        def exchange(client: pylibmc.Client) -> SourceRecord:
            standing = settle(self._read_record(key, client), record)
            client.set(key.hex(), self._frame(key, standing.to_json()))
            return standing

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
        keys = self._record_key(request.source), self._rendition_key(request)
        payload = _RENDITION.pack(*_stamp(record), rendition.modified) + rendition.body

        def store(client: pylibmc.Client) -> bool:
            # Only added: a record that was purged or replaced meanwhile must not come back.
            client.add(keys[0].hex(), self._frame(keys[0], record.to_json()))
            return bool(client.set(keys[1].hex(), self._frame(keys[1], payload)))

        return self._ask(store, False)

    def delete(self, source: str) -> None:
        key = self._record_key(source)
        # Overwritten, not deleted: `set` adds the record it knows where there is none.
        self._ask(lambda client: client.set(key.hex(), self._frame(key, _GONE)), False)

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

    def _read_record(self, key: bytes, client: pylibmc.Client) -> SourceRecord | None:
        payload = self._unframe(key, client.get(key.hex()))
        return None if payload is None else SourceRecord.from_json(payload)

    def _ask(self, question: Callable[[pylibmc.Client], T], otherwise: T) -> T:
        """The answer, or `otherwise` when memcached fails or has just failed."""
        if self._breaker.open:
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
                },
            )
            local.pid = pid
        client: pylibmc.Client = local.client
        return client


class _BytesClient(pylibmc.Client):  # type: ignore[misc]
    """Stores bytes as they are. pylibmc would unpickle what the server calls a pickle."""

    def serialize(self, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, value: bytes, flags: int) -> bytes | None:
        return None if flags else value


def _stamp(record: SourceRecord) -> tuple[bytes, bytes]:
    return bytes.fromhex(record.version), record.generation.encode()
