"""A memcached client that accepts nothing that it has not asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from thumbproxy.caches.memcached import protocol
from thumbproxy.caches.memcached.ketama import Ring
from thumbproxy.caches.memcached.protocol import LARGEST_ITEM, Conversation, Found, Patience
from thumbproxy.core.endpoints import Endpoint
from thumbproxy.core.limits import Deadline

_NOT_THERE = None, b""


class Client(Protocol):
    """Questions to the servers of a cache, by one thread at a time. What raises has failed as a
    whole, and is not asked again: the rest of its answer may still come.

    Keys are digests of 32 bytes; what is no value of plain bytes is found as b"". Seconds of 0: for
    as long as there is room.

    patience  for all that is asked from now on
    """

    patience: Patience

    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]: ...

    def gets(self, key: bytes) -> tuple[bytes | None, bytes]:
        """A value, and the token by which `cas` replaces this value only."""
        ...

    def set(self, key: bytes, value: bytes, seconds: int = 0) -> bool: ...
    def add(self, key: bytes, value: bytes, seconds: int = 0) -> bool: ...
    def cas(self, key: bytes, value: bytes, token: bytes, seconds: int = 0) -> bool: ...
    def delete(self, key: bytes) -> bool: ...
    def close(self) -> None: ...

    def abandon(self) -> None:
        """In a forked child, whose parent goes on with the same connections."""
        ...


MakeClient = Callable[[], Client]


class StrictClient:
    """Implements Client on our own: what a server may answer, and no more.

    Connections are made when they are needed, one to each server, and are kept.
    """

    def __init__(self, servers: Sequence[Endpoint], ring: Ring) -> None:
        self.patience = Patience(0)
        self._servers = servers
        self._ring = ring if len(servers) > 1 else None
        self._conversations: dict[int, Conversation] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._found(key, b"get")[0]

    def gets(self, key: bytes) -> tuple[bytes | None, bytes]:
        return self._found(key, b"gets")

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = self._ask(b"get", {key.hex().encode(): key for key in keys})
        return {key: value for key, (value, _) in found.items()}

    def set(self, key: bytes, value: bytes, seconds: int = 0) -> bool:
        return self._store(b"set", key, value, seconds)

    def add(self, key: bytes, value: bytes, seconds: int = 0) -> bool:
        return self._store(b"add", key, value, seconds)

    def cas(self, key: bytes, value: bytes, token: bytes, seconds: int = 0) -> bool:
        return self._store(b"cas", key, value, seconds, token)

    def delete(self, key: bytes) -> bool:
        name = key.hex().encode()
        return self._with(self._place(name)).delete(name, self.patience)

    def close(self) -> None:
        for conversation in self._conversations.values():
            conversation.close()

    # Nothing is said to the server, whose connection is still its parent's.
    abandon = close

    # -- inside ----------------------------------------------------------------------------

    def _found(self, key: bytes, command: bytes) -> tuple[bytes | None, bytes]:
        return self._ask(command, {key.hex().encode(): key}).get(key, _NOT_THERE)

    def _ask(self, command: bytes, keys: Mapping[bytes, bytes]) -> dict[bytes, Found]:
        """By name, the keys that are asked for. All servers are asked before any is heard."""
        names: dict[int, list[bytes]] = {}
        for name in keys:
            names.setdefault(self._place(name), []).append(name)
        for number, some in names.items():
            self._with(number).ask(command, some, self.patience)
        found: dict[bytes, Found] = {}
        for number, some in names.items():
            answer = self._conversations[number].values(command, some, self.patience)
            found.update((keys[name], value) for name, value in answer.items())
        return found

    def _store(
        self, command: bytes, key: bytes, value: bytes, seconds: int, token: bytes = b""
    ) -> bool:
        if len(value) > LARGEST_ITEM:
            return False
        name = key.hex().encode()
        conversation = self._with(self._place(name))
        return conversation.store(command, name, value, seconds, token, self.patience)

    def _place(self, name: bytes) -> int:
        return self._ring.place(name) if self._ring else 0

    def _with(self, number: int) -> Conversation:
        """A conversation with a server in which the next question can be asked."""
        known = self._conversations.get(number)
        if known is not None:
            if known.stands:
                return known
            known.close()
        made = Conversation(self._servers[number].connect(Deadline(2 * protocol.SILENCE)))
        self._conversations[number] = made
        return made


def strict_clients(servers: Sequence[str]) -> MakeClient:
    """Makes clients of servers: "host:port" or "unix:/path", each."""
    endpoints = [Endpoint(server) for server in servers]
    ring = Ring(endpoints)
    return lambda: StrictClient(endpoints, ring)
