"""The log of purges that hosts share, so that each removes what another one has purged."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from thumbproxy.caches.base import Scope
from thumbproxy.core.errors import BadSource
from thumbproxy.core.spelling import composed

# Seconds for which a purge is told, and for which what is shared may be used at most.
RETENTION = 7 * 86_400
_LONGEST = 2_000
# Bytes of all that they are about, in UTF-8; JSON needs up to three times as many. memcached takes
# no value over 1 MiB, and the log comes along with each record that is read.
_LARGEST = 200_000
# Clocks of hosts may differ by this much, seconds.
SKEW = 2.0


class Purge(NamedTuple):
    """One purge: an id of its own, what it was about, and when, in unix seconds."""

    id: str
    scope: Scope
    at: float


class PurgeLog:
    """An immutable list of purges.

    epoch    random, made with the log. When memcached has lost it, nobody knows what else was in
             it: what was put there under another epoch does not count
    dropped  unix seconds; purges up to then were left out for want of room. A host that has not
             heard of them must purge everything
    """

    def __init__(self, epoch: str, purges: Iterable[Purge] = (), *, dropped: float = 0.0) -> None:
        self.epoch = epoch
        self.dropped = dropped
        self.purges = {purge.id: purge for purge in sorted(purges, key=lambda purge: purge.at)}
        self._sources: dict[str, float] = {}
        self._folders: dict[str, float] = {}
        for purge in self.purges.values():
            kind = self._sources if purge.scope.kind == "source" else self._folders
            kind[composed(purge.scope.text)] = purge.at

    def purged_at(self, source: str) -> float:
        """Unix seconds; what was fetched of the source before does not count. 0: never purged."""
        source = composed(source)
        at = [self.dropped, self._sources.get(source, 0.0)]
        at += [when for folder, when in self._folders.items() if source.startswith(folder)]
        last = max(at)
        return last + SKEW if last else 0.0

    def with_purges(self, purges: Iterable[Purge]) -> PurgeLog:
        """This log with more purges, and without those that are too old or too many."""
        old = time.time() - RETENTION
        merged = {**self.purges, **{purge.id: purge for purge in purges}}
        kept = sorted(
            (purge for purge in merged.values() if purge.at > old), key=lambda purge: purge.at
        )
        first = _first_that_fits(kept)
        dropped = max([self.dropped, *(purge.at for purge in kept[:first])])
        return PurgeLog(self.epoch, kept[first:], dropped=dropped)

    def to_json(self) -> bytes:
        purges = [(purge.id, purge.scope.text, purge.at) for purge in self.purges.values()]
        return json.dumps({"epoch": self.epoch, "dropped": self.dropped, "purges": purges}).encode()


def _first_that_fits(purges: Sequence[Purge]) -> int:
    """How many of the oldest are to be left out."""
    room, first = _LARGEST, len(purges)
    while first and len(purges) - first < _LONGEST:
        room -= len(purges[first - 1].scope.text.encode())
        if room < 0:
            break
        first -= 1
    return first


def new_log(purges: Iterable[Purge] = ()) -> PurgeLog:
    return PurgeLog(secrets.token_hex(8), purges)


def new_purge(scope: Scope) -> Purge:
    return Purge(secrets.token_hex(8), scope, time.time())


def read_log(text: bytes) -> PurgeLog | None:
    """The log that `to_json` wrote; None for what is damaged or of another release."""
    try:
        values = json.loads(text)
        purges = [Purge(id, Scope(scope), float(at)) for id, scope, at in values["purges"]]
        return PurgeLog(str(values["epoch"]), purges, dropped=float(values["dropped"]))
    except (ValueError, TypeError, KeyError, BadSource):
        return None
