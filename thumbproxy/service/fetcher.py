"""Requests to an origin, and the records that follow from its answers."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from thumbproxy.caches.base import SourceRecord, new_generation
from thumbproxy.core.errors import (
    ClientGone,
    DecoderFailed,
    OriginError,
    OriginFailed,
    RenderTooSlow,
    SourceError,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import ImageInfo, Validators
from thumbproxy.http.cache_control import UNSAID
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.imaging.base import Engine
from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.service.render_queue import Renders
from thumbproxy.service.request_context import RequestContext
from thumbproxy.telemetry.metrics import Metrics, outcome_of
from thumbproxy.urls.options import Options

_TINY = 8


class Answer(NamedTuple):
    """What an origin said of a source.

    body      None: the bytes that are known are still good
    storable  False: nothing of it may be kept
    seconds   what the exchange took
    """

    record: SourceRecord
    body: bytes | None
    storable: bool
    seconds: float


class Fetcher:
    """Asks origins, and reads their answers into records. Keeps nothing."""

    def __init__(
        self,
        *,
        engine: Engine,
        renders: Renders,
        limits: Limits,
        lifetimes: Lifetimes,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._renders = renders
        self._limits = limits
        self._lifetimes = lifetimes
        self._metrics = metrics

    def fetch(
        self,
        context: RequestContext,
        known: SourceRecord | None,
        validators: Validators,
        began: float,
    ) -> Answer:
        """Ask for the bytes if the validators are empty, else for news.

        began: unix seconds, now. Raises SourceError, OriginError, CapacityError, ClientGone.
        """
        if not context.still_wanted():
            raise ClientGone
        fetched, seconds = self._exchange(context, known, validators)
        record = self._record(context, known, fetched, began)
        return Answer(record, fetched.body, fetched.storable, seconds)

    def _exchange(
        self, context: RequestContext, known: SourceRecord | None, validators: Validators
    ) -> tuple[Fetched, float]:
        question = FetchRequest(
            path=context.path,
            validators=validators,
            deadline=context.deadline.within(self._limits.fetch_seconds),
            limits=self._limits,
            # A `v_` may be news that a cache before the origin has not heard of.
            fresh=known is not None or context.request.options.version is not None,
            client=context.client,
            fields=known.fields if known else UNSAID,
        )
        started = time.monotonic()  # the clock may be set meanwhile
        try:
            fetched = context.origin.fetch(question)
        except (SourceError, OriginError) as error:
            self._metrics.fetched(outcome_of(error), time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self._metrics.fetched("not_modified" if fetched.body is None else "ok", seconds)
        return fetched, seconds

    def _record(
        self, context: RequestContext, known: SourceRecord | None, fetched: Fetched, began: float
    ) -> SourceRecord:
        v = context.request.options.version or (known.v if known else "")
        if known and context.origin.local and fetched.validators == known.validators:
            # A file's validators are all that decides; no need to hash its bytes again.
            return replace(known, v=v, failure=None)
        fresh_until, stale_until, error_until = self._windows(fetched, began)
        askers = (context.vary_key,) if context.origin.personal else ()
        if fetched.body is None:
            if known is None:
                raise OriginFailed(log="304 Not Modified to a request without validators")
            return replace(
                known, fetched_at=began, fresh_until=fresh_until, stale_until=stale_until,
                error_until=error_until, v=v, failure=None, clients=fetched.clients,
                fields=fetched.fields, askers=askers,
            )  # fmt: skip
        info, version = self._engine.inspect(fetched.body), sha256(fetched.body).hexdigest()
        if known is not None and known.version != version and not context.origin.local:
            self._check_whole(context, version, fetched.body, info)
        return SourceRecord(
            version=version,
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
            clients=fetched.clients,
            fields=fetched.fields,
            askers=askers,
        )

    def _check_whole(
        self, context: RequestContext, version: str, body: bytes, info: ImageInfo
    ) -> None:
        """What is to replace a good picture must be one to its end. Many a reply is cut off without
        a word: HTTP cannot tell where one ends that has no length.

        Raises SourceError, Overloaded.
        """
        animated = 1 < info.frames <= self._limits.frames
        format = Format.WEBP if animated else Format.JPEG
        variant = Options(width=_TINY, still=not animated), format
        try:
            self._renders.one(version, info, lambda: body, variant, deadline=context.deadline)
        except RenderTooSlow as error:
            raise DecoderFailed(log=error.log) from error

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


def _modified(fetched: Fetched, now: float) -> int:
    """Never in the future, where no client would believe it (RFC 9110 section 8.8.2.1)."""
    return int(now) if fetched.modified is None else max(0, min(fetched.modified, int(now)))
