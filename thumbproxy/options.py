"""What to do with a picture: the options of a URL, one spelling for each.

`OPTIONS` is the table of the URL grammar: key, meaning, allowed values, in canonical order.
Everything else here reads from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from thumbproxy.errors import BadOptions
from thumbproxy.limits import Limits

COMPASS = {
    "c": (0.5, 0.5), "n": (0.5, 0.0), "ne": (1.0, 0.0), "e": (1.0, 0.5), "se": (1.0, 1.0),
    "s": (0.5, 1.0), "sw": (0.0, 1.0), "w": (0.0, 0.5), "nw": (0.0, 0.0),
}  # fmt: skip


class Kind(Protocol):
    """A kind of value. `read` and `check` raise ValueError when a value is not allowed."""

    @property
    def allowed(self) -> str: ...
    def read(self, text: str) -> Any: ...
    def check(self, value: Any) -> Any: ...
    def write(self, value: Any) -> str: ...


def _digits(text: str) -> str:
    # int() and float() also take signs, spaces, underscores, exponents and Arabic digits.
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}", text):
        raise ValueError
    return text


def _shortest(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high` with at most `places` decimals."""

    low: int
    high: int
    places: int = 0

    @property
    def allowed(self) -> str:
        form = f"a number with at most {self.places} decimals" if self.places else "a whole number"
        return f"{form} from {self.low} to {self.high}"

    def read(self, text: str) -> float:
        return self.check(float(_digits(text)))

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not self.low <= value <= self.high or round(value, self.places) != value:
            raise ValueError
        return int(value) if value == int(value) else value

    def write(self, value: float) -> str:
        return _shortest(value)


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
        return "x".join("1.0" if n == 1 and isinstance(n, float) else _shortest(n) for n in value)


class Gravity:
    allowed = f"one of {', '.join(COMPASS)}, or a focal point like 0.31x0.7 in fractions 0..1"

    def read(self, text: str) -> str | tuple[float, float]:
        if text in COMPASS:
            return text
        x, y = text.split("x")
        return self.check((float(_digits(x)), float(_digits(y))))

    def check(self, value: Any) -> str | tuple[float, float]:
        if isinstance(value, str):
            if value not in COMPASS:
                raise ValueError
            return value
        x, y = value
        return (_fraction(x), _fraction(y))

    def write(self, value: str | tuple[float, float]) -> str:
        return value if isinstance(value, str) else "x".join(map(_shortest, value))


class Option(NamedTuple):
    key: str
    field: str
    kind: Kind
    meaning: str


_SIDE = Number(1, 65_535)

OPTIONS = {
    option.key: option
    for option in (
        Option("crop", "crop", Box(), "region of the upright source, before everything else"),
        Option("w", "width", _SIDE, "width of the box, px"),
        Option("h", "height", _SIDE, "height of the box, px"),
        Option("fit", "fit", Choice(("inside", "cover", "pad", "stretch")), "how to meet the box"),
        Option("up", "enlarge", Flag(), "allow enlarging"),
        Option("g", "gravity", Gravity(), "what cover keeps, where pad places"),
        Option("dpr", "dpr", Number(1, 4, 1), "multiplies every length"),
        Option("rot", "rotate", Choice((0, 90, 180, 270)), "degrees clockwise, after EXIF"),
        Option("flip", "flip", Choice(("h", "v", "hv")), "mirror, after rot"),
        Option("bg", "background", Color(), "for pad, and for flattening transparency"),
        Option("q", "quality", Number(1, 100), "encoder quality"),
        Option("page", "page", Number(1, 100_000), "frame or page, as a still image"),
        Option("still", "still", Flag(), "first frame of an animation"),
        Option("v", "version", Pattern("[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, _ or -"),
               "version of the source: the reply is immutable"),
        Option("e", "expires", Number(1, 99_999_999_999), "unix seconds; 410 after it"),
    )
}  # fmt: skip
_BY_FIELD = {option.field: option for option in OPTIONS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to do with a picture. Fields are checked and brought to one form; see `OPTIONS`.

    Raises BadOptions (a ValueError) for a value that is not allowed.
    """

    crop: tuple[float, ...] | None = None
    width: int | None = None
    height: int | None = None
    fit: str = "inside"
    enlarge: bool = False
    gravity: str | tuple[float, float] = "c"
    dpr: float = 1
    rotate: int = 0
    flip: str | None = None
    background: str | None = None
    quality: int | None = None
    page: int | None = None
    still: bool = False
    version: str | None = None
    expires: int | None = None

    def __post_init__(self) -> None:
        for name, value in self._given():
            option = _BY_FIELD[name]
            try:
                checked = option.kind.check(value)
            except (ValueError, TypeError):
                raise _not_allowed(name, value, option) from None
            object.__setattr__(self, name, checked)

    def _given(self) -> Iterator[tuple[str, Any]]:
        for f in fields(self):
            value = getattr(self, f.name)
            # The types count: False == 0 and 1.0 == 1 would pass as the default otherwise.
            if value is not None and (type(value), value) != (type(f.default), f.default):
                yield f.name, value

    @classmethod
    def parse(cls, text: str) -> Options:
        """The options of a URL in their canonical spelling; any other is refused.

        `str(Options.parse(text)) == text` for every text that is accepted.
        """
        return _parse_canonical(text)

    @classmethod
    def read(cls, text: str) -> Options:
        """The options of a text as people write it: any order, any spelling of a number."""
        values: dict[str, Any] = {}
        for token in () if text == "_" else text.split(","):
            key, _, value = token.partition("_")
            option = OPTIONS.get(key)
            if option is None:
                raise BadOptions(f"There is no option {key!r}{_hint(key)}")
            if option.field in values:
                raise BadOptions(f"The option {key!r} is given twice.")
            try:
                values[option.field] = option.kind.read(value)
            except (ValueError, TypeError):
                raise _not_allowed(key, value, option) from None
        return cls(**values)

    def check(self, limits: Limits) -> None:
        """Refuse a box that is larger than the limits allow (BadOptions)."""
        for key, side in (("w", self.width), ("h", self.height)):
            if side is not None and side * self.dpr > limits.output_side:
                times = " times dpr" if self.dpr != 1 else ""
                raise BadOptions(
                    f"{key}{times} is {_shortest(side * self.dpr)}; "
                    f"at most {limits.output_side} pixels are allowed."
                )

    @property
    def identity(self) -> Options:
        """These options as far as they decide the picture: without the time of expiry."""
        return self if self.expires is None else replace(self, expires=None)

    def __str__(self) -> str:
        tokens = []
        for option in OPTIONS.values():
            value = getattr(self, option.field)
            if value != _DEFAULTS[option.field]:
                text = option.kind.write(value)
                tokens.append(f"{option.key}_{text}" if text else option.key)
        return ",".join(tokens) or "_"


_DEFAULTS = {f.name: f.default for f in fields(Options)}


def _hint(key: str) -> str:
    """What was probably meant: `width_400` and `w400` are `w_400`."""
    if key in _BY_FIELD:
        return f"; it is written {_BY_FIELD[key].key!r}."
    glued = re.fullmatch(r"([a-z]+)([0-9].*)", key)
    if glued and glued[1] in OPTIONS:
        return f"; it is written '{glued[1]}_{glued[2]}'."
    return f". Options are: {', '.join(OPTIONS)}."


def _not_allowed(name: str, value: object, option: Option) -> BadOptions:
    shown = repr(value)[:80]
    return BadOptions(f"{name}: {shown} is not allowed; it takes {option.kind.allowed}.")


# Sizes repeat over a whole site, so most requests find theirs parsed. Only signed texts get here.
@lru_cache(maxsize=4096)
def _parse_canonical(text: str) -> Options:
    options = Options.read(text)
    canonical = str(options)
    if canonical != text:
        raise BadOptions(f"The options must be spelled {canonical!r}.")
    return options
