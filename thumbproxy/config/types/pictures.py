"""The tables of watermarks and presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from thumbproxy.config.types.refusals import REFUSALS, Explained, Refusal, named, table
from thumbproxy.core.errors import BadOptions
from thumbproxy.urls.options import Options
from thumbproxy.urls.value_types import COMPASS, SMART, Gravity, Kind, Number, Pattern


class WatermarkSetting(NamedTuple):
    """A picture to put on others.

    position  as the option `g`; opacity 0 to 1; scale: its width as a fraction of the output's
    margin    px to the output's edges, times dpr
    """

    image: str
    position: str | tuple[float, float] = "se"
    opacity: float = 1
    scale: float = 0.2
    margin: int = 0


class Place(Gravity):
    """A gravity that needs no looking at pixels."""

    allowed = f"one of {', '.join(COMPASS)}, or a point like 0.31x0.7 in fractions 0..1"

    def check(self, value: Any) -> str | tuple[float, float]:
        if value == SMART:
            raise ValueError
        return super().check(value)


class WatermarkTable:
    allowed = (
        "a table for each in the file: [watermarks.name] with image, and if you like position "
        "(as `g`: se), opacity (0 to 1), scale (of the width: 0.2) and margin (px)"
    )
    _kinds: Mapping[str, Kind] = {
        "image": Pattern(r"\S.*", "a file"),
        "position": Place(),
        "opacity": Number(0, 1, 3),
        "scale": Number(0.01, 1, 3),
        "margin": Number(0, 4096),
    }

    def read(self, text: str) -> Any:
        raise ValueError

    def check(self, value: Any) -> dict[str, WatermarkSetting]:
        return table(value, self._entry)

    def _entry(self, name: str, entry: Any) -> WatermarkSetting:
        name = named(name)
        if not isinstance(entry, WatermarkSetting | Mapping):
            raise Refusal(f"{name!r} is no table")
        values = entry._asdict() if isinstance(entry, WatermarkSetting) else dict(entry)
        faults = [] if "image" in values else [f"{name!r} has no image"]
        for key, given in values.items():
            if key not in self._kinds:
                faults.append(f"{name!r} has {key!r}, which is none of {', '.join(self._kinds)}")
                continue
            try:
                values[key] = self._kinds[key].check(given)
            except REFUSALS:
                allowed = self._kinds[key].allowed
                faults.append(f"{key} of {name!r} is {given!r} and not {allowed}")
        if faults:
            raise Refusal("; ".join(faults))
        return WatermarkSetting(**values)


class PresetTable:
    """Options by name, each in the canonical spelling of a URL."""

    allowed = 'a table in the file: name = "options as in a URL"'

    def read(self, text: str) -> Any:
        raise ValueError

    def check(self, value: Any) -> dict[str, str]:
        return table(value, self._entry)

    def _entry(self, name: str, text: Any) -> str:
        name = named(name)
        if not isinstance(text, str):
            raise Explained(f"{name!r} is not a text like 'w_400,fit_cover'")
        try:
            return str(Options.read(text))
        except BadOptions as error:
            raise Explained(f"of {name!r}, {error.reason.rstrip('.')}") from None
