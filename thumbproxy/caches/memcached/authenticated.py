"""Names and values that nobody can make without knowing a secret.

A value is a frame: magic with the format's version, a MAC over its name and the payload, and the
payload. So a reply to another request (a connection shared by a fork), a truncated value, one of
another release, or one that somebody else wrote, is none. Names are digests: nothing of a URL gets
into a protocol.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

_MAGIC = b"thumbproxy\x01\n"
_FRAME = struct.Struct(f"!{len(_MAGIC)}s16s")


class Seal:
    """The seal of one secret.

    namespace  keeps apart those who have the same secret
    """

    __slots__ = ("_secret", "order")

    def __init__(self, secret: str, namespace: str) -> None:
        # Not the secret itself: it signs URLs, and a MAC must not be taken for a signature.
        self._secret = hashlib.sha256(
            f"thumbproxy/memcached\0{namespace}\0{secret}".encode()
        ).digest()
        # By which all who have several seals sort them alike.
        self.order = self.key("order")

    def key(self, *parts: str) -> bytes:
        return hmac.digest(self._secret, "\0".join(parts).encode(), "sha256")

    def frame(self, key: bytes, payload: bytes) -> bytes:
        return _FRAME.pack(_MAGIC, self._mac(key, payload)) + payload

    def unframe(self, key: bytes, value: bytes | None) -> bytes | None:
        """The payload of a value that was framed for this key; None for anything else."""
        if value is None or len(value) < _FRAME.size:
            return None
        magic, mac = _FRAME.unpack_from(value)
        payload = value[_FRAME.size :]
        genuine = hmac.compare_digest(mac, self._mac(key, payload))
        return payload if genuine and magic == _MAGIC else None

    def _mac(self, key: bytes, payload: bytes) -> bytes:
        return hmac.digest(self._secret, key + payload, "sha256")[:16]
