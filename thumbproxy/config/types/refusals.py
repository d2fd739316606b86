"""Why values are refused, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from thumbproxy.urls.options import NAME

# What kinds raise for a value that they do not take.
REFUSALS = (ValueError, TypeError, AttributeError, KeyError)
_Entry = TypeVar("_Entry")


class Refusal(ValueError):
    """Why a value is refused, where its kind knows more than what it takes. Shows no secret."""


class Explained(Refusal):
    """Tells what would be allowed as well."""


def table(value: Any, entry: Callable[[str, Any], _Entry]) -> dict[str, _Entry]:
    """Each entry of a table, checked by `entry`. Raises one Refusal for all that are wrong."""
    if not isinstance(value, Mapping):
        raise TypeError
    checked: dict[str, _Entry] = {}
    refusals: list[Refusal] = []
    for name, given in value.items():
        try:
            checked[name] = entry(name, given)
        except Refusal as refusal:
            refusals.append(refusal)
    if refusals:
        raise together(refusals)
    return checked


def together(refusals: Iterable[Refusal]) -> Refusal:
    """One for all; what would be allowed is told of each, or once at the end."""
    refusals = list(refusals)
    whys = "; ".join(dict.fromkeys(str(refusal) for refusal in refusals))
    explained = all(isinstance(refusal, Explained) for refusal in refusals)
    return Explained(whys) if explained else Refusal(whys)


def named(name: str) -> str:
    try:
        checked: str = NAME.check(name)
    except (ValueError, TypeError):
        raise Explained(f"{name!r} cannot be a name, which is {NAME.allowed}") from None
    return checked
