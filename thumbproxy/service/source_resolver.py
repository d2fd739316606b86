"""Determines the current version of a source: from a fresh record, or from its origin; and handles
failures of the origin."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from thumbproxy.caches.base import Cache, Failure, FailureRecord, Originals, Record, SourceRecord
from thumbproxy.core.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    SourceError,
    SourceWithdrawn,
    ThumbproxyError,
)
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.core.media import Validators
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.scheduling.admission import always
from thumbproxy.scheduling.coalescing import (
    Background,
    Hold,
    NegativeCache,
    SingleFlight,
    acquire_leases,
    leased,
)
from thumbproxy.service.fetcher import Fetcher
from thumbproxy.service.render_queue import NotAtHand
from thumbproxy.service.request_context import RequestContext
from thumbproxy.service.source_records import SourceRecords
from thumbproxy.telemetry.metrics import Metrics, outcome_of

log = logging.getLogger(__name__)
_REFRESHES = 2
# How many sorts of clients one record is known to be right for.
_ASKERS = 8


class Source(NamedTuple):
    """A source as it is now.

    body      there when it was just fetched
    storable  False: nothing made from it may be kept
    seconds   what the fetch took
    status    the parameters of RFC 9211 for a rendition that is kept; "" for a plain hit
    due       whether the origin is to be asked in the background (`refresh`)
    """

    record: SourceRecord
    body: bytes | None = None
    storable: bool = True
    seconds: float = 0.0
    status: str = ""
    needs_refresh: bool = False


class SourceResolver:
    """Knows sources by their records, and asks origins when those are no longer enough.

    fetcher    asks origins
    records    what is known
    caches     nearest first; who shares one asks one at a time
    originals  where the bytes of fetched sources are kept, if anywhere
    """

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        records: SourceRecords,
        caches: Sequence[Cache],
        originals: Originals | None,
        limits: Limits,
        lifetimes: Lifetimes,
        metrics: Metrics,
    ) -> None:
        self._fetcher = fetcher
        self._records = records
        self._caches = tuple(caches)
        self._originals = originals
        self._limits = limits
        self._lifetimes = lifetimes
        self._metrics = metrics
        self._flights = PerProcess(lambda: SingleFlight(Rank.SOURCE))
        # For want of a cache that keeps them.
        self._unkept = PerProcess(NegativeCache)
        self._background = PerProcess(lambda: Background(_REFRESHES))

    def current(self, context: RequestContext) -> Source:
        """The source as it is now. Another `v_` is another question: it may be news.

        Raises SourceError, OriginError, CapacityError.
        """
        key = (
            "source",
            context.request.source,
            context.request.options.version,
            context.purge_epoch,
            context.vary_key,
        )
        source, collapsed = self._flights.value.do(
            key,
            lambda still_wanted: self._current(context._replace(still_wanted=still_wanted)),
            context.deadline,
            context.still_wanted,
        )
        if collapsed:
            self._metrics.coalesced("process")
        return source

    def from_fresh_record(self, context: RequestContext, record: Record) -> Source | None:
        """What the record is good for without asking the origin; None if that must be asked.

        Raises the failure that the record remembers, while it does.
        """
        use = self._records.use(context, record)
        if use is None or isinstance(record, FailureRecord):
            return None
        return Source(record, status=use.status, needs_refresh=use.refresh)

    def load_body(self, context: RequestContext, source: Source) -> tuple[Source, bytes]:
        """The bytes to render from, and the source that they are."""
        try:
            return self.at_once(context, source)
        except NotAtHand:
            key = (
                "body",
                context.request.source,
                context.request.options.version,
                context.purge_epoch,
                context.vary_key,
            )
            source, _ = self._flights.value.do(
                key,
                lambda still_wanted: self._again(
                    context._replace(still_wanted=still_wanted), source
                ),
                context.deadline,
                context.still_wanted,
            )
            return _with_body(source)

    def at_once(self, context: RequestContext, source: Source) -> tuple[Source, bytes]:
        """The same in a turn to render, which must not wait for an origin, nor for who asks it.

        Raises NotAtHand, SourceError, OriginError.
        """
        body = source.body or self._original(source.record)
        if body is not None:
            return source, body
        if not context.origin.local:
            raise NotAtHand
        return _with_body(self._fetch_again(context, source))

    def ensure_stored(self, context: RequestContext, source: Source) -> Source:
        """The source, when `at_once` will have its bytes: so whoever waits for its turn needs no
        memory for them."""
        if context.origin.local or self._kept(source.record):
            return source._replace(body=None)
        if source.body is None:
            source, _ = self.load_body(context, source)
            if self._kept(source.record):
                source = source._replace(body=None)
        return source

    def _kept(self, record: SourceRecord) -> bool:
        return self._originals is not None and self._originals.has_original(record)

    def mark_suspect(self, context: RequestContext, record: SourceRecord) -> None:
        """No picture could be made of the source, which may be the fault of its transport: soon all
        of it is asked for again."""
        if context.origin.local:
            return
        soon = min(record.fresh_until, self._records.now() + self._lifetimes.failure)
        doubted = replace(record, validators=Validators(), fresh_until=soon, stale_until=soon)
        self._records.commit(context.request.source, doubted)

    def _original(self, record: SourceRecord) -> bytes | None:
        """The bytes that are kept, if they are those of the record. What was damaged where it lies
        would be made into pictures, and these be kept, as if it were sound."""
        body = None if self._originals is None else self._originals.original(record)
        if body is None or sha256(body).hexdigest() != record.version:
            return None
        return body

    def _again(self, context: RequestContext, source: Source) -> Source:
        """Fetch the bytes of a source that is known. Among those who keep originals in one place
        one does so, and the others find them there."""
        leases = () if self._originals is None else self._caches[:1]
        with leased(leases, Rank.QUESTION, _lease(context), context.deadline):
            return self._fetch_again(context, source)

    def _fetch_again(self, context: RequestContext, source: Source) -> Source:
        latest, _ = self._records.known(context)
        if isinstance(latest, SourceRecord):  # it may have changed just now
            source = source._replace(record=latest)
        body = self._original(source.record)
        if body is not None:
            return source._replace(body=body)
        began = self._records.now()
        try:
            return self._fetch(context, source.record, Validators())
        except (SourceError, OriginError) as error:
            self._failed(context, source.record, error, began)
            raise

    def age(self, context: RequestContext, source: Source) -> int | None:
        """Seconds since the origin said that the source is this one (RFC 9111 section 5.1). Of a
        folder, and of what never changes, it is always so."""
        if context.public or context.origin.local or not source.record.fetched_at:
            return None
        return max(0, int(self._records.now() - source.record.fetched_at))

    def _look(self, context: RequestContext) -> tuple[Record | None, Source | None]:
        """The record that is known, and the source if the record is enough."""
        name = context.request.source
        known, records = self._records.known(context)
        version = context.request.options.version
        if known is None:
            self._unkept.value.check(_question(context))
            return None, None
        unheard = any(record != known for record in records)
        if unheard and isinstance(known, FailureRecord) and known.failure.withdrawn:
            # Heard from another host: what is kept here goes as well, before this one is answered.
            self._records.commit(name, known)
        source = self.from_fresh_record(context, known)
        if source is not None and source.needs_refresh:
            self.refresh(context, source.record)
        if version not in (None, known.v):
            self._records.check_failure(known)
            return known, None
        if source is None:
            return known, None
        if unheard:
            standing = self._records.commit(name, source.record)
            if isinstance(standing, SourceRecord) and context.may_use(standing):
                source = source._replace(record=standing)
        return known, source

    # -- asking ----------------------------------------------------------------------------

    def _current(self, context: RequestContext) -> Source:
        _, source = self._look(context)
        if source is not None:
            return source
        # Another `v_` is another question, and does not wait for the answer to an earlier one.
        lease = _lease(context, context.request.options.version or "")
        with leased(self._caches, Rank.QUESTION, lease, context.deadline) as turn:
            known, source = self._look(context)  # others may have asked meanwhile
            if source is not None:
                if turn.among:
                    self._metrics.coalesced(turn.among)
                return source
            return self._revalidate(context, known)

    def _revalidate(self, context: RequestContext, known: Record | None) -> Source:
        """News of a source, or what is there in place of them if the origin fails."""
        began = self._records.now()
        before = known if isinstance(known, SourceRecord) else None
        try:
            self._unkept.value.check(_question(context))
        except (SourceError, OriginError) as error:
            stale = None if before is None else self._stale_for(context, before, error)
            if stale is None:
                raise
            return stale
        try:
            return self._fetch(context, before, before.validators if before else Validators())
        except (SourceError, OriginError) as error:
            stale = self._failed(context, before, error, began)
            if stale is None:
                raise
            log.warning("%s %r: %s; stale", error.token, context.request.source, error.log or error)
            return stale

    def refresh(self, context: RequestContext, known: SourceRecord) -> None:
        """Ask in the background, unless somebody does already."""
        name = context.request.source
        # The connection and what came with it belong to a request that will be over.
        client = {
            name: value for name, value in context.client.items() if isinstance(value, str | bool)
        }
        deadline = Deadline(self._limits.request_seconds)
        context = context._replace(client=client, deadline=deadline, still_wanted=always)

        def refresh() -> None:
            with (
                in_order(Rank.QUESTION, waits=False),
                acquire_leases(self._caches, _lease(context), Deadline(0)) as turn,
            ):
                latest, _ = self._records.known(context)
                if turn.hold is Hold.NOT or latest is None:
                    return
                if latest != known:
                    self._records.commit(name, latest)  # the news that another host has got
                    return
                try:
                    source = self._revalidate(context, known)
                except ThumbproxyError as error:
                    self._metrics.refreshed(outcome_of(error))
                else:
                    failure = source.record.failure
                    if failure is not None:  # the stale one is what there is in place of news
                        self._metrics.refreshed(outcome_of(failure.error()))
                    else:
                        self._metrics.refreshed("ok" if source.body else "not_modified")

        self._background.value.do(name, refresh)

    def _fetch(
        self, context: RequestContext, known: SourceRecord | None, validators: Validators
    ) -> Source:
        """Ask the origin: for the bytes if the validators are empty, else for news."""
        name = context.request.source
        began = self._records.now()
        record, body, storable, seconds = self._fetcher.fetch(context, known, validators, began)
        if not storable:
            if known is not None:
                self._records.forget(name, began)
            return Source(record, body, storable=False, seconds=seconds)
        asked = body is None and not context.origin.local
        status = "fwd=stale; fwd-status=304" if asked else ""
        if record == known:
            return Source(record, body, seconds=seconds, status=status)
        if body is not None and self._originals is not None and not context.origin.local:
            # First: whoever sees the record finds the bytes.
            self._originals.set_original(record, body)
        standing = self._records.commit(name, self._shared(context, record))
        if not context.may_use(standing):
            # Later, and no news to this client. Of two pictures one can be kept.
            return Source(record, body, storable=False, seconds=seconds)
        if isinstance(standing, FailureRecord):
            raise standing.failure.error()  # somebody asked after us, and there is none any more
        if standing.version != record.version:
            return Source(standing)  # somebody asked after us and has later news
        return Source(standing, body, seconds=seconds, status=status)

    def _shared(self, context: RequestContext, record: SourceRecord) -> SourceRecord:
        """What others know, if the origin has told this client the same. They do not know it for
        any longer by that."""
        others = self._records.known_to_others(context) if context.origin.personal else None
        if others is None or context.may_use(others) or not _says_the_same(others, record):
            return record
        return replace(
            others,
            askers=(*others.askers, context.vary_key)[-_ASKERS:],
            fresh_until=min(others.fresh_until, record.fresh_until),
            stale_until=min(others.stale_until, record.stale_until),
            error_until=min(others.error_until, record.error_until),
            v=record.v or others.v,
        )

    # -- what comes of it ------------------------------------------------------------------

    def _failed(
        self,
        context: RequestContext,
        known: SourceRecord | None,
        error: SourceError | OriginError,
        began: float,
    ) -> Source | None:
        """Remember a failure for a few seconds; the stale source, if that may be used."""
        withdrawn = isinstance(error, SourceWithdrawn)
        seconds = self._lifetimes.not_found if withdrawn else self._lifetimes.failure
        pause = error.retry_after if isinstance(error, OriginBusy) else None
        seconds = max(seconds, pause or 0)
        now = self._records.now()
        failure = Failure(error.token, error.reason, now + seconds, pause)
        name, version = context.request.source, context.request.options.version
        if known is not None and not withdrawn and not context.origin.local:
            # It stays the latest that the origin has said.
            standing = self._records.commit(name, replace(known, failure=failure))
            if (
                standing.fetched_at > known.fetched_at
                and isinstance(standing, SourceRecord)
                and context.may_use(standing)
            ):
                return Source(standing)  # somebody else had an answer
            latest = self._records.known(context)[0]
            if not isinstance(latest, SourceRecord) or latest.failure != failure:
                self._unkept.value.remember(
                    _question(context), error, seconds
                )  # a disk that only reads
            return self._stale_for(context, replace(known, failure=failure), error)
        if context.origin.personal:
            # Nothing that one Host leads to is kept where others look.
            if known is not None:
                self._records.forget(name, began)
            self._unkept.value.remember(_question(context), error, seconds)
            return None
        # That an origin failed is no news, and stands against nothing that it has said.
        said = not isinstance(error, OriginError)
        validators = Validators(
            context.origin.fingerprint(context.path) or "" if context.origin.local else ""
        )
        if said or not context.origin.local:
            self._records.commit(
                name, FailureRecord(failure, validators, 0, began if said else 0.0, version or "")
            )
            if not context.origin.local and self._records.known(context)[0] is None:
                self._unkept.value.remember(_question(context), error, seconds)
        return None

    def _stale_for(
        self, context: RequestContext, known: SourceRecord, error: SourceError | OriginError
    ) -> Source | None:
        """The picture that there was, in place of one that the origin could not give. In place of
        one that it does not give any more there is none."""
        usable = (
            not isinstance(error, SourceWithdrawn)
            and known.error_until > self._records.now()
            and context.request.options.version in (None, known.v)
        )
        return Source(known, status=f"fwd=stale; detail={error.token}") if usable else None


def _with_body(source: Source) -> tuple[Source, bytes]:
    if source.body is None:
        raise OriginFailed(log="the source changed twice while it was fetched")
    return source, source.body


def _says_the_same(one: SourceRecord, other: SourceRecord) -> bool:
    """The same picture, to be kept and asked about in the same way."""
    return (
        one.version == other.version
        and one.validators == other.validators
        and one.fields.control == other.fields.control
        and one.fields.targeted == other.fields.targeted
    )


def _lease(context: RequestContext, version: str = "") -> str:
    """The name of the lease for questions about a source."""
    return f"source {context.request.source} {version} {context.vary_key}"


def _question(context: RequestContext) -> Hashable:
    """What has failed, where that cannot be kept in a record."""
    return context.request.source, context.request.options.version, context.vary_key
