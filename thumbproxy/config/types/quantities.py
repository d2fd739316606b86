"""Sizes and times, as numbers or in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from thumbproxy.urls.value_types import Number, shortest

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?|\.[0-9]{1,3}) ?([A-Za-z]*)")


def _read(text: str, units: Mapping[str, int]) -> float:
    """A number of the smallest unit. Raises ValueError, or KeyError for an unknown unit."""
    said = _QUANTITY.fullmatch(text.strip())
    if said is None:
        raise ValueError
    return float(said[1]) * units[said[2].upper()]


def _write(value: float, units: Mapping[str, int]) -> str:
    """With the largest of the units, which come smallest first, that leaves a whole number."""
    fitting = [unit for unit, worth in units.items() if value >= worth and value % worth == 0]
    unit = fitting[-1] if fitting else next(iter(units))
    return f"{shortest(value / units[unit])} {unit}"


@dataclass(frozen=True)
class Size:
    """Bytes, as a number or in words: 10 GB is 10^10, 10 GiB is 10 * 2^30. 0 is no bound."""

    low: int = 0
    high: int = 2**60
    _units: ClassVar[Mapping[str, int]] = {
        "": 1, "B": 1, "BYTE": 1, "BYTES": 1,
        "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
        "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
    }  # fmt: skip
    _words: ClassVar[Mapping[str, int]] = {
        "bytes": 1,
        "KiB": 2**10,
        "MiB": 2**20,
        "GiB": 2**30,
        "TiB": 2**40,
    }

    @property
    def allowed(self) -> str:
        least = f" from {self.write(self.low)}" if self.low else ""
        most = f" up to {self.write(self.high)}" if self.high < 2**60 else ""
        unbounded = "" if self.low else "; 0: no bound"
        return f"bytes, or a size like 10 GB or 512 MiB{least}{most}{unbounded}"

    def read(self, text: str) -> int:
        return self.check(round(_read(text, self._units)))

    def check(self, value: Any) -> int:
        if isinstance(value, str):
            return self.read(value)
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError
        return value

    def write(self, value: int) -> str:
        return _write(value, self._words) if value else "0"


@dataclass(frozen=True)
class Duration:
    """Seconds with at most `places` decimals, as a number or in words: `90 s`, `30 days`."""

    low: float
    high: float
    places: int = 0
    _units: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("", "S", "SEC", "SECOND", "SECONDS"), 1),
        **dict.fromkeys(("M", "MIN", "MINUTE", "MINUTES"), 60),
        **dict.fromkeys(("H", "HOUR", "HOURS"), 3600),
        **dict.fromkeys(("D", "DAY", "DAYS"), 86_400),
    }
    _words: ClassVar[Mapping[str, int]] = {
        "seconds": 1,
        "minutes": 60,
        "hours": 3600,
        "days": 86_400,
    }

    @property
    def allowed(self) -> str:
        least, most = self.write(self.low), self.write(self.high)
        return f"seconds, or a time like 90 s, 12 h or 30 days, from {least} to {most}"

    def read(self, text: str) -> float:
        return self.check(round(_read(text, self._units), 6))

    def check(self, value: Any) -> float:
        if isinstance(value, str):
            return self.read(value)
        return Number(self.low, self.high, self.places).check(value)

    def write(self, value: float) -> str:
        if not value:
            return "0"
        words = _write(value, self._words)
        return words.removesuffix("s") if words.startswith("1 ") else words
