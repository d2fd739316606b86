"""What the rest of thumbproxy knows of a cache."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from thumbproxy.media import Format, ImageInfo, Rendition, Validators
from thumbproxy.urls import ImageRequest


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
    fetched_at   unix seconds at which the last request to the origin began
    fresh_until  unix seconds
    v            the `v_` of the URL that last made us ask the origin, "" for none
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
    v: str = ""

    def same_source(self, other: SourceRecord | None) -> bool:
        """Whether renditions made under `other` count under this record."""
        return other is not None and (self.version, self.generation) == (
            other.version,
            other.generation,
        )

    @property
    def info(self) -> ImageInfo:
        """What decides about the outputs. The orientation is worked in."""
        return ImageInfo(
            self.format, self.width, self.height, self.frames, has_alpha=self.has_alpha
        )

    def to_json(self) -> bytes:
        return json.dumps({**asdict(self), "format": self.format.value}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> SourceRecord | None:
        """The record; None for a text that is not one: damaged, or of another release."""
        try:
            values = json.loads(text)
            values["format"] = Format(values["format"])
            values["validators"] = Validators(**values["validators"])
            record = cls(**values)
            # The version names a file.
            return record if _VERSION.fullmatch(record.version) else None
        except (ValueError, TypeError, KeyError):
            return None


_VERSION = re.compile("[0-9a-f]{64}")


def new_generation() -> str:
    return secrets.token_hex(8)


def settle(standing: SourceRecord | None, record: SourceRecord) -> SourceRecord:
    """The record that stands when `record` is put in the place of `standing`.

    Of two fetches the later one counts, whichever ends first. The same version keeps its
    generation, and so its renditions, and its date; another is always later. A standing record from
    the future is the trace of a clock that jumped; it does not count.
    """
    if standing is None or standing.fetched_at > time.time() + 1:
        return record
    if standing.fetched_at > record.fetched_at:
        return standing
    if standing.version == record.version:
        return replace(
            record,
            generation=standing.generation,
            modified=standing.modified,
            v=record.v or standing.v,
        )
    # With the length it makes the ETag, in seconds as nginx has it. A version of the same second
    # must not get the ETag of the one before, so what replaces a source is always later.
    return replace(record, modified=max(record.modified, standing.modified + 1))


class Cache(Protocol):
    """A tier that keeps renditions and source records. A failing tier is a miss, never an error.

    `public` says that the rendition may be served by anyone, at any time, without asking.
    """

    def record(self, source: str) -> SourceRecord | None:
        """The record that stands for a source."""
        ...

    def set_record(self, source: str, record: SourceRecord) -> SourceRecord:
        """Let a record stand, and return the one that does: an earlier one's generation is kept
        while the version is the same, and a later fetch's record stays. Renditions that belong to
        another version are gone when this returns."""
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

    def delete(self, source: str) -> None:
        """Forget a source: its record and all renditions."""
        ...


class Originals(Protocol):
    """Keeps the bytes of sources, so that a second size needs no second fetch."""

    def original(self, record: SourceRecord) -> bytes | None: ...
    def set_original(self, record: SourceRecord, body: bytes) -> None: ...
