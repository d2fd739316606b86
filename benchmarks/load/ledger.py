"""What clients saw and processes held, and whether it is as promised."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from .family import MIB, ROLES, Held, family, held
from .faults import Faults
from .kinds import RIGHT, Record
from .openloop import percentile

SHOWN = ("hit", "miss", "new source")
# A little more than before is no leak: 20 %, and so many files or threads; at the end 3 %.
_GROWTH, _SOME, _FLAT = 1.2, 8, 1.03


class Census(NamedTuple):
    """What each role's processes hold together; how many are present; zombies."""

    present: Counter[str]
    held: dict[str, Held]
    zombies: int

    def row(self) -> str:
        parts = []
        for role in ROLES:
            if self.present[role]:
                rss, pss, files, threads = self.held[role]
                parts.append(f"{self.present[role]} {role} {rss / MIB:.0f}/{pss / MIB:.0f} MiB "
                             f"{files} files {threads} threads")  # fmt: skip
        return "; ".join(parts) + (f"; {self.zombies} ZOMBIES" if self.zombies else "")


def census(master: int) -> Census:
    count: Counter[str] = Counter()
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    zombies = 0
    for process in family(master):
        if process.zombie:
            zombies += 1
            continue
        try:
            each = held(process.pid)
        except OSError:
            continue
        count[process.role] += 1
        sums[process.role] = [a + b for a, b in zip(sums[process.role], each, strict=True)]
    return Census(count, {role: Held(*each) for role, each in sums.items()}, zombies)


class Ledger:
    """All requests of a phase, and the memory of each role by renders made."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.made = 0
        self.samples: list[tuple[int, Census]] = []
        self._told = 0

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.records.append(record)
            self.made += record.made

    def sample(self, master: int) -> None:
        self.samples.append((self.made, census(master)))

    def row(self) -> str:
        """Of the requests since the last row."""
        recent, self._told = self.records[self._told :], len(self.records)
        parts = [f"{len(recent)} requests, {self.made} renders so far"]
        for kind in SHOWN:
            times = [record.ended - record.began for record in recent if record.kind == kind]
            parts.append(f"{kind} {percentile(times, 50) * 1e3:.1f}, "
                         f"{percentile(times, 99) * 1e3:.0f} ms")  # fmt: skip
        odd = Counter(f"{r.kind}: {r.fault or r.outcome}" for r in recent if not good(r))
        return ", ".join(parts) + "".join(f"; {count} x {what}" for what, count in odd.items())

    def table(self) -> Iterator[str]:
        """By kind: how many, latency, and outcomes."""
        yield "| kind | requests | p50 ms | p99 ms | longest ms | outcomes |"
        yield "|---|---|---|---|---|---|"
        for kind in RIGHT:
            of_kind = [record for record in self.records if record.kind == kind]
            if of_kind:
                times = [record.ended - record.began for record in of_kind]
                cells = (f"{percentile(times, at) * 1e3:.1f}" for at in (50, 99, 100))
                outcomes = Counter(record.outcome for record in of_kind)
                told = ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
                yield f"| {kind} | {len(of_kind)} | {' | '.join(cells)} | {told} |"


def good(record: Record) -> bool:
    return record.outcome in RIGHT[record.kind] and not record.fault


def checked(what: str, found: object, good: bool) -> bool:
    """Print one line of a verdict."""
    print(f"{'ok ' if good else 'BAD'} {what}: {found}")
    return good


def replies_checked(ledger: Ledger, faults: Faults | None, longest: float) -> bool:
    """Wrong pictures, cut replies, failures that no fault explains, and requests that took longer
    than `longest` seconds."""
    wrong = Counter(record.fault for record in ledger.records if record.fault)
    cut = sum(record.outcome == "cut off" for record in ledger.records)
    failed = [r for r in ledger.records if not good(r) and not r.fault and r.outcome != "cut off"]
    odd = Counter(f"{record.kind}: {record.outcome}" for record in failed
                  if faults is None or not faults.explain(record))  # fmt: skip
    slow = max(record.ended - record.began for record in ledger.records)
    return all([
        checked("wrong pictures", dict(wrong) or 0, not wrong),
        checked("replies cut off", cut, not cut),
        checked("failures that no fault explains", dict(odd) or 0, not odd),
        checked("failures that a fault explains", len(failed) - odd.total(), True),
        checked(f"longest request, at most {longest:g} s", f"{slow:.2f} s", slow <= longest),
    ])  # fmt: skip


def growth_checked(ledger: Ledger, first: int) -> bool:
    """Memory, files and threads after all renders, beside those after `first` renders."""
    early = [seen for made, seen in ledger.samples if first <= made < first * 1.5]
    late = [seen for made, seen in ledger.samples if made >= ledger.made - first / 2]
    fine = True
    for role in ROLES:
        if not all(role in seen.held for seen in (*early, *late)) or not early:
            continue
        for number, (name, some) in enumerate((("RSS", 0), ("", 0), ("files", _SOME),
                                               ("threads", _SOME))):  # fmt: skip
            before, after = (median(seen.held[role][number] for seen in each)
                             for each in (early, late))  # fmt: skip
            told = f"{before:.0f}, then {after:.0f}"
            if name == "RSS":
                times = after / before
                told = f"{before / MIB:.0f} MiB, then {after / MIB:.0f} MiB, {times:.2f} times"
            if name:
                fine &= checked(f"{name} of {role}", told, after <= before * _GROWTH + some)
    fine &= _flat(ledger)
    return fine & checked("samples early and late", f"{len(early)}, {len(late)}", bool(early))


def _flat(ledger: Ledger) -> bool:
    """Memory in the last quarter of all renders, beside that in the quarter before: what has filled
    by then stays as it is, and what goes on growing shows, however slowly it does."""
    fine = True
    for role in ROLES:
        quarters = [
            [seen.held[role].rss / MIB for made, seen in ledger.samples
             if part <= made * 4 / ledger.made < part + 1 and role in seen.held]
            for part in (2, 3)
        ]  # fmt: skip
        if all(quarters):
            before, after = map(median, quarters)
            told = f"{before:.1f} MiB, then {after:.1f} MiB, {after / before:.3f} times"
            fine &= checked(f"RSS of {role} in the last quarters", told, after <= before * _FLAT)
    return fine


def leftovers_checked(master: int, cache: Path, ledger: Ledger) -> bool:
    """When nobody asks any more: nothing half-written, and nobody dead and not buried.

    What a killed process was writing, which its name tells, is removed by the next start.
    """
    strays = [
        path.name
        for path in (cache / "tmp").iterdir()
        if os.path.exists(f"/proc/{path.name.split('-')[-2]}")
    ]
    zombies = sum(seen.zombies for _, seen in ledger.samples[-3:]) and census(master).zombies
    return all([
        checked("files left in tmp by who lives", len(strays), not strays),
        checked("zombies", zombies, not zombies),
    ])  # fmt: skip
