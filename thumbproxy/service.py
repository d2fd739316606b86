"""The service: a verified request in, a rendition out, each thing done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

from thumbproxy.caches.base import Cache, Originals, SourceRecord, new_generation
from thumbproxy.concurrency import BoundedPool, Flights
from thumbproxy.errors import OriginFailed, SourceNotFound
from thumbproxy.imaging.base import Engine
from thumbproxy.limits import Deadline, Limits
from thumbproxy.media import Format, Rendition, Validators
from thumbproxy.negotiate import fallback, settle
from thumbproxy.origins.base import Fetched, FetchRequest, Origin
from thumbproxy.origins.mounts import Mounts
from thumbproxy.urls import ImageRequest

_COLLAPSED = "; collapsed"


class Job(NamedTuple):
    """One request with what it resolves to."""

    request: ImageRequest
    origin: Origin
    path: str
    public: bool
    deadline: Deadline
    client: Mapping[str, Any]


class Source(NamedTuple):
    """A source as it is now; `body` is there when it was just fetched, `seconds` what that took."""

    record: SourceRecord
    body: bytes | None = None
    storable: bool = True
    seconds: float = 0.0


class Thumbnailer:
    """Finds a rendition in the caches or makes it.

    caches      in order of look-up, nearest first
    originals   where the bytes of fetched sources are kept, if anywhere
    renders     the threads that make pictures in this process
    source_ttl  seconds for which a source is fresh whose origin does not say
    avif_pixels the largest picture that an `auto` URL gives as AVIF
    """

    def __init__(
        self,
        *,
        mounts: Mounts,
        engine: Engine,
        caches: Sequence[Cache],
        originals: Originals | None,
        renders: BoundedPool,
        limits: Limits,
        source_ttl: float = 3600.0,
        avif_pixels: int = 2_500_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mounts = mounts
        self._engine = engine
        self._caches = tuple(caches)
        self._originals = originals
        self._renders = renders
        self._limits = limits
        self._source_ttl = source_ttl
        self._avif_pixels = avif_pixels
        self._clock = clock
        self._flights = Flights()

    def get(self, request: ImageRequest, client: Mapping[str, Any]) -> Rendition:
        """The rendition that was asked for.

        client: the WSGI environ of the request, for origins in the same process.
        Raises SourceError, OriginError, CapacityError.
        """
        job = self._job(request, client)
        return self._hit(job) or self._miss(job)

    def _job(self, request: ImageRequest, client: Mapping[str, Any]) -> Job:
        mounted = self._mounts.resolve(request.source)
        if mounted is None:
            raise SourceNotFound
        origin, path = mounted
        public = request.pinned or (origin.immutable and request.options.expires is None)
        return Job(request, origin, path, public, Deadline(self._limits.request_seconds), client)

    def _hit(self, job: Job) -> Rendition | None:
        """From the nearest cache, without waiting for anything."""
        request = job.request
        for cache in self._caches[:1]:
            if job.public:
                # A client's first choice is kept only where it was settled on for all such clients.
                first = request.accepting(request.accepted[0]) if request.accepted else request
                rendition = cache.get(first, None, public=True)
                if rendition is not None or not request.auto:
                    return rendition
            record = cache.record(request.source)
            if record is not None and (job.public or self._fresh(job, record)):
                return cache.get(self._settled(job, record).request, record, public=job.public)
        return None

    def _settled(self, job: Job, record: SourceRecord) -> Job:
        """The job with its format decided, which for an `auto` URL the source has a say in."""
        request = job.request
        if not request.auto:
            return job
        width, height = self._engine.output_size(record.info, request.options)
        return job._replace(request=settle(request, record.info, width * height, self._avif_pixels))

    def _fresh(self, job: Job, record: SourceRecord) -> bool:
        """Whether the origin need not be asked."""
        fingerprint = job.origin.fingerprint(job.path)
        if fingerprint is None:
            return record.fresh_until > self._clock()
        return fingerprint == record.validators.etag

    def _miss(self, job: Job) -> Rendition:
        request = job.request
        # What cannot be made is not fetched for. Of what is negotiated, PNG can always be made.
        self._engine.check(request.options, Format.PNG if request.auto else request.format)
        key = ("request", request.source, request.filename, request.accepted, job.public)
        return self._together(key, lambda: self._make(job), job)

    def _make(self, job: Job) -> Rendition:
        source = self._source(job)
        job = self._settled(job, source.record)
        key = ("variant", job.request.source, job.request.filename, job.public)
        return self._together(key, lambda: self._variant(job, source), job)

    def _together(self, key: Hashable, make: Callable[[], Rendition], job: Job) -> Rendition:
        """One of all who ask for the same makes it; the others wait for what it gets."""
        rendition, collapsed = self._flights.do(key, make, job.deadline)
        if collapsed and rendition.cache_status.startswith("fwd"):
            status = rendition.cache_status.removesuffix(_COLLAPSED) + _COLLAPSED
            return replace(rendition, cache_status=status)
        return rendition

    def _variant(self, job: Job, source: Source) -> Rendition:
        return self._kept(job, source) or self._render(job, *self._with_body(job, source))

    # -- the source ------------------------------------------------------------------------

    def _source(self, job: Job) -> Source:
        """The source as it is now. Another `v_` is another question: it may be news."""
        key = ("source", job.request.source, job.request.options.version)
        return self._flights.do(key, lambda: self._current(job), job.deadline)[0]

    def _current(self, job: Job) -> Source:
        name, version = job.request.source, job.request.options.version
        records = [cache.record(name) for cache in self._caches]
        known = max(filter(None, records), key=lambda record: record.fetched_at, default=None)
        if known is None or version not in (None, known.v) or not self._fresh(job, known):
            return self._fetch(job, known, known.validators if known else Validators())
        if any(record != known for record in records):
            known = self._let_stand(name, known)
        return Source(known)

    def _with_body(self, job: Job, source: Source) -> tuple[Source, bytes]:
        """The bytes to render from, and the source that they are."""
        if source.body is not None:
            return source, source.body
        if self._originals is not None:
            body = self._originals.original(source.record)
            if body is not None:
                return source, body
        key = ("body", job.request.source, job.request.options.version)
        source, _ = self._flights.do(
            key, lambda: self._fetch(job, source.record, Validators()), job.deadline
        )
        if source.body is None:
            raise OriginFailed(log="the source changed twice while it was fetched")
        return source, source.body

    def _fetch(self, job: Job, known: SourceRecord | None, validators: Validators) -> Source:
        """Ask the origin: for the bytes if the validators are empty, else for news."""
        name = job.request.source
        began, started = self._clock(), time.monotonic()
        question = FetchRequest(
            path=job.path,
            validators=validators,
            deadline=job.deadline.within(self._limits.fetch_seconds),
            limits=self._limits,
            # A `v_` may be news that a cache before the origin has not heard of.
            fresh=known is not None or job.request.options.version is not None,
            client=job.client,
        )
        try:
            fetched = job.origin.fetch(question)
        except SourceNotFound:
            self._forget(name)
            raise
        seconds = time.monotonic() - started  # the clock may be set meanwhile
        record = self._record(job, known, fetched, began)
        if not fetched.storable:
            if known is not None:
                self._forget(name)
            return Source(record, fetched.body, storable=False, seconds=seconds)
        if record == known:
            return Source(record, fetched.body, seconds=seconds)
        standing = self._let_stand(name, record)
        if standing.version != record.version:
            return Source(standing)  # somebody asked after us and has later news
        if fetched.body is not None and self._originals is not None and not job.origin.local:
            self._originals.set_original(standing, fetched.body)
        return Source(standing, fetched.body, seconds=seconds)

    def _record(
        self, job: Job, known: SourceRecord | None, fetched: Fetched, began: float
    ) -> SourceRecord:
        v = job.request.options.version or (known.v if known else "")
        lifetime = self._source_ttl if fetched.lifetime is None else fetched.lifetime
        fresh_until = began + lifetime
        if known and job.origin.local and fetched.validators == known.validators:
            # A file's validators are all that decides; no need to hash its bytes again.
            return replace(known, v=v)
        if fetched.body is None:
            if known is None:
                raise OriginFailed(log="304 Not Modified to a request without validators")
            return replace(known, fetched_at=began, fresh_until=fresh_until, v=v)
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
            v=v,
        )

    def _let_stand(self, source: str, record: SourceRecord) -> SourceRecord:
        """Put a record into all caches, the shared one first: its generation is every host's."""
        for cache in reversed(self._caches):
            record = cache.set_record(source, record)
        return record

    def _forget(self, source: str) -> None:
        for cache in self._caches:
            cache.delete(source)

    # -- the rendition ---------------------------------------------------------------------

    def _kept(self, job: Job, source: Source) -> Rendition | None:
        """From any cache, now that it is known which source it must be of."""
        if not source.storable:
            return None
        for i, cache in enumerate(self._caches):
            # Its own record decides: a cache that failed to take ours still has old renditions.
            if source.record.same_source(cache.record(job.request.source)):
                rendition = cache.get(job.request, source.record, public=job.public)
                if rendition is not None:
                    self._keep(job, source, rendition, self._caches[:i])
                    return rendition
        return None

    def _keep(
        self, job: Job, source: Source, rendition: Rendition, caches: Sequence[Cache]
    ) -> bool:
        kept = [
            cache.set(job.request, source.record, rendition, public=job.public) for cache in caches
        ]
        return any(kept)

    def _render(self, job: Job, source: Source, body: bytes) -> Rendition:
        options, format = job.request.options, job.request.format
        instead = fallback(options, source.record.info) if job.request.auto else None
        encoded = self._renders.do(
            lambda: self._engine.render(body, options, format, fallback=instead), job.deadline
        )
        rendition = Rendition(
            body=encoded.body,
            format=encoded.format,
            modified=source.record.modified,
            cache_status="fwd=uri-miss",
            timings=(
                *((("fetch", source.seconds),) if source.seconds else ()),
                ("render", encoded.render_seconds),
                ("encode", encoded.encode_seconds),
            ),
            storable=source.storable,
            immutable=job.public,
        )
        if source.storable and self._keep(job, source, rendition, self._caches):
            return replace(rendition, cache_status="fwd=uri-miss; stored")
        return rendition


def _modified(fetched: Fetched, now: float) -> int:
    """Never in the future, where no client would believe it (RFC 9110 section 8.8.2.1)."""
    return int(now) if fetched.modified is None else max(0, min(fetched.modified, int(now)))
