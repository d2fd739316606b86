"""The contract of an origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import ClientTerms, Validators
from thumbproxy.http.cache_control import UNSAID, CacheFields

# What a client has a say in, of all that a personal origin is told of its request.
PERSONAL = (
    "HTTP_HOST", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_PROTO",
    "SCRIPT_NAME", "wsgi.url_scheme",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One question to an origin.

    path        below the origin's mount, decoded; HTTP and WSGI origins read `?query` in it
    validators  of the copy that we have; empty for none
    deadline    by which the whole body must be here
    limits      source_bytes and redirects apply
    fresh       True: caches between us and the origin must revalidate too
    client      the WSGI environ of the client's request, of which an origin in the same process
                takes the server's name and scheme, and nothing else
    fields      what was said of caching the copy, for a 304 that leaves it out
    """

    path: str
    validators: Validators
    deadline: Deadline
    limits: Limits
    fresh: bool
    client: Mapping[str, Any]
    fields: CacheFields = UNSAID


@dataclass(frozen=True, slots=True)
class Fetched:
    """An origin's answer.

    body             the whole source; None: the copy with our validators is still good
    validators       to ask with the next time
    modified         unix seconds of the source's last change, where the origin says so
    lifetime         seconds for which the origin lets a cache use it; None: it does not say
    storable         False: the origin forbids shared caches to keep it
    must_revalidate  True: the origin forbids to use it past its lifetime (RFC 9111 section 4.2.4)
    stale_while_revalidate, stale_if_error
                     seconds past its lifetime for which the origin allows it (RFC 5861); None: it
                     does not say
    clients          for how long clients may keep it, from now on; None: it does not say
    fields           what was said of caching it
    """

    body: bytes | None
    validators: Validators
    modified: int | None = None
    lifetime: float | None = None
    storable: bool = True
    must_revalidate: bool = False
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    clients: ClientTerms | None = None
    fields: CacheFields = UNSAID


@runtime_checkable
class Origin(Protocol):
    """Where sources come from. Used by many threads at once.

    immutable  True: a name is never used for another picture again
    local      True: reading a source again costs no more than keeping a copy
    personal   True: a client has a say in what it answers, by the Host of its request (PERSONAL)
    """

    immutable: bool
    local: bool
    personal: bool

    def check(self, path: str) -> None:
        """Raise BadSource for what it would never be asked for. Looks at nothing but the path."""
        ...

    def fetch(self, request: FetchRequest) -> Fetched:
        """The source, whole.

        Raises SourceWithdrawn, SourceTooLarge, OriginFailed, OriginBusy, OriginTimeout; nothing
        else, for what `check` passes.
        """
        ...

    def fingerprint(self, path: str) -> str | None:
        """The ETag that `fetch` would give now, when that is known by a system call or two.

        None: only a lifetime tells whether a copy is fresh. "": there is no such source.
        """
        ...
