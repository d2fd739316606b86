"""Two hosts, a disk each, memcached between them and an origin that changes: whatever happens in
whatever order, nobody is shown what is no longer so, and nothing is left lying about.

All parts are real; only the time of day belongs to the test. The oracle is what the origin itself
has answered: which picture, when, and how long that may be believed.

A failure prints the steps and the seed: THUMBPROXY_SEED=... plays it again. THUMBPROXY_STATEFUL=600
goes on for that many seconds.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pylibmc
import pytest
import servers
from explorer import Stand, replaced
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from origin import jpeg, opened

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.http.responses import Response
from thumbproxy.web.admin_endpoints import not_found

THUMBS = Thumbnails([servers.KEY])
SOURCE = "folder/a.jpg"
SCOPES = (SOURCE, "folder/", "")
DAY = 86_400
# What a source's lifetime is where the origin says nothing, and what that is in each case:
# seconds in which it is fresh, then may be stale while it is asked for, or if the origin fails.
TTL, STALE, ON_ERROR = 40.0, 30.0, 300.0
HEADERS: dict[str, tuple[float, float, float]] = {
    "": (TTL, STALE, ON_ERROR),
    "max-age=60": (60, STALE, ON_ERROR),
    "max-age=20, stale-while-revalidate=0, stale-if-error=100": (20, 0, 100),
    "max-age=30, must-revalidate": (30, 0, 0),
    "no-cache": (0, 0, 0),
    "private": (0, 0, 0),
}
# Seconds for which a failure, or that there is none, is remembered.
REMEMBERED = 5.0
# What the clock goes on by meanwhile, at the most.
SLACK = 2.0
BEGINNING = float(int(time.time()) - 1000 * DAY)


class Clock:
    """The time of day, which goes on by a millisecond whenever somebody looks."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def time(self) -> float:
        self.now += 0.001
        return self.now

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def monotonic(self) -> float:
        """What is waited for is real, and so is its time; what is remembered is so by ours."""
        return time.monotonic() + self.now - BEGINNING


@dataclass
class Picture:
    """A source at the origin, and what that has said of each of its versions.

    fresh, stale, bearable  version -> until when it may be shown: as it is, while the origin is
                            asked, and if that fails
    """

    version: int = 0
    mode: str = "ok"
    header: str = "max-age=60"
    since: float = 0.0
    fresh: dict[int, float] = field(default_factory=dict)
    stale: dict[int, float] = field(default_factory=dict)
    bearable: dict[int, float] = field(default_factory=dict)
    storable: set[int] = field(default_factory=set)


def color(version: int) -> tuple[int, int, int]:
    return (version % 6 * 51, version // 6 % 6 * 51, version // 36 % 6 * 51)


def body_of(version: int) -> bytes:
    if version not in _BODIES:
        _BODIES[version] = jpeg(color="#{:02x}{:02x}{:02x}".format(*color(version)))
    return _BODIES[version]


_BODIES: dict[int, bytes] = {}


def shown(body: bytes) -> int:
    """The version that a rendition is of."""
    picture = opened(body).convert("RGB")
    pixel: Any = picture.getpixel((picture.width // 2, picture.height // 2))
    return sum(round(part / 51) * 6**place for place, part in enumerate(pixel))


class Origin:
    """A WSGI application, which notes what it says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.picture = Picture()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        picture, now, version = self.picture, self.clock.now, self.picture.version
        if picture.mode in ("404 Not Found", "500 Internal Server Error"):
            start(picture.mode, [("Content-Length", "2"), ("Content-Type", "text/plain")])
            return [b"no"]
        if picture.mode == "garbage":
            start("200 OK", [("Content-Length", "7"), ("Content-Type", "image/jpeg")])
            return [b"<html/>"]
        body = body_of(version)
        headers = [("ETag", f'"{sha256(body).hexdigest()[:16]}"')]
        headers += [("Cache-Control", picture.header)] if picture.header else []
        self._said(picture, now)
        if environ.get("HTTP_IF_NONE_MATCH") == headers[0][1]:
            start("304 Not Modified", headers)
            return []
        sized = [("Content-Type", "image/jpeg"), ("Content-Length", str(len(body)))]
        start("200 OK", headers + sized)
        return [body]

    def _said(self, picture: Picture, now: float) -> None:
        fresh, stale, bearable = HEADERS[picture.header]
        version = picture.version
        if picture.header != "private":
            picture.storable.add(version)
        for until, seconds in (
            (picture.fresh, fresh),
            (picture.stale, fresh + stale),
            (picture.bearable, fresh + bearable),
        ):
            until[version] = max(until.get(version, 0.0), now + seconds)


class Host:
    """processes: as many as work on one directory"""

    def __init__(self, directory: Path, make: Callable[[Path], ThumbProxy], processes: int) -> None:
        self.directory = directory
        self._make = make
        self.processes = [make(directory) for _ in range(processes)]
        # The version that was there at the last purge that this host knows of.
        self.floor = 0
        self.told = 0
        self.gone = False

    def restart(self) -> None:
        self.processes = [self._make(self.directory) for _ in self.processes]

    def look(self) -> None:
        self.processes[0]._purger.look()
        self.floor = max(self.floor, self.told)


class Site(RuleBasedStateMachine):
    """Set by `machine`: where memcached is."""

    memcached = 0
    clock: Clock
    origin: Origin
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="stateful-"))
        self.clock.now = BEGINNING
        self.origin.picture = Picture()
        self.hosts = [
            Host(self.root / name, self._process, number) for name, number in (("a", 2), ("b", 1))
        ]
        self.seen: dict[tuple[Path, str, str], tuple[bytes, dict[str, str]]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def _process(self, directory: Path) -> ThumbProxy:
        app = ThumbProxy(
            not_found,
            keys=[servers.KEY],
            origins={"": self.url},
            cache_dir=str(directory),
            memcached=[f"127.0.0.1:{self.memcached}"],
            memcached_namespace=str(self.root),
            source_ttl=int(TTL),
            stale_while_revalidate=int(STALE),
            stale_if_error=int(ON_ERROR),
            failure_ttl=int(REMEMBERED),
            not_found_ttl=int(REMEMBERED),
        )
        app._thumbnailer._records._clock = self.clock.time
        app._purger.following.value = True  # it looks when we say so
        return app

    # -- what happens ----------------------------------------------------------------------

    hosts_ = st.integers(0, 1)
    widths = st.sampled_from([20, 30])

    # Again and again the same: after some time, or a change.
    @rule(host=hosts_, width=widths, seconds=st.sampled_from([0.5, 3.0, 15.0, 45.0, 100.0, 400.0]))
    def ask_later(self, host: int, width: int, seconds: float) -> None:
        self.clock.now += seconds
        self.ask(host, width)

    @rule(host=hosts_, width=widths, seconds=st.sampled_from([0.0, 3.0, 45.0, 100.0]))
    def change_and_ask(self, host: int, width: int, seconds: float) -> None:
        self.change()
        self.ask_later(host, width, seconds)

    @rule(seconds=st.sampled_from([3.0, 45.0, 100.0, 400.0]))
    def change_and_ask_everywhere(self, seconds: float) -> None:
        self.change()
        self.clock.now += seconds
        for host in range(2):
            self.ask(host, 20)

    @rule(host=hosts_, width=widths)
    def ask(self, host: int, width: int) -> None:
        for app in self.hosts[host].processes:
            self._check(self.hosts[host], self._get(self.hosts[host], app, width))

    @rule(host=hosts_, width=widths)
    def ask_for_this_version(self, host: int, width: int) -> None:
        version = self.origin.picture.version
        first = self.hosts[host].processes[0]
        reply = self._get(self.hosts[host], first, width, f"n{version}")
        if reply.status == 200:
            assert shown(reply.body) == version, "a new v_ is never an older picture"

    def change(self) -> None:
        self.origin.picture.version += 1

    @rule(mode=st.sampled_from(["404 Not Found", "500 Internal Server Error", "garbage"]))
    def fail(self, mode: str) -> None:
        self._turn(mode)

    @rule()
    def recover(self) -> None:
        self._turn("ok")

    def _turn(self, mode: str) -> None:
        self.origin.picture.mode, self.origin.picture.since = mode, self.clock.now
        for host in self.hosts:
            host.gone = False

    @rule(header=st.sampled_from(list(HEADERS)))
    def say(self, header: str) -> None:
        self.origin.picture.header = header

    @rule(host=hosts_, scope=st.sampled_from(SCOPES), asks=st.booleans())
    def purge(self, host: int, scope: str, asks: bool) -> None:
        self._purge(host, scope)
        if asks:
            self.ask(host, 20)

    def _purge(self, host: int, scope: str) -> None:
        floor = self.origin.picture.version
        result = self.hosts[host].processes[-1].purge(scope)
        assert result.complete, result
        for each in self.hosts:
            each.told = floor
        self.hosts[host].floor = floor

    @rule(host=hosts_)
    def look(self, host: int) -> None:
        """After the time that is documented for it."""
        self.clock.now += 2.0
        self.hosts[host].look()

    @rule(host=hosts_)
    def restart(self, host: int) -> None:
        self.hosts[host].restart()

    @rule()
    def memcached_loses_all(self) -> None:
        pylibmc.Client([f"127.0.0.1:{self.memcached}"]).flush_all()

    # -- what is asked, and told -----------------------------------------------------------

    def _get(
        self,
        host: Host,
        app: ThumbProxy,
        width: int,
        version: str | None = None,
        *,
        overtaken: bool = False,
    ) -> Response:
        """overtaken: by a change and a purge in the same second, of which an ETag knows nothing: it
        is made of a date and a length, as nginx makes it."""
        path = unquote(THUMBS.url(SOURCE, width=width, format="jpg", version=version))
        reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path})
        assert reply is not None
        background = app._thumbnailer._sources._background.value
        give_up = time.monotonic() + 30
        while background._under_way:
            assert time.monotonic() < give_up
            time.sleep(0.001)
        if reply.status == 200:
            headers = dict(reply.headers)
            key = host.directory, path, headers["ETag"]
            # Of what is not stored nobody can ask whether it has changed.
            if headers["Cache-Control"] != "no-store" and not overtaken:
                was, said = self.seen.setdefault(key, (reply.body, headers))
                assert was == reply.body, f"one ETag, two pictures: {said} {headers}"
        return reply

    def _check(self, host: Host, reply: Response) -> None:
        picture, now = self.origin.picture, self.clock.now
        if reply.status != 200:
            assert reply.status in (404, 415, 502), reply
            assert dict(reply.headers)["Cache-Control"] == "no-store"
            assert not self._well(picture, now), f"{reply.status}, and the origin is well"
            host.gone |= reply.status == 404 and picture.mode.startswith("404")
            return
        version = shown(reply.body)
        assert version <= picture.version
        assert version >= host.floor, f"{version} was purged at {host.floor}"
        until = max(picture.fresh.get(version, 0.0), picture.stale.get(version, 0.0))
        if picture.mode not in ("ok", "404 Not Found") or now < picture.since + REMEMBERED + SLACK:
            until = max(until, picture.bearable.get(version, 0.0))
        current = version == picture.version and picture.mode == "ok"
        assert current or now <= until + SLACK, f"{version} is over since {now - until} s"
        assert not host.gone, f"{version} is gone"

    def _well(self, picture: Picture, now: float) -> bool:
        return picture.mode == "ok" and now > picture.since + REMEMBERED + SLACK

    # -- what lies there -------------------------------------------------------------------

    @invariant()
    def nothing_lies_where_it_should_not(self) -> None:
        versions = range(self.origin.picture.version + 1)
        by_sha = {sha256(body_of(version)).hexdigest(): version for version in versions}
        storable = self.origin.picture.storable
        for host in self.hosts:
            for path in host.directory.glob("p*/**/*.jpg"):
                if path.is_file():
                    assert shown(path.read_bytes()) in storable, f"{path} may not be kept"
            for path in host.directory.glob("sources/*/*"):
                assert by_sha[path.name] in storable, f"{path} may not be kept"

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        for host in self.hosts:
            disk: Any = host.processes[0]._thumbnailer._caches[0]
            inventory = disk.inventory(lambda _: None)
            assert inventory.counted == inventory.total

    @invariant()
    def nothing_is_left(self) -> None:
        """No file on its way, and no lock."""
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        for host in self.hosts:
            assert list((host.directory / "tmp").iterdir()) == []
            for file in (host.directory / "locks").iterdir():
                with file.open("r+b") as opened_file:
                    found = fcntl.fcntl(opened_file, fcntl.F_OFD_GETLK, whole)
                    assert struct.unpack("hhqqi4x", found)[0] == fcntl.F_UNLCK, f"{file} is locked"


class BusySite(Site):
    """With threads that do things at the same time, which no seed repeats."""

    @rule(host=Site.hosts_, scope=st.sampled_from(SCOPES))
    def all_at_once(self, host: int, scope: str) -> None:
        """Requests beside a change and a purge. What they are told may be of before."""
        apps = [(each, app) for each in self.hosts for app in each.processes]
        with ThreadPoolExecutor(5) as threads:
            asked = [threads.submit(self._get, *each, 25, overtaken=True) for each in apps]
            self.change()
            purged = threads.submit(self._purge, host, scope)
            replies = [future.result() for future in asked]
            purged.result()
        assert all(reply.status in (200, 404, 415, 502) for reply in replies)


@pytest.fixture
def machine(
    memcached: servers.Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[type[RuleBasedStateMachine]]:
    clock = Clock()
    stand = Stand(time, time=clock.time, time_ns=clock.time_ns, monotonic=clock.monotonic)
    origin = Origin(clock)
    with (
        replaced(monkeypatch, [("time", time, stand)]),
        servers.wsgi(origin, validate=False) as server,
    ):
        yield type(
            "Machine", (request.param,),
            {"memcached": memcached.port, "clock": clock, "origin": origin, "url": server.url},
        )  # fmt: skip


@pytest.mark.timeout(4000)
@pytest.mark.parametrize("machine", [Site, BusySite], indirect=True)
def test_whatever_happens_in_whatever_order(machine: type[RuleBasedStateMachine]) -> None:
    seconds = float(os.environ.get("THUMBPROXY_STATEFUL", "0"))
    give_up = time.monotonic() + seconds
    first = os.environ.get("THUMBPROXY_SEED")
    while True:
        number = int(first) if first else random.SystemRandom().randrange(10**9)
        print(f"THUMBPROXY_SEED={number}")
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            seed(number)(machine),
            settings=settings(
                max_examples=30,
                stateful_step_count=40,
                # Of threads there is nothing to make smaller.
                phases=[Phase.generate, *[Phase.shrink] * (not issubclass(machine, BusySite))],
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if time.monotonic() >= give_up:
            return
