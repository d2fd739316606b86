"""Predicts what a request would get now, by the rules of the service, without doing anything."""

from __future__ import annotations

from typing import NamedTuple

from thumbproxy.caches.base import FailureRecord, Record, SourceRecord
from thumbproxy.core.errors import OriginError, SourceError, SourceWithdrawn, ThumbproxyError


class Situation(NamedTuple):
    """What is known when a request comes.

    now          unix seconds
    record       the latest that a tier has
    tier         where the rendition is; "" for nowhere
    public       whether the rendition may be served without asking
    version      the `v_` of the URL
    fingerprint  what the origin tells of the source by a look: "" that there is none; None if a
                 look tells nothing
    original     whether the source's bytes are at hand
    """

    now: float
    record: Record | None
    tier: str
    public: bool
    version: str | None
    fingerprint: str | None
    original: bool


class Prediction(NamedTuple):
    """served: whether it would be a picture, as far as that can be known without asking.
    asks: whether the origin is asked for it first."""

    sentence: str
    served: bool = True
    asks: bool = False


def predict(it: Situation) -> Prediction:
    """In the order in which a request is answered."""
    if it.public and it.tier == "disk":
        return Prediction("a hit from disk, without asking anybody")
    if it.fingerprint == "":
        return Prediction("404: its folder has no such file", served=False)
    # A record from the future is the trace of a clock that jumped.
    if it.record is None or it.record.fetched_at > it.now + 1:
        return Prediction("a miss: it is fetched from the origin, made and kept", asks=True)
    if isinstance(it.record, FailureRecord):
        return _failing(it, it.record)
    return _from_fresh(it) if _fresh(it, it.record) else _not_fresh(it, it.record)


def asked(it: Situation, error: ThumbproxyError | None) -> Prediction:
    """The same when the origin has just been asked; error: what came of it, if no answer."""
    outlook = predict(it)
    if not outlook.asks:
        return outlook
    if error is None:
        return outlook._replace(served=True)
    record = it.record
    if (
        isinstance(error, OriginError | SourceError)
        and not isinstance(error, SourceWithdrawn)
        and isinstance(record, SourceRecord)
        and record.error_until > it.now
        and it.version in (None, record.v)
        and (it.tier or it.original)
    ):
        return Prediction(f"{_ready(it)}, stale, because the origin fails ({error.token})")
    return failed(error)


def failed(error: ThumbproxyError) -> Prediction:
    return Prediction(f"{error.status} {error.token}: {error.reason}", served=False)


def _fresh(it: Situation, record: SourceRecord) -> bool:
    if it.public and it.tier:
        return True
    if it.fingerprint is not None:
        return it.fingerprint == record.validators.etag
    return record.fresh_until > it.now and it.version in (None, record.v)


def _from_fresh(it: Situation) -> Prediction:
    if it.tier:
        return Prediction(f"a hit from {it.tier}")
    if it.original or it.fingerprint is not None:
        return Prediction("a miss: it is made from the source, which is at hand, and kept")
    return Prediction("a miss: its source is fetched again, and it is made and kept", asks=True)


def _ready(it: Situation) -> str:
    return f"what {it.tier} has" if it.tier else "one made from the old source"


def _failing(it: Situation, record: FailureRecord) -> Prediction:
    failure, now = record.failure, it.now
    same = it.version in (None, record.v) and it.fingerprint in (None, record.validators.etag)
    if failure.retry_at > now and same:
        return Prediction(
            f"the failure of before, {failure.token}: {failure.reason} "
            f"The origin is asked again in {failure.retry_at - now:.0f} s",
            served=False,
        )
    again = f"a miss: the origin, which failed ({failure.token}), is asked again"
    return Prediction(again, served=False, asks=True)


def _not_fresh(it: Situation, record: SourceRecord) -> Prediction:
    if it.fingerprint is not None:
        return Prediction("the file has changed since: it is read, made and kept again")
    if it.version not in (None, record.v):
        question = f"a question to the origin first, because v_{it.version} is new here"
        return Prediction(f"{question}; then {_from_fresh(it).sentence}", asks=True)
    ready = _ready(it)
    failure = record.failure
    if failure is not None and failure.retry_at > it.now:
        if record.error_until > it.now:
            return Prediction(f"{ready}, stale, because the origin failed ({failure.token})")
        return Prediction(f"the failure of before, {failure.token}: {failure.reason}", served=False)
    if record.stale_until > it.now:
        return Prediction(f"{ready}, stale, while the origin is asked in the background")
    end = "" if record.error_until <= it.now else f"; if that fails, {ready}, stale"
    return Prediction(f"a question to the origin, on condition that it has changed{end}", asks=True)
