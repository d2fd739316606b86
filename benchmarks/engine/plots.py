"""Bars by size and engine, as SVG without a library.

Text and lines are of a grey, and bars of colours, that stand out on white and on black alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from thumbproxy.core.formats import Format

from .report import Results

_COLOURS = ("#e8590c", "#2f9e44", "#3b82f6", "#9c6ade")
_TEXT, _LINE = "#727d8a", "#727d8a55"
_WIDTH, _PLOT_HEIGHT, _HEAD, _FOOT = 880, 190, 62, 30
_GAP, _SCALE_WIDTH = 26, 34  # between panels; for a panel's numbers


class Panel(NamedTuple):
    """Bars of one chart: values[group][engine]."""

    title: str
    groups: Sequence[str]
    values: Sequence[Sequence[float]]


def drawings(results: Results) -> dict[str, str]:
    """The plots of a run, SVG by file name."""
    engines = results.engines
    panels: dict[str, list[Panel]] = {"cpu.svg": [], "sources.svg": []}
    for series in results.series:
        sides = sorted({row.side for row in series.rows})
        values = [[series.row(side, engine).cpu for engine in engines] for side in sides]
        name = "cpu.svg" if series.source is Format.JPEG else "sources.svg"
        panels[name].append(Panel(series.name, [str(side) for side in sides], values))
    plots = {
        name: bars("CPU ms per picture, by longest side in px", engines, some)
        for name, some in panels.items()
        if some
    }
    memory = [[one[engine] / 1e6 for engine in engines] for one in results.memory.values()]
    panel = Panel("JPEG → JPEG", [str(side) for side in results.memory], memory)
    plots["memory.svg"] = bars(
        "MB of memory for one render, by longest side in px", engines, [panel]
    )
    return plots


def bars(title: str, engines: Sequence[str], panels: Sequence[Panel]) -> str:
    """Panels side by side, at most three in a row, each with a scale of its own."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    row_height = _PLOT_HEIGHT + _FOOT + 26
    height = _HEAD + rows * row_height
    width = (_WIDTH - _GAP * (columns - 1)) / columns
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        _text(0, 18, title, "start", 'font-size="15" font-weight="600"'),
        *_legend(engines),
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = column * (width + _GAP), _HEAD + row * row_height
        parts.append(f'<g transform="translate({left:.0f} {top})">')
        parts += [*_panel(panel, width), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _legend(engines: Sequence[str]) -> list[str]:
    parts, left = [], 0
    for engine, colour in zip(engines, _COLOURS, strict=False):
        parts.append(f'<rect x="{left}" y="30" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(left + 18, 40, engine, "start"))
        left += 44 + 7 * len(engine)
    return parts


def _panel(panel: Panel, width: float) -> list[str]:
    step, top = _scale(max(map(max, panel.values)))
    parts = [_text(_SCALE_WIDTH, 12, panel.title, "start", 'font-weight="600"')]
    bottom = 22 + _PLOT_HEIGHT
    for line in range(round(top / step) + 1):
        y = bottom - _PLOT_HEIGHT * line * step / top
        parts.append(f'<path d="M{_SCALE_WIDTH} {y:.1f}H{width:.1f}" stroke="{_LINE}"/>')
        parts.append(_text(_SCALE_WIDTH - 6, y + 4, f"{line * step:g}", "end"))
    group_width = (width - _SCALE_WIDTH) / len(panel.groups)
    for number, (group, values) in enumerate(zip(panel.groups, panel.values, strict=True)):
        left = _SCALE_WIDTH + number * group_width
        parts += _group(values, left, group_width, _PLOT_HEIGHT / top)
        parts.append(_text(left + group_width / 2, bottom + 17, group))
    return parts


def _group(values: Sequence[float], left: float, width: float, scale: float) -> list[str]:
    bar = min(34.0, width * 0.84 / len(values))
    start = left + (width - bar * len(values)) / 2
    parts = []
    for number, (value, colour) in enumerate(zip(values, _COLOURS, strict=False)):
        height = value * scale
        x, y = start + number * bar, 22 + _PLOT_HEIGHT - height
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 1:.1f}" height="{height:.1f}" '
            f'fill="{colour}"><title>{value:.1f}</title></rect>'
        )
    return parts


def _scale(most: float) -> tuple[float, float]:
    """A round step between lines, and the value of the top line: at most six of them."""
    magnitude: float = 10 ** math.floor(math.log10(most))
    step = next(m * magnitude for m in (0.2, 0.5, 1, 2) if most / (m * magnitude) <= 6)
    return step, step * math.ceil(most / step)


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
