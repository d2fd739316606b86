"""Findings as lines of text, and as values for programs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from thumbproxy.doctor.findings import LEVELS, Finding, worst

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def lines(findings: Sequence[Finding], *, unusable: bool = False) -> Iterator[str]:
    """unusable: whether the settings cannot be served with."""
    width = max(map(len, LEVELS))
    for group, found in groupby(findings, lambda finding: finding.group):
        yield group
        for finding in found:
            # What a server says of itself must not steer the terminal.
            yield f"  {finding.level:<{width}}  {_CONTROL.sub('?', finding.text)}"
            if finding.advice:
                yield f"  {'':<{width}}  → {_CONTROL.sub('?', finding.advice)}"
    counts = Counter(finding.level for finding in findings)
    told = [f"{counts[level]} {level}" for level in reversed(LEVELS) if counts[level]]
    yield f"in all: {', '.join(told)}"
    if unusable:
        yield "the settings cannot be used, and the rest of them was not looked at"


def facts(findings: Sequence[Finding], *, unusable: bool = False) -> dict[str, Any]:
    """unusable: as above."""
    found = [finding._asdict() for finding in findings]
    return {"worst": "unusable" if unusable else worst(findings), "findings": found}
