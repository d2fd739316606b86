"""Kinds of values that settings have besides those of options."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from thumbproxy.errors import BadOptions
from thumbproxy.kinds import COMPASS, SMART, Gravity, Kind, Number, Pattern
from thumbproxy.options import NAME, Options
from thumbproxy.signing import MINIMUM_KEY_BYTES

# Keys that stand in documentation: whoever reads it could sign with them.
EXAMPLE_KEYS = {
    "your signing key",
    "the newest key signs, all of them verify",
    "correct-horse-battery-staple-0001",
}

# What kinds raise for a value that they do not take.
REFUSALS = (ValueError, TypeError, AttributeError, KeyError)
_Entry = TypeVar("_Entry")


class Refusal(ValueError):
    """Why a value is refused, where its kind knows more than what it takes. Shows no secret."""


class Explained(Refusal):
    """Tells what would be allowed as well."""


def _table(value: Any, entry: Callable[[str, Any], _Entry]) -> dict[str, _Entry]:
    """Each entry of a table, checked by `entry`. Raises one Refusal for all that are wrong."""
    if not isinstance(value, Mapping):
        raise TypeError
    checked: dict[str, _Entry] = {}
    refusals: list[Refusal] = []
    for name, given in value.items():
        try:
            checked[name] = entry(name, given)
        except Refusal as refusal:
            refusals.append(refusal)
    if refusals:
        raise _together(refusals)
    return checked


def _together(refusals: Iterable[Refusal]) -> Refusal:
    """One for all; what would be allowed is told of each, or once at the end."""
    refusals = list(refusals)
    whys = "; ".join(dict.fromkeys(str(refusal) for refusal in refusals))
    explained = all(isinstance(refusal, Explained) for refusal in refusals)
    return Explained(whys) if explained else Refusal(whys)


def _named(name: str) -> str:
    try:
        checked: str = NAME.check(name)
    except (ValueError, TypeError):
        raise Explained(f"{name!r} cannot be a name, which is {NAME.allowed}") from None
    return checked


class Switch:
    allowed = "true or false"
    _words: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}

    def read(self, text: str) -> bool:
        return self._words[text.lower()]

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value


class Network:
    allowed = "a network like 10.0.0.0/8"

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        return str(ipaddress.ip_network(value))


@dataclass(frozen=True)
class ListOf:
    """Several values of a kind; separated by commas where they are text."""

    kind: Any

    @property
    def allowed(self) -> str:
        return f"a list, each {self.kind.allowed}"

    def read(self, text: str) -> tuple[Any, ...]:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return self._each(parts, self.kind.read)

    def check(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            raise Refusal("one text is not a list")
        return self._each(value, self.kind.check)

    def _each(self, values: Iterable[Any], take: Callable[[Any], Any]) -> tuple[Any, ...]:
        taken, refusals = [], []
        for value in values:
            try:
                taken.append(take(value))
            except Refusal as refusal:
                refusals.append(refusal)
        if refusals:
            raise _together(refusals)
        return tuple(taken)


class OriginSetting(NamedTuple):
    """Where the sources below a prefix come from: a folder's path or an HTTP URL."""

    location: str
    immutable: bool = False


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


@dataclass(frozen=True)
class CdnSetting:
    """How a CDN is told of purges.

    id        of the service, zone or distribution
    token     "" where the CDN's own library finds it; never shown
    whole     whether a purge of everything empties all of it
    endpoint  "" for the CDN's own
    """

    id: str
    token: str = field(default="", repr=False)
    whole: bool = False
    endpoint: str = ""


class Key:
    allowed = (
        f"a secret of {MINIMUM_KEY_BYTES} bytes at least, not an example; "
        "`thumbproxy keygen` makes one"
    )

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if len(value.encode()) < MINIMUM_KEY_BYTES:
            raise Refusal(f"a key of {len(value.encode())} bytes is too short")
        if value in EXAMPLE_KEYS:
            raise Refusal("this key is an example of the documentation, which everyone can read")
        return value


@dataclass(frozen=True)
class OriginTable:
    """reserved: names that are settings and were meant to stand elsewhere, when they are known."""

    reserved: Callable[[], Container[str]]
    allowed = 'a table in the file: "prefix/" = "/folder or URL", or { location, immutable }'

    def read(self, text: str) -> Any:
        raise ValueError

    def check(self, value: Any) -> dict[str, OriginSetting]:
        return _table(value, self._entry)

    def _entry(self, prefix: str, entry: Any) -> OriginSetting:
        if prefix in self.reserved():
            raise Refusal(f"{prefix!r} is a setting and belongs above [origins]")
        known = OriginSetting._fields
        unknown = [key for key in entry if key not in known] if isinstance(entry, dict) else []
        if unknown:
            raise Refusal(f"{prefix!r} has {unknown[0]!r}, which is none of {', '.join(known)}")
        try:
            setting = OriginSetting(**entry) if isinstance(entry, dict) else entry
            setting = (
                OriginSetting(setting) if isinstance(setting, str) else OriginSetting(*setting)
            )
            if isinstance(setting.location, str) and isinstance(setting.immutable, bool):
                return setting
        except TypeError:
            pass
        raise Refusal(f"the entry {prefix!r} is neither a location nor {{ location, immutable }}")


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
        return _table(value, self._entry)

    def _entry(self, name: str, entry: Any) -> WatermarkSetting:
        name = _named(name)
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
        return _table(value, self._entry)

    def _entry(self, name: str, text: Any) -> str:
        name = _named(name)
        if not isinstance(text, str):
            raise Explained(f"{name!r} is not a text like 'w_400,fit_cover'")
        try:
            return str(Options.read(text))
        except BadOptions as error:
            raise Explained(f"of {name!r}, {error.reason.rstrip('.')}") from None


class CdnTable:
    """CDNs by name, each with what it needs to be told of a purge."""

    allowed = (
        "a table for each in the file: [cdn.fastly] with service and token, [cdn.cloudflare] with "
        "zone and token, [cdn.cloudfront] with distribution; all with endpoint if you like, the "
        "first two with whole; in a variable, the same as TOML"
    )
    # What each calls its id, and whether a token and `whole` belong to it.
    _ids: Mapping[str, tuple[str, bool]] = {
        "fastly": ("service", True),
        "cloudflare": ("zone", True),
        "cloudfront": ("distribution", False),
    }
    _kinds: Mapping[str, Callable[[Any], bool]] = {
        "id": lambda value: bool(re.fullmatch(r"[A-Za-z0-9_-]+", value)),
        "token": lambda value: bool(re.fullmatch(r"[!-~]+", value)),
        "whole": lambda value: isinstance(value, bool),
        "endpoint": lambda value: bool(re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value)),
    }

    _forms: Mapping[str, str] = {
        "id": "one word of letters, digits, _ and -",
        "token": "one word of ASCII characters",
        "whole": "true or false",
        "endpoint": "a URL like https://api.example.com, without a query",
    }

    def read(self, text: str) -> Any:
        return self.check(tomllib.loads(text))

    def check(self, value: Any) -> dict[str, CdnSetting]:
        return _table(value, self._entry)

    def _entry(self, name: str, entry: Any) -> CdnSetting:
        if isinstance(entry, CdnSetting):
            return entry
        if name not in self._ids:
            raise Refusal(f"{name!r} is none of {', '.join(self._ids)}")
        id, has_token = self._ids[name]
        needed = [id, "token"] if has_token else [id]
        known = [*needed, "whole", "endpoint"] if has_token else [*needed, "endpoint"]
        if not isinstance(entry, dict):
            raise Refusal(f"{name} is no table with {' and '.join(needed)}")
        faults = [f"{name} has no {key}" for key in needed if key not in entry]
        for key, given in entry.items():
            if key not in known:
                faults.append(f"{name} has {key!r}, which is none of {', '.join(known)}")
            elif not self._fits("id" if key == id else key, given):
                form = self._forms["id" if key == id else key]
                faults.append(f"{key} of {name} is not {form}")
        if faults:
            raise Refusal("; ".join(faults))
        return CdnSetting(**{"id" if key == id else key: given for key, given in entry.items()})

    def _fits(self, key: str, value: Any) -> bool:
        try:
            return self._kinds[key](value)
        except TypeError:
            return False
