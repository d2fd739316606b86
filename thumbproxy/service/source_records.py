"""The records of sources, in all caches: which one is current, and what it may be used for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

from thumbproxy.caches.base import Cache, Failure, FailureRecord, Record, SourceRecord
from thumbproxy.core.errors import SourceNotFound
from thumbproxy.core.media import ClientTerms, Validators
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.service.request_context import RequestContext


class Use(NamedTuple):
    """How a record can be used without asking the origin first.

    status   the parameters of RFC 9211 for a rendition that is kept; "" for a plain hit
    refresh  whether the origin is to be asked in the background
    """

    status: str = ""
    refresh: bool = False


class SourceRecords:
    """What is known of sources. Asks nobody.

    caches  where records are, nearest first
    """

    def __init__(
        self,
        caches: Sequence[Cache],
        lifetimes: Lifetimes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._caches = tuple(caches)
        self._lifetimes = lifetimes
        self._clock = clock

    def now(self) -> float:
        """Unix seconds, by the clock that records are judged by."""
        return self._clock()

    def purge_epoch(self, context: RequestContext) -> Hashable:
        """Another value after each purge that covers the source, and after each change of a file:
        whoever asks then must not get what others were making before."""
        name, purged = context.request.source, []
        for cache in self._caches:
            cache.record(name)  # which brings the log of purges up to date
            purged.append(cache.purged_at(name))
        return (*purged, context.origin.fingerprint(context.path))

    def known(self, context: RequestContext) -> tuple[Record | None, list[Record | None]]:
        """The latest of the records that the caches have for such a client, and all of them."""
        records = [
            record if record is not None and context.may_use(record) else None
            for record in self._standing(context.request.source)
        ]
        return _latest(records), records

    def known_to_others(self, context: RequestContext) -> SourceRecord | None:
        """What stands and is still fresh, whomever the origin has told it."""
        record = _latest(self._standing(context.request.source))
        if isinstance(record, SourceRecord) and record.fresh_until > self._clock():
            return record
        return None

    def _standing(self, source: str) -> list[Record | None]:
        now, purged = self._clock(), 0.0
        records: list[Record | None] = []
        for cache in self._caches:
            record = _believed(cache.record(source), now)
            # A purge that a cache further away could not be told of, or that it has lost.
            late = 0 < purged <= now + 1
            if late and isinstance(record, SourceRecord) and record.fetched_at <= purged:
                record = None
            records.append(record)
            purged = max(purged, cache.purged_at(source))
        return records

    def use(self, context: RequestContext, record: Record) -> Use | None:
        """What the record is good for without asking the origin; None if that must be asked.

        Raises the failure that the record remembers, while it does.
        """
        now = self._clock()
        if not context.may_use(record):
            return None
        if record.fetched_at > now + 1:
            return None  # the trace of a clock that jumped
        if isinstance(record, FailureRecord):
            if self._still_failing(context, record, now):
                raise record.failure.error()
            return None
        if _fresh(context, record, now):
            return Use()
        if context.origin.local or context.request.options.version not in (None, record.v):
            return None
        return self._stale(record, now)

    def _stale(self, record: SourceRecord, now: float) -> Use | None:
        """What is past its lifetime, while the origin is asked or has just failed (RFC 5861)."""
        # Below zero, which is what tells it from a fresh one (RFC 9211 section 2.4).
        ttl = f"hit; ttl={min(-1, math.floor(record.fresh_until - now))}"
        bearable = record.failure is None or record.error_until > now
        if record.failure is not None and self._remembered(record.failure, now):
            if not bearable:
                raise record.failure.error()
            return Use(f"{ttl}; detail={record.failure.token}")
        return Use(ttl, refresh=True) if record.stale_until > now and bearable else None

    def check_failure(self, known: Record) -> None:
        """For a `v_` that was not seen before, the old picture is nothing; but an origin that has
        just failed is not asked again at once."""
        failure = known.failure if isinstance(known, SourceRecord) else None
        if failure is not None and self._remembered(failure, self._clock()):
            raise failure.error()

    def _still_failing(self, context: RequestContext, record: FailureRecord, now: float) -> bool:
        # Another `v_` may be news of what an origin said; not of one that could say nothing.
        if record.failure.news and context.request.options.version not in (None, record.v):
            return False
        if not self._remembered(record.failure, now):
            return False
        return (
            not context.origin.local
            or context.origin.fingerprint(context.path) == record.validators.etag
        )

    def _remembered(self, failure: Failure, now: float) -> bool:
        longest = max(self._lifetimes.not_found, self._lifetimes.failure, failure.pause or 0)
        return now < failure.retry_at <= now + longest

    def commit(self, source: str, record: Record) -> Record:
        """Put a record into all caches, the shared one first: its generation is every host's."""
        for cache in reversed(self._caches):
            record = cache.set_record(source, record)
        return record

    def forget(self, source: str, began: float) -> None:
        """Let nothing stand of a source that may not be kept (any more)."""
        # Not remembered for a second; but kept, against the answers from before (scan.py).
        gone = Failure(SourceNotFound.token, "", began)
        self.commit(source, FailureRecord(gone, Validators(), 0, began))


def _latest(records: Sequence[Record | None]) -> Record | None:
    known = [record for record in records if record is not None]
    return max(known, key=lambda record: record.fetched_at, default=None)


def _fresh(context: RequestContext, record: SourceRecord, now: float) -> bool:
    """Whether the origin need not be asked."""
    fingerprint = context.origin.fingerprint(context.path)
    if fingerprint is None:
        return record.fresh_until > now
    return fingerprint == record.validators.etag


def _believed(record: Record | None, now: float) -> Record | None:
    """What is left of a record from the future, the trace of a clock that jumped: the picture, of
    which nobody knows how old it is."""
    if record is None or record.fetched_at <= now + 1:
        return record
    if isinstance(record, FailureRecord):
        return None
    clients = record.clients and ClientTerms(storable=record.clients.storable)
    return replace(record, fetched_at=0.0, fresh_until=0.0, stale_until=0.0, clients=clients)
