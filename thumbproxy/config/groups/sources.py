"""Settings of URLs, and of what they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thumbproxy.config.schema import HTTP_URL, setting
from thumbproxy.config.types import (
    Key,
    ListOf,
    Network,
    OriginSetting,
    OriginTable,
    PresetTable,
    Switch,
)
from thumbproxy.core.limits import Limits
from thumbproxy.urls.codec import DEFAULT_PREFIX
from thumbproxy.urls.hosts import PORTS
from thumbproxy.urls.value_types import Number, Pattern

_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class UrlSettings:
    """Keys and URLs

    Every installation needs keys; give them in `THUMBPROXY_KEYS`, so that they stand in no file.
    Touch the others where `/thumb` is taken, or where `sign` and `warm` build URLs.
    """

    keys: tuple[str, ...] = setting(ListOf(Key()), (), "signing keys, newest first", secret=True)
    prefix: str = setting(
        Pattern(r"(/[A-Za-z0-9._~-]+)+/?", "a path like /thumb"),
        DEFAULT_PREFIX,
        "where thumbnails live",
    )
    base_url: str = setting(HTTP_URL, "", "what `sign` puts before the prefix")
    presets: Mapping[str, str] = setting(
        PresetTable(), {}, "options by name, for `sign` and `warm`"
    )


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Sources

    `serve` needs `origin` or `origins`; the middleware takes the pictures of its application if it
    is given neither. Touch the networks and ports only if a source that you trust redirects to a
    place which is refused, as the log then says.
    """

    origin: str = setting(Pattern(r"\S.*|", "a folder or an HTTP URL"), "", "where sources are")
    immutable: bool = setting(Switch(), False, "names at `origin` are never used again")
    origins: Mapping[str, OriginSetting] = setting(
        OriginTable(), {}, "origins by source prefix", secret=True
    )
    upstream: str = setting(HTTP_URL, "", "where every other request is passed on to")
    allow_networks: tuple[str, ...] = setting(
        ListOf(Network()),
        (),
        "networks that a redirect of an HTTP origin, or a host of a remote one, may lead into",
    )
    allow_ports: tuple[int, ...] = setting(
        ListOf(Number(1, 65_535)), tuple(PORTS.values()), "ports that such a redirect may lead to"
    )
    max_redirects: int = setting(Number(0, 20), _LIMITS.redirects, "redirects that a fetch follows")
