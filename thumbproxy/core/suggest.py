"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(name: str, known: Collection[str]) -> str:
    """The nearest of the known names; "" when none is near."""
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(str(name).lower(), names, 1)
    return names[near[0]] if near else ""


def hint(name: str, known: Collection[str]) -> str:
    """`; did you mean card?`, or nothing."""
    near = nearest(name, known)
    return near and f"; did you mean {near}?"


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """`There is no preset 'crad'; did you mean card? Presets are: card, hero.`"""
    several = f"{kind.capitalize()}s are: {', '.join(known) or 'none'}."
    return f"There is no {kind} {name!r}{hint(name, known) or '.'} {several}"
