"""The table of all servers, and whether it is as promised.

"bare" is an application under the same gunicorn that returns the same bytes and headers from
memory: there is no faster reply with gunicorn. "cpu" is the time that processor 0 spent for a hit
in all processes of the row.

A ratio says how many times as fast the row is as the one named beside it: "by hits/s", and "by
cpu", of that time. They agree on an idle machine. Other load takes hits/s from whoever is measured
just then, but is not counted as its time, so promises are checked by cpu. The caches that it fills
do cost some time: a verdict wants the 7 rounds.

What nginx passes on costs both servers' time. Whether it has a copy of what is private ("nginx,
folder") is for conf/nginx.conf to say.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .measuring import Sample, Target, checked, interleaved, ratios
from .photo import EXPIRING, PINNED, PRIVATE
from .servers import (
    BARE,
    HOST,
    OURS,
    gunicorn,
    memcached,
    nginx,
    origin,
    our_conf,
    static_conf,
    thumbor,
    thumbor_path,
)

# What is promised: a row, the row it is held against, and at least how many times as fast by cpu.
PROMISES = (
    ("disk, v_", "bare gunicorn", 0.75),
    ("disk, folder", "bare gunicorn", 0.75),
    ("disk, HTTP origin", "bare gunicorn", 0.75),
    ("nginx, v_", "nginx static", 0.95),
    ("disk, v_", "thumbor", 3.0),
    ("disk, folder", "thumbor", 3.0),
)
CHECKED = """\
Promises are checked "by cpu", the ratio of CPU time per hit. Other load on the machine changes
hits/s, so "by hits/s" is only told."""


def report(home: Path, rounds: int, seconds: int, other: str) -> bool:
    """`other` is an interpreter that has thumbor, or empty."""
    with ExitStack() as stack:
        targets = all_targets(home, other, stack)
        length = checked(targets[0])
        for target in targets[1:]:
            checked(target, length)
        samples = interleaved(targets, rounds, seconds)
    print(f"{length} bytes; {rounds} rounds of {seconds} s\n")
    print("| hit | hits/s | p50 ms | p99 ms | cpu µs | beside | by hits/s | by cpu | promised |")
    print("|---|---|---|---|---|---|---|---|---|")
    least = {(name, beside): f"≥ {value}" for name, beside, value in PROMISES}
    for target in targets:
        rate, p50, p99, cpu, _ = map(median, zip(*samples[target.name], strict=True))
        row = f"| {target.name} | {rate:.0f} | {p50 / 1e3:.2f} | {p99 / 1e3:.2f} | {cpu:.1f} |"
        if target.beside:
            by_rate, by_cpu = ratios(samples, target.name, target.beside)
            promised = least.get((target.name, target.beside), "")
            print(f"{row} {target.beside} | {by_rate:.2f} | {by_cpu:.2f} | {promised} |")
        else:
            print(f"{row} | | | |")
    print(f"\n{CHECKED}\n")
    return kept(samples)


def kept(samples: dict[str, list[Sample]]) -> bool:
    good = True
    for name, beside, least in PROMISES:
        if beside not in samples:
            print(f"{name}: not held against {beside}, which is absent (--{beside} PYTHON)")
            continue
        _, value = ratios(samples, name, beside)
        good &= value >= least
        print(f"{name}: {value:.2f} of {beside} by cpu, "
              f"{'as' if value >= least else 'NOT as'} promised, at least {least}")  # fmt: skip
    return good


def all_targets(home: Path, other: str, stack: ExitStack) -> list[Target]:
    start = stack.enter_context
    photos, disk, private = str(home / "photos"), home / "disk", home / "http"
    ours = start(gunicorn(OURS, origin=photos, cache_dir=str(disk)))
    plain = start(gunicorn(BARE, origin=photos, cache_dir=str(disk)))
    url = start(origin(home / "photos"))
    remote = start(gunicorn(OURS, origin=url, cache_dir=str(private)))
    shared = start(memcached())
    servers = f"{HOST}:{shared[0]}"
    beyond = start(gunicorn(OURS, origin=photos, memcached=servers))
    front = start(nginx(home / "nginx", our_conf(disk / "public", ours[0])))
    static = start(nginx(home / "static", static_conf(disk / "public")))
    on_disk, on_memcached = "thumbproxy; hit; detail=disk", "thumbproxy; hit; detail=memcached"
    gunicorn_, nginx_ = "bare gunicorn", "nginx static"
    targets = [
        Target("disk, v_", ours[0], PINNED, ours[1:], on_disk, gunicorn_),
        Target("disk, folder", ours[0], PRIVATE, ours[1:], on_disk, gunicorn_),
        Target("disk, HTTP origin", remote[0], PRIVATE, remote[1:], on_disk, gunicorn_),
        Target("memcached, v_, no disk", beyond[0], PINNED, (beyond[1], shared[1]), on_memcached,
               gunicorn_),
        Target("nginx, folder", front[0], PRIVATE, (front[1], ours[1]), "hit", gunicorn_),
        Target("nginx, e_, passed on", front[0], EXPIRING, (front[1], ours[1]), on_disk, gunicorn_),
        Target(gunicorn_, plain[0], PINNED, plain[1:], on_disk),
        Target("nginx, v_", front[0], PINNED, front[1:], "nginx; hit", nginx_),
        Target(nginx_, static[0], PINNED, static[1:]),
    ]  # fmt: skip
    if other:
        port, pid = start(thumbor(other, home))
        targets.append(Target("thumbor", port, thumbor_path(), (pid,)))
    return targets
