"""The disk cache: its layout, and what must never be left or served."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from test_caches import SOURCE, record, rendition, request

from thumbproxy.caches.base import Scope, SourceRecord
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.locks import Patience
from thumbproxy.caches.disk.size import Space
from thumbproxy.core.limits import Deadline
from thumbproxy.web.health import disk_probe


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def disk(root: Path) -> DiskCache:
    cache = DiskCache(str(root))
    cache.prepare()
    return cache


def files(root: Path) -> set[str]:
    """What there is but locks; a janitor may be removing empty folders meanwhile."""
    found = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return {str(path.relative_to(root)) for path in found if "locks" not in path.parts}


def test_the_url_is_the_path(disk: DiskCache, root: Path) -> None:
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    disk.set(request(2), stands, rendition(), public=False)
    disk.set(request(3, expires=9), stands, rendition(), public=False)
    signature = "S" * 22
    assert files(root) == {
        f"public/{SOURCE}/w_1.{signature}.webp",
        f"private/{SOURCE}/w_2.{signature}.webp",
        f"private/{SOURCE}/.w_3.webp",
        f"private/{SOURCE}/.source",
    }


def test_only_public_can_be_read_by_others(disk: DiskCache, root: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in root.iterdir()}
    assert modes["public"] & 0o005 == 0o005
    assert {modes[name] for name in ("private", "sources", "tmp", "locks")} == {0o700}
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    (kept,) = (root / "public").rglob("*.webp")
    assert kept.stat().st_mode & 0o777 == 0o644


def test_validators_are_those_of_the_file(disk: DiskCache, root: Path) -> None:
    """mtime is the source's Last-Modified, so that nginx gives the ETag that Python gives."""
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    (kept,) = (root / "public").rglob("*.webp")
    assert int(kept.stat().st_mtime) == 1_700_000_000


def test_freshness_is_the_records_mtime(disk: DiskCache, root: Path) -> None:
    stands = disk.set_record(SOURCE, record())
    mtime = (root / "private" / SOURCE / ".source").stat().st_mtime
    assert mtime == pytest.approx(stands.fresh_until, abs=0.001)


def test_public_renditions_need_no_record(disk: DiskCache) -> None:
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    found = disk.get(request(1), None, public=True)
    assert found is not None
    assert found.immutable


def test_a_new_version_leaves_nothing_of_the_old_one(disk: DiskCache, root: Path) -> None:
    old = disk.set_record(SOURCE, record("a"))
    disk.set_original(old, b"bytes")
    disk.set(request(1), old, rendition(), public=True)
    disk.set(request(2), old, rendition(), public=False)
    below = disk.set_record(f"{SOURCE}/below.jpg", record("c"))
    disk.set(request(1, f"{SOURCE}/below.jpg"), below, rendition(), public=True)
    disk.set_record(SOURCE, record("b", fetched_at=time.time()))
    left = files(root)
    assert not [name for name in left if name.startswith("sources")]
    assert {name for name in left if ".webp" in name} == {
        f"public/{SOURCE}/below.jpg/w_1.{'S' * 22}.webp"
    }


def test_without_a_record_private_renditions_are_of_nobody(disk: DiskCache, root: Path) -> None:
    stands = disk.set_record(SOURCE, record("a"))
    disk.set(request(1), stands, rendition(), public=True)
    disk.set(request(2), stands, rendition(), public=False)
    (root / "private" / SOURCE / ".source").unlink()
    again = disk.set_record(SOURCE, record("b"))
    assert disk.get(request(2), again, public=False) is None
    assert disk.get(request(1), None, public=True) is not None


def test_originals_are_whole_or_absent(disk: DiskCache, root: Path) -> None:
    stands = record(size=5)
    assert disk.original(stands) is None
    disk.set_original(stands, b"bytes")
    assert disk.original(stands) == b"bytes"
    (kept,) = (path for path in (root / "sources").rglob("*") if path.is_file())
    for damage in (b"byte", b"bytes and more", b""):
        kept.write_bytes(damage)
        assert disk.original(stands) is None


def test_an_empty_file_is_no_picture(disk: DiskCache, root: Path) -> None:
    """What a power cut leaves of a file that was not synced."""
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    (kept,) = (root / "public").rglob("*.webp")
    kept.write_bytes(b"")
    assert disk.get(request(1), None, public=True) is None
    (root / "private" / SOURCE / ".source").write_bytes(b"")
    assert disk.record(SOURCE) is None


def test_names_that_no_file_can_have_are_not_kept(
    disk: DiskCache, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than sources are allowed to be: no error, no word, and nothing left."""
    for source in ("/".join(["d" * 250] * 20), "/".join("d" * 2048)):
        stands = disk.set_record(source, record())
        assert not disk.set(request(1, source), stands, rendition(), public=True)
        assert disk.get(request(1, source), stands, public=True) is None
        assert disk.record(source) is None or disk.record(source) == stands
        disk.purge(Scope(source))
    assert list((root / "tmp").iterdir()) == []
    assert caplog.messages == [], "the disk itself is well"


def test_a_purge_without_a_record_removes_all_the_same(disk: DiskCache, root: Path) -> None:
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    disk.set(request(2), stands, rendition(), public=False)
    (root / "private" / SOURCE / ".source").unlink()
    assert disk.purge(Scope(SOURCE)) == (2, 2 * len(rendition().body))
    assert files(root) == {f"private/{SOURCE}/.purged"}


def test_no_descriptor_stays_open(disk: DiskCache) -> None:
    before = len(os.listdir("/proc/self/fd"))
    stands = disk.set_record(SOURCE, record())
    disk.set_original(stands, b"bytes")
    disk.set(request(1), stands, rendition(), public=True)
    disk.get(request(1), None, public=True)
    disk.original(stands)
    disk.purge(Scope(SOURCE))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_rendition_is_on_the_disk_before_it_has_its_name(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut leaves names of files that are not whole."""
    stands = disk.set_record(SOURCE, record())
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append("fsync")
        fsync(fd)

    def noted_rename(old: str, new: str) -> None:
        calls.append("rename")
        rename(old, new)

    monkeypatch.setattr("thumbproxy.caches.disk.cache.os.fsync", noted_fsync)
    monkeypatch.setattr("thumbproxy.caches.disk.cache.os.rename", noted_rename)
    assert disk.set(request(1), stands, rendition(), public=True)
    # The first rename can find that the folder is not there yet.
    assert list(dict.fromkeys(calls)) == ["fsync", "rename"]
    assert calls.count("fsync") == 1


def test_a_cache_that_is_emptied_under_us_fills_again(disk: DiskCache, root: Path) -> None:
    stands = disk.set_record(SOURCE, record())
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert disk.get(request(1), None, public=True) is None
    assert disk.record(SOURCE) is None
    stands = disk.set_record(SOURCE, stands)
    assert disk.set(request(1), stands, rendition(), public=True)
    assert disk.get(request(1), None, public=True) is not None
    assert (root / "private").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("tree", ["private", "sources"])
def test_a_tree_that_is_made_again_is_nobody_elses(disk: DiskCache, root: Path, tree: str) -> None:
    """Though it was removed alone, and appears again by a rename into it."""
    shutil.rmtree(root / tree)
    stands = disk.set_record(SOURCE, record())
    disk.set_original(stands, b"bytes")
    assert (root / tree).stat().st_mode & 0o777 == 0o700


@contextmanager
def held_by_another(disk: DiskCache) -> Iterator[None]:
    """The lock of the source, by a thread that goes on holding it."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with disk._locked(SOURCE):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        yield
    finally:
        done.set()
        holder.join()


def test_after_a_lock_was_waited_for_in_vain_others_are_waited_for_less(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a request that needs several would end long after its deadline."""
    stands = disk.set_record(SOURCE, record())
    given, patience = list[float](), Patience.deadline

    def noted(self: Patience) -> Deadline:
        deadline = patience(self)
        given.append(deadline.remaining)
        return deadline

    monkeypatch.setattr(Patience, "deadline", noted)
    with held_by_another(disk):
        for width in range(1, 11):
            assert not disk.set(request(width), stands, rendition(), public=True)
            if width == 1:
                assert max(given) > 0.1
                given.clear()
        assert max(given) <= 0.02


def test_what_killed_writers_left_is_gone_after_a_start(disk: DiskCache, root: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    stray = root / "tmp" / f"{host}-{gone.pid}-0"
    living = root / "tmp" / f"{host}-{os.getpid()}-999"
    elsewhere = root / "tmp" / f"other-host-{gone.pid}-0"
    for path in (stray, living, elsewhere):
        path.write_bytes(b"half")
    disk.prepare()
    assert not stray.exists()
    assert living.exists()
    assert elsewhere.exists()


def test_what_nobody_has_written_to_for_long_is_gone_after_a_start(
    disk: DiskCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its writer lives cannot be told of another host, or of a process id used again."""
    names = {f"{os.uname().nodename}-{os.getpid()}-999", "other-host-1-0"}
    for name in names:
        (root / "tmp" / name).write_bytes(b"half")
    disk.prepare()
    assert {path.name for path in (root / "tmp").iterdir()} == names
    monkeypatch.setattr("thumbproxy.caches.disk.files._STRAY_SECONDS", -1)
    disk.prepare()
    assert list((root / "tmp").iterdir()) == []


def limited_to(bytes_per_file: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))


def test_a_write_that_fails_half_way_leaves_nothing(disk: DiskCache, root: Path) -> None:
    """As on a full disk: the kernel takes the first bytes of a file and refuses the rest."""
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {sys.path!r}
        from test_caches import SOURCE, record, rendition, request
        from thumbproxy.caches.disk.cache import DiskCache
        disk = DiskCache({str(root)!r})
        stands = disk.set_record(SOURCE, record())
        assert disk.set(request(1), stands, rendition(b"small"), public=True)
        assert not disk.set(request(2), stands, rendition(b"x" * 100_000), public=True)
        disk.set_original(stands, b"x" * 100_000)
    """)
    # -B: modules that it compiled could not be written whole either.
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], check=True, preexec_fn=lambda: limited_to(4096),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.stderr.count("fails and is passed over") == 1, "one line for each change of state"
    assert {name for name in files(root) if "source" not in name} == {
        f"public/{SOURCE}/w_1.{'S' * 22}.webp"
    }
    assert not [name for name in files(root) if name.startswith(("sources", "tmp"))]


@contextmanager
def file_system(at: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, as small as `options` say."""
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def fill(disk: DiskCache, count: int) -> int:
    """How many of so many pictures are kept."""
    number = 0
    for width in range(1, count + 1):
        stands = disk.set_record(f"{width}.jpg", record())
        assert isinstance(stands, SourceRecord)
        number += disk.set(request(width, f"{width}.jpg"), stands, rendition(), public=True)
        disk.set_original(stands, b"bytes")
    return number


@pytest.mark.parametrize("options", ["size=200k", "nr_inodes=40"])
def test_a_full_file_system_keeps_what_is_whole_and_leaves_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setattr("thumbproxy.caches.breaker._SETTLED", 0)
    with file_system(tmp_path / "small", options) as at:
        disk = DiskCache(str(at / "cache"), Space(10**9))
        disk.prepare()
        number = fill(disk, 40)
        assert 0 < number < 40
        assert sum("fails and is passed over" in line for line in caplog.messages) >= 1
        assert list((at / "cache" / "tmp").iterdir()) == []
        for path in (at / "cache" / "public").rglob("*.webp"):
            assert path.read_bytes() == rendition().body
        assert len(list((at / "cache" / "public").rglob("*.webp"))) == number
        disk.janitor.trim(Space(1))
        assert fill(disk, 2) == 2, "when there is room again, it is used"
        assert caplog.messages[-1].endswith("works again")


def test_for_want_of_inodes_nobody_is_told_that_there_is_no_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with file_system(tmp_path / "small", "size=200m,nr_inodes=100") as at:
        disk = DiskCache(str(at))
        disk.prepare()
        with suppress(OSError):
            for number in range(100):
                (at / f"filler-{number}").touch()
        probe = disk_probe(str(at))
        probe.ask()
        found = probe.finding(time.monotonic() + 20)
        assert found == ("degraded", "there are no inodes left")
        disk.set_original(record(), b"bytes")
        (line,) = caplog.messages
        assert f"no inodes are left at {at}, whatever space" in line


def test_a_file_system_that_becomes_read_only_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with file_system(tmp_path / "small", "size=1m") as at:
        disk = DiskCache(str(at / "cache"), Space(10**6))
        disk.prepare()
        assert fill(disk, 2) == 2
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        assert fill(disk, 10) == 0
        assert disk.get(request(1, "1.jpg"), None, public=True) is not None
        with pytest.raises(OSError, match="Read-only"):
            disk.janitor.trim(Space(1))
        assert len(caplog.messages) == 1, "one line for each change of state"
        subprocess.run(["mount", "-o", "remount,rw", str(at)], check=True)
        assert fill(disk, 10) == 10


def test_a_holder_that_is_stopped_blocks_nobody_for_ever(
    disk: DiskCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbproxy.caches.disk.locks.Patience._MOST", 0.05)
    stands = disk.set_record(SOURCE, record())
    with held_by_another(disk):
        assert not disk.set(request(1), stands, rendition(), public=True)
    assert disk.set(request(1), stands, rendition(), public=True)


def test_a_lock_that_is_held_is_waited_for(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = disk.set_record(SOURCE, record())
    held, waiting, sleep = threading.Event(), threading.Event(), time.sleep

    def hold() -> None:
        with disk._locked(SOURCE):
            held.set()
            waiting.wait(10)

    def noted_sleep(seconds: float) -> None:
        waiting.set()
        sleep(seconds)

    monkeypatch.setattr("thumbproxy.caches.disk.cache.time.sleep", noted_sleep)
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        assert disk.set(request(1), stands, rendition(), public=True)
        assert waiting.is_set()
    finally:
        waiting.set()
        holder.join()


def test_locks_die_with_their_holder(disk: DiskCache, root: Path) -> None:
    program = textwrap.dedent(f"""
        import os, signal, sys
        sys.path[:0] = {sys.path!r}
        from test_caches import SOURCE
        from thumbproxy.caches.disk.cache import DiskCache
        with DiskCache({str(root)!r})._locked(SOURCE):
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    stands = disk.set_record(SOURCE, record())
    assert disk.set(request(1), stands, rendition(), public=True)


STEPS = ("open", "write", "pwrite", "fsync", "utime", "rename", "unlink", "mkdir", "rmdir", "close")


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do some work in a process that is killed at its n-th system call; whether it was."""
    pid = os.fork()
    if pid == 0:
        left = iter(range(step))

        def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **more: Any) -> Any:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **more)

            return called

        for name in STEPS:
            setattr(os, name, mortal(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def quick_root() -> Iterator[Path]:
    """In memory, where nothing waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as root:
        yield Path(root) / "cache"


def test_who_is_killed_at_any_instant_leaves_nothing_that_is_served_wrong(
    quick_root: Path,
) -> None:
    """While it keeps pictures, replaces the version that they were made from, and purges."""
    root = quick_root
    body = {digit: digit.encode() * 5 for digit in "ab"}

    def keep(disk: DiskCache, digit: str) -> None:
        stands = disk.set_record(SOURCE, record(digit, fetched_at=time.time()))
        assert isinstance(stands, SourceRecord)
        disk.set_original(stands, body[digit])
        disk.set(request(1), stands, rendition(body[digit]), public=False)
        disk.set(request(2), stands, rendition(body[digit]), public=True)

    def work() -> None:
        disk = DiskCache(str(root))
        keep(disk, "b")
        disk.purge(Scope(SOURCE))
        keep(disk, "a")

    step = 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        disk = DiskCache(str(root))
        disk.prepare()
        keep(disk, "a")
        killed = killed_at(step, work)
        again = DiskCache(str(root))
        again.prepare()
        assert list((root / "tmp").iterdir()) == []
        stands = again.record(SOURCE)
        if isinstance(stands, SourceRecord):
            version = stands.version[0]
            assert again.original(stands) in (None, body[version])
            for width, public in ((1, False), (2, True)):
                found = again.get(request(width), stands, public=public)
                assert found is None or found.body == body[version], f"killed at {step}"
        keep(again, "b")
        found = again.get(request(1), again.record(SOURCE), public=False)
        purged = again.purged_at(SOURCE) > 0
        assert purged or (found is not None and found.body == body["b"]), "it goes on"
        if not killed:
            break
        step += 1
    assert step > 50


def test_a_directory_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A cache in it would remove what it takes for its own, and shut others out of tmp/."""
    (tmp_path / "tmp").mkdir(mode=0o755)
    (tmp_path / "tmp" / "letter.txt").write_text("hers")
    os.utime(tmp_path / "tmp" / "letter.txt", (1, 1))
    with pytest.raises(OSError, match="is no cache"):
        DiskCache(str(tmp_path)).prepare()
    assert (tmp_path / "tmp" / "letter.txt").read_text() == "hers"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


def test_a_lock_is_free_when_its_holder_is_done_though_it_was_forked_meanwhile(
    disk: DiskCache,
) -> None:
    """A forked process has the same open file, and may live for long."""
    read, write = os.pipe()
    with disk._locked(SOURCE):
        pid = os.fork()
        if pid == 0:
            os.read(read, 1)
            os._exit(0)
    try:
        with disk._locked(SOURCE, 0):
            pass
    finally:
        os.write(write, b"x")
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("scope", [SOURCE, "médias/", ""])
@pytest.mark.parametrize("missing", ["public", "private", "sources", "tmp", "locks"])
def test_a_purge_is_complete_though_somebody_removed_a_part_of_the_cache(
    disk: DiskCache, root: Path, missing: str, scope: str
) -> None:
    stands = disk.set_record(SOURCE, record())
    disk.set(request(1), stands, rendition(), public=True)
    disk.set(request(2), stands, rendition(), public=False)
    shutil.rmtree(root / missing)
    disk.purge(Scope(scope))
    assert not [name for name in files(root) if name.endswith((".webp", ".source"))]
    disk.set_record(SOURCE, stands)
    assert disk.record(SOURCE) is None, "what was fetched before does not come back"
