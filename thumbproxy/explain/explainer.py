"""Collects what is known about a URL, as plain values."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from thumbproxy.caches.base import Record, SourceRecord
from thumbproxy.core.errors import BadSource, ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Validators
from thumbproxy.explain.address import Reader
from thumbproxy.explain.facts import Facts, address_facts, kept_facts, record_facts, refusal
from thumbproxy.explain.kept import Directories, Kept
from thumbproxy.explain.prediction import Prediction, Situation, asked, failed, predict
from thumbproxy.http.negotiation import PREFERENCE, negotiate, resolve_auto_format
from thumbproxy.imaging.base import Engine
from thumbproxy.origins.base import FetchRequest, Origin
from thumbproxy.origins.mounts import Mounts
from thumbproxy.urls.codec import ImageRequest


class Case(NamedTuple):
    """A request with all that is known here of it. settled: its format is decided."""

    request: ImageRequest
    settled: bool
    origin: Origin
    path: str
    public: bool
    records: dict[str, Record | None]
    latest: Record | None
    kept: list[Kept]


class Explainer:
    """Tells about addresses. It reads, and changes nothing.

    auto_formats, avif_pixels  as the servers have them
    """

    def __init__(
        self,
        *,
        reader: Reader,
        mounts: Mounts,
        engine: Engine,
        directories: Directories,
        limits: Limits,
        auto_formats: tuple[Format, ...] = PREFERENCE,
        avif_pixels: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._mounts = mounts
        self._engine = engine
        self._directories = directories
        self._limits = limits
        self._auto_formats = auto_formats
        self._avif_pixels = avif_pixels
        self._clock = clock

    def explain(self, url: str, *, accept: str = "", fetch: bool = False) -> Facts:
        """Facts by section. `now` is what a request would get, `served` whether it is a picture.

        accept  the Accept header of the client that asks
        fetch   ask the origin as well
        """
        address = self._reader.read(url)
        facts: Facts = {"address": address_facts(address)}
        verdict = refusal(address)
        if address.request is not None:
            more, outlook = self._beyond(address.request, accept, fetch)
            facts |= more
            verdict = verdict or outlook
        assert verdict is not None  # noqa: S101 - what is no request has a fault
        return {**facts, "now": verdict.sentence, "served": verdict.served}

    def _beyond(self, request: ImageRequest, accept: str, fetch: bool) -> tuple[Facts, Prediction]:
        """What there is to say beyond the address."""
        try:
            mounted = self._mounts.resolve(request.source)
        except BadSource as error:
            return {"origin": {"mounted_at": "nowhere"}}, failed(error)
        if mounted is None:
            fault = Prediction("404: no origin is mounted for this source", served=False)
            return {"origin": {"mounted_at": "nowhere"}}, fault
        case = self._case(negotiate(request, accept, self._auto_formats), *mounted)
        facts: Facts = {
            "origin": _origin_facts(case),
            "source": record_facts(case.latest, case.records),
            "reply": self._reply_facts(case),
            "kept": {entry.tier: kept_facts(entry) for entry in case.kept},
        }
        situation = self._situation(case)
        outlook = predict(situation)
        if fetch:
            facts["fetched"], failure = self._ask(case)
            outlook = asked(situation, failure)
        try:
            self._engine.check(request.options, Format.PNG if request.auto else request.format)
        except ThumbproxyError as error:
            outlook = failed(error)
        return facts, outlook

    def _case(self, request: ImageRequest, origin: Origin, path: str) -> Case:
        public = request.pinned or (origin.immutable and request.options.expires is None)
        records = self._directories.records(request.source)
        known = [record for record in records.values() if record is not None]
        latest = max(known, key=lambda record: record.fetched_at, default=None)
        request, settled = self._settled(request, latest, public=public)
        kept = self._directories.renditions(request, records, public=public) if settled else []
        return Case(request, settled, origin, path, public, records, latest, kept)

    def _settled(
        self, request: ImageRequest, latest: Record | None, *, public: bool
    ) -> tuple[ImageRequest, bool]:
        """The request with its format decided, and whether that can be."""
        if not request.auto:
            return request, True
        if public and request.accepted:
            # It is there only if it was settled on for all such clients.
            first = request.accepting(request.accepted[0])
            if self._directories.renditions(first, {}, public=True):
                return first, True
        if not isinstance(latest, SourceRecord):
            return request, False
        width, height = self._engine.output_size(latest.info, request.options)
        return resolve_auto_format(request, latest.info, width * height, self._avif_pixels), True

    def _situation(self, case: Case) -> Situation:
        disk, latest = self._directories.disk, case.latest
        version = latest.version if isinstance(latest, SourceRecord) else ""
        return Situation(
            now=self._clock(),
            record=latest,
            tier=next((entry.tier for entry in case.kept if not entry.damage), ""),
            public=case.public,
            version=case.request.options.version,
            fingerprint=case.origin.fingerprint(case.path),
            original=bool(disk and version and disk.has_original(version)),
        )

    def _reply_facts(self, case: Case) -> Facts:
        format = case.request.format.extension if case.settled else "decided by the source"
        facts: Facts = {"format": format, "immutable": case.public}
        if self._directories.disk and case.settled:
            facts["file"] = self._directories.disk.place(case.request, public=case.public)
            facts["cache_dir"] = self._directories.disk.directory
        return facts

    def _ask(self, case: Case) -> tuple[Facts, ThumbproxyError | None]:
        """What the origin says now, and why that is no picture."""
        latest = case.latest
        known = latest.validators if isinstance(latest, SourceRecord) else Validators()
        started = time.monotonic()
        try:
            fetched = case.origin.fetch(
                FetchRequest(
                    path=case.path, validators=known, limits=self._limits, fresh=True, client={},
                    deadline=Deadline(self._limits.fetch_seconds),
                )
            )  # fmt: skip
            seconds = round(time.monotonic() - started, 3)
            facts: Facts = {"seconds": seconds, "may_be_kept": fetched.storable}
            if fetched.lifetime is not None:
                facts["fresh_for_seconds"] = fetched.lifetime
            if fetched.body is None:
                return {**facts, "changed": False}, None
            info = self._engine.inspect(fetched.body)
        except ThumbproxyError as error:
            return {"failed_with": f"{error.token}: {error.log or error.reason}"}, error
        version = sha256(fetched.body).hexdigest()
        changed = not (isinstance(latest, SourceRecord) and latest.version == version)
        size = {"width": info.width, "height": info.height, "frames": info.frames}
        return {**facts, "changed": changed, "content": version, "bytes": len(fetched.body),
                "format": info.format.value, **size}, None  # fmt: skip


def _origin_facts(case: Case) -> Facts:
    return {
        "is": repr(case.origin),
        "mounted_at": case.request.source.removesuffix(case.path) or "the root",
        "path": case.path,
        "immutable_names": case.origin.immutable,
    }
