"""The table of CDNs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thumbproxy.config.types.refusals import Refusal, table


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
        return table(value, self._entry)

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
