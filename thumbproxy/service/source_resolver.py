"""Sources as they are now: fresh records, questions to origins, and what to do when those fail."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from thumbproxy.scheduling.admission import always
from thumbproxy.caches.base import Cache, Failure, FailureRecord, Originals, Record, SourceRecord
from thumbproxy.scheduling.coalescing import Background, Flights, Hold, Remembered, held, in_turn
from thumbproxy.core.errors import OriginBusy, OriginError, OriginFailed, SourceError, SourceWithdrawn, ThumbproxyError
from thumbproxy.service.fetcher import Fetcher
from thumbproxy.core.forking import PerProcess
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.service.request_context import Job
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.core.media import Validators
from thumbproxy.telemetry.metrics import Metrics, outcome_of
from thumbproxy.service.source_records import Records
from thumbproxy.service.render_queue import NotAtHand

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
    due: bool = False


class Sources:
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
        records: Records,
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
        self._flights = PerProcess(lambda: Flights(Rank.SOURCE))
        # For want of a cache that keeps them.
        self._unkept = PerProcess(Remembered)
        self._background = PerProcess(lambda: Background(_REFRESHES))

    def current(self, job: Job) -> Source:
        """The source as it is now. Another `v_` is another question: it may be news.

        Raises SourceError, OriginError, CapacityError.
        """
        key = ("source", job.request.source, job.request.options.version, job.since, job.asker)
        source, collapsed = self._flights.value.do(
            key,
            lambda wanted: self._current(job._replace(wanted=wanted)),
            job.deadline,
            job.wanted,
        )
        if collapsed:
            self._metrics.coalesced("process")
        return source

    def usable(self, job: Job, record: Record) -> Source | None:
        """What the record is good for without asking the origin; None if that must be asked.

        Raises the failure that the record remembers, while it does.
        """
        use = self._records.use(job, record)
        if use is None or isinstance(record, FailureRecord):
            return None
        return Source(record, status=use.status, due=use.refresh)

    def with_body(self, job: Job, source: Source) -> tuple[Source, bytes]:
        """The bytes to render from, and the source that they are."""
        try:
            return self.at_once(job, source)
        except NotAtHand:
            key = ("body", job.request.source, job.request.options.version, job.since, job.asker)
            source, _ = self._flights.value.do(
                key,
                lambda wanted: self._again(job._replace(wanted=wanted), source),
                job.deadline,
                job.wanted,
            )
            return _with_body(source)

    def at_once(self, job: Job, source: Source) -> tuple[Source, bytes]:
        """The same in a turn to render, which must not wait for an origin, nor for who asks it.

        Raises NotAtHand, SourceError, OriginError.
        """
        body = source.body or self._original(source.record)
        if body is not None:
            return source, body
        if not job.origin.local:
            raise NotAtHand
        return _with_body(self._fetch_again(job, source))

    def at_hand(self, job: Job, source: Source) -> Source:
        """The source, when `at_once` will have its bytes: so whoever waits for its turn needs no
        memory for them."""
        if job.origin.local or self._kept(source.record):
            return source._replace(body=None)
        if source.body is None:
            source, _ = self.with_body(job, source)
            if self._kept(source.record):
                source = source._replace(body=None)
        return source

    def _kept(self, record: SourceRecord) -> bool:
        return self._originals is not None and self._originals.has_original(record)

    def doubt(self, job: Job, record: SourceRecord) -> None:
        """No picture could be made of the source, which may be the fault of its transport: soon all
        of it is asked for again."""
        if job.origin.local:
            return
        soon = min(record.fresh_until, self._records.now() + self._lifetimes.failure)
        doubted = replace(record, validators=Validators(), fresh_until=soon, stale_until=soon)
        self._records.let_stand(job.request.source, doubted)

    def _original(self, record: SourceRecord) -> bytes | None:
        """The bytes that are kept, if they are those of the record. What was damaged where it lies
        would be made into pictures, and these be kept, as if it were sound."""
        body = None if self._originals is None else self._originals.original(record)
        if body is None or sha256(body).hexdigest() != record.version:
            return None
        return body

    def _again(self, job: Job, source: Source) -> Source:
        """Fetch the bytes of a source that is known. Among those who keep originals in one place
        one does so, and the others find them there."""
        leases = () if self._originals is None else self._caches[:1]
        with in_turn(leases, Rank.QUESTION, _lease(job), job.deadline):
            return self._fetch_again(job, source)

    def _fetch_again(self, job: Job, source: Source) -> Source:
        latest, _ = self._records.known(job)
        if isinstance(latest, SourceRecord):  # it may have changed just now
            source = source._replace(record=latest)
        body = self._original(source.record)
        if body is not None:
            return source._replace(body=body)
        began = self._records.now()
        try:
            return self._fetch(job, source.record, Validators())
        except (SourceError, OriginError) as error:
            self._failed(job, source.record, error, began)
            raise

    def age(self, job: Job, source: Source) -> int | None:
        """Seconds since the origin said that the source is this one (RFC 9111 section 5.1). Of a
        folder, and of what never changes, it is always so."""
        if job.public or job.origin.local or not source.record.fetched_at:
            return None
        return max(0, int(self._records.now() - source.record.fetched_at))

    def _look(self, job: Job) -> tuple[Record | None, Source | None]:
        """The record that is known, and the source if the record is enough."""
        name = job.request.source
        known, records = self._records.known(job)
        version = job.request.options.version
        if known is None:
            self._unkept.value.check(_question(job))
            return None, None
        unheard = any(record != known for record in records)
        if unheard and isinstance(known, FailureRecord) and known.failure.withdrawn:
            # Heard from another host: what is kept here goes as well, before this one is answered.
            self._records.let_stand(name, known)
        source = self.usable(job, known)
        if source is not None and source.due:
            self.refresh(job, source.record)
        if version not in (None, known.v):
            self._records.check_failure(known)
            return known, None
        if source is None:
            return known, None
        if unheard:
            standing = self._records.let_stand(name, source.record)
            if isinstance(standing, SourceRecord) and job.may_use(standing):
                source = source._replace(record=standing)
        return known, source

    # -- asking ----------------------------------------------------------------------------

    def _current(self, job: Job) -> Source:
        _, source = self._look(job)
        if source is not None:
            return source
        # Another `v_` is another question, and does not wait for the answer to an earlier one.
        lease = _lease(job, job.request.options.version or "")
        with in_turn(self._caches, Rank.QUESTION, lease, job.deadline) as turn:
            known, source = self._look(job)  # others may have asked meanwhile
            if source is not None:
                if turn.among:
                    self._metrics.coalesced(turn.among)
                return source
            return self._ask(job, known)

    def _ask(self, job: Job, known: Record | None) -> Source:
        """News of a source, or what is there in place of them if the origin fails."""
        began = self._records.now()
        before = known if isinstance(known, SourceRecord) else None
        try:
            self._unkept.value.check(_question(job))
        except (SourceError, OriginError) as error:
            stale = None if before is None else self._stale_for(job, before, error)
            if stale is None:
                raise
            return stale
        try:
            return self._fetch(job, before, before.validators if before else Validators())
        except (SourceError, OriginError) as error:
            stale = self._failed(job, before, error, began)
            if stale is None:
                raise
            log.warning("%s %r: %s; stale", error.token, job.request.source, error.log or error)
            return stale

    def refresh(self, job: Job, known: SourceRecord) -> None:
        """Ask in the background, unless somebody does already."""
        name = job.request.source
        # The connection and what came with it belong to a request that will be over.
        client = {
            name: value for name, value in job.client.items() if isinstance(value, str | bool)
        }
        deadline = Deadline(self._limits.request_seconds)
        job = job._replace(client=client, deadline=deadline, wanted=always)

        def refresh() -> None:
            with (
                in_order(Rank.QUESTION, waits=False),
                held(self._caches, _lease(job), Deadline(0)) as turn,
            ):
                latest, _ = self._records.known(job)
                if turn.hold is Hold.NOT or latest is None:
                    return
                if latest != known:
                    self._records.let_stand(name, latest)  # the news that another host has got
                    return
                try:
                    source = self._ask(job, known)
                except ThumbproxyError as error:
                    self._metrics.refreshed(outcome_of(error))
                else:
                    failure = source.record.failure
                    if failure is not None:  # the stale one is what there is in place of news
                        self._metrics.refreshed(outcome_of(failure.error()))
                    else:
                        self._metrics.refreshed("ok" if source.body else "not_modified")

        self._background.value.do(name, refresh)

    def _fetch(self, job: Job, known: SourceRecord | None, validators: Validators) -> Source:
        """Ask the origin: for the bytes if the validators are empty, else for news."""
        name = job.request.source
        began = self._records.now()
        record, body, storable, seconds = self._fetcher.fetch(job, known, validators, began)
        if not storable:
            if known is not None:
                self._records.forget(name, began)
            return Source(record, body, storable=False, seconds=seconds)
        asked = body is None and not job.origin.local
        status = "fwd=stale; fwd-status=304" if asked else ""
        if record == known:
            return Source(record, body, seconds=seconds, status=status)
        if body is not None and self._originals is not None and not job.origin.local:
            # First: whoever sees the record finds the bytes.
            self._originals.set_original(record, body)
        standing = self._records.let_stand(name, self._shared(job, record))
        if not job.may_use(standing):
            # Later, and no news to this client. Of two pictures one can be kept.
            return Source(record, body, storable=False, seconds=seconds)
        if isinstance(standing, FailureRecord):
            raise standing.failure.error()  # somebody asked after us, and there is none any more
        if standing.version != record.version:
            return Source(standing)  # somebody asked after us and has later news
        return Source(standing, body, seconds=seconds, status=status)

    def _shared(self, job: Job, record: SourceRecord) -> SourceRecord:
        """What others know, if the origin has told this client the same. They do not know it for
        any longer by that."""
        others = self._records.known_to_others(job) if job.origin.personal else None
        if others is None or job.may_use(others) or not _says_the_same(others, record):
            return record
        return replace(
            others,
            askers=(*others.askers, job.asker)[-_ASKERS:],
            fresh_until=min(others.fresh_until, record.fresh_until),
            stale_until=min(others.stale_until, record.stale_until),
            error_until=min(others.error_until, record.error_until),
            v=record.v or others.v,
        )

    # -- what comes of it ------------------------------------------------------------------

    def _failed(
        self, job: Job, known: SourceRecord | None, error: SourceError | OriginError, began: float
    ) -> Source | None:
        """Remember a failure for a few seconds; the stale source, if that may be used."""
        withdrawn = isinstance(error, SourceWithdrawn)
        seconds = self._lifetimes.not_found if withdrawn else self._lifetimes.failure
        pause = error.retry_after if isinstance(error, OriginBusy) else None
        seconds = max(seconds, pause or 0)
        now = self._records.now()
        failure = Failure(error.token, error.reason, now + seconds, pause)
        name, version = job.request.source, job.request.options.version
        if known is not None and not withdrawn and not job.origin.local:
            # It stays the latest that the origin has said.
            standing = self._records.let_stand(name, replace(known, failure=failure))
            if (
                standing.fetched_at > known.fetched_at
                and isinstance(standing, SourceRecord)
                and job.may_use(standing)
            ):
                return Source(standing)  # somebody else had an answer
            latest = self._records.known(job)[0]
            if not isinstance(latest, SourceRecord) or latest.failure != failure:
                self._unkept.value.remember(
                    _question(job), error, seconds
                )  # a disk that only reads
            return self._stale_for(job, replace(known, failure=failure), error)
        if job.origin.personal:
            # Nothing that one Host leads to is kept where others look.
            if known is not None:
                self._records.forget(name, began)
            self._unkept.value.remember(_question(job), error, seconds)
            return None
        # That an origin failed is no news, and stands against nothing that it has said.
        said = not isinstance(error, OriginError)
        validators = Validators(job.origin.fingerprint(job.path) or "" if job.origin.local else "")
        if said or not job.origin.local:
            self._records.let_stand(
                name, FailureRecord(failure, validators, 0, began if said else 0.0, version or "")
            )
            if not job.origin.local and self._records.known(job)[0] is None:
                self._unkept.value.remember(_question(job), error, seconds)
        return None

    def _stale_for(
        self, job: Job, known: SourceRecord, error: SourceError | OriginError
    ) -> Source | None:
        """The picture that there was, in place of one that the origin could not give. In place of
        one that it does not give any more there is none."""
        usable = (
            not isinstance(error, SourceWithdrawn)
            and known.error_until > self._records.now()
            and job.request.options.version in (None, known.v)
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


def _lease(job: Job, version: str = "") -> str:
    """The name of the lease for questions about a source."""
    return f"source {job.request.source} {version} {job.asker}"


def _question(job: Job) -> Hashable:
    """What has failed, where that cannot be kept in a record."""
    return job.request.source, job.request.options.version, job.asker
