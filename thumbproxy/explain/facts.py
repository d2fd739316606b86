"""The sections of an explanation, as plain values; times have names that end in _at or _until."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from thumbproxy.caches.base import FailureRecord, Record, SourceRecord
from thumbproxy.explain.address import Address
from thumbproxy.explain.kept import Kept
from thumbproxy.explain.prediction import Prediction
from thumbproxy.urls.codec import AUTO
from thumbproxy.urls.options import OPTIONS, Options

Facts = dict[str, Any]
_ORDINALS = ("newest", "second", "third", "fourth")


def address_facts(address: Address) -> Facts:
    facts: Facts = {"path": address.path}
    pieces = address.pieces
    if pieces is not None:
        facts["source"] = pieces.source
        facts["options"] = {token: _words(token) for token in pieces.options.split(",")}
        negotiated = pieces.format == AUTO
        facts["format"] = f"{AUTO}, by the client's Accept" if negotiated else pieces.format
        facts["signature"] = _signature(address.key)
        facts["canonical"] = bool(address.canonical) and _is_canonical(pieces.options)
        if address.canonical and not facts["canonical"]:
            facts["canonical_path"] = address.canonical
    if address.request is not None and address.request.options.expires is not None:
        facts["expires_at"] = address.request.options.expires
    if address.fault is not None:
        facts["fault"] = f"{address.fault.status} {address.fault.token}: {address.fault.reason}"
    if address.hints:
        facts["hints"] = list(address.hints)
    return facts


def _words(token: str) -> str:
    if token == "_":  # noqa: S105 - no password, but the sign for no options
        return "no options: the picture as it is"
    key, _, value = token.partition("_")
    option = OPTIONS.get(key)
    if option is None:
        return "there is no such option"
    return f"{option.meaning}: {value}" if value else option.meaning


def _is_canonical(options: str) -> bool:
    return str(Options.read(options)) == options


def _signature(key: int | None) -> str:
    if key is None:
        return "does not hold"
    which = _ORDINALS[key] if key < len(_ORDINALS) else f"number {key + 1}"
    return f"holds, with the {which} key"


def refusal(address: Address) -> Prediction | None:
    """What is answered without looking at anything else."""
    if address.fault is None:
        return None
    return Prediction(f"{address.fault.status}: {address.fault.reason}", served=False)


def record_facts(latest: Record | None, records: Mapping[str, Record | None]) -> Facts:
    """What is known of the source, and which tiers know it."""
    known = [tier for tier, record in records.items() if record is not None]
    if latest is None:
        return {"known_to": "no cache"}
    facts: Facts = {"known_to": ", ".join(known)}
    if isinstance(latest, FailureRecord):
        return facts | _failure(latest)
    return facts | _picture(latest)


def _failure(record: FailureRecord) -> Facts:
    return {
        "failed_with": f"{record.failure.token}: {record.failure.reason}",
        "retry_at": record.failure.retry_at,
    }


def _picture(record: SourceRecord) -> Facts:
    facts: Facts = asdict(record)
    # Who knows the generation knows nothing more; the rest is told in other words.
    for name in (
        "generation",
        "failure",
        "validators",
        "has_alpha",
        "v",
        "clients",
        "fields",
        "askers",
    ):
        del facts[name]
    # Nobody should take it for the `v_` of a URL.
    facts["content"] = facts.pop("version")
    facts |= {"format": record.format.value, "transparent": record.has_alpha}
    facts |= {name: value for name, value in asdict(record.validators).items() if value}
    facts["modified_at"] = facts.pop("modified")
    if record.clients is not None:
        facts["max_age_for_clients"] = record.clients.max_age
    if record.v:
        facts["last_v"] = record.v
    if record.failure is not None:
        facts["failed_since_with"] = f"{record.failure.token}: {record.failure.reason}"
        facts["retry_at"] = record.failure.retry_at
    return facts


def kept_facts(kept: Kept) -> Facts:
    facts: Facts = {"bytes": kept.size, "modified_at": kept.modified}
    if kept.written_at:
        facts["written_at"] = kept.written_at
    if kept.damage:
        facts["damaged"] = kept.damage
    return facts
