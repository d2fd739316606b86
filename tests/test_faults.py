"""Caches that fail: whatever becomes of memcached and of the disk, right pictures are served."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pylibmc
import pytest
import servers
from control import control
from impostors import Talk, impostor
from origin import Gallery, is_close, jpeg, opened
from patience import MILLISECONDS, USUAL
from pictures import encoded
from PIL import Image
from processes import most_memory
from test_admission_server import metric
from test_herd import TOKEN, Herd, Slow, Work, serving, until, work, workers
from test_memcached_clients import LIES

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.caches.memcached.cache import MemcachedCache
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Hold

THUMBS = Thumbnails([servers.KEY])
TEAL, RED = (0, 128, 128), (255, 0, 0)
NAMESPACE = "faults"


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return Gallery(**{"a.jpg": jpeg(120, 80), "b.jpg": jpeg(120, 80, "red")})


@pytest.fixture(scope="module")
def origin(gallery: Gallery) -> Iterator[servers.Server]:
    with servers.wsgi(gallery, validate=False) as server:
        yield server


class Site(NamedTuple):
    server: servers.Server
    cache: Path


def check(server: servers.Server, width: int, **options: Any) -> servers.Reply:
    """Ask for two pictures and see that they are the right ones; the second of them."""
    for source, color in (("a.jpg", TEAL), ("b.jpg", RED)):
        url = THUMBS.url(source, width=width, enlarge=True, format="jpg", **options)
        reply = server.ask(url)
        assert reply.status == 200, reply.body
        assert opened(reply.body).width == width
        assert is_close(opened(reply.body), color)
    return reply


# -- memcached -----------------------------------------------------------------------------


def stats(port: int) -> dict[str, str]:
    with socket.create_connection((servers.HOST, port), 5) as connection:
        connection.sendall(b"stats\r\n")
        lines = connection.makefile("rb")
        found = iter(lambda: lines.readline().decode().split(), ["END"])
        return {name: value for _, name, value in found}


def stored(port: int) -> int:
    return int(stats(port)["cmd_set"])


def sharing(port: int, **environ: Any) -> dict[str, Any]:
    return {"memcached": f"127.0.0.1:{port}", "memcached_namespace": NAMESPACE, "workers": 2,
            **environ}  # fmt: skip


def widths() -> Iterator[int]:
    """Sizes that nobody has asked for, so that all tiers are asked."""
    return iter(range(5, 2000))


def test_memcached_may_stop_and_go_on(
    origin: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One short stall for each process and second, and no error; and back it is."""
    monkeypatch.setenv(MILLISECONDS, USUAL)
    new = widths()
    with (
        servers.memcached() as server,
        serving(origin, tmp_path / "cache", **sharing(server.port)) as site,
    ):
        assert server.process
        check(site, next(new))
        servers.freeze(server.process.pid)
        began = time.monotonic()
        try:
            for width in list(new)[:60]:
                reply = site.ask(THUMBS.url("a.jpg", width=width, format="jpg"))
                assert (reply.status, opened(reply.body).width) == (200, width)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        # Each request has half a dozen questions, 360 in all.
        seconds = time.monotonic() - began
        assert metric(site, "tier_failures_total", tier="memcached") <= 2 * (seconds + 2)
        before, new = stored(server.port), widths()
        until(lambda: check(site, next(new), version="x") and stored(server.port) > before)


def test_memcached_may_come_late_die_and_come_again(origin: servers.Server, tmp_path: Path) -> None:
    new, port = widths(), servers.free_port()
    with serving(origin, tmp_path / "cache", **sharing(port)) as site:
        check(site, next(new))
        for _ in range(2):
            with servers.memcached(port) as server:
                until(lambda: check(site, next(new)) and stored(port) > 0)
                assert server.process
                server.process.kill()
                check(site, next(new))
                server.process.wait()
            check(site, next(new))


@pytest.mark.parametrize("full", ["evicts", "refuses"])
def test_memcached_may_be_full(origin: servers.Server, tmp_path: Path, full: str) -> None:
    gallery = Gallery(**{
        f"{number}.png": encoded(Image.effect_noise((160, 160), 90), "PNG") for number in range(6)
    })  # fmt: skip
    port, program = servers.free_port(), shutil.which("memcached", path="/usr/bin:/usr/local/bin")
    assert program
    command = [program, "-l", servers.HOST, "-p", str(port), "-U", "0", "-m", "1", "-I", "512k",
               "-u", "nobody"]  # fmt: skip
    with (
        servers.wsgi(gallery, validate=False) as noise,
        servers.running([*command, *(["-M"] if full == "refuses" else [])], port),
        serving(noise, tmp_path / "one", **sharing(port)) as one,
        serving(noise, tmp_path / "two", **sharing(port)) as two,
    ):
        paths = [
            THUMBS.url(f"{number}.png", width=width, format="png")
            for width in range(140, 160) for number in range(6)
        ]  # fmt: skip
        for path in paths:
            replies = [host.ask(path) for host in (one, two)]
            assert [reply.status for reply in replies] == [200, 200]
            assert replies[0].body == replies[1].body
            opened(replies[0].body)
        told = stats(port)
        assert int(told["evictions"]) > 0 or int(told["curr_items"]) < len(paths)


def keys_of(port: int) -> list[str]:
    with socket.create_connection((servers.HOST, port), 5) as connection:
        connection.sendall(b"lru_crawler metadump all\r\n")
        lines = connection.makefile("rb")
        found = iter(lambda: lines.readline().decode().strip(), "END")
        return [line.split()[0].removeprefix("key=") for line in found]


class Trap:
    """Unpickling one of these ends the process."""

    def __reduce__(self) -> object:
        return (os._exit, (77,))


HOSTILE: dict[str, Callable[[pylibmc.Client, list[str]], Any]] = {
    "each other's": lambda raw, keys: [
        raw.set(key, value)
        for key, value in zip(keys, reversed([raw.get(key) for key in keys]), strict=True)
    ],
    "noise": lambda raw, keys: [raw.set(key, os.urandom(900)) for key in keys],
    "nothing": lambda raw, keys: [raw.set(key, b"") for key in keys],
    "cut off": lambda raw, keys: [raw.set(key, raw.get(key)[:-1]) for key in keys],
    "pictures": lambda raw, keys: [raw.set(key, jpeg(30, 20, "blue")) for key in keys],
    "other flags": lambda raw, keys: [
        raw.set(key, raw.get(key), min_compress_len=1) for key in keys
    ],
    "pickles": lambda raw, keys: [raw.set(key, Trap()) for key in keys],
    "numbers": lambda raw, keys: [raw.set(key, 7) for key in keys],
}


@pytest.fixture(scope="module")
def victim() -> Iterator[servers.Server]:
    """A memcached whose values are overwritten."""
    with servers.memcached() as server:
        yield server


@pytest.mark.parametrize("values", HOSTILE)
def test_whatever_is_in_memcached_the_pictures_are_right(
    origin: servers.Server, victim: servers.Server, tmp_path: Path, values: str
) -> None:
    """And once they are overwritten in turn, they are shared again."""
    raw = pylibmc.Client([f"127.0.0.1:{victim.port}"])
    raw.flush_all()
    address, served = f"127.0.0.1:{victim.port}", 0

    def host() -> ThumbProxy:
        nonlocal served
        served += 1
        return ThumbProxy(
            Gallery(), keys=[servers.KEY], origin=origin.url, memcached=[address],
            cache_dir=str(tmp_path / f"{served}"), memcached_namespace=values.replace(" ", ""),
        )  # fmt: skip

    def see(app: ThumbProxy) -> set[str]:
        told = set()
        for source, color in (("a.jpg", TEAL), ("b.jpg", RED)):
            for version in (None, "1"):
                path = THUMBS.url(source, width=30, format="jpg", version=version)
                reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path})
                assert reply is not None
                assert reply.status == 200, reply.body
                assert is_close(opened(reply.body), color)
                told.add(dict(reply.headers)["Cache-Status"].removeprefix("thumbproxy; "))
        return told

    see(host())
    assert "hit; detail=memcached" in see(host())
    # Records, pictures and the log of purges; memcached's list leaves out now and then one.
    until(lambda: len(keys_of(victim.port)) >= 7)
    keys = max((keys_of(victim.port) for _ in range(5)), key=len)
    HOSTILE[values](raw, keys)
    see(host())
    # On a machine that is busy, memcached may take its 50 ms and be passed over for a second.
    until(lambda: see(host()) == {"hit; detail=memcached"})


@pytest.mark.parametrize("value", [b"", b"x" * 60, 7, Trap(), pickle.dumps(Trap())])
def test_a_lease_that_is_nobodys_is_not_waited_for(
    memcached: servers.Server, tmp_path: Path, value: Any
) -> None:
    address = f"127.0.0.1:{memcached.port}"
    one, two = (
        MemcachedCache([address], secret="tests", namespace=str(tmp_path), host=host)
        for host in ("one", "two")
    )
    pylibmc.Client([address]).set(one._first.seal.key("lease", "work").hex(), value)
    with one.hold("work", Deadline(5)) as hold:
        assert hold is Hold.AT_ONCE
        with two.hold("work", Deadline(0.05)) as other:
            assert other is Hold.NOT
    with two.hold("work", Deadline(5)) as other:
        assert other is Hold.AT_ONCE


def test_a_lease_is_given_back_though_memcached_failed_meanwhile(tmp_path: Path) -> None:
    """Else all other hosts would wait until its time is over."""
    with servers.memcached() as server:
        assert server.process
        one, two = (
            MemcachedCache(
                [f"127.0.0.1:{server.port}"], secret="tests", host=host, lease_seconds=12
            )
            for host in ("one", "two")
        )
        with one.hold("work", Deadline(5)):
            servers.freeze(server.process.pid)
            assert one.record("a.jpg") is None
            os.kill(server.process.pid, signal.SIGCONT)
            until(lambda: stored(server.port) > 0)
        with two.hold("work", Deadline(5)) as hold:
            assert hold is not Hold.NOT, "before its time of 12 s was over"


@pytest.mark.parametrize(
    "reply",
    [b"", b"ERROR\r\n", b"SERVER_ERROR out of memory storing object\r\n", b"\0\xff" * 99,
     b"VALUE x 0 5\r\nhello\r\nEND\r\n", b"VALUE x 0 999999999\r\n", b"END\r\n",
     b"STORED\r\n"],
    ids=["hangs up", "errors", "no memory", "noise", "another key", "endless", "empty", "lies"],
)  # fmt: skip
def test_what_is_no_memcached_is_none(
    origin: servers.Server, tmp_path: Path, reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbproxy.caches.memcached.protocol.SILENCE", float(USUAL) / 1000)
    with impostor(lambda talk: talk.say(reply) if reply else talk.reset()) as liar:
        app = ThumbProxy(Gallery(), keys=[servers.KEY], origin=origin.url,
                         cache_dir=str(tmp_path), memcached=[liar.address])  # fmt: skip
        began = time.monotonic()
        for width in (30, 31, 30, 31):
            path = THUMBS.url("a.jpg", width=width, format="jpg")
            got = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path})
            assert got is not None
            assert (got.status, opened(got.body).width) == (200, width)
        assert time.monotonic() - began < 30, "without our timeout it is 5 s, dozens of times"


def test_a_memcached_that_lies_harms_no_worker(
    origin: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the server is when nothing is set but where memcached should be."""
    monkeypatch.setenv(MILLISECONDS, USUAL)
    new, deadline = widths(), 5
    with (
        impostor(LIES["nothing"]) as liar,
        serving(origin, tmp_path / "cache", memcached=liar.address, workers=1,
                request_timeout=deadline) as site,
        control(site) as told,
    ):  # fmt: skip
        check(site, next(new))
        working = workers(site)
        before = most_memory(working[0])
        for lie in ("each value four times", "512 MiB", "values without end",
                    "a value, dripping"):  # fmt: skip
            liar.says, heard = LIES[lie], len(liar.asked)
            while len(liar.asked) == heard:  # it is asked once in a second
                began = time.monotonic()
                check(site, next(new))
                assert time.monotonic() - began < told.allows(2 * (deadline + 0.5))
                threading.Event().wait(0.05)
        assert workers(site) == working
        assert most_memory(working[0]) - before < 48 * 1024 * 1024


def test_a_purge_reaches_the_disk_whatever_memcached_does(gallery: Gallery, tmp_path: Path) -> None:
    """Two answers where pylibmc reads the log of purges to change it, which raises RuntimeError."""
    asked: list[bytes] = []

    def says(talk: Talk) -> None:
        again = talk.command in asked
        asked.append(talk.command)
        twice = [talk.value(talk.names[0], b"x")] * (2 if again else 0)
        talk.say(*[*twice, b"END\r\n"] if talk.command == b"gets" else [b"STORED\r\n"])

    path, site = THUMBS.url("a.jpg", width=30, format="jpg"), {"keys": [servers.KEY]}
    kept = ThumbProxy(gallery, cache_dir=str(tmp_path), **site).respond(
        {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    )
    assert kept is not None
    with impostor(says) as liar:
        result = ThumbProxy(gallery, cache_dir=str(tmp_path), memcached=[liar.address],
                            memcached_client="pylibmc", **site).purge("a.jpg")  # fmt: skip
    assert asked == [b"gets", b"add", b"gets"]
    assert result.purged == ("disk",)
    assert (result.files, list(result.failed)) == (2, ["memcached"])


def test_keys_change_host_by_host_and_nothing_is_made_twice(tmp_path: Path) -> None:
    """The new key was added everywhere, now it is moved to the front, then it stays alone."""
    old, new = servers.KEY, "the-key-that-comes-after-that-one"
    gallery = Gallery(**{f"{name}.jpg": jpeg(120, 80) for name in "abc"})
    signed = {key: Thumbnails([key]) for key in (old, new)}

    def hit(site: servers.Server, source: str, key: str) -> bool:
        reply = site.ask(signed[key].url(source, width=30, format="jpg"))
        assert (reply.status, opened(reply.body).width) == (200, 30)
        return "hit; detail=memcached" in reply["Cache-Status"]

    with servers.memcached() as server, servers.wsgi(gallery, validate=False) as origin:

        def host(name: str, *keys: str) -> Any:
            more = {**sharing(server.port), "workers": 1, "purge_token": TOKEN}
            return serving(origin, tmp_path / name, keys=",".join(keys), **more)

        with host("one", old, new) as one, host("two", new, old) as two:
            assert not hit(one, "a.jpg", old)
            assert hit(two, "a.jpg", new)
            assert not hit(two, "b.jpg", old)
            assert hit(one, "b.jpg", old)
            assert hit(two, "c.jpg", new) or hit(one, "c.jpg", old)
            purged = one.ask("/thumb/c.jpg", {"Authorization": f"Bearer {TOKEN}"}, "PURGE")
            assert purged.status == 200
            until(lambda: not list((tmp_path / "two").rglob("private/c.jpg/*.jpg")))
        asked = gallery.asked.copy()
        with host("three", new) as three:
            assert hit(three, "a.jpg", new)
            assert hit(three, "b.jpg", new)
            assert gallery.asked == asked
            assert not hit(three, "c.jpg", new), "what is purged does not come back"
            assert three.ask(signed[old].url("a.jpg", width=30, format="jpg")).status == 403


# -- the disk ------------------------------------------------------------------------------


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr)


Mounted = Callable[[str], Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    """A tmpfs with the given options, for those who may mount one."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mounted(options: str) -> Path:
        try:
            mount("-t", "tmpfs", "-o", options, "none", str(folder))
        except OSError as error:
            pytest.skip(f"only who may mount file systems can see how full ones are borne: {error}")
        return folder

    yield mounted
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def check_kept_again(site: servers.Server, **options: Any) -> None:
    """New pictures are, within the time that it takes to ask for them twice."""
    new = iter(range(60, 120))
    until(lambda: "hit; detail=disk" in check_twice(site, next(new), **options)["Cache-Status"])


def check_twice(site: servers.Server, width: int, **options: Any) -> servers.Reply:
    check(site, width, **options)
    return check(site, width, **options)


def check_whole(cache: Path) -> None:
    """All that is kept are whole pictures."""
    for tree in ("public", "private"):
        for path in (cache / tree).rglob("*.jpg"):
            if path.is_file():
                opened(path.read_bytes())
    assert list((cache / "tmp").iterdir()) == []


def test_a_full_disk_keeps_nothing_and_harms_nobody(
    origin: servers.Server, mounted: Mounted, tmp_path: Path
) -> None:
    disk = mounted("size=1m")
    with serving(origin, disk / "cache", beside=tmp_path, workers=2) as site:
        assert "hit; detail=disk" in check_twice(site, 10)["Cache-Status"]
        filler = fill(disk)
        for width in range(20, 40):
            check(site, width)
            check(site, width, version="1")
        assert "hit; detail=disk" in check(site, 10)["Cache-Status"], "what there is, is served"
        herd = Herd([site], [THUMBS.url("a.jpg", width=41, format="jpg")] * 40).replies()
        assert [reply.status for reply in herd] == [200] * 40
        check_whole(disk / "cache")
        filler.unlink()
        check_kept_again(site)
        check_kept_again(site, version="1")
        check_whole(disk / "cache")


def test_a_disk_that_became_read_only_is_read(
    origin: servers.Server, mounted: Mounted, tmp_path: Path
) -> None:
    disk = mounted("size=4m")
    with serving(origin, disk / "cache", beside=tmp_path, workers=2) as site:
        check(site, 10)

        def remounted(mode: str) -> bool:
            with contextlib.suppress(OSError):  # busy while something is written
                mount("-o", f"remount,{mode}", str(disk))
                return True
            return False

        until(lambda: remounted("ro"))
        for width in range(20, 40):
            check(site, width)
            check(site, width, version="1")
        assert "hit; detail=disk" in check(site, 10)["Cache-Status"]
        until(lambda: remounted("rw"))
        check_kept_again(site)
        check_whole(disk / "cache")


class Failing(Gallery):
    """Fails while it is broken."""

    broken = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if not self.broken:
            return super().__call__(environ, start_response)
        self.asked[environ["PATH_INFO"]] += 1
        start_response("500 No", [("Content-Length", "0")])
        return []


@pytest.mark.parametrize(
    ("lifetime", "status"),
    [
        ("max-age=0, stale-if-error=1000", 200),
        ("max-age=0, stale-while-revalidate=1000, stale-if-error=1000", 200),
        ("max-age=0, must-revalidate", 502),
    ],
)
def test_a_failing_origin_is_spared_though_a_disk_can_keep_no_failure(
    mounted: Mounted, lifetime: str, status: int
) -> None:
    disk = mounted("size=4m")
    gallery = Failing(**{"a.jpg": jpeg(120, 80)})
    gallery.headers = [("Cache-Control", lifetime)]
    path = Thumbnails([servers.KEY]).url("a.jpg", width=30, format="jpg")
    with servers.wsgi(gallery, validate=False) as site:
        app = ThumbProxy(
            Gallery(),
            keys=[servers.KEY],
            origin=site.url,
            cache_dir=str(disk / "c"),
            failure_ttl=30,
        )

        def get() -> int:
            response = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path})
            assert response
            return response.status

        assert get() == 200
        mount("-o", "remount,ro", str(disk))
        gallery.broken = True
        before = gallery.asked["/a.jpg"]
        assert {get() for _ in range(20)} == {status}
        until(lambda: gallery.asked["/a.jpg"] > before)
        assert gallery.asked["/a.jpg"] - before <= 2


def test_a_disk_without_inodes_keeps_what_it_can(
    origin: servers.Server, mounted: Mounted, tmp_path: Path
) -> None:
    disk = mounted("size=4m,nr_inodes=18")
    with serving(origin, disk / "cache", beside=tmp_path, workers=2) as site:
        for width in range(20, 40):
            check(site, width)
            check(site, width, version="1")
        check_whole(disk / "cache")
        mount("-o", "remount,nr_inodes=5000", str(disk))
        check_kept_again(site)
        check_kept_again(site, version="1")


def test_a_cache_that_is_deleted_under_a_server_fills_again(
    origin: servers.Server, gallery: Gallery, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with serving(origin, cache, workers=4) as site:
        for _ in range(3):
            check(site, 10)
            herd = Herd([site], [THUMBS.url("a.jpg", width=width, format="jpg")
                                 for width in range(20, 50)] * 3)  # fmt: skip
            until(lambda: shutil.rmtree(cache, ignore_errors=True) or not cache.exists())
            assert {reply.status for reply in herd.replies()} == {200}
            check_kept_again(site)
        shutil.rmtree(cache)
        asked, before = gallery.asked["/a.jpg"], work(site)
        herd = Herd([site], [THUMBS.url("a.jpg", width=51, format="jpg")] * 100)
        assert {reply.status for reply in herd.replies()} == {200}
        assert gallery.asked["/a.jpg"] == asked + 1
        assert work(site).since(before) == Work(1, 1)
        check_whole(cache)


@contextlib.contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """All threads of a process fail with these system calls."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed, which makes system calls fail")
    command = [strace, "-qq", "-f", "-p", str(pid), "-o", os.devnull,
               "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            tasks = Path(f"/proc/{pid}/task")

            def traced() -> bool:
                states = [(task / "status").read_text() for task in tasks.iterdir()]
                return not any("TracerPid:\t0\n" in state for state in states)

            until(lambda: tracer.poll() is not None or traced())
            if tracer.poll() is not None:
                assert tracer.stderr
                pytest.skip(f"this user may not trace: {tracer.stderr.read()}")
            yield
        finally:
            tracer.terminate()


@pytest.mark.parametrize(
    ("calls", "error"),
    [("fsync", "EIO"), ("rename", "EIO"), ("rename", "ENOSPC"), ("pwrite64", "EIO"),
     ("pwrite64", "ENOSPC")],
)  # fmt: skip
def test_a_disk_that_fails_in_the_midst_of_a_write_harms_nobody(
    origin: servers.Server, erring: Site, calls: str, error: str
) -> None:
    site, cache = erring
    (worker,) = workers(site)
    version = f"{calls}-{error}"
    with failing(worker, calls, error):
        for width in range(20, 24):
            assert "stored" not in check(site, width, version=version)["Cache-Status"]
    check_kept_again(site, version=version)
    check_whole(cache)


@pytest.fixture(scope="module")
def erring(origin: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with one process, whose system calls are to fail."""
    cache = tmp_path_factory.mktemp("erring") / "cache"
    with serving(origin, cache, workers=1) as site:
        check(site, 10)
        yield Site(site, cache)


# -- locks ---------------------------------------------------------------------------------

HOLD = """
import os, sys
from thumbproxy.caches.disk.locks import acquire
from thumbproxy.core.limits import Deadline
file, key = sys.argv[1], eval(sys.argv[2])
fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
acquire(fd, key, Deadline(10))
sys.stdout.write("held\\n")
sys.stdout.flush()
sys.stdin.read()
"""
# The files and keys of locks; "{}" is the source that is asked for.
LOCKS = {
    "a source": ("records", "{}"),
    "all sources, for a purge": ("records", None),
    "that a purge wants all": ("records", "\0all"),
    "the count": ("usage", "usage"),
    "the janitor's": ("usage", "janitor"),
    "the dates": ("dated", "dated"),
    "a fetch": ("work", "source {} "),
}
DEADLINE = 2.0


@pytest.fixture(scope="module")
def slow() -> Iterator[servers.Server]:
    """An origin that takes half of the time that a request has."""
    gallery = Slow(1.0)
    gallery.pictures = {f"/{number}.jpg": jpeg(120, 80) for number in range(9)}
    with servers.wsgi(gallery, validate=False) as server:
        yield server
        gallery.go.set()


@pytest.fixture(scope="module")
def hurried(slow: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose requests have little time, with all that it needs to answer them."""
    cache = tmp_path_factory.mktemp("hurried") / "cache"
    with serving(
        slow, cache, workers=1, request_timeout=DEADLINE, fetch_timeout=1.5, failure_ttl=0
    ) as site:
        until(lambda: ask_for(site, "8.jpg", 30) == 200)
        yield Site(site, cache)


def ask_for(site: servers.Server, source: str, width: int) -> int:
    return site.ask(THUMBS.url(source, width=width, format="jpg")).status


@contextlib.contextmanager
def stopped_with(path: Path, key: str | None) -> Iterator[None]:
    """A process that has a lock, and is stopped."""
    command = [sys.executable, "-c", HOLD, str(path), repr(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            servers.freeze(holder.pid)
            yield
        finally:
            holder.kill()


@pytest.mark.parametrize("lock", LOCKS)
def test_whoever_is_stopped_with_a_lock_keeps_no_request_beyond_its_deadline(
    hurried: Site, lock: str
) -> None:
    source = f"{list(LOCKS).index(lock)}.jpg"
    file, key = LOCKS[lock]
    with stopped_with(hurried.cache / "locks" / file, key and key.format(source)):
        paths = [THUMBS.url(source, width=width, format="jpg") for width in range(10, 14)]
        with control(hurried.server) as measured:
            began = time.monotonic()
            herd = Herd([hurried.server], paths).replies()
            took = time.monotonic() - began
        assert took < measured.allows(DEADLINE + 0.5)
        # While another process seems to fetch, half of the time is over before we do.
        late = {200, 504} if lock == "a fetch" else {200}
        assert {reply.status for reply in herd} <= late
    until(lambda: ask_for(hurried.server, source, 30) == 200)
