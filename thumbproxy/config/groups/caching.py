"""Settings of the caches, and of how long what they hold counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thumbproxy.config.schema import FOLDER, TOKEN, setting
from thumbproxy.config.types import CdnSetting, CdnTable, Duration, ListOf, Size
from thumbproxy.http.cache_tags import SEPARATORS
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.http.responses import CachePolicy
from thumbproxy.urls.value_types import Choice, Number, Pattern

_POLICY = CachePolicy()
_LIFETIMES = Lifetimes()
_LONG = Duration(0, 10 * 365 * 86_400)
_SHORT = Duration(0, 60, 3)
_SERVERS = ListOf(
    Pattern(r"(\[[0-9a-fA-F:]+\]|[^\s:,/]+):[0-9]{1,5}|unix:/[^\s,]+", "host:port or unix:/path")
)


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Caches

    Give `cache_dir` a disk with room, and `cache_max_bytes` as much of it as may be taken. Touch
    the others for memcached, which several hosts can share, and for nginx on the host of `serve`.
    """

    cache_dir: str = setting(FOLDER, "", "the disk cache")
    cache_max_bytes: int = setting(Size(), 10 * 2**30, "largest disk cache")
    cache_max_files: int = setting(
        Number(0, 10**12),
        0,
        "most files and directories in it; 0: one for each 8 KiB of cache_max_bytes",
    )
    accel_redirect: str = setting(
        Pattern(r"(/[A-Za-z0-9._~-]+)+|", "a path like /_thumbproxy"),
        "",
        "an internal location of nginx that sends what lies in cache_dir",
    )
    memcached: tuple[str, ...] = setting(_SERVERS, (), "memcached servers")
    memcached_client: str = setting(
        Choice(("builtin", "pylibmc")),
        "builtin",
        "what asks them; pylibmc: only where nobody else can be the server",
    )
    memcached_namespace: str = setting(Pattern(r"\S*", "text"), "", "keeps caches apart")


@dataclass(frozen=True, kw_only=True)
class FreshnessSettings:
    """Freshness

    Touch these if your origin sends no `Cache-Control`, or another one than you want. Shorter times
    show a changed picture sooner and cost requests to the origin; longer ones bridge its outages.
    """

    source_ttl: int = setting(
        _LONG, _LIFETIMES.source, "how long a source is fresh if its origin does not say"
    )
    client_lifetime: str = setting(
        Choice(("origin", "max_age")),
        "origin",
        "what counts for clients: the lifetime that an origin gives, or always max_age",
    )
    max_age: int = setting(
        _LONG,
        _POLICY.max_age,
        "how long clients may keep what is not immutable, if its origin does not say",
    )
    stale_while_revalidate: int = setting(
        _LONG,
        _LIFETIMES.stale_while_revalidate,
        "how long a stale picture is served while it is asked for; sent beside max_age",
    )
    stale_if_error: int = setting(
        _LONG,
        _LIFETIMES.stale_if_error,
        "how long a stale picture is served if its origin fails; sent beside max_age",
    )
    not_found_ttl: float = setting(
        _SHORT,
        _LIFETIMES.not_found,
        "how long an origin that had no such source is not asked again",
    )
    failure_ttl: float = setting(
        _SHORT,
        _LIFETIMES.failure,
        "how long what failed, a fetch or a render, is not tried again",
    )


@dataclass(frozen=True, kw_only=True)
class PurgeSettings:
    """Purging

    Without any of these, `thumbproxy purge` empties the caches above. Touch them for purges by
    HTTP, and if nginx or a CDN keeps copies of its own.
    """

    purge_token: str = setting(
        TOKEN, "", "the bearer token for PURGE; none: nobody purges by HTTP", secret=True
    )
    nginx_cache_dir: str = setting(
        FOLDER, "", "nginx's `proxy_cache_path`, for a purge to reach it"
    )
    surrogate_keys: tuple[str, ...] = setting(
        ListOf(Choice(tuple(SEPARATORS))), (), "headers with tags by which a CDN can purge"
    )
    cdn: Mapping[str, CdnSetting] = setting(
        CdnTable(), {}, "CDNs that are told of purges", secret=True
    )
