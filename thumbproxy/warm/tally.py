"""The counts of a run."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from thumbproxy.warm.names import Refused
from thumbproxy.warm.tasks import Outcome

_EXAMPLES = 3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Notes:
    """Reasons, counted by kind, with a few examples of each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, where: str, reason: str) -> None:
        # What stands before the colon is the same for all of a kind.
        kind = reason.partition(": ")[0]
        self._counts[kind] += 1
        shown = self._examples.setdefault(kind, [])
        # Names come from anywhere, and must not steer the terminal.
        line = _CONTROL.sub("?", f"{where}: {reason}")
        if len(shown) < _EXAMPLES and line not in shown:
            shown.append(line)

    def lines(self) -> Iterator[str]:
        for kind, count in self._counts.most_common():
            yield f"  {count} x {kind}"
            yield from (f"    {line}" for line in self._examples[kind])


@dataclass
class Tally:
    """Counts. Sources: `sources` are dealt with, `total` if it is known, `resumed` had been done
    before by the journal, `refused` could not be asked for, `skipped` were no sources.
    Pictures: `made`, `there` already, `failed`.
    """

    clock: Callable[[], float] = time.monotonic
    sources: int = 0
    total: int | None = None
    resumed: int = 0
    refused: int = 0
    skipped: int = 0
    made: int = 0
    there: int = 0
    failed: int = 0
    interrupted: bool = False
    failures: Notes = field(default_factory=Notes)
    passed_over: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def finished(self, outcome: Outcome) -> None:
        self.sources += 1
        self.made += outcome.made
        self.there += outcome.there
        self.failed += len(outcome.failed)
        for reason in outcome.failed:
            self.failures.add(outcome.task.source, reason)

    def refuse(self, refused: Refused) -> None:
        self.sources += 1
        self.skipped += refused.skipped
        self.refused += not refused.skipped
        notes = self.passed_over if refused.skipped else self.failures
        notes.add(refused.where, refused.reason)

    def resume(self) -> None:
        self.sources += 1
        self.resumed += 1

    @property
    def pictures(self) -> int:
        return self.made + self.there + self.failed

    @property
    def complete(self) -> bool:
        return not (self.failed or self.refused or self.interrupted)

    @property
    def rate(self) -> float:
        """Pictures a second, over the whole run."""
        return self.pictures / max(self.clock() - self._started, 0.001)

    @property
    def seconds_left(self) -> float | None:
        """By the sources of this run; those of the journal cost nothing. None: not known."""
        worked = self.sources - self.resumed
        if self.total is None or not worked:
            return None
        return (self.clock() - self._started) * max(0, self.total - self.sources) / worked

    def line(self) -> str:
        """How far it is, in a line."""
        of = "" if self.total is None else f" of {self.total}"
        left = "" if self.seconds_left is None else f", {_duration(self.seconds_left)} left"
        return (
            f"{self.sources}{of} sources, {self.pictures} pictures, {self.rate:.1f}/s, "
            f"{self.failed + self.refused} failed{left}"
        )

    def summary(self) -> Iterator[str]:
        """What came of it, in lines."""
        if self.interrupted:
            yield "Stopped before the end."
        yield f"made           {self.made}"
        yield f"already there  {self.there}"
        if self.resumed:
            yield f"in the journal {self.resumed} sources"
        if self.skipped:
            yield f"skipped        {self.skipped}"
            yield from self.passed_over.lines()
        yield f"failed         {self.failed + self.refused}"
        yield from self.failures.lines()
        yield f"in {_duration(self.clock() - self._started)}, {self.rate:.1f} pictures/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
