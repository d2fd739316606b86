"""Which variants of a source are made: all combinations of presets, options, widths and formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.formats import Format
from thumbproxy.core.suggest import unknown
from thumbproxy.urls.codec import AUTO
from thumbproxy.urls.options import Options


class Variant(NamedTuple):
    """Options as URL text, in any order, and the extension of a format."""

    options: str
    format: str


def variants(
    bases: Sequence[str], widths: Sequence[int] = (), formats: Sequence[str] = ()
) -> list[Variant]:
    """Every base with every width in every format, each once.

    bases    options as URL text; none: as the source is
    widths   px; they take the place of the base's width, and its height follows their ratio
    formats  extensions, or auto, which is meant when there are none
    Raises BadOptions.
    """
    wanted = {
        Variant(str(options), format): None
        for base in bases or ["_"]
        for options in _widened(Options.read(base), widths)
        for format in formats or [AUTO]
    }
    return list(wanted)


def _widened(options: Options, widths: Sequence[int]) -> Iterator[Options]:
    if not widths:
        yield options
    if widths and options.height and not options.width:
        raise BadOptions("A height needs a width beside it, for the ratio of the box.")
    for width in widths:
        height = options.height
        if height and options.width:
            height = max(1, round(width * height / options.width))
        yield replace(options, width=width, height=height)


def combined(base: str, options: str) -> Options:
    """The options of two texts; where both have one, the second's counts. Raises BadOptions."""
    given = Options.read(options)
    keys = {_key(option) for option in options.split(",")}
    kept = [option for option in base.split(",") if option != "_" and _key(option) not in keys]
    if not kept:
        return given
    return Options.read(",".join(kept) if options == "_" else ",".join([*kept, options]))


def _key(option: str) -> str:
    return option.partition("_")[0]


def preset_text(presets: Mapping[str, str], name: str) -> str:
    """The options of a preset. Raises BadOptions when there is none of that name."""
    try:
        return presets[name]
    except KeyError:
        raise BadOptions(unknown("preset", name, presets)) from None


def audiences(auto_formats: Sequence[Format]) -> list[tuple[Format, ...]]:
    """What the clients of an `auto` URL accept besides the common formats: all that is offered,
    only the later ones, none of them. Each may get a picture of its own."""
    return [tuple(auto_formats[start:]) for start in range(len(auto_formats) + 1)]
