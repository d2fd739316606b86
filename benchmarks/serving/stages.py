"""What a hit under gunicorn spends: each server does more of the work than the one before.

verify  signature and grammar
find    the rendition in the caches
reply   headers, and the edge
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median

from .measuring import Target, checked, interleaved
from .photo import PINNED, PRIVATE
from .servers import BARE, OURS, gunicorn


def report(home: Path, rounds: int, seconds: int) -> bool:
    where = {"origin": str(home / "photos"), "cache_dir": str(home / "disk")}
    print("Microseconds of processor 0.\n\n| hit | bare | verify | find | reply | all |")
    print("|---|---|---|---|---|---|")
    for name, url in (("disk, v_", PINNED), ("disk, folder", PRIVATE)):
        with ExitStack() as stack:
            targets = []
            for step in ("", "verify", "find", "all"):
                app = OURS if step == "all" else BARE
                started = gunicorn(app, BENCHMARK_URL=url, BENCHMARK_STEP=step, **where)
                port, pid = stack.enter_context(started)
                targets.append(Target(step, port, url, (pid,)))
                checked(targets[-1])
            samples = interleaved(targets, rounds, seconds)
        spent = [median(sample.cpu for sample in each) for each in samples.values()]
        more = "".join(f" {after - before:+.0f} |" for before, after in pairwise(spent))
        print(f"| {name} | {spent[0]:.0f} |{more} {spent[-1]:.0f} |")
    return True
