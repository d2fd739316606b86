"""Metrics for Prometheus.

`Metrics` is the contract, and counts nothing. `prometheus()` gives one that counts, once in a
process. Label sets are closed: every series there can be is there from the start, at zero, and a
value that is not of the set is a KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, Literal, get_args

from thumbproxy.core.errors import (
    ClientGone,
    OriginTimeout,
    RequestError,
    SourceError,
    SourceNotFound,
    ThumbproxyError,
)
from thumbproxy.core.forking import lock_across_forks
from thumbproxy.core.formats import Format

Tier = Literal["memory", "disk", "memcached"]
Hit = Literal["hit_memory", "hit_disk", "hit_memcached"]
Served = Literal[
    Hit, "stale_while_revalidate", "stale_if_error", "revalidated", "miss", "collapsed"
]
Unserved = Literal["refused", "failed", "abandoned"]
Result = Literal[Served, Unserved]
Outcome = Literal["ok", "not_modified", "not_found", "failed", "timeout", "refused"]
Where = Literal["process", "host", "fleet"]
Ended = Literal["crashed", "killed", "recycled"]
ScopeKind = Literal["source", "folder", "everything"]

_Call = Callable[..., None]

SERVED_STATUSES = (200, 206, 304, 416)
# Seconds. Hits take 0.1 ms, renders 10 ms to 1 s, and no request more than 25 s.
_REQUEST_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25)
_WORK_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HITS: dict[str, Hit] = {
    "memory": "hit_memory",
    "disk": "hit_disk",
    "memcached": "hit_memcached",
}


@lru_cache(maxsize=1024)
def result_of(cache_status: str) -> Served:
    """What became of a request, from the parameters of its Cache-Status (RFC 9211 section 2).

    Raises KeyError for a hit of an unknown tier and for what is neither hit nor forward.
    """
    told = {name: value for name, _, value in map(_partition, cache_status.split(";"))}
    if "collapsed" in told:
        return "collapsed"
    if "hit" in told:
        # Section 2.4: a ttl below zero is a stale reply, served while it is asked about.
        # With an error as detail, it is not asked about, because that has just failed.
        if told.get("ttl", "").startswith("-"):
            return "stale_while_revalidate" if told["detail"] in _HITS else "stale_if_error"
        return _HITS[told["detail"]]
    if told["fwd"] != "stale" or "stored" in told:
        return "miss"
    if told.get("fwd-status") == "304":
        return "revalidated"
    # The copy that was too old is what was served: the origin answered with an error or not at all.
    return "stale_if_error" if "detail" in told else "miss"


def _partition(parameter: str) -> tuple[str, str, str]:
    return parameter.strip().partition("=")


def failure_of(error: ThumbproxyError) -> Unserved:
    """What became of a request that ended with `error`: refused for its URL alone, abandoned by its
    client, or failed."""
    if isinstance(error, ClientGone):
        return "abandoned"
    return "refused" if isinstance(error, RequestError) else "failed"


def outcome_of(error: ThumbproxyError) -> Outcome:
    """How a fetch ended that raised `error`: refused is what an origin would not give, or we would
    not take, as too large."""
    if isinstance(error, SourceNotFound):
        return "not_found"
    if isinstance(error, OriginTimeout):
        return "timeout"
    return "refused" if isinstance(error, SourceError) else "failed"


class Metrics:
    """Counts nothing; what is called everywhere, and what each call means.

    Times are seconds, sizes bytes. All methods are cheap, thread-safe, and never block.
    """

    def request(self, result: Result, status: int, size: int, seconds: float) -> None:
        """A reply to a thumbnail URL: its HTTP status, the bytes of its body, the time it took."""

    def fetched(self, outcome: Outcome, seconds: float) -> None:
        """One exchange with an origin, conditional or not."""

    def queued(self, seconds: float) -> None:
        """A render's wait for its turn."""

    def rendered(self, format: Format, seconds: float) -> None:
        """A picture's decoding and resizing."""

    def encoded(self, format: Format, seconds: float) -> None:
        """A picture's encoding."""

    def render_process_ended(self, how: Ended) -> None:
        """A process that makes pictures ended: crashed, killed for taking too long, or recycled."""

    def coalesced(self, where: Where) -> None:
        """A request got what another made: of its process, its host, or another host."""

    def refreshed(self, outcome: Outcome) -> None:
        """A source was asked about in the background."""

    def stored(self, tier: Tier) -> None:
        """A rendition was kept."""

    def evicted(self, files: int, bytes: int) -> None:
        """The janitor removed files, so that the cache stays within its size."""

    def purged(self, scope_kind: ScopeKind, files: int, bytes: int) -> None:
        """A purge was asked for, and removed so much from the disk."""

    def cache_size(self, bytes: int, files: int) -> None:
        """What the disk cache holds, as any process last knew it."""

    def tier_failed(self, tier: Tier) -> None:
        """A tier failed an operation; it is down until it is said to have recovered."""

    def tier_recovered(self, tier: Tier) -> None:
        """A tier that was down works again."""


class Prometheus(Metrics):
    """Counts for Prometheus, in its default registry: one for a process, from `prometheus()`."""

    def __init__(self) -> None:
        # An extra. And when it is imported, it decides whether processes share what they count, by
        # PROMETHEUS_MULTIPROC_DIR: whoever serves with several of them sets that before.
        import prometheus_client as client  # noqa: PLC0415

        self._count_requests(client)
        self._time_work(client)
        self._count_files(client)

    def _count_requests(self, client: ModuleType) -> None:
        requests = client.Counter(
            "thumbproxy_requests_total", "Replies to thumbnail URLs.", ["result", "status"]
        )
        self._requests: dict[tuple[str, int], _Call] = {
            (result, status): _quietly(requests.labels(result, status).inc)
            for result, status in _replies()
        }
        self._sent = _each(
            client.Counter("thumbproxy_sent_bytes_total", "Bytes of these replies.", ["result"]),
            get_args(Result),
        )
        self._durations = _each(
            client.Histogram(
                "thumbproxy_request_duration_seconds",
                "Time until a reply was ready to be sent.",
                ["result"],
                buckets=_REQUEST_BUCKETS,
            ),
            get_args(Result),
        )
        self._coalesced = _each(
            client.Counter(
                "thumbproxy_coalesced_total",
                "Requests that got what another made, in their process, host or fleet.",
                ["where"],
            ),
            get_args(Where),
        )

    def _time_work(self, client: ModuleType) -> None:
        def seconds(name: str, help: str, *labels: str) -> Any:
            name = f"thumbproxy_{name}_duration_seconds"
            return client.Histogram(name, help, labels, buckets=_WORK_BUCKETS)

        formats = {format: format.extension for format in Format}
        fetches = seconds("fetch", "Exchanges with origins.", "outcome")
        self._fetched = _each(fetches, get_args(Outcome))
        self._queued = _quietly(seconds("queue", "Waiting of renders for their turn.").observe)
        self._rendered = _each(
            seconds("render", "Decoding and resizing, by the format made.", "format"), formats
        )
        self._encoded = _each(seconds("encode", "Encoding, by format.", "format"), formats)
        refreshes = client.Counter(
            "thumbproxy_refreshes_total", "Sources asked about in the background.", ["outcome"]
        )
        self._refreshed = _each(refreshes, get_args(Outcome))
        ended = client.Counter(
            "thumbproxy_render_processes_ended_total",
            "Processes that made pictures, and how they ended.",
            ["how"],
        )
        self._ended = _each(ended, get_args(Ended))

    def _count_files(self, client: ModuleType) -> None:
        def counter(name: str, help: str, *labels: str) -> Any:
            return client.Counter(f"thumbproxy_{name}_total", help, labels)

        def gauge(name: str, help: str, mode: str, *labels: str) -> Any:
            return client.Gauge(f"thumbproxy_{name}", help, labels, multiprocess_mode=mode)

        tiers, scopes = get_args(Tier), get_args(ScopeKind)
        self._stored = _each(counter("stored", "Renditions kept.", "tier"), tiers)
        self._evicted_files = _quietly(counter("evicted_files", "Files removed to make room.").inc)
        self._evicted_bytes = _quietly(counter("evicted_bytes", "Bytes removed to make room.").inc)
        self._purges = _each(counter("purges", "Purges asked for.", "scope"), scopes)
        self._purged_files = _each(counter("purged_files", "Files purged.", "scope"), scopes)
        self._purged_bytes = _each(counter("purged_bytes", "Bytes purged.", "scope"), scopes)
        # Whoever measured last knows best, and goes on knowing it when that process has ended.
        bytes = gauge("cache_bytes", "Size of the disk cache.", "mostrecent")
        files = gauge("cache_files", "Files of the disk cache.", "mostrecent")
        self._cache_bytes, self._cache_files = _quietly(bytes.set), _quietly(files.set)
        self._failures = _each(
            counter("tier_failures", "Operations that a tier of the cache failed.", "tier"), tiers
        )
        # Down, not up: a process that has not asked a tier yet says zero.
        down = gauge("tier_down", "1 if a process finds the tier failing.", "livemax", "tier")
        self._down = {tier: _quietly(down.labels(tier).set) for tier in tiers}

    def request(self, result: Result, status: int, size: int, seconds: float) -> None:
        self._requests[result, status]()
        self._sent[result](size)
        self._durations[result](seconds)

    def fetched(self, outcome: Outcome, seconds: float) -> None:
        self._fetched[outcome](seconds)

    def queued(self, seconds: float) -> None:
        self._queued(seconds)

    def rendered(self, format: Format, seconds: float) -> None:
        self._rendered[format](seconds)

    def encoded(self, format: Format, seconds: float) -> None:
        self._encoded[format](seconds)

    def render_process_ended(self, how: Ended) -> None:
        self._ended[how]()

    def coalesced(self, where: Where) -> None:
        self._coalesced[where]()

    def refreshed(self, outcome: Outcome) -> None:
        self._refreshed[outcome]()

    def stored(self, tier: Tier) -> None:
        self._stored[tier]()

    def evicted(self, files: int, bytes: int) -> None:
        self._evicted_files(files)
        self._evicted_bytes(bytes)

    def purged(self, scope_kind: ScopeKind, files: int, bytes: int) -> None:
        self._purges[scope_kind]()
        self._purged_files[scope_kind](files)
        self._purged_bytes[scope_kind](bytes)

    def cache_size(self, bytes: int, files: int) -> None:
        self._cache_bytes(bytes)
        self._cache_files(files)

    def tier_failed(self, tier: Tier) -> None:
        self._failures[tier]()
        self._down[tier](1)

    def tier_recovered(self, tier: Tier) -> None:
        self._down[tier](0)


@cache
def prometheus() -> Prometheus:
    """This process's metrics. Raises ImportError without prometheus-client, which is an extra.

    Two would count into the same series, each unaware of the other.
    """
    return Prometheus()


# For whatever uses prometheus-client, whose own locks cannot be made anew in a child.
COUNTING = lock_across_forks()


def _quietly(count: _Call) -> _Call:
    """The same, but never while the process forks."""

    def counted(*numbers: float) -> None:
        with COUNTING:
            count(*numbers)

    return counted


def _each(metric: Any, values: Any) -> dict[Any, _Call]:
    """What counts for each value of a metric's only label; of a mapping, the label's text."""
    labels = values if isinstance(values, Mapping) else {value: value for value in values}
    children = {value: metric.labels(label) for value, label in labels.items()}
    return {
        value: _quietly(getattr(child, "inc", None) or child.observe)
        for value, child in children.items()
    }


def _replies() -> Iterator[tuple[Result, int]]:
    """All replies there can be: what is served with its statuses, and every error with its own."""
    for served in get_args(Served):
        yield from ((served, status) for status in SERVED_STATUSES)
    yield from {(failure_of(kind()), kind.status) for kind in _with_status(ThumbproxyError)}


def _with_status(kind: type[ThumbproxyError]) -> Iterator[type[ThumbproxyError]]:
    if "status" in vars(kind):
        yield kind
    for narrower in kind.__subclasses__():
        yield from _with_status(narrower)
