"""What it costs to have pictures made in processes of their own, beside threads.

    python benchmarks/renders.py [PHOTO …] [--rounds 15] [--most 1.10]

Both runners make the same pictures in turns, a block of renders each, so that what else the machine
does meets both. Wall and CPU ms are for one render: of each block the median wall time, and the CPU
time of all processes that took part; of the blocks the median. A ratio is the median of the ratios
of neighbouring blocks.

The status is 1 if a picture that takes threads 5 to 20 ms costs more than `--most` times as much
CPU in processes, one at a time.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.rendering.base import Runner, Task
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.urls.options import Options

SIZE = 2
TICK = os.sysconf("SC_CLK_TCK")
# Seconds that a block takes about.
BLOCK = 0.4
HEADER = """
| render | at a time | threads: wall ms | processes | ratio | threads: CPU ms | processes | ratio |
|---|---|---|---|---|---|---|---|"""
AROUND_TEN = (5.0, 20.0)


class Case(NamedTuple):
    name: str
    task: Task


class Block(NamedTuple):
    wall_ms: float
    cpu_ms: float


def drawn(width: int, height: int) -> bytes:
    """A JPEG with as much detail as a photo: shades, and noise of all sizes."""
    noise = np.random.default_rng(1)
    picture = np.zeros((height, width, 3), np.float32)
    for cell in (1, 4, 16, 64):
        shape = (-(-height // cell), -(-width // cell), 3)
        part = noise.normal(0, 4 * cell**0.5, shape).astype(np.float32)
        picture += part.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    buffer = io.BytesIO()
    Image.fromarray((picture + 128).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def task(source: bytes, width: int, format: Format) -> Task:
    return Task(source, ((Options(width=width), format),))


def cases(photos: list[Path]) -> Iterator[Case]:
    one, three = drawn(1250, 800), drawn(2000, 1500)
    yield Case("1 MP to 400 px jpg", task(one, 400, Format.JPEG))
    yield Case("1 MP to 300 px webp", task(one, 300, Format.WEBP))
    yield Case("3 MP to 320 px jpg", task(three, 320, Format.JPEG))
    for photo in photos:
        source = photo.read_bytes()
        with Image.open(io.BytesIO(source)) as image:
            megapixels = round(image.width * image.height / 1e6)
        name = f"photo, {megapixels} MP, {len(source) / 1e6:.1f} MB"
        yield Case(f"{name}, to 320 px jpg", task(source, 320, Format.JPEG))
        yield Case(f"{name}, to 1280 px jpg", task(source, 1280, Format.JPEG))


def family(processes: Processes) -> list[int]:
    """The fork server and the render processes."""
    server = processes._pool.value.made().starter._process
    assert server is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [server.pid, *map(int, children.split())]


def cpu_seconds(pids: list[int]) -> float:
    """Of this process and those; to a hundredth of a second, as the kernel counts for others."""
    others = 0
    for pid in pids:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        others += int(facts[11]) + int(facts[12])
    return time.process_time() + others / TICK


def block(runner: Runner, work: Task, renders: int, at_a_time: int) -> Block:
    pids = family(runner) if isinstance(runner, Processes) else []

    def one(_: int) -> float:
        began = time.perf_counter()
        runner.run(work, Deadline(60), lambda: None)
        return time.perf_counter() - began

    cpu = cpu_seconds(pids)
    with ThreadPoolExecutor(at_a_time) as pool:
        times = list(pool.map(one, range(renders)))
    cpu = cpu_seconds(pids) - cpu
    return Block(1000 * statistics.median(times), 1000 * cpu / renders)


def compare(
    threads: Runner, processes: Runner, case: Case, at_a_time: int, rounds: int
) -> tuple[float, float]:
    """CPU ms of a render in a thread, and how many times as much it is in a process."""
    took = min(block(runner, case.task, 3, 1).wall_ms for runner in (threads, processes))
    renders = max(4, round(at_a_time * 1000 * BLOCK / took))
    blocks = []
    for _ in range(rounds):
        first = block(threads, case.task, renders, at_a_time)
        blocks.append((first, block(processes, case.task, renders, at_a_time)))

    def middle(of: Callable[[tuple[Block, Block]], float]) -> float:
        return statistics.median(map(of, blocks))

    wall = middle(lambda pair: pair[1].wall_ms / pair[0].wall_ms)
    cpu = middle(lambda pair: pair[1].cpu_ms / pair[0].cpu_ms)
    cpu_ms = middle(lambda pair: pair[0].cpu_ms)
    print(
        f"| {case.name} | {at_a_time} | {middle(lambda pair: pair[0].wall_ms):.2f} "
        f"| {middle(lambda pair: pair[1].wall_ms):.2f} | {wall:.3f} "
        f"| {cpu_ms:.2f} | {middle(lambda pair: pair[1].cpu_ms):.2f} | {cpu:.3f} |",
        flush=True,
    )
    return cpu_ms, cpu


def memory(pid: int) -> tuple[float, float]:
    """Resident and proportional memory, MiB; the latter for those who may know (root)."""
    kept = {"Rss": 0, "Pss": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, amount = line.partition(":")
            if name in kept:
                kept[name] = int(amount.split()[0])
    except PermissionError:
        return float("nan"), float("nan")
    return kept["Rss"] / 1024, kept["Pss"] / 1024


def until(true: Callable[[], bool]) -> float:
    """ms until it is."""
    began = time.perf_counter()
    while not true():
        time.sleep(0.0005)
    return 1000 * (time.perf_counter() - began)


def report_memory(processes: Processes) -> None:
    server, *children = family(processes)
    for name, pids in (("fork server", [server]), ("render process", children)):
        for pid in pids:
            print("{}: RSS {:.0f} MiB, PSS {:.0f} MiB".format(name, *memory(pid)))


def report_starts(processes: Processes, work: Task) -> None:
    began = time.perf_counter()
    processes.run(work, Deadline(60), lambda: None)
    print(f"\nfirst picture after a start: {1000 * (time.perf_counter() - began):.0f} ms")
    processes.start()
    until(lambda: processes.pool_status().ready == SIZE)
    print("after a start:")
    report_memory(processes)
    times = []
    for _ in range(9):
        _, child, *_ = family(processes)
        os.kill(child, 9)
        until(lambda: processes.pool_status().ready < SIZE)
        began = time.perf_counter()
        processes.start()
        until(lambda: processes.pool_status().ready == SIZE)
        times.append(1000 * (time.perf_counter() - began))
    print(f"a process replaced: {statistics.median(times):.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--most", type=float, default=1.10)
    arguments = parser.parse_args()
    # What is killed here on purpose need not be told.
    logging.getLogger("thumbproxy").setLevel(logging.ERROR)
    engine = PillowEngine(Limits())
    threads = Threads(engine, SIZE)
    # The same ones to the end, so that their time can be told.
    processes = Processes(engine, Limits(), SIZE, jobs=10**9, resident=10**12)
    dear = []
    try:
        report_starts(processes, next(cases([])).task)
        print(HEADER)
        for case in cases(arguments.photos):
            for at_a_time in (1, SIZE):
                cpu_ms, ratio = compare(threads, processes, case, at_a_time, arguments.rounds)
                if at_a_time == 1 and AROUND_TEN[0] <= cpu_ms <= AROUND_TEN[1]:
                    dear += [case.name] * (ratio > arguments.most)
        print("\nafter all of that:")
        report_memory(processes)
    finally:
        processes.close()
        threads.close()
    for name in dear:
        print(f"{name}: more than {arguments.most} times as much in processes", file=sys.stderr)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
