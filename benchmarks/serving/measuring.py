"""Hits a second, latency and processor time of servers that take turns.

Every server is on processor 0, with one worker, and wrk on processor 1, over 8 kept connections on
loopback. All serve one picture of about 24 KB, as WebP; before it is measured, each must answer
with a hit of that length. Rounds go through all servers in turn, and ratios are taken within a
round, because machines drift; what is told is the median.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import NamedTuple

from PIL import Image

from .photo import ACCEPT, WIDTH
from .servers import HOST, found

CONNECTIONS = 8


class Target(NamedTuple):
    """What is measured: a path of a server, and the servers whose work that is.

    status  what the reply's Cache-Status must have in it
    beside  the row that it is held against
    """

    name: str
    port: int
    path: str
    servers: tuple[int, ...]
    status: str = ""
    beside: str = ""


class Sample(NamedTuple):
    """hits a second; microseconds for the median and the 99th percentile; and of processor 0."""

    rate: float
    p50: float
    p99: float
    cpu: float
    hits: int


def checked(target: Target, length: int | None = None) -> int:
    """Ask twice; the second reply must be the whole picture, from where it should be.

    Its length, which must be `length`, and about that from another engine.
    """
    for _ in range(2):
        connection = http.client.HTTPConnection(HOST, target.port, timeout=30)
        connection.request("GET", target.path, headers=ACCEPT)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    told = answer.status, answer.getheader("Content-Type"), answer.getheader("Cache-Status", "")
    good = told[:2] == (200, "image/webp") and target.status in told[2]
    spread = 0.1 * (length or 0) if target.name == "thumbor" else 0
    if not good or abs(len(body) - (length or len(body))) > spread:
        sys.exit(f"serving: {target.name} answered {told} and {len(body)} bytes: {body[:80]!r}")
    with Image.open(BytesIO(body)) as image:
        assert image.width == WIDTH, target
    return len(body)


def measured(target: Target, seconds: int, connections: int = CONNECTIONS) -> Sample:
    """Ask as fast as it answers; every reply must be a 200."""
    before = processor_time(target.servers)
    command = ["taskset", "-c", "1", found("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s",
               "--latency", "-H", "Accept: image/webp",
               f"http://{HOST}:{target.port}{target.path}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = processor_time(target.servers) - before
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"serving: {target.name} did not answer as it should:\n{said}")
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])
    hits = int(re.findall(r"(\d+) requests in", said)[0])
    p50, p99 = (
        float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
        for number, unit in re.findall(r"(?:50|99)%\s+([\d.]+)(us|ms|s)", said)
    )
    return Sample(rate, p50, p99, spent / hits * 1e6, hits)


def processor_time(sessions: tuple[int, ...]) -> float:
    """Seconds that the processes of these sessions have spent on a processor."""
    total = 0
    for process in processes(sessions):
        for task in process.glob("task/*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9


def processes(sessions: tuple[int, ...]) -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            session = (process / "stat").read_text().rpartition(") ")[2].split()[3]
        except OSError:  # it has just ended
            continue
        if int(session) in sessions:
            yield process


def interleaved(targets: list[Target], rounds: int, seconds: int) -> dict[str, list[Sample]]:
    for target in targets:
        measured(target, 1)
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(measured(target, seconds))
    return samples


def ratios(samples: dict[str, list[Sample]], name: str, beside: str) -> tuple[float, float]:
    """How many times as fast: by hits a second, and by the processor's time."""
    pairs = list(zip(samples[name], samples[beside], strict=True))
    return (
        median(one.rate / other.rate for one, other in pairs),
        median(other.cpu / one.cpu for one, other in pairs),
    )
