"""Checks memcached servers: versions, settings, and whether others can reach them."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Iterator, Sequence

from thumbproxy.core.endpoints import Endpoint
from thumbproxy.core.limits import Deadline
from thumbproxy.core.resources import size
from thumbproxy.doctor.findings import Finding

_GROUP = "memcached"
_SECONDS = 2.0
# What the tier shares at most, with its key and frame.
_LARGEST_ITEM = 1024 * 1024
_SLOW_SECONDS = 0.005
_TRIPS = 9
# What hosts reckon with, when one purges what another fetches at that moment.
_SKEW_SECONDS = 2


# More than any has, by far.
_MOST_STATS, _LONGEST_LINE = 1_000, 65_536


def memcached(
    servers: Sequence[str], *, connections: int, client: str = "builtin"
) -> Iterator[Finding]:
    """servers: "host:port" or "unix:/path", each; connections: how many this host may open to each;
    client: the setting `memcached_client`."""
    for server in servers:
        endpoint = Endpoint(server)
        yield from _server(server, endpoint, connections)
        if client == "pylibmc" and not endpoint.is_path:
            yield Finding(
                _GROUP, "warning",
                f"{server} is believed by pylibmc: whoever answers there, when it is down or from "
                "between, can crash or take over the workers",
                'memcached_client = "builtin", or a socket that nobody else can make: unix:/path',
            )  # fmt: skip


def _server(server: str, endpoint: Endpoint, connections: int) -> Iterator[Finding]:
    try:
        with _Talk(endpoint) as talk:
            yield from _talked(server, talk, connections)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error or "it does not answer as one"
        yield Finding(
            _GROUP, "warning", f"{server}: {reason}",
            "start it, or leave it out: serving goes on, but a purge does not reach other hosts",
        )  # fmt: skip
        return
    if not endpoint.is_path and not _is_loopback(endpoint.host):
        yield Finding(
            _GROUP, "warning",
            f"{server} is reached over the network: whoever else can reach it can slow us down, "
            "though never change a picture",
            "let nobody else reach it",
        )  # fmt: skip


def _talked(server: str, talk: _Talk, connections: int) -> Iterator[Finding]:
    stats, settings = talk.stats(""), talk.stats(" settings")
    took = sorted(talk.trip() for _ in range(_TRIPS))[_TRIPS // 2]
    talk.try_out()
    text = (
        f"{server}: memcached {stats.get('version', '?')}, "
        f"{size(int(stats['bytes']))} of {size(int(stats['limit_maxbytes']))}, "
        f"{1000 * took:.1f} ms there and back"
    )
    advice = "put one beside each host, or nearer" if took > _SLOW_SECONDS else ""
    yield Finding(_GROUP, "warning" if advice else "ok", text, advice)
    yield from _room(server, stats, settings)
    yield from _setup(server, settings)
    most = int(settings.get("maxconns", "1024"))
    if connections > most:
        yield Finding(
            _GROUP, "warning",
            f"{server} takes {most} connections; {connections} threads here may ask at once",
            f"memcached -c {2 * connections}, or fewer threads",
        )  # fmt: skip
    ahead = int(stats["time"]) - time.time()
    if not -_SKEW_SECONDS - 1 < ahead < _SKEW_SECONDS:
        yield Finding(
            _GROUP, "warning", f"{server}: its clock and ours differ by {abs(ahead):.0f} s",
            "set the clocks by NTP on all hosts; a purge goes by them",
        )  # fmt: skip


def _room(server: str, stats: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    largest = int(settings.get("item_size_max", "1048576"))
    if largest < _LARGEST_ITEM:
        yield Finding(
            _GROUP, "warning", f"{server} takes items up to {size(largest)}; larger pictures are "
            "not shared between hosts", "memcached -I 1m",
        )  # fmt: skip
    if settings.get("evictions") == "off":
        yield Finding(
            _GROUP, "warning", f"{server} refuses new items when it is full, and keeps old ones",
            "start it without -M",
        )  # fmt: skip
    evictions = int(stats.get("evictions", "0"))
    if evictions:
        yield Finding(
            _GROUP, "note", f"{server} had to drop {evictions:,} items for want of room",
            "if hosts fetch and render what others have, give it more memory with -m",
        )  # fmt: skip


def _setup(server: str, settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("cas_enabled") == "no":
        yield Finding(
            _GROUP, "critical", f"{server} has no `cas`: purges cannot be told to other hosts",
            "start it without -C",
        )  # fmt: skip
    listens, path = settings.get("inter", ""), settings.get("domain_socket", "NULL")
    if path == "NULL" and not all(map(_is_loopback, listens.split(","))):
        where = "all addresses" if listens in ("", "NULL", "0.0.0.0", "::") else listens  # noqa: S104
        yield Finding(
            _GROUP, "warning", f"{server} listens on {where}, and asks nobody who they are",
            "memcached -l 127.0.0.1 if only this host uses it; else a firewall",
        )  # fmt: skip
    if int(settings.get("udpport", "0")):
        yield Finding(
            _GROUP, "warning", f"{server} answers by UDP, which others can use for attacks",
            "memcached -U 0",
        )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _Talk:
    """A connection of our own, in memcached's text protocol (its doc/protocol.txt): what a client
    library keeps to itself, is what is asked here."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._deadline = Deadline(3 * _SECONDS)
        self._connection = endpoint.connect(self._deadline.within(_SECONDS))
        self._come = b""

    def __enter__(self) -> _Talk:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def stats(self, of: str) -> dict[str, str]:
        """Raises OSError, ValueError."""
        self._connection.sendall(f"stats{of}\r\n".encode())
        found: dict[str, str] = {}
        while (line := self._line()) != "END":
            kind, _, rest = line.partition(" ")
            if kind != "STAT":
                raise ValueError("it does not answer as memcached does")
            name, _, value = rest.partition(" ")
            found[name] = value
            if len(found) > _MOST_STATS:
                raise ValueError("it does not answer as memcached does")
        return found

    def trip(self) -> float:
        began = time.perf_counter()
        self._connection.sendall(b"version\r\n")
        self._line()
        return time.perf_counter() - began

    def try_out(self) -> None:
        """Put a value there, get it back, and remove it. Raises OSError, ValueError."""
        key = f"thumbproxy-doctor-{secrets.token_hex(8)}"
        told = []
        for command in (f"set {key} 0 10 2\r\nok", f"get {key}", f"delete {key}"):
            self._connection.sendall(f"{command}\r\n".encode())
            told += [self._line() for _ in range(3 if command.startswith("get") else 1)]
        if told != ["STORED", f"VALUE {key} 0 2", "ok", "END", "DELETED"]:
            raise ValueError(f"it does not keep what it is given: {told[0]}")

    def _line(self) -> str:
        while b"\n" not in self._come:
            self._connection.settimeout(self._deadline.within(_SECONDS).remaining or 0.001)
            more = self._connection.recv(4096)
            if not more or len(self._come) > _LONGEST_LINE or self._deadline.passed:
                raise ValueError("it does not answer as memcached does")
            self._come += more
        line, _, self._come = self._come.partition(b"\n")
        return line.decode("ascii", "replace").rstrip()
