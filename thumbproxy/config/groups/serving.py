"""Settings of the server, of what it tells, and of whom it tells it."""

from __future__ import annotations

from dataclasses import dataclass

from thumbproxy.config.groups.pictures import MOST_PROCESSES
from thumbproxy.config.schema import TOKEN, setting
from thumbproxy.config.types import Duration, Switch, WebOrigins
from thumbproxy.urls.value_types import Choice, Number, Pattern


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Server

    These are of `serve` alone, but for `misses`. Touch `bind` for other hosts to reach it, and
    `keep_alive` if what stands before it keeps idle connections for longer; `workers` and `threads`
    fit most machines.
    """

    bind: str = setting(
        Pattern(r"\S+:[0-9]{1,5}|unix:\S+", "host:port or unix:/path"),
        "127.0.0.1:8080",
        "where `serve` listens",
    )
    workers: int = setting(
        Number(0, MOST_PROCESSES),
        0,
        "processes of `serve`; 0: one for each processor that it may use, if memory suffices",
    )
    threads: int = setting(Number(1, 1024), 128, "threads of each process")
    misses: int = setting(
        Number(0, 1024),
        0,
        "requests of each process that may wait for an origin or a render, then 503; "
        "0: three quarters of the threads",
    )
    max_requests: int = setting(
        Number(0, 10**9), 0, "requests after which a process is replaced; 0: never"
    )
    keep_alive: int = setting(
        Duration(0, 86_400),
        75,
        "how long `serve` keeps an idle connection; longer than what sends requests to it does. "
        "0: one request for each",
    )
    drain_delay: float = setting(
        Duration(0, 600, 3),
        0,
        "how long `serve` goes on after TERM, while /readyz says that it stops",
    )


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Logs and metrics

    Touch them if a program reads your logs, or Prometheus is to read [metrics](metrics.md). Nothing
    here changes what is served.
    """

    log_format: str = setting(
        Choice(("text", "json")), "text", "how `serve` writes its log: for people or for programs"
    )
    access_log: bool = setting(Switch(), False, "a line in the log of `serve` for each request")
    metrics_token: str = setting(
        TOKEN, "", "the bearer token for /metrics of `serve`; none: no such page", secret=True
    )


@dataclass(frozen=True, kw_only=True)
class WebPageSettings:
    """Pages of other sites

    Every page may show the pictures, and no script of another site may read their pixels. Touch
    these if scripts of yours are to read them (canvas, `fetch`), or if other sites are not to show
    them.
    """

    cors_origins: tuple[str, ...] = setting(
        WebOrigins(), (), "origins whose pages' scripts may read what is served (CORS)"
    )
    cross_origin_resource_policy: str = setting(
        Choice(("cross-origin", "same-site", "same-origin")),
        "cross-origin",
        "whose pages may embed what is served",
    )
