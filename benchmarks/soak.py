"""A server under a mixed load and faults, for a while: `python -m benchmarks.soak`.

    python -m benchmarks.soak [--minutes N] [--renders N] [--clients N] [--small]

Two parts, each with a `thumbproxy serve` of its own, a real memcached, and an origin that has
pictures of every kind (up to 3200x2400, most of them small), broken files, and faults:

1. Memory. --renders pictures are made, of many sizes and formats, with hits, bad URLs and
   hostile files among them, and what fails. Resident memory of the workers, and of their render
   processes as a group, is at the end at most 1.2 times what it was after the first 1000, and in
   the last quarter at most 1.03 times that of the quarter before; open files and threads do not
   grow either. For a verdict that counts: --renders 100000 --small.
2. Faults, for --minutes. All kinds of requests, while one thing after another breaks: memcached,
   the origin, the cache directory, render processes, fork servers, workers; and reloads. Each
   reply is looked at: a 200 is the whole picture of its size, format and source, and whatever is
   not as it should be must be explained by the fault of that moment. Most faults explain nothing.

The clients share the processors with the server; what latencies are worth without them, pressure.py
tells. Needs memcached. The exit status is 1 when something was not as promised.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.load.asking import Clients, Plan
from benchmarks.load.faults import Faults, Service, faults_of
from benchmarks.load.gallery import gallery
from benchmarks.load.kinds import MIXED, RENDERS
from benchmarks.load.ledger import (
    Ledger,
    growth_checked,
    leftovers_checked,
    replies_checked,
)
from benchmarks.load.servers import (
    HOST,
    TOKEN,
    Server,
    found,
    free_port,
    serve,
    start,
)

FIRST = 1000
# Seconds: so that what hangs does not take most of the run. And so that what fails is soon asked
# for again, and sources are revalidated.
SETTINGS: Mapping[str, object] = {
    "fetch_timeout": 2, "render_timeout": 3, "request_timeout": 6, "failure_ttl": 1,
    "cache_max_bytes": "200MB", "purge_token": TOKEN,
}  # fmt: skip
# A deadline, what is promised beyond it, and what the clients themselves may wait for a processor.
LONGEST = 6 + 0.5 + 1.0
PROCESSES = 2


class Site(NamedTuple):
    server: Server
    cache: Path
    memcached: Service
    origin: Service


def main() -> int:
    assert __doc__
    # As at Ctrl-C, or what was started would be left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak",
                                     description=__doc__.split(":")[0])  # fmt: skip
    parser.add_argument("--minutes", type=float, default=2, help="of faults; 0: none of that")
    parser.add_argument("--renders", type=int, default=20_000, help="0: none of that")
    parser.add_argument(
        "--small", action="store_true", help="small pictures only: ten times as many"
    )
    parser.add_argument("--clients", type=int, default=12, help="at a time")
    parser.add_argument("--interval", type=float, default=10, help="seconds between two lines")
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        if arguments.renders:
            with site(Path(name) / "memory") as running:
                good &= memory(running, arguments)
        if arguments.minutes:
            with site(Path(name) / "faults") as running:
                good &= faults(running, arguments)
    return 0 if good else 1


@contextmanager
def site(home: Path) -> Iterator[Site]:
    home.mkdir()
    log, shared, pictures = home / "beside.log", free_port(), free_port()
    keeping = [found("memcached"), "-l", HOST, "-p", str(shared), "-U", "0", "-u", "nobody"]
    giving = [sys.executable, "-m", "benchmarks.load.origin", str(pictures)]
    memcached = Service(partial(start, keeping, shared, log))
    origin = Service(partial(start, giving, pictures, log))
    try:
        where = f"http://{HOST}:{pictures}"
        with serve(home, where, memcached=f"{HOST}:{shared}", **SETTINGS) as server:
            yield Site(server, home / "cache", memcached, origin)
    finally:
        memcached.kill()
        origin.kill()


def memory(running: Site, arguments: argparse.Namespace) -> bool:
    print(f"\n# {arguments.renders} renders\n", flush=True)
    ledger = Ledger()
    watched(running, ledger, arguments, RENDERS, lambda: ledger.made >= arguments.renders)
    report(ledger)
    return all([
        replies_checked(ledger, None, LONGEST),
        growth_checked(ledger, min(FIRST, arguments.renders // 4)),
        leftovers_checked(running.server.pid, running.cache, ledger),
    ])  # fmt: skip


def faults(running: Site, arguments: argparse.Namespace) -> bool:
    print(f"\n# {arguments.minutes:g} minutes of faults\n", flush=True)
    ledger = Ledger()
    until = time.monotonic() + float(arguments.minutes) * 60
    breaking = Faults(faults_of(running.server, running.cache, running.memcached, running.origin),
                      pause=4.0)  # fmt: skip

    def over() -> bool:
        breaking.step()
        return time.monotonic() >= until

    watched(running, ledger, arguments, MIXED, over, breaking)
    report(ledger)
    return all([
        replies_checked(ledger, breaking, LONGEST),
        leftovers_checked(running.server.pid, running.cache, ledger),
    ])  # fmt: skip


def watched(
    running: Site,
    ledger: Ledger,
    arguments: argparse.Namespace,
    mix: Mapping[str, int],
    over: Callable[[], bool],
    breaking: Faults | None = None,
) -> None:
    """Have clients ask until it is over, and tell how it goes."""
    pictures = gallery()
    clients = [
        Clients(Plan(running.server.port, mix, seed, 0.01 if breaking else 0.0, arguments.small),
                pictures, max(1, arguments.clients // PROCESSES))
        for seed in range(1, PROCESSES + 1)
    ]  # fmt: skip
    began = told = time.monotonic()
    while not over():
        time.sleep(0.25)
        for each in clients:
            ledger.add(each.records())
        if ledger.samples and len(ledger.samples) > (time.monotonic() - began):
            continue
        ledger.sample(running.server.pid)
        if time.monotonic() - told >= arguments.interval:
            told = time.monotonic()
            tell(f"{told - began:.0f} s", running, ledger, breaking)
    if breaking is not None:
        breaking.stop()
    for each in clients:
        ledger.add(each.close())
    time.sleep(1)  # what nobody waits for any more comes to its end
    for _ in range(3):
        ledger.sample(running.server.pid)
    tell("the end", running, ledger, breaking)


def tell(when: str, running: Site, ledger: Ledger, breaking: Faults | None) -> None:
    broken = ", ".join(breaking.names) if breaking is not None else ""
    files = sum(len(names) for _, _, names in os.walk(running.cache))
    print(f"{when}: {ledger.row()}\n    {ledger.samples[-1][1].row()}; {files} files in the cache"
          + (f"\n    {broken}" if broken else ""), flush=True)  # fmt: skip
    if breaking is not None:
        breaking.names.clear()


def report(ledger: Ledger) -> None:
    print()
    for line in ledger.table():
        print(line)
    print()


if __name__ == "__main__":
    sys.exit(main())
