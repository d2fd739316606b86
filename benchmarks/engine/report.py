"""What was measured, as tables that can be read on a terminal and as Markdown."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import pyvips
import simplejpeg

from .makers import PILLOW
from .many import WIDTHS, Many
from .measure import Series


class Check(NamedTuple):
    """A requirement: `value` must be at most `limit`, or at least, if `least`."""

    text: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit


@dataclass
class Results:
    """Everything of one run. `memory` is bytes by side and engine; `command` how it was started."""

    command: str
    photos: int
    engines: list[str]
    sharp: str
    series: list[Series] = field(default_factory=list)
    memory: dict[int, dict[str, int]] = field(default_factory=dict)
    memory_of: str = ""
    many: list[Many] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned; the first is text, the others are numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def series_table(series: Series) -> str:
    head = ["engine, px", "CPU ms", "wall ms", "ours/this", "KB"]
    with_ssim = any(row.ssim is not None for row in series.rows)
    with_psnr = any(row.psnr is not None for row in series.rows)
    lines = []
    for row in series.rows:
        line = [f"{row.engine} {row.side}", f"{row.cpu:.1f}", f"{row.wall:.1f}"]
        line += [f"{row.ratio:.2f}", f"{row.kilobytes:.1f}"]
        if with_ssim:
            line.append("" if row.ssim is None else f"{row.ssim:.4f}")
        if with_psnr:
            line += [f"{decibel:.1f}" for decibel in row.psnr] if row.psnr else ["", ""]
        lines.append(line)
    head += ["SSIM"] * with_ssim + ["mean dB", "lowest dB"] * with_psnr
    return table(head, lines)


def memory_table(memory: Mapping[int, Mapping[str, int]]) -> str:
    engines = list(next(iter(memory.values())))
    lines = (
        [f"{side} px", *(f"{by_engine[engine] / 1e6:.0f}" for engine in engines)]
        for side, by_engine in memory.items()
    )
    return table(["MB", *engines], lines)


def many_table(many: Iterable[Many]) -> str:
    lines = (
        [m.name, f"{m.together:.0f}", f"{m.singly:.0f}", f"{m.ratio:.2f}", f"{m.likeness:.3f}"]
        for m in many
    )
    return table(["formats", "together ms", "singly ms", "ratio", "least SSIM"], lines)


def checks_table(checks: Iterable[Check]) -> str:
    lines = (
        [c.text, f"{c.value:.4g}", f"{'≥' if c.least else '≤'} {c.limit:.4g}",
         "yes" if c.met else "NO"]
        for c in checks
    )  # fmt: skip
    return table(["requirement", "measured", "limit", "met"], lines)


def markdown(results: Results, plots: Iterable[str]) -> str:
    """The page: what was measured and how, plots, and all tables."""
    parts = [_INTRODUCTION, *(f"![{_caption(name)}]({name})\n" for name in plots)]
    parts += ["## Requirements\n", checks_table(results.checks)]
    parts += ["## How it was measured\n", _METHOD.format(pillow=PILLOW), _machine(results)]
    for series in results.series:
        parts += [f"## {series.name}\n",
                  f"{series.pictures} pictures, {series.rounds} rounds.\n",
                  series_table(series)]  # fmt: skip
    parts += ["## Memory\n", _MEMORY.format(photo=results.memory_of), memory_table(results.memory)]
    if results.many:
        widths = ", ".join(map(str, WIDTHS))
        parts += ["## Many sizes of one photo\n", _MANY.format(widths=widths)]
        parts.append(many_table(results.many))
    return "\n".join(parts)


def _caption(name: str) -> str:
    return {
        "cpu.svg": "CPU time per picture, JPEG sources",
        "sources.svg": "CPU time per picture, PNG and WebP sources",
        "memory.svg": "Memory of one render",
    }[name]


def _machine(results: Results) -> str:
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    vips = ".".join(str(pyvips.version(part)) for part in range(3))
    libraries = (f"Python {platform.python_version()}, {PILLOW} {PIL.__version__}, simplejpeg "
                 f"{simplejpeg.__version__}, numpy {np.__version__}, libvips {vips}")  # fmt: skip
    lines = [
        ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("processor", f"{cpu[1] if cpu else platform.machine()}, one core of it"),
        ("system", f"Linux {'.'.join(platform.release().split('.')[:2])}"),
        ("libraries", libraries + (f", sharp {results.sharp}" if results.sharp else "")),
        ("photos", f"{results.photos}"),
        ("command", f"`{results.command}`"),
    ]
    return "".join(f"- {name}: {value}\n" for name, value in lines)


_INTRODUCTION = """\
# Engine benchmark

CPU time, memory, bytes and fidelity of our engine beside others, on camera photos. This page is
written by `make bench PHOTOS=folder ARGS="--write docs/benchmarks"`; any folder of JPEG photos will
do. Machines differ and are noisy: compare the ratios, not the milliseconds.
"""

_METHOD = """\
- All engines do the same work: they read the file from memory, fit the picture into a square of
  the given side, encode it (JPEG 80 with 4:2:0; WebP 82, effort 4; AVIF 65, speed 9, which libvips
  and sharp call effort 0) and drop metadata. AVIF is libaom everywhere, but its releases and its
  tuning differ, so bytes and SSIM differ too. sharp's optimised Huffman tables are switched off.
- Each engine has a process of its own, in which it renders as it would in a server: in one thread
  that does nothing else. All are on one core and take turns, each with all pictures one after the
  other.
- CPU is the time of the whole process, the mean over the pictures, each in its fastest round: what
  else a shared machine does can only add to it. Below 1, `ours/this` says that ours is faster.
- dB is the PSNR of the resized pixels against what the same engine makes of the same picture as a
  PNG: what decoding at a reduced scale costs. Identical pictures count as 60 dB.
- SSIM is that of the file's luma (windows of 8 x 8) against a Lanczos resize of the whole picture,
  one reference for all, which is our engine's and {pillow}'s kind of resize.
- PNG and WebP sources are the photos at 5 megapixels, WebP of quality 90.
"""

_MEMORY = """\
How far resident memory rises above that of a process with libraries and source loaded, for one
JPEG of `{photo}`, the largest photo. Node holds memory that it has not yet given
back and uses it again, so sharp's figures are lower bounds.
"""

_MANY = """\
CPU ms for widths {widths} in two formats of the photo nearest to 12 megapixels: all
outputs of one `render_many`, beside one `render` for each. The SSIM is that of the two ways' files.
"""
