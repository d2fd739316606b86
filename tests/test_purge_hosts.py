"""Purges on several hosts: two cache directories are two hosts, and share one memcached."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import servers
from commands import thumbproxy
from origin import Gallery, jpeg
from test_purge import CAT, KEY, RED, SCOPES, TEAL, THUMBS, Make, get, is_hit, kept, shows

from thumbproxy import ThumbProxy
from thumbproxy.caches.base import Scope
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.memcached.cache import LARGEST_VALUE, MemcachedCache
from thumbproxy.caches.purge_log import RETENTION, Purge, PurgeLog, new_log, new_purge
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.purging.coordinator import Host, Journal

# Seconds. What is promised is 2; a busy machine may need more, and who is not told never does it.
PROMISED = 10.0


def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    """Wait for it; how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        threading.Event().wait(0.005)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts look ten times as often, but where that is what is measured."""
    if "within_two_seconds" not in request.node.name:
        monkeypatch.setattr(Host, "period", 0.1)


@pytest.fixture
def gallery() -> Gallery:
    gallery = Gallery(**{CAT: jpeg()})
    gallery.headers = [("Cache-Control", "max-age=600")]
    return gallery


@pytest.fixture
def a_dir(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def b_dir(tmp_path: Path) -> Path:
    return tmp_path / "b"


def on(gallery: Gallery, directory: Path, port: int) -> ThumbProxy:
    """A host of the site."""
    return ThumbProxy(
        gallery, keys=[KEY], cache_dir=str(directory), memcached=[f"127.0.0.1:{port}"],
        memcached_namespace=str(directory.parent),
    )  # fmt: skip


@pytest.fixture
def make(gallery: Gallery, memcached: servers.Server) -> Make:
    def make(directory: Path) -> ThumbProxy:
        return on(gallery, directory, memcached.port)

    return make


def looked_at(directory: Path) -> float:
    try:
        return os.stat(directory / "locks" / "purges").st_mtime
    except FileNotFoundError:
        return 0.0


def looks_again(directory: Path) -> None:
    """Until the host has looked what others have purged, from beginning to end."""
    for _ in range(2):
        before = looked_at(directory)
        until(lambda before=before: looked_at(directory) > before)  # type: ignore[misc]


@pytest.mark.parametrize("scope", SCOPES)
def test_other_hosts_purge_within_two_seconds(
    make: Make, gallery: Gallery, a_dir: Path, b_dir: Path, scope: str
) -> None:
    a, b = make(a_dir), make(b_dir)
    for app in (a, b):
        get(app)
        get(app, version="v1")
    looks_again(b_dir)
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    result = a.purge(scope)
    assert result.purged == ("memcached", "disk")
    assert until(lambda: not kept(b_dir)) < PROMISED
    for app in (a, b):
        assert shows(get(app), RED)
        assert shows(get(app, version="v1"), RED)


def test_what_a_host_has_not_purged_yet_does_not_come_back_to_others(
    make: Make, gallery: Gallery, a_dir: Path, b_dir: Path
) -> None:
    a, b = make(a_dir), make(b_dir)
    for app in (a, b):
        get(app)
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    a.purge(CAT)
    get(b, width=12)  # of its old original, as long as it does not know
    assert shows(get(a, width=12), RED)
    until(lambda: not any("w_30" in path for path in kept(b_dir)))
    for app in (a, b):
        assert shows(get(app), RED)
        assert shows(get(app, width=12), RED)


def test_a_host_does_not_do_again_what_it_has_done(
    make: Make, gallery: Gallery, a_dir: Path, b_dir: Path
) -> None:
    a, b = make(a_dir), make(b_dir)
    get(a)
    looks_again(a_dir)
    a.purge("")
    b.purge("photos/")
    looks_again(a_dir)
    get(a)
    files = kept(a_dir)
    looks_again(a_dir)
    assert kept(a_dir) == files
    assert is_hit(get(a))


def test_other_processes_of_a_host_need_do_nothing(
    make: Make, gallery: Gallery, a_dir: Path, b_dir: Path
) -> None:
    """They share its disk; and one of them is enough to learn of other hosts' purges."""
    a, first, second = make(a_dir), make(b_dir), make(b_dir)
    assert not is_hit(get(first))
    assert is_hit(get(second))
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    first.purge(CAT)
    assert shows(get(second), RED)
    gallery.pictures[f"/{CAT}"] = jpeg()
    a.purge(CAT)
    until(lambda: not kept(b_dir))
    assert shows(get(second), TEAL)


# -- memcached fails --------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[int]:
    """The port of a memcached that a test starts and stops."""
    return iter([servers.free_port()])


def test_hosts_are_told_when_memcached_is_back(
    gallery: Gallery, a_dir: Path, b_dir: Path, own: Iterator[int]
) -> None:
    port = next(own)
    a, b = on(gallery, a_dir, port), on(gallery, b_dir, port)
    with servers.memcached(port):
        for app in (a, b):
            get(app)
        looks_again(b_dir)
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    result = a.purge("photos/")
    assert result.purged == ("disk",)
    assert result.failed == {
        "memcached": "memcached does not answer; other hosts are told when it does"
    }
    assert shows(get(a), RED)
    assert kept(b_dir)
    with servers.memcached(port):
        until(lambda: not kept(b_dir))
        assert shows(get(b), RED)
        assert shows(get(a), RED)


def test_a_purge_that_memcached_has_forgotten_is_told_again(
    gallery: Gallery, a_dir: Path, b_dir: Path, own: Iterator[int]
) -> None:
    port = next(own)
    a = on(gallery, a_dir, port)
    with servers.memcached(port):
        b = on(gallery, b_dir, port)
        get(a)
        get(b)
        looks_again(b_dir)
        del b  # this host is down when that one purges
        gc.collect()
        until(lambda: sum(thread.name == "purges" for thread in threading.enumerate()) < 2)
        a.purge(CAT)
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    with servers.memcached(port):
        looks_again(a_dir)
        assert kept(b_dir)
        b = on(gallery, b_dir, port)
        get(b, "photos/cat.jpg", width=7)
        until(lambda: not any("w_30" in path for path in kept(b_dir)))


def test_no_answer_is_no_news(a_dir: Path) -> None:
    disk = DiskCache(str(a_dir))
    disk.prepare()
    down = MemcachedCache([f"127.0.0.1:{servers.free_port()}"], secret="tests")
    journal = Journal(disk.layout.locks, disk.hold)
    host = Host({"disk": disk}, down, journal)
    host.look()
    assert journal.looked_at == 0
    host.purge(Scope("a/"))
    assert [purge.scope.text for purge in journal.read().purges.values()] == ["a/"]


# -- what a host has missed -------------------------------------------------------------------


class Shared:
    """A log in memory, and how often it was read."""

    def __init__(self) -> None:
        self.log, self.reads = new_log(), 0

    def purges(self) -> PurgeLog:
        self.reads += 1
        return self.log

    def tell(self, purges: Sequence[Purge]) -> PurgeLog:
        self.log = self.log.with_purges(purges)
        return self.log


class Counted:
    """A tier, and what it was told to purge."""

    def __init__(self, disk: DiskCache) -> None:
        self.disk = disk
        self.scopes: list[str] = []

    def purge(self, scope: Scope) -> Any:
        self.scopes.append(scope.text)
        return self.disk.purge(scope)


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def counted(a_dir: Path) -> Counted:
    disk = DiskCache(str(a_dir))
    disk.prepare()
    return Counted(disk)


def host(counted: Counted, shared: Shared) -> Host:
    return Host({"disk": counted}, shared, Journal(counted.disk.layout.locks, counted.disk.hold))


def look(counted: Counted, shared: Shared, ago: float = 10) -> list[str]:
    """What is purged by a process of a host that has last looked some seconds ago."""
    journal = Journal(counted.disk.layout.locks, counted.disk.hold)
    if journal.looked_at:
        journal.looked(time.time() - ago)
    before = len(counted.scopes)
    host(counted, shared).look()
    return counted.scopes[before:]


def test_each_purge_is_done_once_in_its_order(counted: Counted, shared: Shared) -> None:
    for text in ("a/", "b.jpg", ""):
        shared.tell([new_purge(Scope(text))])
    assert look(counted, shared) == ["a/", "b.jpg", ""]
    assert look(counted, shared) == []
    shared.tell([new_purge(Scope("a/"))])
    assert look(counted, shared) == ["a/"], "again is another purge"
    host(counted, shared).purge(Scope("own/"))
    assert counted.scopes[-1] == "own/"
    assert look(counted, shared) == []


def test_one_process_of_a_host_looks_for_all(counted: Counted, shared: Shared) -> None:
    look(counted, shared)
    for _ in range(5):
        host(counted, shared).look()
    assert shared.reads == 1


def test_while_one_process_looks_the_others_do_not(counted: Counted, shared: Shared) -> None:
    with Journal(counted.disk.layout.locks, counted.disk.hold).alone() as alone:
        assert alone
        assert look(counted, shared) == []
    assert shared.reads == 0


@pytest.mark.parametrize(("days", "purged"), [(1, ["a/"]), (6.9, ["a/"]), (7.1, [""]), (99, [""])])
def test_after_a_long_stop_everything_is_purged(
    counted: Counted, shared: Shared, caplog: pytest.LogCaptureFixture, days: float,
    purged: list[str],
) -> None:  # fmt: skip
    look(counted, shared)
    shared.tell([new_purge(Scope("a/"))])
    assert look(counted, shared, ago=days * 86_400) == purged
    assert ("it purges everything" in caplog.text) == (purged == [""])
    assert look(counted, shared) == []


def test_who_missed_purges_that_found_no_room_purges_everything(
    counted: Counted, shared: Shared
) -> None:
    look(counted, shared)
    shared.tell([new_purge(Scope(f"{number}.jpg")) for number in range(2100)])
    assert shared.log.dropped
    assert look(counted, shared) == [""]
    assert look(counted, shared, ago=0.6) == [], "it has heard of these"


def test_a_new_host_purges_what_it_hears_of(counted: Counted, shared: Shared) -> None:
    """It may have a cache: of a time when there was no memcached."""
    shared.tell([new_purge(Scope("a/"))])
    assert look(counted, shared) == ["a/"]


def test_purges_that_are_no_longer_told_are_no_news(counted: Counted, shared: Shared) -> None:
    old = new_purge(Scope("a/"))._replace(at=time.time() - RETENTION - 60)
    shared.log = PurgeLog("epoch", [old])
    assert look(counted, shared) == []
    shared.log = PurgeLog("epoch")
    assert look(counted, shared) == []
    assert not shared.log.purges


def test_the_list_of_purges_is_never_too_large_for_memcached() -> None:
    purges = [new_purge(Scope(f"{number}/{'é' * 100}/{'é' * 100}")) for number in range(2000)]
    log = new_log().with_purges(purges)
    assert 100_000 < len(log.to_json()) < LARGEST_VALUE
    assert purges[-1].id in log.purges
    left_out = [purge.at for purge in purges if purge.id not in log.purges]
    assert log.dropped == max(left_out) <= min(purge.at for purge in log.purges.values())


def test_a_damaged_journal_is_an_empty_one(counted: Counted, shared: Shared, a_dir: Path) -> None:
    shared.tell([new_purge(Scope("a/"))])
    look(counted, shared)
    (a_dir / "locks" / "purges").write_bytes(b"{")
    assert look(counted, shared) == ["a/"]
    assert look(counted, shared) == []


def test_what_failed_is_tried_again(counted: Counted, shared: Shared, a_dir: Path) -> None:
    look(counted, shared)
    locks = a_dir / "locks" / "records"
    locks.unlink(missing_ok=True)
    os.mknod(locks, 0o140000)  # a socket, which nobody can open
    shared.tell([new_purge(Scope("a/"))])
    failed = host(counted, shared).purge(Scope("own/"))
    assert isinstance(failed["disk"], Exception)
    with pytest.raises(Exception, match="the disk cache"):
        look(counted, shared)
    locks.unlink()
    assert look(counted, shared) == ["a/", "own/"]
    assert look(counted, shared) == []


class Failing:
    """A tier and a log, which fail as nobody has thought of."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def purge(self, scope: Scope) -> Any:
        raise self.error

    def purges(self) -> PurgeLog | None:
        raise self.error

    def tell(self, purges: Sequence[Purge]) -> PurgeLog | None:
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), UnicodeError(), MemoryError()])
@pytest.mark.parametrize("failing", ["memcached", "disk", "nginx"])
def test_whatever_one_tier_fails_with_the_others_are_purged(
    counted: Counted, shared: Shared, failing: str, error: Exception
) -> None:
    broken = Failing(error)
    tiers = {name: broken if name == failing else counted for name in ("disk", "nginx")}
    log = broken if failing == "memcached" else shared
    journal = Journal(counted.disk.layout.locks, counted.disk.hold)
    done = Host(tiers, log, journal).purge(Scope("a/"))
    assert [name for name, it in done.items() if isinstance(it, PurgeFailed)] == [failing]
    assert list(done) == ["memcached", "disk", "nginx"]
    assert counted.scopes == ["a/"] * (2 if failing == "memcached" else 1)
    if failing != "memcached":
        assert [purge.scope.text for purge in shared.log.purges.values()] == ["a/"]


def test_a_purge_that_fails_keeps_no_later_one_from_being_done(
    counted: Counted, shared: Shared
) -> None:
    look(counted, shared)
    for text in ("a/", "b/", "c/"):
        shared.tell([new_purge(Scope(text))])
    purge = counted.disk.purge

    def fails_once(scope: Scope) -> Any:
        if scope.text == "a/":
            raise RuntimeError("a bug")
        return purge(scope)

    counted.disk.purge = fails_once  # type: ignore[method-assign]
    with pytest.raises(PurgeFailed, match="RuntimeError"):
        look(counted, shared)
    assert counted.scopes == ["a/", "b/", "c/"]
    counted.disk.purge = purge  # type: ignore[method-assign]
    assert look(counted, shared) == ["a/"], "and it is tried again"
    assert look(counted, shared) == []


# -- in servers -------------------------------------------------------------------------------


def test_a_thread_ends_with_what_it_looks_for(make: Make, a_dir: Path) -> None:
    def looking() -> int:
        return sum(thread.name == "purges" for thread in threading.enumerate())

    gc.collect()
    until(lambda: looking() == 0)
    app = make(a_dir)
    assert looking() == 0, "not before the first request"
    get(app)
    assert looking() == 1
    get(app)
    assert looking() == 1
    del app
    gc.collect()
    until(lambda: looking() == 0)


def test_a_forked_process_looks_for_itself(make: Make, a_dir: Path) -> None:
    app = make(a_dir)
    get(app)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = threading.active_count()
        get(app)
        os.write(write, bytes([before, threading.active_count()]))
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 2) == bytes([1, 2])
    os.close(read)
    os.close(write)


def test_an_idle_server_purges_what_another_host_was_told_to(
    tmp_path: Path, memcached: servers.Server, a_dir: Path, b_dir: Path
) -> None:
    """`serve` follows without a request, and the command without a server."""
    photos = tmp_path / "photos"
    (photos / "photos").mkdir(parents=True)
    (photos / CAT).write_bytes(jpeg())
    shared = {
        "THUMBPROXY_MEMCACHED": f"127.0.0.1:{memcached.port}",
        "THUMBPROXY_MEMCACHED_NAMESPACE": str(tmp_path),
    }
    serving = ("--origin", str(photos), "--cache-dir", str(b_dir))
    path = THUMBS.url(CAT, width=30, version="v1", format="jpg")
    with servers.thumbproxy(*serving, **shared) as server:
        assert server.ask(path).status == 200
    assert kept(b_dir)
    DiskCache(str(a_dir)).prepare()  # a host that has served before
    with servers.thumbproxy(*serving, **shared):
        done = thumbproxy("purge", "photos/", "--cache-dir", str(a_dir), THUMBPROXY_KEYS=KEY,
                          **shared)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "purged: memcached, disk" in done.stdout
        assert until(lambda: not kept(b_dir)) < PROMISED
