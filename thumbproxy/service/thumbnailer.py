"""The service: from a verified request to a rendition, each piece of work done once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from thumbproxy.caches.base import Cache, SourceRecord
from thumbproxy.core.errors import SourceError, SourceNotFound, ThumbproxyError
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.lock_order import Rank
from thumbproxy.core.media import ClientTerms, Encoded, Rendition
from thumbproxy.http.negotiation import fallback, resolve_auto_format
from thumbproxy.origins.mounts import Mounts
from thumbproxy.scheduling.admission import ConcurrencyLimit
from thumbproxy.scheduling.coalescing import SingleFlight, leased
from thumbproxy.service.client_presence import client_stays
from thumbproxy.service.render_queue import NotAtHand, Renders
from thumbproxy.service.request_context import RequestContext
from thumbproxy.service.source_records import SourceRecords
from thumbproxy.service.source_resolver import Source, SourceResolver
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.codec import ImageRequest

_COLLAPSED = "; collapsed"
_MISS = "fwd=uri-miss"


class Thumbnailer:
    """Finds a rendition in the caches or makes it.

    records      what is known of sources
    sources      tells what the source of a request is now
    caches       in order of look-up, nearest first; who shares one makes a rendition at a time
    renders      has pictures made
    misses       how many requests may wait for an origin or a render
    avif_pixels  the largest picture that an `auto` URL gives as AVIF
    """

    def __init__(
        self,
        *,
        mounts: Mounts,
        records: SourceRecords,
        sources: SourceResolver,
        caches: Sequence[Cache],
        renders: Renders,
        misses: ConcurrencyLimit,
        limits: Limits,
        metrics: Metrics,
        avif_pixels: int,
    ) -> None:
        self._mounts = mounts
        self._records = records
        self._sources = sources
        self._engine = renders.engine
        self._caches = tuple(caches)
        self._renders = renders
        self._misses = misses
        self._limits = limits
        self._metrics = metrics
        self._avif_pixels = avif_pixels
        self._requests = PerProcess(lambda: SingleFlight(Rank.REQUEST))
        self._renditions = PerProcess(lambda: SingleFlight(Rank.VARIANT))

    def get(self, request: ImageRequest, client: Mapping[str, Any]) -> Rendition:
        """The rendition that was asked for.

        client: the WSGI environ of the request, for origins in the same process.
        Raises SourceError, OriginError, CapacityError, ClientGone.
        """
        context = self._context(request, client, self._limits.request_seconds)
        hit = self._hit(context)
        if hit is not None:
            return hit
        # Some threads are left to hits, which so never wait behind misses.
        with self._misses.passed():
            return self._miss(context._replace(still_wanted=client_stays(client)))

    def make_many(self, requests: Sequence[ImageRequest]) -> list[Rendition | ThumbproxyError]:
        """The renditions of one source, kept or made together; for each what `get` would give.

        Formats of `auto` requests must have been accepted: see `negotiate`.
        """
        done: dict[ImageRequest, Rendition | ThumbproxyError] = {}
        missing: list[tuple[RequestContext, Source]] = []
        for request in requests:
            try:
                context = self._context(request, {}, self._limits.request_seconds * len(requests))
                self._engine.check(request.options, _format(request))
                context = context._replace(purge_epoch=self._records.purge_epoch(context))
                source = self._sources.current(context)
                kept = self._kept(self._settled(context, source.record), source)
                if kept is not None:
                    done[request] = kept
                else:
                    missing.append((context, source))
            except ThumbproxyError as error:
                done[request] = error.fresh()
        # What `auto` gives is held to the size of what it replaces, which is done one by one.
        named = [entry for entry in missing if not entry[0].request.auto]
        if len(named) > 1:
            with suppress(ThumbproxyError):  # each then tells by itself what is wrong with it
                done |= self._rendered_together(named)
        for context, source in missing:
            if context.request not in done:
                try:
                    done[context.request] = self._variant(
                        self._settled(context, source.record), source
                    )
                except ThumbproxyError as error:
                    done[context.request] = error.fresh()
        return [done[request] for request in requests]

    def _rendered_together(
        self, entries: Sequence[tuple[RequestContext, Source]]
    ) -> dict[ImageRequest, Rendition]:
        context, source = entries[0]
        source, body = self._sources.load_body(context, source)
        pictures = self._renders.several(
            source.record.version,
            source.record.info,
            body,
            [(context.request.options, context.request.format) for context, _ in entries],
            deadline=context.deadline,
        )
        return {
            context.request: self._finished(context, source, picture)
            for (context, _), picture in zip(entries, pictures, strict=True)
        }

    def _context(
        self, request: ImageRequest, client: Mapping[str, Any], seconds: float
    ) -> RequestContext:
        mounted = self._mounts.resolve(request.source)
        if mounted is None:
            raise SourceNotFound
        origin, path = mounted
        public = request.pinned or (origin.immutable and request.options.expires is None)
        return RequestContext(request, origin, path, public, Deadline(seconds), client)

    # -- hits ------------------------------------------------------------------------------

    def _hit(self, context: RequestContext) -> Rendition | None:
        """From the nearest cache, without waiting for anything."""
        request = context.request
        for cache in self._caches[:1]:
            if context.public and not context.origin.personal:
                # A client's first choice is kept only where it was settled on for all such clients.
                first = request.accepting(request.accepted[0]) if request.accepted else request
                rendition = cache.get(first, None, public=True)
                if rendition is not None or not request.auto:
                    return rendition
            record = cache.record(request.source)
            if record is None:
                return None
            if context.public and isinstance(record, SourceRecord):
                if not context.may_use(record):
                    return None
                return cache.get(self._settled(context, record).request, record, public=True)
            source = self._sources.from_fresh_record(context, record)
            if source is not None:
                rendition = self._found(cache, self._settled(context, source.record), source)
                if source.needs_refresh:  # now: the news remove what has just been found
                    self._sources.refresh(context, source.record)
                return rendition
        return None

    def _found(self, cache: Cache, context: RequestContext, source: Source) -> Rendition | None:
        """What the cache has of this source, with what is to be told of its age."""
        rendition = cache.get(context.request, source.record, public=context.public)
        if rendition is None or context.public or context.origin.local:
            return rendition
        status = source.status
        if status and "detail" not in status:
            status = f"{status}; detail={cache.tier}"
        status = status or rendition.cache_status
        return rendition.with_cache_status(
            status, self._sources.age(context, source), _clients(context, source)
        )

    def _settled(self, context: RequestContext, record: SourceRecord) -> RequestContext:
        """The request with its format decided, which for an `auto` URL the source has a say in."""
        request = context.request
        if not request.auto:
            return context
        width, height = self._engine.output_size(record.info, request.options)
        return context._replace(
            request=resolve_auto_format(request, record.info, width * height, self._avif_pixels)
        )

    # -- misses ----------------------------------------------------------------------------

    def _miss(self, context: RequestContext) -> Rendition:
        request = context.request
        # What cannot be made is not fetched for.
        self._engine.check(request.options, _format(request))
        context = context._replace(purge_epoch=self._records.purge_epoch(context))
        name = request.source, request.filename, request.accepted
        key = (*name, context.public, context.purge_epoch, context.vary_key)
        rendition = self._together(self._requests.value, key, self._make, context)
        if self._records.purge_epoch(context) == context.purge_epoch:
            return rendition
        # Purged or replaced meanwhile: a CDN that was purged, too, would keep it like a good one.
        return replace(rendition, storable=False)

    def _make(self, context: RequestContext) -> Rendition:
        source = self._sources.current(context)
        context = self._settled(context, source.record)
        name = context.request.source, context.request.filename
        key = (*name, context.public, source.record.version, context.purge_epoch)
        flights = self._renditions.value
        return self._together(flights, key, lambda context: self._variant(context, source), context)

    def _together(
        self,
        flights: SingleFlight,
        key: Hashable,
        make: Callable[[RequestContext], Rendition],
        context: RequestContext,
    ) -> Rendition:
        """One of all who ask for the same makes it; the others wait for what it gets."""
        rendition, collapsed = flights.do(
            key,
            lambda still_wanted: make(context._replace(still_wanted=still_wanted)),
            context.deadline,
            context.still_wanted,
        )
        if collapsed:
            self._metrics.coalesced("process")
            if rendition.cache_status.startswith(_MISS):
                return replace(rendition, cache_status=_collapsed(rendition.cache_status))
        return rendition

    def _variant(self, context: RequestContext, source: Source) -> Rendition:
        """From any cache, or made: by one of all processes and hosts, if it may be kept at all."""
        if not source.storable:
            return self._render(context, source)
        kept = self._kept(context, source)
        if kept is not None:
            return kept
        request = context.request
        key = f"rendition {source.record.generation} {request.source} {request.filename}"
        with leased(self._caches, Rank.RENDITION, key, context.deadline) as turn:
            kept = self._kept(context, source)  # others may have made it meanwhile
            if kept is None:
                return self._render(context, source)
            if turn.among:
                self._metrics.coalesced(turn.among)
            return replace(kept, cache_status=_collapsed(f"{_MISS}; stored"))

    def _kept(self, context: RequestContext, source: Source) -> Rendition | None:
        """From any cache, now that it is known which source it must be of."""
        if not source.storable:
            return None
        for i, cache in enumerate(self._caches):
            # Its own record decides: a cache that failed to take ours still has old renditions.
            if source.record.same_source(cache.record(context.request.source)):
                rendition = self._found(cache, context, source)
                rendition = rendition and rendition.in_memory()  # several threads may get it
                if rendition is not None:
                    self._keep(context, source, rendition, self._caches[:i])
                    return rendition
        return None

    def _keep(
        self, context: RequestContext, source: Source, rendition: Rendition, caches: Sequence[Cache]
    ) -> bool:
        kept = [
            cache
            for cache in caches
            if cache.set(context.request, source.record, rendition, public=context.public)
        ]
        for cache in kept:
            self._metrics.stored(cache.tier)
        return bool(kept)

    def _render(self, context: RequestContext, source: Source) -> Rendition:
        # Before its turn: a slow origin must not keep a slot, nor whoever asks it wait for one
        # that waits for the answer (lock_order.py). And what waits must not fill the memory.
        if source.body is None or self._renders.busy:
            source = self._sources.ensure_stored(context, source)
        try:
            return self._render_in_turn(context, source)
        except NotAtHand:  # a purge removed it while it waited; now it waits with the bytes
            source, body = self._sources.load_body(context, source)
            return self._render_in_turn(context, source._replace(body=body))

    def _render_in_turn(self, context: RequestContext, source: Source) -> Rendition:
        record, format = source.record, context.request.format
        rendered = source

        def body() -> bytes:
            nonlocal rendered  # a file may have changed while it waited
            rendered, known = self._sources.at_once(context, source)
            return known

        instead = fallback(context.request.options, record.info) if context.request.auto else None
        try:
            encoded = self._renders.one(
                record.version,
                record.info,
                body,
                (context.request.options, format),
                fallback=instead,
                deadline=context.deadline,
                still_wanted=context.still_wanted,
            )
        except SourceError:
            if source.storable:
                self._sources.mark_suspect(context, record)
            raise
        return self._finished(context, rendered, encoded)

    def _finished(self, context: RequestContext, source: Source, encoded: Encoded) -> Rendition:
        self._metrics.rendered(encoded.format, encoded.render_seconds)
        self._metrics.encoded(encoded.format, encoded.encode_seconds)
        stale = source.status.startswith("fwd=stale; detail")
        status = source.status if stale else _MISS
        rendition = Rendition(
            body=encoded.body,
            format=encoded.format,
            modified=source.record.modified,
            cache_status=status,
            timings=(
                *((("fetch", source.seconds),) if source.seconds else ()),
                ("render", encoded.render_seconds),
                ("encode", encoded.encode_seconds),
            ),
            storable=source.storable,
            immutable=context.public,
        )
        if source.storable:
            kept = self._keep(context, source, rendition, self._caches)
            age, clients = self._sources.age(context, source), _clients(context, source)
            return rendition.with_cache_status(status + "; stored" * kept, age, clients)
        return rendition


def _format(request: ImageRequest) -> Format:
    """What an engine must be able to make. Of what is negotiated, PNG can always be made."""
    return Format.PNG if request.auto else request.format


def _clients(context: RequestContext, source: Source) -> ClientTerms | None:
    """What the origin lets clients do with a picture that may change."""
    lasting = context.origin.immutable or context.request.options.version is not None
    return None if lasting else source.record.clients


def _collapsed(status: str) -> str:
    """RFC 9211 section 2.6: another request went forward for this one."""
    return status.removesuffix(_COLLAPSED) + _COLLAPSED
