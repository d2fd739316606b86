"""System calls of a hit by name, under gunicorn and of our own code alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from .measuring import Target, checked, measured
from .photo import PINNED, PRIVATE
from .servers import BARE, OURS, ROOT, gunicorn, settings_of

SYSTEM_CALLS = 8


def report(home: Path, seconds: int) -> bool:
    where = {"origin": str(home / "photos"), "cache_dir": str(home / "disk")}
    columns = {}
    for name, app, url in (
        ("bare", BARE, PINNED),
        ("v_", OURS, PINNED),
        ("folder", OURS, PRIVATE),
    ):
        with gunicorn(app, BENCHMARK_URL=url, **where) as (port, pid):
            target = Target(name, port, url, (pid,))
            checked(target)
            columns[f"gunicorn, {name}"] = counted_in_worker(target, seconds, home)
        if name != "bare":
            columns[f"alone, {name}"] = counted_alone(home, settings_of(BENCHMARK_URL=url, **where))
    names = sorted({call for calls in columns.values() for call in calls})
    print(f"| system calls of a hit | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for call in names:
        numbers = [calls.get(call, 0.0) for calls in columns.values()]
        if max(numbers) >= 0.01:
            print(f"| {call} | {' | '.join(f'{n:.2f}' for n in numbers)} |")
    totals = {name: sum(calls.values()) for name, calls in columns.items()}
    print(f"| all | {' | '.join(f'{total:.2f}' for total in totals.values())} |\n")
    most = max(total for name, total in totals.items() if name.startswith("alone"))
    print(f"{most:.2f} of our own at most; promised: at most {SYSTEM_CALLS}")
    return most <= SYSTEM_CALLS


def counted_in_worker(target: Target, seconds: int, home: Path) -> dict[str, float]:
    """Of the worker alone, over one kept connection."""
    master = target.servers[0]
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    out = home / "calls"
    command = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(out), "-p", worker]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()  # it says so as soon as it is
        assert "attached" in attached, attached
        hits = measured(target, seconds, connections=1).hits
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    return {name: calls / hits for name, calls in read_counts(out).items()}


def counted_alone(home: Path, environ: dict[str, str], hits: int = 10_000) -> dict[str, float]:
    """Of `hits` calls of the application, less those of none."""
    runs = []
    for count in (0, hits):
        out = home / f"calls-{count}"
        command = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(out), sys.executable, "-c",
                   f"from benchmarks.serving.applications import loop; loop({count})"]  # fmt: skip
        subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, check=True)
        runs.append(read_counts(out))
    idle, busy = runs
    return {name: max(0, calls - idle.get(name, 0)) / hits for name, calls in busy.items()}


def read_counts(counts: Path) -> dict[str, int]:
    lines = (line.split() for line in counts.read_text().splitlines())
    rows = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    rows.pop("total", None)
    return rows
