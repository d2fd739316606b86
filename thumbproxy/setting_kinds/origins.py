"""The table of origins."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from thumbproxy.hosts import AllowedHosts
from thumbproxy.setting_kinds.refusals import Refusal, table


class OriginSetting(NamedTuple):
    """Where the sources below a prefix come from: a folder's path or an HTTP URL, or the URLs of
    several hosts. It has either a location or hosts."""

    location: str = ""
    immutable: bool = False
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class OriginTable:
    """reserved: names that are settings and were meant to stand elsewhere, when they are known."""

    reserved: Callable[[], Container[str]]
    allowed = (
        'a table in the file: "prefix/" = "/folder or URL", or { location, immutable }, '
        "or { hosts, immutable }"
    )

    def read(self, text: str) -> Any:
        raise ValueError

    def check(self, value: Any) -> dict[str, OriginSetting]:
        return table(value, self._entry)

    def _entry(self, prefix: str, entry: Any) -> OriginSetting:
        if prefix in self.reserved():
            raise Refusal(f"{prefix!r} is a setting and belongs above [origins]")
        known = OriginSetting._fields
        unknown = [key for key in entry if key not in known] if isinstance(entry, dict) else []
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise Refusal(f"{prefix!r} has {named}, which is none of {', '.join(known)}")
        if isinstance(entry, str):
            entry = {"location": entry}
        setting = OriginSetting()
        with suppress(TypeError):
            setting = OriginSetting(**entry) if isinstance(entry, dict) else OriginSetting(*entry)
        location: Any = setting.location
        immutable: Any = setting.immutable
        typed = isinstance(location, str) and isinstance(immutable, bool)
        if not typed or bool(location) == bool(setting.hosts):
            raise Refusal(
                f"the entry {prefix!r} is neither a location nor {{ location, immutable }} "
                "nor { hosts, immutable }"
            )
        return setting._replace(hosts=_hosts(prefix, setting.hosts))


def _hosts(prefix: str, given: Any) -> tuple[str, ...]:
    """The hosts of an entry. Raises Refusal."""
    are_texts = isinstance(given, Sequence) and all(isinstance(host, str) for host in given)
    if isinstance(given, str) or not are_texts:
        raise Refusal(f'the hosts of {prefix!r} are no list like ["images.example.com"]')
    faults = []
    for host in given:
        try:
            AllowedHosts([host])
        except ValueError as error:
            faults.append(f"{error}")
    if faults:
        raise Refusal(f"of the hosts of {prefix!r}, {', '.join(faults)}")
    return tuple(given)
