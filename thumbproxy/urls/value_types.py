"""The types of values of options and settings, and their spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

COMPASS = {
    "c": (0.5, 0.5), "n": (0.5, 0.0), "ne": (1.0, 0.0), "e": (1.0, 0.5), "se": (1.0, 1.0),
    "s": (0.5, 1.0), "sw": (0.0, 1.0), "w": (0.0, 0.5), "nw": (0.0, 0.0),
}  # fmt: skip
SMART = "smart"


class Kind(Protocol):
    """A kind of value.

    `read` takes text, `check` a value of Python; both give the value in its one form. Both raise
    ValueError, TypeError, AttributeError or KeyError for what is not `allowed`.
    """

    @property
    def allowed(self) -> str: ...
    def read(self, text: str) -> Any: ...
    def check(self, value: Any) -> Any: ...


class Spelled(Kind, Protocol):
    """A kind whose values have one spelling, the shortest."""

    def write(self, value: Any) -> str: ...


def _digits(text: str) -> str:
    # int() and float() also take signs, spaces, underscores, exponents and Arabic digits.
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}", text):
        raise ValueError
    return text


def shortest(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high` with at most `places` decimals."""

    low: float
    high: float
    places: int = 0

    @property
    def allowed(self) -> str:
        decimals = f"{self.places} decimal{'s' * (self.places > 1)}"
        form = f"a number with at most {decimals}" if self.places else "a whole number"
        return f"{form} from {self.low} to {self.high}"

    def read(self, text: str) -> float:
        digits = text.removeprefix("-") if self.low < 0 else text
        return self.check(float(_digits(digits)) * (1 if digits == text else -1))

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not self.low <= value <= self.high or round(value, self.places) != value:
            raise ValueError
        return int(value) if value == int(value) else value

    def write(self, value: float) -> str:
        return shortest(value)


@dataclass(frozen=True)
class Choice:
    values: tuple[Any, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(map(str, self.values))

    def read(self, text: str) -> Any:
        by_text = {str(value): value for value in self.values}
        if text not in by_text:
            raise ValueError
        return by_text[text]

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or value not in self.values:
            raise ValueError
        return value

    def write(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True)
class NumberOr:
    """A number, or one word in its place."""

    number: Number
    word: str

    @property
    def allowed(self) -> str:
        return f"{self.number.allowed}, or {self.word}"

    def read(self, text: str) -> float | str:
        return text if text == self.word else self.number.read(text)

    def check(self, value: Any) -> float | str:
        return self.word if value == self.word else self.number.check(value)

    def write(self, value: float | str) -> str:
        return value if isinstance(value, str) else self.number.write(value)


class Flag:
    allowed = "no value: the key alone turns it on"

    def read(self, text: str) -> bool:
        if text:
            raise ValueError
        return True

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def write(self, value: bool) -> str:
        return ""


@dataclass(frozen=True)
class Pattern:
    """Text of one form. A whole number is taken as its text: a version often is one."""

    regex: str
    allowed: str

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        text = str(value) if type(value) is int else value
        if not isinstance(text, str) or not re.fullmatch(self.regex, text):
            raise ValueError
        return text

    def write(self, value: str) -> str:
        return value


class Color:
    allowed = "rrggbb or rrggbbaa, hexadecimal"

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        value = value.removeprefix("#") if isinstance(value, str) else value
        if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", value):
            raise ValueError
        return value.lower().removesuffix("ff") if len(value) == 8 else value.lower()

    def write(self, value: str) -> str:
        return value


def _fraction(value: float) -> float:
    value = round(float(value), 6)
    if not 0 <= value <= 1:
        raise ValueError
    return value


class Box:
    """x, y, width, height: an int is pixels, a float a fraction of the picture's side.

    The fraction 1 is written `1.0`, because `1` is one pixel.
    """

    allowed = "XxYxWxH in pixels or in fractions 0..1 with a dot, inside the picture"

    def read(self, text: str) -> tuple[float, ...]:
        numbers = [_digits(part) for part in text.split("x")]
        return self.check(tuple(float(n) if "." in n else int(n) for n in numbers))

    def check(self, value: Any) -> tuple[float, ...]:
        x, y, width, height = (self._side(number) for number in value)
        if not width or not height:
            raise ValueError
        for start, length in ((x, width), (y, height)):
            if isinstance(length, float) and isinstance(start, float) and start + length > 1.000001:
                raise ValueError
            if isinstance(start, float) and start >= 1:
                raise ValueError
        return (x, y, width, height)

    def _side(self, number: Any) -> float:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError
        if isinstance(number, int):
            if not 0 <= number <= 65_535:
                raise ValueError
            return number
        return _fraction(number) or 0

    def write(self, value: tuple[float, ...]) -> str:
        return "x".join("1.0" if n == 1 and isinstance(n, float) else shortest(n) for n in value)


class Gravity:
    allowed = (
        f"one of {', '.join(COMPASS)}, {SMART}, or a focal point like 0.31x0.7 in fractions 0..1"
    )

    def read(self, text: str) -> str | tuple[float, float]:
        if text in COMPASS or text == SMART:
            return text
        x, y = text.split("x")
        return self.check((float(_digits(x)), float(_digits(y))))

    def check(self, value: Any) -> str | tuple[float, float]:
        if isinstance(value, str):
            if value not in COMPASS and value != SMART:
                raise ValueError
            return value
        x, y = value
        return (_fraction(x), _fraction(y))

    def write(self, value: str | tuple[float, float]) -> str:
        return value if isinstance(value, str) else "x".join(map(shortest, value))
