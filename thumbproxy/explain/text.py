"""Explanations as lines of text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

_TIMES = ("_at", "_until")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def lines(facts: Mapping[str, Any], now: float) -> Iterator[str]:
    """now: unix seconds, to which times are told."""
    for line in _lines(facts, now):
        # An address comes from anywhere, and must not steer the terminal.
        yield _CONTROL.sub("?", line)


def _lines(facts: Mapping[str, Any], now: float) -> Iterator[str]:
    for name, value in facts.items():
        if name == "served":
            continue
        if isinstance(value, Mapping):
            yield _words(name)
            yield from _section(value, now, "  ")
        else:
            yield f"{_words(name)}: {value}"


def _section(facts: Mapping[str, Any], now: float, indent: str) -> Iterator[str]:
    if not facts:
        yield f"{indent}nothing"
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}{_words(name)}"
            yield from _section(value, now, indent + "  ")
        elif isinstance(value, list):
            yield from (f"{indent}{_words(name):<{width}}  {item}" for item in value)
        else:
            yield f"{indent}{_words(name):<{width}}  {_value(name, value, now)}"


def _words(name: str) -> str:
    # Options are keys too, and are written as they stand in a URL.
    known = name.replace("_", " ") if name != "last_v" else "last v_"
    return known if name.endswith(_TIMES) or name in _PLAIN else name


_PLAIN = {
    "mounted_at", "immutable_names", "cache_dir", "canonical_path", "known_to", "failed_with",
    "failed_since_with", "last_v", "last_modified", "may_be_kept", "fresh_for_seconds",
    "max_age_for_clients",
}  # fmt: skip


def _value(name: str, value: Any, now: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith(_TIMES) and isinstance(value, int | float):
        moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value)) if value else "never"
        return f"{moment} ({_ago(value - now)})" if value else moment
    return str(value)


def _ago(seconds: float) -> str:
    size, unit = next((entry for entry in _UNITS if abs(seconds) >= entry[0]), (1, "s"))
    amount = f"{abs(seconds) // size:.0f} {unit}"
    return f"in {amount}" if seconds > 0 else f"{amount} ago"
