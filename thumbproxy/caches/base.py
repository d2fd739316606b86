"""The contract of a cache tier, and the values that it stores."""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, Protocol

from thumbproxy.core.errors import (
    BadSource,
    BrokenImage,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginTimeout,
    PurgeFailed,
    SourceBlocked,
    SourceNotFound,
    SourceRefused,
    SourceTooLarge,
    SourceWithdrawn,
    ThumbproxyError,
    UnsupportedImage,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.media import ClientTerms, ImageInfo, Rendition, Validators
from thumbproxy.core.spelling import composed, spellings
from thumbproxy.http.cache_control import UNSAID, CacheFields
from thumbproxy.scheduling.coalescing import Lease
from thumbproxy.telemetry.metrics import Tier
from thumbproxy.urls.codec import ImageRequest, check_name

log = logging.getLogger("thumbproxy.caches")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with the last question to an origin.

    token, reason  of the error (errors.py)
    retry_at       unix seconds; the origin is not asked again before
    pause          seconds until then, if the origin has said how long it wants to be spared
    """

    token: str
    reason: str
    retry_at: float
    pause: int | None = None

    def error(self) -> ThumbproxyError:
        """The same failure as a new exception."""
        told = "as a moment ago; not asked again yet"
        return _BY_TOKEN[self.token](self.reason, log=told, retry_after=self.pause)

    @property
    def news(self) -> bool:
        """Whether the origin has said something; not that it could say nothing."""
        return not issubclass(_BY_TOKEN[self.token], OriginError)

    @property
    def withdrawn(self) -> bool:
        """Whether it was that the origin does not give the picture."""
        return issubclass(_BY_TOKEN[self.token], SourceWithdrawn)


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is known of a source. Every kept rendition belongs to one record.

    version      SHA-256 of the source's bytes, hexadecimal
    generation   random, made with the record; kept while the version stays, gone with a purge.
                 What was made under another generation does not count.
    format       by the source's magic bytes
    size         bytes
    width, height  pixels, upright
    frames       1 for a still picture
    has_alpha    whether it may have transparent parts
    validators   for the next conditional request
    modified     unix seconds of its last change, by the origin's word, else of the fetch
    fetched_at   unix seconds at which the last request that the origin answered began
    fresh_until  unix seconds
    stale_until  unix seconds; until then it is served while it is asked for (RFC 5861 section 3)
    error_until  unix seconds; until then it is served if the origin fails (RFC 5861 section 4)
    v            the `v_` of the URL that last made us ask the origin, "" for none
    failure      how the origin has failed since, if it has
    clients      for how long clients may keep it, from fetched_at on; None: the origin does not say
    fields       what the origin said of caching it, for a 304 that leaves it out
    askers       of an origin that answers by Host: the vary keys for which it is valid
                 (RequestContext.vary_key)
    """

    version: str
    generation: str
    format: Format
    size: int
    width: int
    height: int
    frames: int
    has_alpha: bool
    validators: Validators
    modified: int
    fetched_at: float
    fresh_until: float
    stale_until: float = 0.0
    error_until: float = 0.0
    v: str = ""
    failure: Failure | None = None
    clients: ClientTerms | None = None
    fields: CacheFields = UNSAID
    askers: tuple[str, ...] = ()

    def same_source(self, other: Record | None) -> bool:
        """Whether renditions made under `other` count under this record."""
        return (
            isinstance(other, SourceRecord)
            and self.version == other.version
            and self.generation == other.generation
        )

    @property
    def info(self) -> ImageInfo:
        """What decides about the outputs. The orientation is worked in."""
        return ImageInfo(
            self.format, self.width, self.height, self.frames, has_alpha=self.has_alpha
        )

    def to_json(self) -> bytes:
        return json.dumps({**asdict(self), "format": self.format.value}).encode()


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Stands where there is no picture: the origin said that there is none, or failed.

    validators  the fingerprint of the file that is no picture, where there is a file
    modified    unix seconds; of the picture that was there before, 0 if there was none
    fetched_at  unix seconds at which the request began. 0 where the origin failed: that is no
                news, and whatever it said before or after counts more.
    v           the `v_` of the URL that made us ask
    """

    failure: Failure
    validators: Validators
    modified: int
    fetched_at: float
    v: str = ""

    @property
    def fresh_until(self) -> float:
        return self.failure.retry_at

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


Record = SourceRecord | FailureRecord


def read_record(text: bytes) -> Record | None:
    """The record that `to_json` wrote; None for what is damaged or of another release."""
    try:
        values = json.loads(text)
        values["validators"] = Validators(**values["validators"])
        if values["failure"] is not None:
            values["failure"] = Failure(**values["failure"])
            if values["failure"].token not in _BY_TOKEN:
                return None
        if "version" not in values:
            failed = FailureRecord(**values)
            return failed if _is_sane(failed) else None
        values["format"] = Format(values["format"])
        # Named here, because without them it is of a release that did not know what it left out.
        clients, fields = values["clients"], values["fields"]
        values["clients"] = None if clients is None else ClientTerms(*clients)
        values["fields"] = CacheFields.from_json(fields)
        values["askers"] = tuple(values["askers"])
        record = SourceRecord(**values)
        # The version names a file.
        return record if _VERSION.fullmatch(record.version) and _is_sane(record) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_sane(record: SourceRecord | FailureRecord) -> bool:
    """Whether it can be reckoned with, whatever has become of its file."""
    times = [record.modified, record.fetched_at, record.fresh_until]
    if isinstance(record, SourceRecord):
        times += [record.stale_until, record.error_until, record.size, record.width, record.height]
    return all(map(math.isfinite, times)) and isinstance(record.v, str)


_VERSION = re.compile("[0-9a-f]{64}")
# What is remembered of an origin's failures. Those of a request, or of ours, are not.
_BY_TOKEN = {
    error.token: error
    for error in (
        SourceNotFound, SourceRefused, SourceBlocked, SourceTooLarge, UnsupportedImage, BrokenImage,
        OriginFailed, OriginBusy, OriginTimeout,
    )
}  # fmt: skip


def new_generation() -> str:
    return secrets.token_hex(8)


def merge_records(standing: Record | None, record: Record) -> Record:
    """The record that stands when `record` is put in the place of `standing`.

    Of two fetches the later one counts, whichever ends first. The same version keeps its
    generation, and so its renditions, and its date; another is always later. A standing record from
    the future is the trace of a clock that jumped; it does not count.
    """
    if standing is None or standing.fetched_at > time.time() + 1:
        return record
    if standing.fetched_at > record.fetched_at:
        if (
            isinstance(standing, FailureRecord)
            and isinstance(record, FailureRecord)
            and not record.failure.news
        ):
            # It stays the latest that the origin has said; but one that fails since is spared.
            later = max(standing.failure, record.failure, key=lambda failure: failure.retry_at)
            return replace(standing, failure=later)
        return standing
    if isinstance(record, FailureRecord):
        return replace(record, modified=max(record.modified, standing.modified))
    if isinstance(standing, SourceRecord) and standing.version == record.version:
        return replace(
            record,
            generation=standing.generation,
            modified=standing.modified,
            v=record.v or standing.v,
        )
    # With the length it makes the ETag, in seconds as nginx has it. A version of the same second
    # must not get the ETag of the one before, so what replaces a source is always later.
    return replace(record, modified=max(record.modified, standing.modified + 1))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a purge is about: "photos/cat.jpg" a source, "photos/" a folder, "" everything.

    Names that differ in Unicode's normalization alone are purged together: where they are one file,
    they show the same picture.
    Raises BadSource for what is neither.

    Example:

        from thumbproxy import Scope, ThumbProxy


        def tell(scope: Scope, tag: str) -> None:
            print(scope.kind, scope.text)


        app = ThumbProxy(app, keys=["your signing key"], on_purge=tell)
    """

    text: str

    def __post_init__(self) -> None:
        if self.text:
            # A folder may be named like a thumbnail, and both may be longer than now is allowed.
            check_name(f"{self.text}_" if self.kind == "folder" else self.text)

    @property
    def kind(self) -> str:
        """source, folder or everything."""
        if not self.text:
            return "everything"
        return "folder" if self.text.endswith("/") else "source"

    def covers(self, source: str) -> bool:
        """Whether a purge of this removes what is kept of a source."""
        own, name = composed(self.text), composed(source)
        return name == own if self.kind == "source" else name.startswith(own)

    def spellings(self) -> Iterator[Scope]:
        """This scope, and those of the other names that are purged with it."""
        for text in spellings(self.text):
            with suppress(BadSource):  # too long, so it is nobody's name
                yield Scope(text)


class Removed(NamedTuple):
    """What a purge has removed."""

    files: int = 0
    bytes: int = 0

    def plus(self, other: Removed) -> Removed:
        return Removed(self.files + other.files, self.bytes + other.bytes)


def attempted(name: str, purge: Callable[[], object]) -> Removed | PurgeFailed:
    """What came of one part of a purge. Whatever it fails with, the other parts are to be done."""
    try:
        removed = purge()
    except PurgeFailed as error:
        return error.with_traceback(None)
    except Exception as error:
        # Its text may hold a secret, as that of a hook or of a library does.
        kind = type(error).__name__
        log.error("unexpected %s in a purge, from %s", kind, name)
        return PurgeFailed(f"{name}: {kind}")
    return removed if isinstance(removed, Removed) else Removed()


class Cache(Lease, Protocol):
    """A tier that keeps renditions and source records. A failing tier is a miss, never an error;
    and who shares it does a piece of work at a time, by its lease.

    `public` says that the rendition may be served by anyone, at any time, without asking.

    tier  its name in metrics
    """

    tier: Tier

    def record(self, source: str) -> Record | None:
        """The record that stands for a source."""
        ...

    def set_record(self, source: str, record: Record) -> Record:
        """Let a record stand, and return the one that does: an earlier one's generation is kept
        while the version is the same, and a later fetch's record stays. Renditions that belong to
        another version are gone when this returns.

        Where the source was purged after `record` was fetched, or this tier fails, `record` is
        returned and not kept.
        """
        ...

    def get(
        self, request: ImageRequest, record: SourceRecord | None, *, public: bool
    ) -> Rendition | None:
        """The rendition that was made under `record`, which this tier's `record()` gave.

        Without a record: only what this tier may serve without asking.
        """
        ...

    def set(
        self, request: ImageRequest, record: SourceRecord, rendition: Rendition, *, public: bool
    ) -> bool:
        """Keep a rendition if the record still stands. Whether it is kept."""
        ...

    def purged_at(self, source: str) -> float:
        """Unix seconds of the last purge of the source that this tier knows of; 0 for none."""
        ...

    def purge(self, scope: Scope) -> Removed:
        """Remove all that is kept of the sources that `scope` covers. What is being fetched or
        rendered of them at this moment will not be kept either.

        Raises PurgeFailed when this tier cannot do that now.
        """
        ...


class Originals(Protocol):
    """Keeps the bytes of sources, so that a second size needs no second fetch."""

    def original(self, record: SourceRecord) -> bytes | None: ...
    def has_original(self, record: SourceRecord) -> bool: ...
    def set_original(self, record: SourceRecord, body: bytes) -> None: ...
