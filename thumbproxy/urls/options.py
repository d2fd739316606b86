"""The options of a URL: what to do with an image, in exactly one spelling.

`OPTIONS` is the table of the URL grammar: key, meaning, allowed values, in canonical order.
Everything else here reads from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

from thumbproxy.core.errors import BadOptions
from thumbproxy.core.limits import Limits
from thumbproxy.core.suggest import nearest, unknown
from thumbproxy.urls.value_types import (
    Box,
    Choice,
    Color,
    Flag,
    Gravity,
    Number,
    NumberOr,
    Pattern,
    Spelled,
    shortest,
)


class Option(NamedTuple):
    key: str
    field: str
    kind: Spelled
    meaning: str


_SIDE = Number(1, 65_535)
_CHANGE = Number(-100, 100)
NAME = Pattern("[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, _ or -")

OPTIONS = {
    option.key: option
    for option in (
        Option("crop", "crop", Box(), "region of the upright source, before everything else"),
        Option("trim", "trim", Number(0, 255), "cut a uniform border; tolerance of a channel"),
        Option("w", "width", _SIDE, "width of the box, px"),
        Option("h", "height", _SIDE, "height of the box, px"),
        Option("fit", "fit", Choice(("inside", "cover", "pad", "stretch")), "how to meet the box"),
        Option("up", "enlarge", Flag(), "allow enlarging"),
        Option("g", "gravity", Gravity(), "what cover keeps, where pad places"),
        Option("dpr", "dpr", Number(1, 4, 1), "multiplies every length"),
        Option("rot", "rotate", Choice((0, 90, 180, 270)), "degrees clockwise, after EXIF"),
        Option("flip", "flip", Choice(("h", "v", "hv")), "mirror, after rot"),
        Option("bg", "background", Color(), "for pad, and for flattening transparency"),
        Option("blur", "blur", Number(0.3, 50, 2), "standard deviation of a Gaussian, px"),
        Option("sharp", "sharpen", Number(0, 10, 2), "amount of an unsharp mask"),
        Option("bright", "brightness", _CHANGE, "percent to add; -100 is black"),
        Option("contrast", "contrast", _CHANGE, "percent to add; -100 is plain grey"),
        Option("sat", "saturation", _CHANGE, "percent to add; -100 is without colour"),
        Option("gray", "grayscale", Flag(), "without colour"),
        Option("round", "radius", NumberOr(_SIDE, "max"), "rounded corners, px"),
        Option("wm", "watermark", NAME, "a watermark of the configuration"),
        Option("q", "quality", Number(1, 100), "encoder quality"),
        Option("bytes", "max_bytes", Number(1, 100_000_000), "best quality up to q that fits"),
        Option("lossless", "lossless", Flag(), "exact pixels, where the format can"),
        Option("page", "page", Number(1, 100_000), "frame or page, as a still image"),
        Option("still", "still", Flag(), "first frame of an animation"),
        Option("v", "version", NAME, "version of the source: the reply is immutable"),
        Option("e", "expires", Number(1, 99_999_999_999), "unix seconds; 410 after it"),
    )
}
_BY_FIELD = {option.field: option for option in OPTIONS.values()}


class OptionKeywords(TypedDict, total=False):
    """The keywords that URLs are built with: the fields of `Options`, each also as a URL spells it,
    and `format`. None is the same as leaving it out.

    Example:

        from thumbproxy import OptionKeywords

        card: OptionKeywords = {"width": 400, "height": 300, "fit": "cover"}
        url = thumbs.url("photos/cat.jpg", **card)
    """

    crop: tuple[float, ...] | str | None
    trim: int | str | None
    width: int | str | None
    height: int | str | None
    fit: str
    enlarge: bool | str
    gravity: str | tuple[float, float]
    dpr: float | str
    rotate: int | str
    flip: str | None
    background: str | None
    blur: float | str | None
    sharpen: float | str
    brightness: int | str
    contrast: int | str
    saturation: int | str
    grayscale: bool | str
    radius: int | str | None
    watermark: str | None
    quality: int | str | None
    max_bytes: int | str | None
    lossless: bool | str
    page: int | str | None
    still: bool | str
    version: str | None
    expires: int | str | None
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to do with a picture. Fields are checked and brought to one form.

    Lengths are pixels, turns degrees, `expires` unix seconds; docs/options.md has what each does.
    Raises BadOptions (a ValueError) for a value that is not allowed.

    Example:

        from thumbproxy import Options

        options = Options(width=400, height=300, fit="cover")
        assert str(options) == "w_400,h_300,fit_cover"
        assert Options.read("h_300,w_400,fit_cover") == options
    """

    crop: tuple[float, ...] | None = None
    trim: int | None = None
    width: int | None = None
    height: int | None = None
    fit: str = "inside"
    enlarge: bool = False
    gravity: str | tuple[float, float] = "c"
    dpr: float = 1
    rotate: int = 0
    flip: str | None = None
    background: str | None = None
    blur: float | None = None
    sharpen: float = 0
    brightness: int = 0
    contrast: int = 0
    saturation: int = 0
    grayscale: bool = False
    radius: int | str | None = None
    watermark: str | None = None
    quality: int | None = None
    max_bytes: int | None = None
    lossless: bool = False
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
                raise BadOptions(_unknown_key(key))
            if option.field in values:
                raise BadOptions(f"The option {key!r} is given twice.")
            try:
                values[option.field] = option.kind.read(value)
            except (ValueError, TypeError):
                raise _not_allowed(key, value, option) from None
        return cls(**values)

    def check(self, limits: Limits) -> None:
        """Refuse a box that is larger than the limits allow (BadOptions)."""
        for name, side in (("width (w)", self.width), ("height (h)", self.height)):
            if side is not None and side * self.dpr > limits.output_side:
                times = " times dpr" if self.dpr != 1 else ""
                raise BadOptions(
                    f"{name}{times} is {shortest(side * self.dpr)}; "
                    f"at most {limits.output_side} pixels are allowed."
                )

    @property
    def one_frame(self) -> bool:
        """Whether a still picture is asked for, whatever the source is."""
        return self.still or self.page is not None

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


def _unknown_key(key: str) -> str:
    """Says what was probably meant: `width_400` and `w400` are `w_400`."""
    if key in _BY_FIELD:
        return f"There is no option {key!r}; it is written {_BY_FIELD[key].key!r}."
    glued = re.fullmatch(r"([a-z]+)([0-9].*)", key)
    if glued and glued[1] in OPTIONS:
        return f"There is no option {key!r}; it is written '{glued[1]}_{glued[2]}'."
    near = nearest(key, (*OPTIONS, *_BY_FIELD))
    if near in _BY_FIELD and near not in OPTIONS:
        written = _BY_FIELD[near].key
        return f"There is no option {key!r}; did you mean {near}, which is written {written!r}?"
    return unknown("option", key, OPTIONS)


def unknown_field(name: str) -> str:
    """Says what was probably meant by a keyword that is no field; URLs' keys are shorter."""
    if name in OPTIONS:
        return f"There is no option {name!r}; here it is {OPTIONS[name].field!r}."
    return unknown("option", name, (*_BY_FIELD, "format"))


def _not_allowed(name: str, value: object, option: Option) -> BadOptions:
    shown = repr(value)[:80]
    return BadOptions(f"{name}: {shown} is not allowed; it takes {option.kind.allowed}.")


# Sizes repeat over a whole site, so most requests find theirs parsed. Only signed texts get here.
@lru_cache(maxsize=1024)
def _parse_canonical(text: str) -> Options:
    options = Options.read(text)
    canonical = str(options)
    if canonical != text:
        raise BadOptions(f"The options must be spelled {canonical!r}.")
    return options
