"""The table of origins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from thumbproxy.config.types.refusals import Refusal, table
from thumbproxy.http.fetch_headers import header_faults
from thumbproxy.urls.hosts import AllowedHosts

# Names of variables; those of settings are read as settings.
_VARIABLE = re.compile(r"(?!THUMBPROXY_)[A-Za-z_][A-Za-z0-9_]*")
_FORMS = (
    "neither a location nor { location, immutable, encoded, headers } "
    "nor { hosts, immutable, encoded, headers }"
)


class FromEnvironment(NamedTuple):
    """A value that stands in a variable of the environment, and nowhere else."""

    variable: str


@dataclass(frozen=True)
class OriginSetting:
    """Where the sources below a prefix come from: a folder's path or an HTTP URL, or the URLs of
    several hosts. It has either a location or hosts.

    encoded  its sources stand as in the request, percent-encoded
    headers  of the requests by which sources are fetched; never shown
    """

    location: str = ""
    immutable: bool = False
    hosts: tuple[str, ...] = ()
    encoded: bool = False
    headers: Mapping[str, str | FromEnvironment] = field(default_factory=dict, repr=False)

    @property
    def of_requests(self) -> list[str]:
        """What is set of it that only an origin which is asked by HTTP has."""
        return [name for name in ("encoded", "headers") if getattr(self, name)]


_KNOWN = tuple(setting.name for setting in fields(OriginSetting))


class OriginTable:
    """Origins by prefix."""

    allowed = (
        'a table in the file: "prefix/" = "/folder or URL", or { location, immutable, encoded, '
        "headers }, or { hosts, immutable, encoded, headers }"
    )

    def read(self, text: str) -> Any:
        raise ValueError

    def check(self, value: Any) -> dict[str, OriginSetting]:
        return table(value, self._entry)

    def _entry(self, prefix: str, entry: Any) -> OriginSetting:
        given = _as_table(entry)
        if given is None:
            raise Refusal(f"the entry {prefix!r} is {_FORMS}")
        unknown = [key for key in given if key not in _KNOWN]
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise Refusal(f"{prefix!r} has {named}, which is none of {', '.join(_KNOWN)}")
        setting = OriginSetting(**given)
        switches: tuple[Any, ...] = (setting.immutable, setting.encoded)
        typed = isinstance(setting.location, str) and all(isinstance(it, bool) for it in switches)
        if not typed or bool(setting.location) == bool(setting.hosts):
            raise Refusal(f"the entry {prefix!r} is {_FORMS}")
        faults = [*_host_faults(prefix, setting.hosts), *_header_faults(prefix, setting.headers)]
        if setting.of_requests and setting.location and "://" not in setting.location:
            faults.append(
                f"{prefix!r} is a folder, which no requests go to: leave out "
                f"{' and '.join(setting.of_requests)}"
            )
        if faults:
            raise Refusal("; ".join(faults))
        headers = {name: _header_value(given) for name, given in setting.headers.items()}
        return OriginSetting(**{**given, "hosts": tuple(setting.hosts), "headers": headers})


def _as_table(entry: Any) -> dict[str, Any] | None:
    """An entry by its keys, however it was given; None for what is none."""
    if isinstance(entry, OriginSetting):
        return {name: getattr(entry, name) for name in _KNOWN}
    if isinstance(entry, str):
        return {"location": entry}
    if isinstance(entry, list | tuple) and len(entry) <= len(_KNOWN):
        return dict(zip(_KNOWN, entry, strict=False))
    return dict(entry) if isinstance(entry, dict) else None


def _host_faults(prefix: str, given: Any) -> Iterator[str]:
    are_texts = isinstance(given, Sequence) and all(isinstance(host, str) for host in given)
    if isinstance(given, str) or not are_texts:
        yield f'the hosts of {prefix!r} are no list like ["images.example.com"]'
        return
    faults = []
    for host in given:
        try:
            AllowedHosts([host])
        except ValueError as error:
            faults.append(f"{error}")
    if faults:
        yield f"of the hosts of {prefix!r}, {', '.join(faults)}"


def _header_faults(prefix: str, given: Any) -> Iterator[str]:
    if not isinstance(given, Mapping):
        yield f'the headers of {prefix!r} are no table like {{ User-Agent = "…" }}'
        return
    values = {name: _header_value(value) for name, value in given.items()}
    # What stands in the environment is looked at when it is read.
    there = {name: "" if isinstance(it, FromEnvironment) else it for name, it in values.items()}
    yield from (f"of the headers of {prefix!r}, {fault}" for fault in header_faults(there))
    for name, value in values.items():
        if isinstance(value, FromEnvironment) and not _VARIABLE.fullmatch(value.variable):
            yield (
                f"of the headers of {prefix!r}, {name!r} names the variable {value.variable!r}: it "
                "may have letters, digits and _, and not begin with THUMBPROXY_, as settings do"
            )


def _header_value(given: Any) -> Any:
    """What { env = "NAME" } stands for; anything else as it is."""
    if isinstance(given, Mapping) and list(given) == ["env"] and isinstance(given["env"], str):
        return FromEnvironment(given["env"])
    return given
