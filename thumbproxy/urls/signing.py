"""Signatures: the capability to have a thumbnail made."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence

# The environment's list of keys, with commas between.
KEYS_VARIABLE = "THUMBPROXY_KEYS"
SIGNATURE_LENGTH = 22
MINIMUM_KEY_BYTES = 16
_CONTEXT = b"thumbproxy/1\n"


HOW_TO_GIVE_KEYS = (
    f"`thumbproxy keygen` makes one; put it into {KEYS_VARIABLE} or, as a list, into the "
    "configuration."
)


def keys_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys that an environment has, as they are."""
    given = environ.get(KEYS_VARIABLE, "").split(",")
    return tuple(key for part in given if (key := part.strip()))


class Signer:
    """Signs with the newest key, accepts any of them.

    keys  newest first, each of 16 bytes of UTF-8 at least

    To rotate, put a new key in front; to revoke what an old key signed, remove it.
    Raises ValueError for a key that is too short, and if there is none.

    Example:

        from thumbproxy import Signer

        signer = Signer(["your signing key"])
        assert signer.verify("any text", signer.sign("any text"))
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        if isinstance(keys, str):
            raise ValueError("keys must be a list of strings, newest first, not one string")
        self._keys = tuple(key.encode() for key in keys)
        if not self._keys:
            raise ValueError(f"keys: none given. {HOW_TO_GIVE_KEYS}")
        if any(len(key) < MINIMUM_KEY_BYTES for key in self._keys):
            raise ValueError(f"a key needs {MINIMUM_KEY_BYTES} bytes at least; "
                             "`thumbproxy keygen` makes one")  # fmt: skip

    def sign(self, text: str) -> str:
        """22 characters: base64url of the first 16 bytes of HMAC-SHA256 (RFC 2104, RFC 4648)."""
        return _signature(self._keys[0], _CONTEXT + text.encode()).decode()

    def verify(self, text: str, signature: str) -> bool:
        """Whether `signature` is the one spelling of the signature of `text` under any key."""
        message = _CONTEXT + text.encode()
        # Compared as bytes: compare_digest() raises on text that is not ASCII. And compared as
        # text of base64, not decoded: several base64 texts can decode to the same bytes.
        given = signature.encode()
        matches = [hmac.compare_digest(_signature(key, message), given) for key in self._keys]
        return any(matches)

    def __repr__(self) -> str:
        return f"Signer(<{len(self._keys)} keys>)"


def _signature(key: bytes, message: bytes) -> bytes:
    mac = hmac.digest(key, message, "sha256")[:16]
    return base64.urlsafe_b64encode(mac)[:SIGNATURE_LENGTH]
