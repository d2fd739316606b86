"""Times of the engines, which take turns on one core."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from thumbproxy.core.formats import Format

from .fidelity import Wholes, decibels, file_ssim, reference
from .makers import NAMES, Task
from .rivals import Rival
from .sources import Pictures


@dataclass
class Runs:
    """What one engine took: CPU and wall seconds by round and picture, and what it made."""

    cpu: list[list[float]] = field(default_factory=list)
    wall: list[list[float]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One engine at one size, means over the pictures.

    cpu, wall  milliseconds, of each picture in its fastest round: what else a shared machine does
               can only add to it
    ratio      our CPU time by this engine's
    kilobytes  of the file
    ssim       of the file, against a resize without short cuts
    psnr       mean and lowest dB of the pixels, against a resize without short cuts
    """

    side: int
    engine: str
    cpu: float
    wall: float
    ratio: float
    kilobytes: float
    ssim: float | None = None
    psnr: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """All sizes and engines for one kind of source and of output."""

    source: Format
    output: Format
    pictures: int
    rounds: int
    rows: list[Row]

    @property
    def name(self) -> str:
        return f"{NAMES[self.source]} → {NAMES[self.output]}"

    def row(self, side: int, engine: str) -> Row:
        return next(row for row in self.rows if (row.side, row.engine) == (side, engine))


def take_turns(
    rivals: Mapping[str, Rival],
    pictures: Pictures,
    task: Task,
    rounds: int,
    say: Callable[[str], None],
) -> dict[str, Runs]:
    """`rounds` times each engine on all pictures, one after the other, as a server has them.

    Turns of one picture would charge each engine with caches that its neighbour has filled.
    """
    for rival in rivals.values():  # the first picture of a kind costs more
        rival.load(next(iter(pictures.values())))
        rival.render(task)
    runs = {name: Runs() for name in rivals}
    order = deque(rivals)
    for number in range(rounds):
        say(f"{task.side} px, round {number + 1} of {rounds}")
        for run in runs.values():
            run.cpu.append([])
            run.wall.append([])
        for engine in order:
            for name, source in pictures.items():
                rivals[engine].load(source)
                sample = rivals[engine].render(task)
                runs[engine].cpu[-1].append(sample.cpu)
                runs[engine].wall[-1].append(sample.wall)
                runs[engine].bodies[name] = sample.body
        order.rotate(1)
    return runs


def rows(runs: Mapping[str, Runs], task: Task, wholes: Wholes) -> list[Row]:
    """The table's rows; with SSIM if there is something to compare the pictures with."""
    similar = ssims(runs, task, wholes) if wholes else {}
    return [
        Row(
            side=task.side,
            engine=engine,
            cpu=_milliseconds(run.cpu),
            wall=_milliseconds(run.wall),
            ratio=ratio(runs["ours"].cpu, run.cpu),
            kilobytes=statistics.mean(len(body) for body in run.bodies.values()) / 1000,
            ssim=similar.get(engine),
        )
        for engine, run in runs.items()
    ]


def ssims(runs: Mapping[str, Runs], task: Task, wholes: Wholes) -> dict[str, float]:
    """The mean over the pictures by engine."""
    references = {name: reference(whole, task.side) for name, whole in wholes.items()}
    return {
        engine: statistics.mean(
            file_ssim(body, references[name]) for name, body in run.bodies.items()
        )
        for engine, run in runs.items()
    }


def ratio(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """Of the mean times per picture, each in its fastest round."""
    return _fastest(ours) / _fastest(theirs)


def psnr(rival: Rival, pictures: Pictures, wholes: Wholes, side: int) -> tuple[float, float]:
    """Mean and lowest dB over the pictures."""
    found = [decibels(rival, source, wholes[name], side) for name, source in pictures.items()]
    return statistics.mean(found), min(found)


def _milliseconds(rounds: list[list[float]]) -> float:
    return 1000 * _fastest(rounds)


def _fastest(rounds: list[list[float]]) -> float:
    return statistics.mean(min(times) for times in zip(*rounds, strict=True))
