"""Our engine beside Pillow, libvips and sharp on a folder of JPEG photos.

    python -m benchmarks.engine FOLDER [--quick] [--write docs/benchmarks]

Sources are the photos and PNG and WebP made from them, outputs JPEG, WebP and AVIF at four sizes.
See report.py for how it is measured. sharp takes part when there is Node: npm fetches it into a
temporary folder, unless --sharp names one that `npm install --prefix FOLDER sharp` has filled.

The exit status is 1 when a requirement is not met:

- CPU of ours to that of libvips: 0.85 for JPEG from JPEG, 0.95 for WebP from JPEG, at every size,
  WebP within 3 % of libvips' bytes
- PSNR 50 dB in the mean, 44 dB for any photo
- memory at most 1.5 times that of libvips and 40 MB
- six sizes in JPEG and AVIF by render_many: 0.45 of the CPU of one by one
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from thumbproxy.core.formats import Format

from . import many, memory, plots, report, sharp
from .fidelity import Wholes, wholes
from .makers import NAMES, Task
from .measure import Series, psnr, rows, take_turns
from .report import Check, Results
from .rivals import Command, Rival, commands, running
from .sources import Pictures, converted, megapixels, photos

SIZES = (320, 640, 1280, 1920)
CPU_LIMITS = {Format.JPEG: 0.85, Format.WEBP: 0.95}
LOWEST_MEAN, LOWEST = 50.0, 44.0
BYTES_LIMIT = 3  # per cent
MEMORY_FACTOR, MEMORY_BYTES = 1.5, 40e6
MANY_LIMITS = {Format.AVIF: 0.45}


class Effort(NamedTuple):
    """How much is measured.

    photos        at most so many; None: all
    rounds        by output, of photos
    others        how many photos are made into other sources
    other_rounds  by output, of these
    """

    photos: int | None
    rounds: Mapping[Format, int]
    others: int
    other_rounds: Mapping[Format, int]


THOROUGH = Effort(
    None,
    {Format.JPEG: 10, Format.WEBP: 4, Format.AVIF: 3},
    3,
    {Format.JPEG: 3, Format.WEBP: 2, Format.AVIF: 2},
)
QUICK = Effort(3, {Format.JPEG: 3, Format.WEBP: 1, Format.AVIF: 1}, 1, {Format.JPEG: 1})


def say(text: str) -> None:
    """What is being done; on a terminal the next such line takes its place."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def show(title: str, table: str) -> None:
    say("")
    print(f"{title}\n\n{table}", flush=True)


def one_series(
    rivals: Mapping[str, Rival],
    pictures: Pictures,
    kinds: tuple[Format, Format],
    rounds: int,
    whole: Wholes,
) -> Series:
    source, output = kinds
    series = Series(source, output, len(pictures), rounds, [])
    for side in SIZES:
        task = Task(side, output)
        runs = take_turns(
            rivals, pictures, task, rounds, lambda text: say(f"{series.name}, {text}")
        )
        say(f"{series.name}, {side} px, fidelity")
        found = rows(runs, task, whole)
        if kinds == (Format.JPEG, Format.JPEG):
            found = [
                replace(row, psnr=psnr(rivals[row.engine], pictures, whole, side)) for row in found
            ]
        series.rows.extend(found)
    return series


def all_series(
    rivals: Mapping[str, Rival], pictures: Pictures, effort: Effort, folder: Path
) -> Iterator[Series]:
    say("decoding the photos")
    whole = wholes(pictures, folder)
    for output, rounds in effort.rounds.items():
        yield one_series(rivals, pictures, (Format.JPEG, output), rounds, whole)
    some = dict(list(pictures.items())[: effort.others])
    for source in (Format.PNG, Format.WEBP):
        say(f"making {NAMES[source]} sources")
        others = converted(some, source)
        for output, rounds in effort.other_rounds.items():
            yield one_series(rivals, others, (source, output), rounds, {})


def peaks(starts: Mapping[str, Command], photo: bytes) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for side in SIZES:
        say(f"memory, {side} px")
        found[side] = {name: memory.peak(start, photo, side) for name, start in starts.items()}
    return found


def series_checks(series: Series) -> Iterator[Check]:
    """The requirements on one kind of source and output; none on most."""
    if series.source is not Format.JPEG or series.output not in CPU_LIMITS:
        return
    for side in SIZES:
        ours, theirs = series.row(side, "ours"), series.row(side, "libvips")
        what = f"{series.name}, {side} px"
        yield Check(f"{what}: CPU, ours/libvips", theirs.ratio, CPU_LIMITS[series.output])
        if series.output is Format.WEBP:
            apart = 100 * abs(ours.kilobytes / theirs.kilobytes - 1)
            yield Check(f"{what}: bytes apart from libvips, %", apart, BYTES_LIMIT)
        if ours.psnr:
            yield Check(f"{what}: mean dB", ours.psnr[0], LOWEST_MEAN, least=True)
            yield Check(f"{what}: lowest dB", ours.psnr[1], LOWEST, least=True)


def checks(results: Results) -> Iterator[Check]:
    for series in results.series:
        yield from series_checks(series)
    for side, by_engine in results.memory.items():
        limit = MEMORY_FACTOR * by_engine["libvips"] + MEMORY_BYTES
        yield Check(f"memory, {side} px: MB", by_engine["ours"] / 1e6, limit / 1e6)
    for row in results.many:
        if row.formats[-1] in MANY_LIMITS:
            limit = MANY_LIMITS[row.formats[-1]]
            yield Check(f"{row.name} together: CPU, to singly", row.ratio, limit)


def measure(arguments: argparse.Namespace, effort: Effort, stack: ExitStack) -> Results:
    pictures = photos(arguments.folder, effort.photos)
    if not pictures:
        sys.exit(f"engine: there are no JPEG files in {arguments.folder}")
    temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    say("fetching sharp")
    module = sharp.module(arguments.sharp) if arguments.sharp else sharp.install(temporary)
    starts = commands(module)
    rivals = {name: stack.enter_context(running(start)) for name, start in starts.items()}
    command = "python -m benchmarks.engine FOLDER" + " --quick" * arguments.quick
    version = sharp.version(module) if module else ""
    results = Results(command, len(pictures), list(rivals), version)
    for series in all_series(rivals, pictures, effort, temporary):
        results.series.append(series)
        show(series.name, report.series_table(series))
    results.memory_of = max(pictures, key=lambda name: megapixels(pictures[name]))
    results.memory = peaks(starts, pictures[results.memory_of])
    show("Memory of one render", report.memory_table(results.memory))
    say("many sizes of one photo")
    with ThreadPoolExecutor(1) as thread:
        results.many = many.compared(pictures, effort.rounds[Format.AVIF], thread)
    show("Many sizes of one photo", report.many_table(results.many))
    results.checks = list(checks(results))
    return results


def write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawings = plots.drawings(results)
    for name, drawing in drawings.items():
        (folder / name).write_text(drawing)
    (folder / "engine.md").write_text(report.markdown(results, drawings))


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="of JPEG photos")
    parser.add_argument("--quick", action="store_true", help="less than a minute, less certain")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="for engine.md and plots")
    parser.add_argument("--sharp", type=Path, metavar="FOLDER", help="where npm put sharp")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        results = measure(arguments, QUICK if arguments.quick else THOROUGH, stack)
    show("Requirements", report.checks_table(results.checks))
    if arguments.write:
        write(results, arguments.write)
    return 0 if all(check.met for check in results.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
