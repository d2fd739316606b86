"""Sources as they are now: fresh records, questions to origins, and what to do when those fail."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

from thumbproxy.caches.base import (
    Cache,
    Failure,
    FailureRecord,
    Originals,
    Record,
    SourceRecord,
    new_generation,
)
from thumbproxy.concurrency import Background, Flights, Hold, Lease, Remembered, held, in_turn
from thumbproxy.errors import OriginError, OriginFailed, SourceError, SourceNotFound
from thumbproxy.freshness import Lifetimes
from thumbproxy.imaging.base import Engine
from thumbproxy.limits import Deadline, Limits
from thumbproxy.media import Validators
from thumbproxy.metrics import Metrics, outcome_of
from thumbproxy.origins.base import Fetched, FetchRequest, Origin
from thumbproxy.urls import ImageRequest

log = logging.getLogger(__name__)
_REFRESHES = 2


class Job(NamedTuple):
    """One request with what it resolves to."""

    request: ImageRequest
    origin: Origin
    path: str
    public: bool
    deadline: Deadline
    client: Mapping[str, Any]


class Source(NamedTuple):
    """A source as it is now.

    body      there when it was just fetched
    storable  False: nothing made from it may be kept
    seconds   what the fetch took
    status    the parameters of RFC 9211 for a rendition that is kept; "" for a plain hit
    """

    record: SourceRecord
    body: bytes | None = None
    storable: bool = True
    seconds: float = 0.0
    status: str = ""


class Sources:
    """Knows sources by their records, and asks origins when those are no longer enough.

    caches     where records are, nearest first
    originals  where the bytes of fetched sources are kept, if anywhere
    leases     by which processes and hosts ask one at a time, nearest first
    """

    def __init__(
        self,
        *,
        engine: Engine,
        caches: Sequence[Cache],
        originals: Originals | None,
        leases: Sequence[Lease],
        limits: Limits,
        lifetimes: Lifetimes,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._caches = tuple(caches)
        self._originals = originals
        self._leases = tuple(leases)
        self._limits = limits
        self._lifetimes = lifetimes
        self._metrics = metrics
        self._clock = clock
        self._flights = Flights()
        # For want of a cache that keeps them.
        self._unkept = Remembered(lifetimes.failure)
        self._background = Background(_REFRESHES)

    def current(self, job: Job) -> Source:
        """The source as it is now. Another `v_` is another question: it may be news.

        Raises SourceError, OriginError, CapacityError.
        """
        key = ("source", job.request.source, job.request.options.version)
        source, collapsed = self._flights.do(key, lambda: self._current(job), job.deadline)
        if collapsed:
            self._metrics.coalesced("process")
        return source

    def usable(self, job: Job, record: Record) -> Source | None:
        """What the record is good for without asking the origin; None if that must be asked.

        Raises the failure that the record remembers, while it does.
        """
        now = self._clock()
        if record.fetched_at > now + 1:
            return None  # the trace of a clock that jumped
        if isinstance(record, FailureRecord):
            if self._still_failing(job, record, now):
                raise record.failure.error()
            return None
        if self._fresh(job, record, now):
            return Source(record)
        if job.origin.local or job.request.options.version not in (None, record.v):
            return None
        return self._stale(job, record, now)

    def _stale(self, job: Job, record: SourceRecord, now: float) -> Source | None:
        """What is past its lifetime, while the origin is asked or has just failed (RFC 5861)."""
        ttl = f"hit; ttl={math.floor(record.fresh_until - now)}"
        bearable = record.failure is None or record.error_until > now
        if record.failure is not None and self._remembered(record.failure, now):
            if not bearable:
                raise record.failure.error()
            return Source(record, status=f"{ttl}; detail={record.failure.token}")
        if record.stale_until > now and bearable:
            self._refresh(job, record)
            return Source(record, status=ttl)
        return None

    def with_body(self, job: Job, source: Source) -> tuple[Source, bytes]:
        """The bytes to render from, and the source that they are."""
        body = source.body or self._original(source.record)
        if body is not None:
            return source, body
        key = ("body", job.request.source, job.request.options.version)
        source, _ = self._flights.do(key, lambda: self._again(job, source), job.deadline)
        if source.body is None:
            raise OriginFailed(log="the source changed twice while it was fetched")
        return source, source.body

    def _original(self, record: SourceRecord) -> bytes | None:
        return None if self._originals is None else self._originals.original(record)

    def _again(self, job: Job, source: Source) -> Source:
        """Fetch the bytes of a source that is known. Among those who keep originals in one place
        one does so, and the others find them there."""
        shared = self._originals is not None and not job.origin.local
        leases = self._leases[:1] if shared else ()
        with in_turn(leases, _lease(job.request.source), job.deadline):
            latest, _ = self._known(job.request.source)
            if isinstance(latest, SourceRecord):  # it may have changed just now
                source = source._replace(record=latest)
            body = self._original(source.record)
            if body is not None:
                return source._replace(body=body)
            began = self._clock()
            try:
                return self._fetch(job, source.record, Validators())
            except (SourceError, OriginError) as error:
                self._failed(job, source.record, error, began)
                raise

    # -- what is known ---------------------------------------------------------------------

    def _fresh(self, job: Job, record: SourceRecord, now: float) -> bool:
        """Whether the origin need not be asked."""
        fingerprint = job.origin.fingerprint(job.path)
        if fingerprint is None:
            return record.fresh_until > now
        return fingerprint == record.validators.etag

    def _still_failing(self, job: Job, record: FailureRecord, now: float) -> bool:
        # Another `v_` may be news of what an origin said; not of one that could say nothing.
        if record.fetched_at and job.request.options.version not in (None, record.v):
            return False
        if not self._remembered(record.failure, now):
            return False
        return not job.origin.local or job.origin.fingerprint(job.path) == record.validators.etag

    def _remembered(self, failure: Failure, now: float) -> bool:
        longest = max(self._lifetimes.not_found, self._lifetimes.failure)
        return now < failure.retry_at <= now + longest

    def _known(self, source: str) -> tuple[Record | None, list[Record | None]]:
        """The latest of the records that the caches have, and all of them."""
        now = self._clock()
        records = [_believed(cache.record(source), now) for cache in self._caches]
        known = [record for record in records if record is not None]
        return max(known, key=lambda record: record.fetched_at, default=None), records

    def _look(self, job: Job) -> tuple[Record | None, Source | None]:
        """The record that is known, and the source if the record is enough."""
        name = job.request.source
        known, records = self._known(name)
        version = job.request.options.version
        if known is None:
            self._unkept.check((name, version))
            return None, None
        source = self.usable(job, known)
        if version not in (None, known.v):
            self._check_failure(known)
            return known, None
        if source is None:
            return known, None
        if any(record != known for record in records):
            standing = self._let_stand(name, source.record)
            if isinstance(standing, SourceRecord):
                source = source._replace(record=standing)
        return known, source

    def _check_failure(self, known: Record) -> None:
        """For a `v_` that was not seen before, the old picture is nothing; but an origin that has
        just failed is not asked again at once."""
        failure = known.failure if isinstance(known, SourceRecord) else None
        if failure is not None and self._remembered(failure, self._clock()):
            raise failure.error()

    # -- asking ----------------------------------------------------------------------------

    def _current(self, job: Job) -> Source:
        _, source = self._look(job)
        if source is not None:
            return source
        # Another `v_` is another question, and does not wait for the answer to an earlier one.
        lease = _lease(job.request.source, job.request.options.version or "")
        with in_turn(self._leases, lease, job.deadline) as turn:
            known, source = self._look(job)  # others may have asked meanwhile
            if source is not None:
                if turn.among:
                    self._metrics.coalesced(turn.among)
                return source
            return self._ask(job, known)

    def _ask(self, job: Job, known: Record | None) -> Source:
        """News of a source, or what is there in place of them if the origin fails."""
        began = self._clock()
        before = known if isinstance(known, SourceRecord) else None
        try:
            return self._fetch(job, before, before.validators if before else Validators())
        except (SourceError, OriginError) as error:
            stale = self._failed(job, before, error, began)
            if stale is None:
                raise
            log.warning("%s %r: %s; stale", error.token, job.request.source, error.log or error)
            return stale

    def _refresh(self, job: Job, known: SourceRecord) -> None:
        """Ask in the background, unless somebody does already."""
        name = job.request.source
        client = {name: value for name, value in job.client.items() if name != "wsgi.input"}
        job = job._replace(client=client, deadline=Deadline(self._limits.request_seconds))

        def refresh() -> None:
            with held(self._leases, _lease(name), Deadline(0)) as turn:
                latest, _ = self._known(name)
                if turn.hold is Hold.NOT or latest is None:
                    return
                if latest != known:
                    self._let_stand(name, latest)  # the news that another host has got
                    return
                try:
                    source = self._ask(job, known)
                except (SourceError, OriginError) as error:
                    self._metrics.refreshed(outcome_of(error))
                else:
                    self._metrics.refreshed("ok" if source.body else "not_modified")

        self._background.do(name, refresh)

    def _fetch(self, job: Job, known: SourceRecord | None, validators: Validators) -> Source:
        """Ask the origin: for the bytes if the validators are empty, else for news."""
        name = job.request.source
        began = self._clock()
        fetched, seconds = self._exchange(job, known, validators)
        record = self._record(job, known, fetched, began)
        if not fetched.storable:
            if known is not None:
                self._forget(name, began)
            return Source(record, fetched.body, storable=False, seconds=seconds)
        status = "" if fetched.body is not None else "fwd=stale; fwd-status=304"
        if job.origin.local:
            status = ""
        if record == known:
            return Source(record, fetched.body, seconds=seconds, status=status)
        if fetched.body is not None and self._originals is not None and not job.origin.local:
            # First: whoever sees the record finds the bytes.
            self._originals.set_original(record, fetched.body)
        standing = self._let_stand(name, record)
        if isinstance(standing, FailureRecord):
            raise standing.failure.error()  # somebody asked after us, and there is none any more
        if standing.version != record.version:
            return Source(standing)  # somebody asked after us and has later news
        return Source(standing, fetched.body, seconds=seconds, status=status)

    def _exchange(
        self, job: Job, known: SourceRecord | None, validators: Validators
    ) -> tuple[Fetched, float]:
        question = FetchRequest(
            path=job.path,
            validators=validators,
            deadline=job.deadline.within(self._limits.fetch_seconds),
            limits=self._limits,
            # A `v_` may be news that a cache before the origin has not heard of.
            fresh=known is not None or job.request.options.version is not None,
            client=job.client,
        )
        started = time.monotonic()  # the clock may be set meanwhile
        try:
            fetched = job.origin.fetch(question)
        except (SourceError, OriginError) as error:
            self._metrics.fetched(outcome_of(error), time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self._metrics.fetched("not_modified" if fetched.body is None else "ok", seconds)
        return fetched, seconds

    # -- what comes of it ------------------------------------------------------------------

    def _record(
        self, job: Job, known: SourceRecord | None, fetched: Fetched, began: float
    ) -> SourceRecord:
        v = job.request.options.version or (known.v if known else "")
        if known and job.origin.local and fetched.validators == known.validators:
            # A file's validators are all that decides; no need to hash its bytes again.
            return replace(known, v=v, failure=None)
        fresh_until, stale_until, error_until = self._windows(fetched, began)
        if fetched.body is None:
            if known is None:
                raise OriginFailed(log="304 Not Modified to a request without validators")
            return replace(
                known, fetched_at=began, fresh_until=fresh_until, stale_until=stale_until,
                error_until=error_until, v=v, failure=None,
            )  # fmt: skip
        info = self._engine.inspect(fetched.body)
        return SourceRecord(
            version=sha256(fetched.body).hexdigest(),
            generation=new_generation(),
            format=info.format,
            size=len(fetched.body),
            width=info.width,
            height=info.height,
            frames=info.frames,
            has_alpha=info.has_alpha,
            validators=fetched.validators,
            modified=_modified(fetched, began),
            fetched_at=began,
            fresh_until=fresh_until,
            stale_until=stale_until,
            error_until=error_until,
            v=v,
        )

    def _windows(self, fetched: Fetched, began: float) -> tuple[float, float, float]:
        """Until when it is fresh, may be served while it is asked for, and if that fails."""
        lifetimes = self._lifetimes
        fresh = began + (lifetimes.source if fetched.lifetime is None else fetched.lifetime)
        if fetched.must_revalidate:
            return fresh, fresh, fresh
        refreshed, failed = fetched.stale_while_revalidate, fetched.stale_if_error
        if refreshed is None:
            # Who says that it is stale at once wants to be asked.
            refreshed = lifetimes.stale_while_revalidate if fresh > began else 0.0
        if failed is None:
            failed = lifetimes.stale_if_error
        return fresh, fresh + refreshed, fresh + failed

    def _failed(
        self, job: Job, known: SourceRecord | None, error: SourceError | OriginError, began: float
    ) -> Source | None:
        """Remember a failure for a few seconds; the stale source, if that may be used."""
        absent = isinstance(error, SourceNotFound)
        seconds = self._lifetimes.not_found if absent else self._lifetimes.failure
        now = self._clock()
        failure = Failure(error.token, error.reason, now + seconds)
        name, version = job.request.source, job.request.options.version
        if known is not None and not absent and not job.origin.local:
            # It stays the latest that the origin has said.
            standing = self._let_stand(name, replace(known, failure=failure))
            if standing.fetched_at > known.fetched_at and isinstance(standing, SourceRecord):
                return Source(standing)  # somebody else had an answer
            usable = known.error_until > now and version in (None, known.v)
            status = f"fwd=stale; detail={error.token}"
            return Source(replace(known, failure=failure), status=status) if usable else None
        # That an origin failed is no news, and stands against nothing that it has said.
        said = not isinstance(error, OriginError)
        validators = Validators(job.origin.fingerprint(job.path) or "" if job.origin.local else "")
        if said or not (job.origin.local or job.origin.personal):
            self._let_stand(
                name, FailureRecord(failure, validators, 0, began if said else 0.0, version or "")
            )
            if not job.origin.local and self._known(name)[0] is None:
                self._unkept.remember((name, version), error)
        return None

    def _let_stand(self, source: str, record: Record) -> Record:
        """Put a record into all caches, the shared one first: its generation is every host's."""
        for cache in reversed(self._caches):
            record = cache.set_record(source, record)
        return record

    def _forget(self, source: str, began: float) -> None:
        """Let nothing stand of a source that may not be kept (any more)."""
        gone = Failure(SourceNotFound.token, "", 0.0)
        self._let_stand(source, FailureRecord(gone, Validators(), 0, began))


def _lease(source: str, version: str = "") -> str:
    """The name of the lease for questions about a source."""
    return f"source {source} {version}"


def _believed(record: Record | None, now: float) -> Record | None:
    """What is left of a record from the future, the trace of a clock that jumped: the picture, of
    which nobody knows how old it is."""
    if record is None or record.fetched_at <= now + 1:
        return record
    if isinstance(record, FailureRecord):
        return None
    return replace(record, fetched_at=0.0, fresh_until=0.0, stale_until=0.0)


def _modified(fetched: Fetched, now: float) -> int:
    """Never in the future, where no client would believe it (RFC 9110 section 8.8.2.1)."""
    return int(now) if fetched.modified is None else max(0, min(fetched.modified, int(now)))
