"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warning", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "critical")


class Finding(NamedTuple):
    """One line of the report.

    level   ok: as it should be; note: good to know; warning: it will hurt one day, or an attacker
            could make it hurt; critical: not to be served with
    text    what was found; no secret is ever in it
    advice  what to do next; "" where nothing is
    """

    group: str
    level: Level
    text: str
    advice: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
