"""The contract of a CDN."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from thumbproxy.caches.base import Scope


@runtime_checkable
class Cdn(Protocol):
    """A cache in front of us that can be told what is no longer good.

    name  what a purge's result calls it
    """

    name: str

    def purge(self, scope: Scope) -> None:
        """Have it forget what `scope` covers; some seconds may pass until all of its places have.

        Tries again where that helps, for half a minute at most. Raises PurgeFailed, whose message
        holds no secret.
        """
        ...
