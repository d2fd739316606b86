"""The disk cache stays within its bounds, whoever writes and whoever is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import servers
from commands import thumbproxy
from PIL import Image
from test_caches import record, rendition, request

from thumbproxy.caches.base import Failure, FailureRecord, Scope, SourceRecord
from thumbproxy.caches.disk.age_histogram import AgeHistogram
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.quota import Usage
from thumbproxy.caches.disk.size import BLOCK, Space
from thumbproxy.caches.disk.usage_file import Tally
from thumbproxy.config.types import Size
from thumbproxy.core.limits import Deadline
from thumbproxy.core.media import Validators
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.builder import Thumbnails

MIB = 1024 * 1024
FORK = multiprocessing.get_context("forkserver")
PATIENCE = 40.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(root: Path, bytes: int = 0, files: int = 0, metrics: Metrics | None = None) -> DiskCache:
    cache = DiskCache(str(root), Space(bytes, files), metrics=metrics)
    cache.prepare()
    return cache


def real(root: Path) -> Space:
    """What is there, counted by other means than the cache's own; what comes and goes meanwhile
    is counted or not."""
    total = Space()
    for tree in ("public", "private", "sources"):
        for folder, folders, files in os.walk(root / tree):
            total = total.plus(Space(len(folders) * BLOCK, len(folders)))
            for name in files:
                try:
                    size = os.lstat(f"{folder}/{name}").st_size
                except FileNotFoundError:
                    continue
                total = total.plus(Space(-(-size // BLOCK) * BLOCK, 1))
    return total


def kept(disk: DiskCache) -> Space:
    return disk.janitor.usage.read().kept


def put(disk: DiskCache, source: str, body: bytes = b"picture", *, public: bool = False) -> bool:
    stands = disk.set_record(source, record(fetched_at=time.time()))
    assert isinstance(stands, SourceRecord)
    return disk.set(request(1, source), stands, rendition(body), public=public)


def has(disk: DiskCache, source: str, *, public: bool = False) -> bool:
    return disk.get(request(1, source), None, public=public) is not None


def used(root: Path, source: str, seconds_ago: float) -> None:
    """As if what is kept of a source had been used last so long ago."""
    for tree in ("public", "private"):
        for path in (root / tree / source).glob("*"):
            then = time.time_ns() - int(seconds_ago * 1e9)
            os.utime(path, ns=(then, path.stat().st_mtime_ns))


def wait_until(condition: object, seconds: float = PATIENCE) -> None:
    assert callable(condition)
    deadline = Deadline(seconds)
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.005)


# -- the count ---------------------------------------------------------------------------------


def test_the_count_is_what_is_there(root: Path) -> None:
    """After writes, replacements, new versions, purges of sources and folders, and refusals."""
    disk = opened(root)
    for i in range(12):
        assert put(disk, f"photos/{i % 3}/{i}.jpg", os.urandom(9000 * i + 1), public=i % 2 == 0)
    assert kept(disk) == real(root)
    stands = disk.set_record("photos/0/0.jpg", record("b", fetched_at=time.time()))
    assert isinstance(stands, SourceRecord)
    disk.set_original(stands, b"x" * 5)
    disk.set_original(stands, b"x" * 5)
    assert kept(disk) == real(root)
    disk.set(request(2, "photos/0/0.jpg"), stands, rendition(b"x" * 90_000), public=True)
    disk.set(request(2, "photos/0/0.jpg"), stands, rendition(b"x" * 10), public=True)
    assert not disk.set(request(2, "photos/0/0.jpg"), record("c"), rendition(), public=True)
    assert kept(disk) == real(root)
    disk.set_record("photos/0/0.jpg", record("d", fetched_at=time.time()))
    assert kept(disk) == real(root)
    for scope in ("photos/1/1.jpg", "photos/2/", "absent.jpg", "photos/0/0.jpg", ""):
        disk.purge(Scope(scope))
        assert kept(disk) == real(root), scope
    assert disk.janitor.usage.read().taken == [Space(), Space()]


def test_the_count_is_that_of_all_threads(root: Path) -> None:
    disk = opened(root)

    def work(number: int) -> None:
        for i in range(20):
            put(disk, f"photos/{i % 4}.jpg", os.urandom(5000 * (number + i)), public=i % 2 == 0)
            if i % 7 == number:
                disk.purge(Scope(f"photos/{i % 4}.jpg"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(disk) == real(root)


def test_a_write_that_fails_takes_no_room(root: Path) -> None:
    disk = opened(root)
    put(disk, "a.jpg")
    before = kept(disk)
    # No directory can be named so.
    impossible = f"a.jpg/{'d' * 256}/b/c.jpg"
    assert not disk.set(request(1, impossible), record(), rendition(), public=False)
    disk.set_record(impossible, record())
    assert kept(disk) == before == real(root)
    assert disk.janitor.usage.read().taken == [Space(), Space()]


def test_what_comes_while_it_is_counted_is_not_lost(root: Path) -> None:
    """It may be counted twice, until the next time."""
    disk = opened(root)
    for i in range(30):
        put(disk, f"{i}.jpg")
    came = 0

    def rest() -> None:
        nonlocal came
        came += 1
        if came % 10 == 0:
            put(disk, f"{came}/new.jpg")
            disk.purge(Scope(f"{came // 10}.jpg"))

    assert disk.janitor.trim(rest=rest)
    assert came > 30
    there = real(root)
    assert kept(disk).bytes >= there.bytes
    assert kept(disk).files >= there.files
    assert disk.janitor.trim()
    assert kept(disk) == there


def test_what_went_before_a_count_is_not_given_back_after_it(root: Path) -> None:
    """Else the count would be too low, and the cache too large."""
    disk = opened(root)
    put(disk, "a.jpg")
    put(disk, "b.jpg", b"x" * 50_000)
    (path,) = (root / "private" / "b.jpg").glob("*.webp")
    with disk.janitor.usage.removing() as freed:
        disk._files.unlink(str(path), freed)
        assert freed.space == Space(13 * BLOCK, 1)
        assert disk.janitor.trim()
    assert kept(disk) == real(root)


@pytest.mark.parametrize("damage", [None, b"", b"tp-use-1" + b"\xff" * 96, b"x" * 104])
def test_a_count_that_is_lost_is_made_anew(root: Path, damage: bytes | None) -> None:
    """And meanwhile the cache does not grow by more than a hundredth."""
    disk = opened(root, 10 * MIB)
    for i in range(40):
        assert put(disk, f"{i}.jpg", b"x" * 100_000)
    usage = root / "locks" / "usage"
    if damage is None:
        usage.unlink()
    else:
        usage.write_bytes(damage)
    assert not put(disk, "large.jpg", b"x" * 200_000)
    wait_until(lambda: disk.janitor.usage.read().known)
    assert put(disk, "large.jpg", b"x" * 200_000)
    wait_until(lambda: disk.janitor._thread is None or not disk.janitor._thread.is_alive())
    assert disk.janitor.trim()
    assert kept(disk) == real(root)


def test_room_that_killed_writers_took_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = opened(root)
    disk.janitor.usage._take(Space(5 * MIB, 1), forced=False)
    assert disk.janitor.usage.read().total == Space(5 * MIB, 1)
    disk.janitor.trim()
    assert disk.janitor.usage.read().total == Space(5 * MIB, 1), "it may still be written"
    monkeypatch.setattr("thumbproxy.caches.disk.quota._TURN_SECONDS", -1)
    disk.janitor.trim()
    disk.janitor.trim()
    assert disk.janitor.usage.read().total == Space()


def test_room_of_a_slow_writer_is_not_given_back_by_counts_in_a_row(root: Path) -> None:
    disk = opened(root)
    usage = disk.janitor.usage
    with usage.room(Space(5 * MIB, 1)):
        for _ in range(4):
            disk.janitor.trim()
        assert usage.read().total == Space(5 * MIB, 1)
    assert usage.read().total == Space()


def test_it_is_counted_daily_and_after_the_machine_has_started(root: Path) -> None:
    now = int(time.time())
    assert not Tally(counted_at=now - 60).due or time.clock_gettime(time.CLOCK_BOOTTIME) < 60
    assert Tally(counted_at=now - 90_000).due
    assert Tally(counted_at=int(now - time.clock_gettime(time.CLOCK_BOOTTIME) - 5)).due
    assert Tally(counted_at=now + 1000).due, "a clock that jumped"
    disk = opened(root)
    counts = disk.janitor.usage.read().counts
    with disk.janitor.usage._changed() as tally:
        tally.counted_at = now - 90_000
    put(disk, "a.jpg")
    wait_until(lambda: disk.janitor.usage.read().counts > counts)


# -- what goes ---------------------------------------------------------------------------------


def test_what_was_used_least_goes_first(root: Path) -> None:
    disk = opened(root)
    order = [f"{i}.jpg" for i in (3, 0, 4, 1, 2, 7, 6, 5)]
    for i, source in enumerate(order):
        put(disk, source, b"x" * 50_000, public=i % 3 == 0)
        used(root, source, 3600 * (1 + i))
    whole = kept(disk).bytes
    for left in range(len(order), 0, -1):
        assert disk.janitor.trim(Space(whole * left // len(order) + BLOCK))
        there = [s for s in order if any(root.glob(f"p*/{s}/*.webp"))]  # to get it is a use
        assert there == order[:left]
        assert kept(disk) == real(root)


def test_a_hit_is_a_use_and_originals_compete_with_renditions(root: Path) -> None:
    disk = opened(root)
    sources = []
    for i in range(4):
        stands = disk.set_record(f"{i}.jpg", record(f"{i}", size=40_000))
        assert isinstance(stands, SourceRecord)
        sources.append(stands)
        disk.set_original(stands, b"x" * 40_000)
        disk.set(request(1, f"{i}.jpg"), stands, rendition(b"x" * 40_000), public=False)
    for path in (path for path in root.rglob("*") if path.is_file()):
        os.utime(path, ns=(time.time_ns() - 10**13, path.stat().st_mtime_ns))
    assert has(disk, "1.jpg")
    assert disk.original(sources[2]) is not None
    assert disk.janitor.trim(Space(120_000))
    assert [has(disk, f"{i}.jpg") for i in range(4)] == [False, True, False, False]
    assert [disk.original(source) is not None for source in sources] == [False, False, True, False]
    assert disk.record("1.jpg") == sources[1], "it stands as long as there is something it is of"


def test_what_is_used_at_the_last_moment_stays(root: Path) -> None:
    """After it was looked at, and before it would be removed."""
    disk = opened(root)
    stands = disk.set_record("a.jpg", record())
    assert isinstance(stands, SourceRecord)
    disk.set(request(1, "a.jpg"), stands, rendition(), public=False)
    disk.set(request(2, "a.jpg"), stands, rendition(), public=True)
    used(root, "a.jpg", 7200)
    looks, passed = 0, 0

    def look() -> None:
        nonlocal looks
        looks += 1

    def use() -> None:
        nonlocal passed
        passed += 1
        # A second time around: the folder, its two private files, and now its public one.
        if passed == looks + 4:
            assert has(disk, "a.jpg")

    assert disk.janitor.trim(rest=look)
    assert disk.janitor.trim(Space(1), rest=use)
    assert passed >= looks + 4
    assert has(disk, "a.jpg")
    assert disk.get(request(2, "a.jpg"), None, public=True) is None
    assert kept(disk) == real(root)


def test_no_more_goes_than_is_needed(root: Path) -> None:
    """Though a thousand files are of the same age."""
    disk = opened(root)
    for i in range(60):
        put(disk, f"photos/{i}.jpg", b"x" * 30_000)
        used(root, f"photos/{i}.jpg", 86_400)
    target = kept(disk).bytes * 3 // 4
    assert disk.janitor.trim(Space(target))
    assert target - 80_000 <= kept(disk).bytes <= target


def test_the_number_of_files_is_bounded_too(root: Path) -> None:
    disk = opened(root, files=100)
    for i in range(200):
        put(disk, f"{i}.jpg")
        assert real(root).files <= 100
    assert disk.janitor.trim(patience=Deadline(PATIENCE))  # one may be at work already
    assert real(root).files <= 90


def test_a_source_of_which_nothing_is_left_leaves_no_trace(root: Path) -> None:
    disk = opened(root)
    for i in range(3):
        put(disk, f"a/b/{i}.jpg", public=i % 2 == 0)
    assert disk.janitor.trim(Space(1))
    assert real(root) == kept(disk) == Space()
    assert put(disk, "a/b/0.jpg"), "and can be kept again"


def test_what_has_expired_goes_without_being_asked_for(root: Path) -> None:
    disk = opened(root)
    long_ago = time.time() - 5000
    for source, retry_at in (("old.jpg", long_ago), ("new.jpg", time.time() + 5)):
        failure = Failure("origin-failed", "as it was", retry_at)
        disk.set_record(source, FailureRecord(failure, Validators(), 0, 0.0))
    disk.set_record("stale.jpg", record(fresh_until=long_ago))
    put(disk, "photos/a.jpg")
    for scope in ("photos/", "single.jpg"):
        disk.purge(Scope(scope))
    os.utime(root / "private" / "single.jpg" / ".purged", (long_ago, long_ago))
    (root / "public" / "empty" / "folder").mkdir(parents=True)
    (root / "tmp" / "other-host-1-x.0").write_bytes(b"half")
    assert disk.janitor.trim()
    assert disk.record("old.jpg") is None
    assert disk.record("new.jpg") is not None
    assert disk.record("stale.jpg") is not None, "it can be asked about"
    assert (root / "private" / "photos" / ".purged").exists()
    assert not (root / "private" / "single.jpg").exists()
    assert list((root / "public").iterdir()) == []
    assert kept(disk) == real(root)


def test_what_the_killed_left_goes_with_each_run(root: Path) -> None:
    """Not only at a start: a server may run for years."""
    disk = opened(root)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    (root / "tmp" / f"{host}-{gone.pid}-x.0").write_bytes(b"half")
    aside = root / "tmp" / f"{host}-{gone.pid}-x.1.aside"
    (aside / "below").mkdir(parents=True)
    (aside / "below" / "a.webp").write_bytes(b"picture")
    assert disk.janitor.trim()
    assert list((root / "tmp").iterdir()) == []
    assert kept(disk) == real(root)


def test_what_is_set_aside_counts_until_it_is_gone(root: Path) -> None:
    disk = opened(root)
    put(disk, "photos/a.jpg")
    there = real(root)
    aside = [disk._files.set_aside(f"{root}/private/photos")]
    assert disk.janitor.trim()
    assert kept(disk) == there
    disk._files.remove_aside([path for path in aside if path])
    assert kept(disk) == real(root) == Space()


def test_a_janitor_that_has_to_stop_says_why_and_rests(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(root)
    for error, said, rest in (
        (OSError(5, "Input/output error"), "had to stop: [Errno 5]", 50.0),
        (RuntimeError("bug"), "unexpected error of the janitor", 0.0),
    ):
        monkeypatch.setattr(disk.janitor, "trim", lambda rest, error=error: raises(error))
        disk.janitor._run()
        assert said in caplog.messages[-1]
        assert disk.janitor._not_before - time.monotonic() > rest
        disk.janitor.wake()
        assert disk.janitor._thread is None


def raises(error: Exception) -> None:
    raise error


def test_links_are_never_followed(root: Path, tmp_path: Path) -> None:
    disk = opened(root)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious.webp").write_bytes(b"x" * 100_000)
    put(disk, "a/b.jpg")
    for tree in ("public", "private", "sources"):
        (root / tree / "link").symlink_to(victim)
        (root / tree / "file.webp").symlink_to(victim / "precious.webp")
    assert disk.janitor.trim(Space(1, 1))
    assert (victim / "precious.webp").stat().st_size == 100_000
    assert disk.inventory(lambda files: None).total.bytes < 100_000
    disk.purge(Scope(""))
    assert (victim / "precious.webp").exists()


def test_a_reader_that_has_a_picture_open_reads_on(root: Path) -> None:
    disk = opened(root)
    body = os.urandom(MIB)
    put(disk, "a.jpg", body)
    found = disk.get(request(1, "a.jpg"), None, public=False)
    assert found is not None
    assert found.file is not None
    assert disk.janitor.trim(Space(1))
    assert not has(disk, "a.jpg")
    assert found.in_memory().body == body


def test_what_is_being_written_is_left_alone(root: Path) -> None:
    disk = opened(root)
    for source in ("a.jpg", "b.jpg"):
        put(disk, source)
        used(root, source, 7200)
    with disk._locked("a.jpg"), ThreadPoolExecutor(1) as janitor:
        assert janitor.submit(disk.janitor.trim, Space(1)).result()
    assert has(disk, "a.jpg")
    assert not has(disk, "b.jpg")


def test_a_very_deep_tree_is_walked(root: Path) -> None:
    disk = opened(root)
    before = len(os.listdir("/proc/self/fd"))
    assert put(disk, "/".join("d" * 1200))
    seen = []
    assert disk.janitor.trim(rest=lambda: seen.append(len(os.listdir("/proc/self/fd"))))
    assert max(seen) < before + 60
    assert disk.janitor.trim(Space(1))
    assert real(root) == kept(disk) == Space()


def test_ages_are_cut_where_enough_is_left() -> None:
    ages = AgeHistogram(now=1_000_000)
    for hours in range(100):
        ages.note(1_000_000 - 3600 * hours, Space(BLOCK, 1))
    cut = ages.cut(Space(BLOCK * 40))
    left = [h for h in range(100) if not cut.takes(1_000_000 - 3600 * h, Space(BLOCK, 1))]
    assert len(left) == 40
    assert max(left) <= 41, "among 100 hours, two may be too close to be told apart"
    nothing = ages.cut(Space(files=1000))
    assert not any(nothing.takes(1_000_000 - 3600 * h, Space(BLOCK, 1)) for h in range(100))


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 5000, 30_000])
def test_a_cache_smaller_than_a_picture_keeps_none_and_harms_nobody(root: Path, bound: int) -> None:
    disk = opened(root, bound)
    for i in range(5):
        assert not put(disk, f"{i}.jpg", b"x" * 40_000)
        assert real(root).bytes <= bound
    assert list((root / "tmp").iterdir()) == []


def test_a_bound_that_was_lowered_is_kept_from_the_next_write_on(root: Path) -> None:
    disk = opened(root)
    for i in range(40):
        put(disk, f"{i}.jpg", b"x" * 50_000)
        used(root, f"{i}.jpg", 7200)
    lower = opened(root, MIB)
    wait_until(lambda: put(lower, "new.jpg", b"x" * 50_000))
    assert real(root).bytes <= MIB
    assert has(lower, "new.jpg")


def test_a_record_that_stands_is_renewed_in_a_full_cache(root: Path) -> None:
    """Else an old record would stand for ever."""
    disk = opened(root)
    old = disk.set_record("a.jpg", record())
    full = opened(root, 2 * BLOCK)
    new = full.set_record("a.jpg", record("b", fetched_at=time.time()))
    assert full.record("a.jpg") == new != old
    assert full.record("b.jpg") is None
    full.set_record("b.jpg", record())
    assert full.record("b.jpg") is None


class Noted(Metrics):
    def __init__(self) -> None:
        self.removed = self.size = (0, 0)

    def evicted(self, files: int, bytes: int) -> None:
        self.removed = (self.removed[0] + files, self.removed[1] + bytes)

    def cache_size(self, bytes: int, files: int) -> None:
        self.size = (bytes, files)


def test_what_goes_is_counted_in_the_metrics(root: Path) -> None:
    noted = Noted()
    disk = opened(root, metrics=noted)
    for i in range(10):
        put(disk, f"{i}.jpg", b"x" * 50_000)
    before = kept(disk)
    done = disk.janitor.trim(Space(before.bytes // 2))
    assert done is not None
    assert done.found == before
    assert noted.removed == (done.removed.files, done.removed.bytes)
    assert noted.size == done.left == before.minus(done.removed)


# -- several processes -------------------------------------------------------------------------

BOUND = 4 * MIB


def body_of(number: int) -> bytes:
    """Of a length and content that tell whether it is whole."""
    return number.to_bytes(8, "big") * (500 + number * 7919 % 6000)


def write_many(root: str, writer: int, stop: Event) -> None:
    disk, number = DiskCache(root, Space(BOUND)), writer
    while not stop.is_set():
        number += 4
        source = f"photos/{number % 13}/{number}.jpg"
        put(disk, source, body_of(number), public=number % 3 == 0)


def read_many(root: str, stop: Event, faults: str) -> None:
    """Read whatever there is; anything but a whole picture or a miss is a fault."""
    disk, wrong, hits = DiskCache(root, Space(BOUND)), [], 0
    while not stop.is_set():
        for folder, _, names in os.walk(f"{root}/private"):
            if not any(name.endswith(".webp") for name in names):
                continue
            source = os.path.relpath(folder, f"{root}/private")
            found = disk.get(request(1, source), None, public=False)
            hits += found is not None
            if found and found.body != body_of(int(os.path.basename(source)[:-4])):
                wrong.append(source)
    Path(faults).write_text(json.dumps({"hits": hits, "wrong": wrong}))


@contextmanager
def processes(*work: tuple[object, tuple[object, ...]]) -> Iterator[list[int]]:
    """Each in a process of its own."""
    started = [FORK.Process(target=target, args=args) for target, args in work]  # type: ignore[arg-type]
    for process in started:
        process.start()
    try:
        yield [process.pid or 0 for process in started]
    finally:
        for process in started:
            process.join(20)
            if process.is_alive():
                process.kill()
                process.join()
    assert [process.exitcode for process in started] == [0] * len(started)


def test_writers_and_readers_and_the_janitor_together(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four writers over a small bound: never more than 2 % over it, and no read fails."""
    opened(root, BOUND)
    stop, most, samples = FORK.Event(), 0, 0
    faults = [str(tmp_path / f"faults-{n}") for n in range(2)]
    usage = Usage(DiskCache(str(root)).layout)
    with processes(
        *((write_many, (str(root), n, stop)) for n in range(4)),
        *((read_many, (str(root), stop, path)) for path in faults),
    ):
        deadline = Deadline(PATIENCE)
        # Some times around, whatever the machine.
        while usage.read().added.bytes < 2 * BOUND or samples < 50:
            assert not deadline.passed
            most = max(most, real(root).bytes)
            samples += 1
        stop.set()
    assert most <= BOUND * 1.02
    assert most > BOUND * 0.8, "and it is used"
    for path in faults:
        told = json.loads(Path(path).read_text())
        assert told["wrong"] == []
        assert told["hits"] > 0
    disk = opened(root, BOUND)
    assert kept(disk).bytes >= real(root).bytes
    assert disk.janitor.trim(patience=Deadline(5))
    assert kept(disk) == real(root)
    assert usage.read().taken == [Space(), Space()]
    assert list((root / "tmp").iterdir()) == []
    assert "fails and is passed over" not in capfd.readouterr().err


def test_a_server_whose_cache_is_full_serves_all_the_same(root: Path, tmp_path: Path) -> None:
    """Every reply is a whole picture, the cache stays within its bound, and goes on keeping."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(6):
        Image.effect_noise((300, 200), 60 + i).convert("RGB").save(photos / f"{i}.jpg")
    bound = 300_000
    thumbs = Thumbnails([servers.KEY])
    arguments = ("--origin", str(photos), "--cache-dir", str(root))
    with servers.thumbproxy(*arguments, THUMBPROXY_CACHE_MAX_BYTES=str(bound)) as server:
        for width in range(200, 230):
            for i in range(6):
                url = thumbs.url(f"{i}.jpg", width=width, format="jpg")
                reply = server.ask(url)
                assert reply.status == 200
                with Image.open(BytesIO(reply.body)) as image:
                    image.load()
                    assert image.width == width
                assert real(root).bytes <= bound * 1.02
        url = thumbs.url("0.jpg", width=150, format="jpg")
        wait_until(lambda: "hit" in server.ask(url)["Cache-Status"])


def trim_slowly(root: str, begun: Event) -> None:
    """Half a second for each entry, once it has begun to remove."""
    disk, removing = DiskCache(root), False

    def progress(stage: str, files: int) -> None:
        nonlocal removing
        if stage == "remove" and files:
            removing = True
            begun.set()

    def rest() -> None:
        if removing:
            time.sleep(0.5)

    disk.janitor.trim(Space(1), rest=rest, progress=progress)


def test_a_janitor_that_is_killed_leaves_a_cache_that_works(root: Path) -> None:
    disk = opened(root)
    for i in range(200):
        put(disk, f"{i}.jpg", body_of(i))
        used(root, f"{i}.jpg", 7200)
    begun = FORK.Event()
    janitor = FORK.Process(target=trim_slowly, args=(str(root), begun))
    janitor.start()
    try:
        assert begun.wait(PATIENCE)
        assert disk.janitor.trim() is None, "there is one at work"
    finally:
        janitor.kill()
        janitor.join()
    assert janitor.exitcode == -signal.SIGKILL
    left = [i for i in range(200) if has(disk, f"{i}.jpg")]
    assert 0 < len(left) < 200
    for i in left:
        found = disk.get(request(1, f"{i}.jpg"), None, public=False)
        assert found is not None
        assert found.body == body_of(i)
    assert kept(disk).bytes >= real(root).bytes
    assert disk.janitor.trim(), "its lock has gone with it"
    assert kept(disk) == real(root)


def test_of_two_janitors_one_waits_or_goes(root: Path) -> None:
    disk, other = opened(root), opened(root)
    put(disk, "a.jpg")
    entered, go = threading.Event(), threading.Event()

    def rest() -> None:
        entered.set()
        go.wait(PATIENCE)

    thread = threading.Thread(target=disk.janitor.trim, kwargs={"rest": rest})
    thread.start()
    try:
        assert entered.wait(PATIENCE)
        assert other.janitor.trim() is None
        other.janitor.wake()
        go.set()
        assert other.janitor.trim(patience=Deadline(PATIENCE)) is not None
    finally:
        go.set()
        thread.join()


# -- the command -------------------------------------------------------------------------------


def test_stats_tell_what_there_is_and_change_nothing(root: Path) -> None:
    disk = opened(root)
    for i in range(4):
        put(disk, f"photos/{i}.jpg", b"x" * 10_000, public=i == 0)
    stands = disk.record("photos/0.jpg")
    assert isinstance(stands, SourceRecord)
    disk.set_original(stands, b"bytes")
    failure = Failure("source-not-found", "there is none", time.time() + 5)
    disk.set_record("gone.jpg", FailureRecord(failure, Validators(), 0, 0.0))
    used(root, "photos/3.jpg", 7200)
    trees = ("public", "private", "sources")
    before = {path: path.stat() for tree in trees for path in (root / tree).rglob("*")}
    done = thumbproxy(
        "cache", "stats", "--json", "--cache-dir", str(root), THUMBPROXY_CACHE_MAX_BYTES="1MB"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    there = real(root)
    assert (facts["bytes"], facts["files"]) == there == kept(disk)
    assert facts["share"] == pytest.approx(max(there.bytes / 1_000_000, there.files / 122))
    assert (facts["sources"], facts["failures"]) == (4, 1)
    assert facts["formats"] == {"webp": {"files": 4, "bytes": 4 * 3 * BLOCK}}
    assert facts["trees"]["sources"] == {"files": 1, "bytes": 2 * BLOCK}
    assert facts["newest_use"] - facts["oldest_use"] == pytest.approx(7200, abs=30)
    assert facts["free_bytes"] > 0
    assert {path: path.stat() for tree in trees for path in (root / tree).rglob("*")} == before
    shown = thumbproxy("cache", "stats", "--cache-dir", str(root)).stdout
    assert "may hold    10.0 GiB and 1,310,720 files" in shown
    assert "oldest use  2 hours ago" in shown


def test_trim_makes_room_while_the_cache_is_used(root: Path) -> None:
    disk = opened(root)
    for i in range(20):
        put(disk, f"{i}.jpg", b"x" * 50_000)
    whole = kept(disk).bytes
    at = ("--cache-dir", str(root))
    assert thumbproxy("cache", "trim", *at).stdout.startswith("removed 0 files")
    done = thumbproxy("cache", "trim", "--to", "0.5MB", *at)
    assert done.returncode == 0, done.stderr
    assert 400_000 < kept(disk).bytes <= 500_000 < whole
    assert kept(disk) == real(root)
    halved = thumbproxy("cache", "trim", "--to", "20%", *at, THUMBPROXY_CACHE_MAX_BYTES="1MB")
    assert halved.returncode == 0, halved.stderr
    assert kept(disk).bytes <= 200_000


def test_clear_asks_first(root: Path) -> None:
    disk = opened(root)
    put(disk, "a.jpg")
    refused = thumbproxy("cache", "clear", "--cache-dir", str(root))
    assert refused.returncode == 1
    assert has(disk, "a.jpg")
    done = thumbproxy("cache", "clear", "--yes", "--cache-dir", str(root))
    assert done.stdout == "removed 1 files, 7 bytes\n"
    assert not has(disk, "a.jpg")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["stats", "--cache-dir", "/absent"], "there is no cache in '/absent'"),
        (["trim", "--to", "much"], "not a size like 5GB"),
        (["trim", "--to", "0"], "cache clear"),
        (["trim", "--to", "0%"], "cache clear"),
        (["trim", "--to", "101%"], "not a part"),
    ],
)
def test_refusals_are_sentences(root: Path, arguments: list[str], part: str) -> None:
    opened(root)
    if "--cache-dir" not in arguments:
        arguments = [*arguments, "--cache-dir", str(root)]
    done = thumbproxy("cache", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_sizes_are_numbers_or_words() -> None:
    told = {
        "10GB": 10**10,
        "512MiB": 512 * MIB,
        "1.5 kib": 1536,
        "0": 0,
        "4096": 4096,
        "1tb": 10**12,
    }
    assert {text: Size().read(text) for text in told} == told
    assert Size().check("1GiB") == Size().check(1024 * MIB) == 1024 * MIB
    for wrong in ("", "GB", "-1", "1e9", "1PB", "1.2345GB", "10 000"):
        with pytest.raises((ValueError, KeyError)):
            Size().read(wrong)
    for no_size in (-1, True, 1.5, None):
        with pytest.raises((ValueError, TypeError)):
            Size().check(no_size)
