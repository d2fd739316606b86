"""Herds: who asks for the same at once causes one fetch and one render, whoever dies meanwhile."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
from origin import Gallery, jpeg, opened
from pictures import encoded
from PIL import Image

from thumbproxy import Thumbnails
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank
from thumbproxy.scheduling.coalescing import Hold, leased

THUMBS = Thumbnails([servers.KEY])
TOKEN = "a-token-that-only-the-tests-use"
HERD = 200
WORKERS = 8
# Seconds for which a process would wait for one that does not go on.
PATIENCE = 40
_SAMPLE = re.compile(r"^thumbproxy_(fetch|render)_duration_seconds_count\S* (\S+)$", re.MULTILINE)


class Work(NamedTuple):
    """What a server has done since it started, in all its processes."""

    fetches: int
    renders: int

    def since(self, before: Work) -> Work:
        return Work(self.fetches - before.fetches, self.renders - before.renders)


def work(*hosts: servers.Server) -> Work:
    done = {"fetch": 0.0, "render": 0.0}
    for host in hosts:
        page = host.ask("/metrics", {"Authorization": f"Bearer {TOKEN}"}).body.decode()
        for name, count in _SAMPLE.findall(page):
            done[name] += float(count)
    return Work(int(done["fetch"]), int(done["render"]))


@contextmanager
def serving(
    origin: servers.Server, cache: Path, *, beside: Path | None = None, **environ: Any
) -> Iterator[servers.Server]:
    """`thumbproxy serve` with many workers; settings in small letters.

    beside: a folder for its log and what it counts, if that of the cache is not for them
    """
    beside = beside or cache.parent
    settings = {"workers": WORKERS, "threads": 300, "metrics_token": TOKEN, **environ}
    counted = beside / f"{cache.name}.metrics"
    counted.mkdir(exist_ok=True)
    with servers.thumbproxy(
        "--origin", origin.url, "--cache-dir", str(cache),
        log=beside / f"{cache.name}.log",
        PROMETHEUS_MULTIPROC_DIR=str(counted),
        **{f"THUMBPROXY_{name.upper()}": str(value) for name, value in settings.items()},
    ) as server:  # fmt: skip
        yield server


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What the condition gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.005)
    return result


def ask(server: servers.Server, path: str) -> servers.Reply | None:
    """None where the connection ended without a reply."""
    try:
        return server.ask(path)
    except (OSError, http.client.HTTPException):
        return None


class Herd:
    """Clients that ask all at once, each on a connection of its own."""

    def __init__(self, hosts: Sequence[servers.Server], paths: Sequence[str]) -> None:
        self._pool = ThreadPoolExecutor(len(paths))
        barrier = threading.Barrier(len(paths))

        def client(number: int, path: str) -> servers.Reply | None:
            barrier.wait(30)
            return ask(hosts[number % len(hosts)], path)

        self._asked = [self._pool.submit(client, *numbered) for numbered in enumerate(paths)]

    @property
    def waiting(self) -> int:
        """How many have no reply yet."""
        return sum(not future.done() for future in self._asked)

    def all(self) -> list[servers.Reply | None]:
        """Every client's reply, in their order."""
        with self._pool:
            return [future.result() for future in self._asked]

    def replies(self) -> list[servers.Reply]:
        return [reply for reply in self.all() if reply is not None]


class Slow(Gallery):
    """A gallery that takes its time, and holds back the first reply of some paths.

    held   path -> the port that the first to ask for it came from
    """

    def __init__(self, seconds: float = 0.3) -> None:
        super().__init__()
        self.go = threading.Event()
        self.held: dict[str, int] = {}
        self._seconds = seconds
        self._hold: set[str] = set()
        self.after = self._pause

    def hold_first(self, path: str) -> None:
        self._hold.add(path)

    def _pause(self, environ: dict[str, Any]) -> None:
        path = environ["PATH_INFO"]
        if path in self._hold:
            self._hold.discard(path)
            self.held[path] = int(environ["REMOTE_PORT"])
            assert self.go.wait(60)
        self.go.wait(self._seconds)


def workers(server: servers.Server) -> list[int]:
    assert server.process
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets(local: int | None = None, remote: int | None = None) -> set[str]:
    """The inodes of established connections with these ports."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ours, theirs = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        if local in (None, ours) and remote in (None, theirs) and fields[3] == "01":
            found.add(f"socket:[{fields[9]}]")
    return found


def open_files(pid: int) -> dict[str, str]:
    """What the descriptors of a process are, by their number."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)
        except FileNotFoundError:
            continue
    return found


def connected_from(server: servers.Server, port: int) -> int:
    """The worker that has a connection from this port."""
    (inode,) = sockets(local=port)
    return next(pid for pid in workers(server) if inode in open_files(pid).values())


def leaseholder(server: servers.Server, cache: Path) -> int | None:
    """A worker that holds a lease; the kernel tells the locks of each open file."""
    for pid in workers(server):
        for number, target in open_files(pid).items():
            if target == str(cache / "locks" / "work"):
                try:
                    held = "lock:" in Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                except FileNotFoundError:
                    continue
                if held:
                    return pid
    return None


def clients(server: servers.Server, pid: int) -> int:
    """How many clients' connections a worker that is stopped has."""
    found: set[str] = set()
    for _ in range(5):  # a read misses some while others come and go
        found |= sockets(local=server.port)
    return len(found & set(open_files(pid).values()))


def kill(server: servers.Server, pid: int) -> int:
    """SIGKILL one worker; how many clients' connections it had."""
    servers.freeze(pid)
    held = clients(server, pid)
    os.kill(pid, signal.SIGKILL)
    return held


def check_same(replies: Sequence[servers.Reply], size: tuple[int, int]) -> None:
    """All are the one whole picture."""
    assert {reply.status for reply in replies} == {200}
    assert len({(reply["ETag"], reply.body) for reply in replies}) == 1
    assert opened(replies[0].body).size == size


@pytest.fixture(scope="module")
def gallery() -> Slow:
    return Slow()


@pytest.fixture(scope="module")
def origin(gallery: Slow) -> Iterator[servers.Server]:
    # Not validated: nobody reads the reply to a worker that was killed.
    with servers.wsgi(gallery, validate=False) as server:
        yield server
        gallery.go.set()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("herd") / "cache"


@pytest.fixture(scope="module")
def site(origin: servers.Server, cache: Path) -> Iterator[servers.Server]:
    """One server with many workers, for tests that each have a source of their own."""
    with serving(origin, cache, request_timeout=2 * PATIENCE) as server:
        yield server


# -- one fetch, one render -----------------------------------------------------------------


def test_a_cold_picture_is_fetched_and_made_once_for_all(
    site: servers.Server, gallery: Slow
) -> None:
    gallery.pictures["/cold.jpg"] = jpeg(600, 400)
    before = work(site)
    replies = Herd([site], [THUMBS.url("cold.jpg", width=300, format="jpg")] * HERD).replies()
    assert len(replies) == HERD
    check_same(replies, (300, 200))
    assert gallery.asked["/cold.jpg"] == 1
    assert work(site).since(before) == Work(1, 1)
    made = [reply for reply in replies if "Server-Timing" in reply.headers]
    alone = [reply for reply in made if "collapsed" not in reply["Cache-Status"]]
    assert len(alone) == 1


def test_many_sizes_of_a_cold_source_are_made_from_one_fetch(
    site: servers.Server, gallery: Slow
) -> None:
    gallery.pictures["/sizes.jpg"] = jpeg(600, 400)
    before = work(site)
    sizes = [30 + number for number in range(10)]
    paths = [THUMBS.url("sizes.jpg", width=width, format="jpg") for width in sizes]
    replies = Herd([site], paths * (HERD // 10)).replies()
    for number, width in enumerate(sizes):
        check_same(replies[number::10], (width, round(width * 2 / 3)))
    assert gallery.asked["/sizes.jpg"] == 1
    assert work(site).since(before) == Work(1, 10)


def test_two_hosts_with_one_memcached_fetch_and_make_it_once(
    origin: servers.Server, gallery: Slow, memcached: servers.Server, tmp_path: Path
) -> None:
    gallery.pictures["/fleet.jpg"] = jpeg(600, 400)
    shared = {"memcached": f"127.0.0.1:{memcached.port}", "memcached_namespace": tmp_path}
    with (
        serving(origin, tmp_path / "one", workers=3, **shared) as one,
        serving(origin, tmp_path / "two", workers=3, **shared) as two,
    ):
        path = THUMBS.url("fleet.jpg", width=300, format="jpg")
        replies = Herd([one, two], [path] * 80).replies()
        assert len(replies) == 80
        check_same(replies, (300, 200))
        assert gallery.asked["/fleet.jpg"] == 1
        assert work(one, two) == Work(1, 1)


def test_other_sources_do_not_wait_for_one_that_hangs(site: servers.Server, gallery: Slow) -> None:
    for name in ("hangs", *(f"other-{number}" for number in range(20))):
        gallery.pictures[f"/{name}.jpg"] = jpeg(60, 40)
    gallery.hold_first("/hangs.jpg")
    hanging = Herd([site], [THUMBS.url("hangs.jpg", width=30, format="jpg")] * 10)
    until(lambda: "/hangs.jpg" in gallery.held)
    paths = [THUMBS.url(f"other-{number}.jpg", width=30, format="jpg") for number in range(20)]
    replies = Herd([site], paths).replies()
    assert [reply.status for reply in replies] == [200] * 20
    assert hanging.waiting == 10, "all that while"
    gallery.go.set()
    check_same(hanging.replies(), (30, 20))
    gallery.go.clear()


# -- those who do the work die -------------------------------------------------------------


def test_when_who_fetches_is_killed_another_does_it_at_once(
    site: servers.Server, gallery: Slow
) -> None:
    gallery.pictures["/killed.jpg"] = jpeg(600, 400)
    gallery.hold_first("/killed.jpg")
    path = THUMBS.url("killed.jpg", width=300, format="jpg")
    before = work(site)
    first = Herd([site], [path])
    victim = connected_from(site, until(lambda: gallery.held.get("/killed.jpg")))
    replies = herd_around(site, path, victim)
    assert first.replies() == []
    check_same(replies, (300, 200))
    assert gallery.asked["/killed.jpg"] == 2
    assert work(site).since(before) == Work(1, 1)
    gallery.go.set()
    gallery.go.clear()


def test_when_who_renders_is_killed_another_does_it_at_once(
    site: servers.Server, gallery: Slow, cache: Path
) -> None:
    noise = Image.effect_noise((2400, 1800), 90).convert("RGB")
    gallery.pictures["/noise.png"] = encoded(noise, "PNG", compress_level=1)
    path = THUMBS.url("noise.png", width=2000, format="webp")
    before = work(site)
    first = Herd([site], [path])
    record = cache / "private" / "noise.png" / ".source"
    replies = herd_around(
        site, path, until(lambda: leaseholder(site, cache) if record.exists() else None)
    )
    assert first.replies() == [], "the picture was not finished"
    check_same(replies, (2000, 1500))
    assert gallery.asked["/noise.png"] == 1
    assert work(site).since(before) == Work(1, 1)


def herd_around(site: servers.Server, path: str, victim: int) -> list[servers.Reply]:
    """Have a worker killed while many wait for it: their replies, which come soon and are all."""
    servers.freeze(victim)
    herd = Herd([site], [path] * HERD)
    # As many as there are threads, and more.
    until(lambda: len(sockets(local=site.port)) > HERD * 0.9)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    replies = herd.replies()
    assert time.monotonic() - began < PATIENCE / 2, "no lease is waited for"
    assert len(replies) == HERD
    return replies


def test_a_start_removes_what_the_killed_left(
    site: servers.Server, origin: servers.Server, gallery: Slow, cache: Path
) -> None:
    gallery.pictures["/left.jpg"] = jpeg(600, 400)
    gallery.hold_first("/left.jpg")
    herd = Herd([site], [THUMBS.url("left.jpg", width=300, format="jpg")] * 20)
    victim = connected_from(site, until(lambda: gallery.held.get("/left.jpg")))
    kill(site, victim)
    herd.all()
    gallery.go.set()
    gallery.go.clear()
    stray = cache / "tmp" / f"{os.uname().nodename}-{victim}-0badcafe.0"
    stray.write_bytes(b"half a pict")
    with serving(origin, cache, workers=1) as again:
        check_same([again.ask(THUMBS.url("left.jpg", width=300, format="jpg"))], (300, 200))
        assert list((cache / "tmp").iterdir()) == []


def test_when_who_fetches_is_stopped_the_others_go_on_in_time(
    origin: servers.Server, gallery: Slow, tmp_path: Path
) -> None:
    """One of them does, and all have their answer by their deadline."""
    gallery.pictures["/stopped.jpg"] = jpeg(600, 400)
    gallery.hold_first("/stopped.jpg")
    path = THUMBS.url("stopped.jpg", width=300, format="jpg")
    with serving(
        origin, tmp_path / "cache", workers=6, request_timeout=16, fetch_timeout=1.5
    ) as site:
        alone = Herd([site], [path])
        victim = connected_from(site, until(lambda: gallery.held.get("/stopped.jpg")))
        servers.freeze(victim)
        try:
            # Whose deadline has passed would have a 504.
            replies = Herd([site], [path] * 80).replies()
        finally:
            os.kill(victim, signal.SIGCONT)
        assert len(replies) == 80
        assert gallery.asked["/stopped.jpg"] == 2
        gallery.go.set()
        (late,) = alone.replies()
        assert late.status in (200, 504)
        gallery.go.clear()
        # That it failed then is no news.
        check_same([*replies, site.ask(path)], (300, 200))


def test_of_those_who_wait_for_one_that_is_stopped_one_goes_on(tmp_path: Path) -> None:
    disk = DiskCache(str(tmp_path / "cache"))
    disk.prepare()
    made: list[Hold] = []

    def work() -> None:
        with leased([disk], Rank.QUESTION, "work", Deadline(1)) as turn:
            if not made:
                threading.Event().wait(0.05)  # the work takes its time
                made.append(turn.hold)

    with disk.hold("work", Deadline(1)), ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()
    assert made == [Hold.AT_ONCE]


# -- hosts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["a worker", "its host"])
def test_when_another_host_fetches_and_dies_it_is_done_once_more(
    origin: servers.Server, gallery: Slow, memcached: servers.Server, tmp_path: Path, dies: str
) -> None:
    """A worker's lease is taken over by its host at once; a host's, when its time is over."""
    name = f"{dies.replace(' ', '-')}.jpg"
    gallery.pictures[f"/{name}"] = jpeg(600, 400)
    gallery.hold_first(f"/{name}")
    shared = {"memcached": f"127.0.0.1:{memcached.port}", "memcached_namespace": tmp_path,
              "fetch_timeout": 1 if dies == "its host" else PATIENCE - 2,
              "request_timeout": 2 * PATIENCE,
              "workers": 2}  # fmt: skip
    with (
        serving(origin, tmp_path / "one", **shared) as one,
        serving(origin, tmp_path / "two", **shared) as two,
    ):
        assert one.process
        path = THUMBS.url(name, width=300, format="jpg")
        first = Herd([one], [path] * 20)
        port = until(lambda: gallery.held.get(f"/{name}"))
        second = Herd([two], [path] * 20)
        began = time.monotonic()
        if dies == "a worker":
            lost = kill(one, connected_from(one, port))
            replies = first.replies()
            assert len(replies) == 20 - lost
        else:
            os.killpg(one.process.pid, signal.SIGKILL)
            replies = [reply for reply in first.replies() if reply.status == 200]
            assert not replies
        others = second.replies()
        took = time.monotonic() - began
        assert len(others) == 20
        check_same([*replies, *others], (300, 200))
        assert took < PATIENCE / 2, "no lease is waited for to its end"
        assert gallery.asked[f"/{name}"] == 2
        if dies == "a worker":
            assert work(one, two) == Work(1, 1)
    gallery.go.set()
    gallery.go.clear()
