"""Hits while misses come at ten times the capacity: `python -m benchmarks.pressure`.

    python -m benchmarks.pressure [--rounds N] [--seconds S] [--set NAME=VALUE]

One `thumbproxy serve` with its default settings, but for the number of workers. How many pictures
it makes a second is measured first, by as many clients as keep it busy. Then rounds take turns:
hits alone, and hits beside misses that come ten times as often as they can be made. Both kinds
come at random moments that do
not depend on the replies, and each latency counts from the moment at which a request was due.

The clients are two processes, on a processor of their own; the server has the others, a worker for
each. "late" tells how late requests were sent even so. A machine that does other things at the same
time has no verdict to give.

The exit status is 1 when something is not as promised: the p99 of hits beside misses at most 3
times that of hits alone (medians of the rounds), every hit answered, refusals within 50 ms (p99),
and memory within its bound.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.load.family import MIB, ROLES, family, rss
from benchmarks.load.openloop import Client, Reply, closed_loop, open_loop, percentile, request
from benchmarks.load.photos import SIDES, album, unseen
from benchmarks.load.servers import KEY, THUMBS, Server, serve
from thumbproxy.config.settings import Settings
from thumbproxy.scheduling.admission import misses_of

PHOTOS = 24
# Seconds. The first window warms up; of the others the best counts, or ten times would not be ten.
WINDOW = 2.0
# Of a loaded round, what passes until everything that can wait does.
SETTLING = 2.0
RATIO, REFUSAL = 3.0, 0.050
# A decoded pixel, the copy of it that is resized, and what encoders add.
BYTES_PER_PIXEL = 10
# What the stack of a thread that has worked keeps, and malloc for it.
THREAD = MIB // 4


class Round(NamedTuple):
    """What one round showed; times in seconds."""

    hits: list[Reply]
    misses: list[Reply]

    def p(self, percent: float) -> float:
        return percentile([reply.seconds for reply in self.hits], percent)


class Peak:
    """The largest memory of a server's processes together, and of each role."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self.count = Counter(process.role for process in family(server.pid))
        self.idle = self._looked()
        self.total = sum(self.idle.values())
        self.roles: Counter[str] = Counter(self.idle)

    @contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            now = self._looked()
            self.total = max(self.total, sum(now.values()))
            self.roles |= now

    def _looked(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for process in family(self._server.pid):
            found[process.role] += rss(process.pid)
        return found


def main() -> int:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        names = album(home / "photos", PHOTOS)
        said = dict(pair.split("=", 1) for pair in arguments.set)
        cores = sorted(os.sched_getaffinity(0))
        served = cores[:-1] or cores
        said.setdefault("workers", str(len(served)))
        settings = Settings.load(None, {}, {"keys": KEY, **said})
        largest = max(path.stat().st_size for path in (home / "photos").iterdir())
        os.sched_setaffinity(0, served)  # what we start is there, too
        with serve(home, str(home / "photos"), **said) as server:
            os.sched_setaffinity(0, cores[-1:])
            idle, loaded, peak = measured(server, names, arguments)
            good = verdict(idle, loaded)
            return 0 if memory(peak, settings, largest) and good else 1


def parsed() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure",
                                     description=__doc__.split(":")[0])  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="of each kind")
    parser.add_argument("--seconds", type=float, default=8, help="of a round")
    parser.add_argument("--hits", type=float, default=150, help="a second")
    parser.add_argument("--times", type=float, default=10, help="misses, by what can be made")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting of the server that is not its default")  # fmt: skip
    return parser.parse_args()


def measured(
    server: Server, names: list[str], arguments: argparse.Namespace
) -> tuple[list[Round], list[Round], Peak]:
    """The rounds of hits alone, those beside misses, and the most memory."""
    hits_of = Client(server.port)
    misses_of = Client(server.port)
    kept = [request(THUMBS.url(name, width=400, format="webp", version="v1")) for name in names]
    fresh = unseen(names, seed=1)
    open_loop(server.port, kept, 100, 2.0)  # they are made
    at_once = 8
    capacity = most_made(closed_loop(server.port, list(islice(fresh, 20_000)), at_once, WINDOW * 4))
    rate = capacity * arguments.times
    print(f"{os.cpu_count()} processors, one of them the clients'; photos of {SIDES[0]}x"
          f"{SIDES[1]}, {capacity:.0f} pictures/s made by {at_once} clients")  # fmt: skip
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s: "
          f"{arguments.hits:g} hits/s, {rate:.0f} misses/s\n", flush=True)  # fmt: skip
    idle, loaded = [], []
    peak = Peak(server)
    print("| round | hits alone p50, p99 ms | beside misses p50, p99 ms | late p99 ms "
          "| 503 | 503 p50, p99 ms | made/s |\n|---|---|---|---|---|---|---|")  # fmt: skip
    with peak.watched():
        for number in range(arguments.rounds):
            hits_of.begin(kept, arguments.hits, arguments.seconds)
            idle.append(Round(hits_of.replies(), []))
            asked = list(islice(fresh, int(rate * arguments.seconds * 1.1) + 100))
            misses_of.begin(asked, rate, arguments.seconds)
            hits_of.begin(kept, arguments.hits, arguments.seconds)
            loaded.append(Round(settled(hits_of.replies()), settled(misses_of.replies())))
            row(number + 1, idle[-1], loaded[-1], arguments.seconds - SETTLING)
    hits_of.close()
    misses_of.close()
    return idle, loaded, peak


def most_made(replies: list[Reply]) -> float:
    """Pictures a second, in the best window."""
    ended = Counter(int((reply.due + reply.seconds) / WINDOW) for reply in replies
                    if reply.status == 200)  # fmt: skip
    return max(count for number, count in ended.items() if number) / WINDOW


def settled(replies: list[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.due >= SETTLING]


def row(number: int, idle: Round, loaded: Round, seconds: float) -> None:
    refused = [reply.seconds for reply in loaded.misses if reply.status == 503]
    made = sum(reply.status == 200 for reply in loaded.misses) / seconds
    late = percentile([reply.late for reply in loaded.hits], 99)
    cells = (f"{idle.p(50) * 1e3:.2f}, {idle.p(99) * 1e3:.2f}",
             f"{loaded.p(50) * 1e3:.2f}, {loaded.p(99) * 1e3:.2f}", f"{late * 1e3:.2f}",
             f"{len(refused) / max(1, len(loaded.misses)):.0%}",
             f"{percentile(refused, 50) * 1e3:.1f}, {percentile(refused, 99) * 1e3:.1f}",
             f"{made:.0f}")  # fmt: skip
    print(f"| {number} | {' | '.join(cells)} |", flush=True)


def verdict(idle: list[Round], loaded: list[Round]) -> bool:
    alone = median(round.p(99) for round in idle)
    beside = median(round.p(99) for round in loaded)
    hits = Counter(reply.status for round in (*idle, *loaded) for reply in round.hits)
    misses = Counter(reply.status for round in loaded for reply in round.misses)
    refused = [reply.seconds for round in loaded for reply in round.misses if reply.status == 503]
    refusal = percentile(refused, 99)
    print(f"\nhits by status: {dict(hits)}; misses by status: {dict(misses)}")
    good = [
        told(f"p99 of hits: alone {alone * 1e3:.2f} ms, beside misses {beside * 1e3:.2f} ms, "
             f"{beside / alone:.2f} times", beside <= RATIO * alone, f"{RATIO:g} times"),
        told(f"hits that were not answered: {hits.total() - hits[200]}", hits.total() == hits[200],
             "none"),
        told(f"503s take {refusal * 1e3:.1f} ms (p99 of {len(refused)})", refusal <= REFUSAL,
             f"{REFUSAL * 1e3:g} ms"),
    ]  # fmt: skip
    return all(good)


def memory(peak: Peak, settings: Settings, largest: int) -> bool:
    """Resident memory of all processes together; shared pages count in each.

    Bound: what there was before, and for each worker its threads and two copies of the source of
    each miss that waits, and for each render process a picture's pixels.
    """
    for role in ROLES:
        print(f"memory of {peak.count[role]} x {role}: {peak.idle[role] / MIB:.0f} MiB before, "
              f"{peak.roles[role] / MIB:.0f} MiB at most")  # fmt: skip
    misses = settings.misses or misses_of(settings.threads)
    of_worker = settings.threads * THREAD + misses * 2 * largest
    of_render = SIDES[0] * SIDES[1] * BYTES_PER_PIXEL
    before = sum(peak.idle.values())
    bound = before + peak.count["worker"] * of_worker + peak.count["render"] * of_render
    more = f"{of_worker / MIB:.0f} more for a worker, {of_render / MIB:.0f} for a render process"
    return told(
        f"memory: together {before / MIB:.0f} MiB before, {peak.total / MIB:.0f} MiB at most",
        peak.total <= bound,
        f"{bound / MIB:.0f} MiB ({more})",
    )


def told(what: str, good: bool, promised: str) -> bool:
    print(f"{what}: {'as' if good else 'NOT as'} promised, at most {promised}")
    return good


if __name__ == "__main__":
    sys.exit(main())
