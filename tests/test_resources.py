"""The processors and the memory that are counted are those that this process may use."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from cgroups import quota_of_a_half
from click.testing import CliRunner

from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.config.sizing import renders_alone, sized
from thumbproxy.core.resources import Bound, Resources, available, size

CONF = Path(__file__).parent.parent / "conf" / "gunicorn.conf.py"
MIB = 1024 * 1024
MANY = 64  # processors of the simulated machine
V1 = "42 32 0:29 {top} /sys/fs/cgroup/{name} rw,nosuid - cgroup cgroup rw,{name}"
V2 = "41 31 0:38 {top} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
NONE = str(9223372036854771712)

TREES = {
    "version 2, in a namespace": (
        "0::/\n", [V2.format(top="/")], {"cpu.max": "100000 100000", "memory.max": str(512 * MIB)},
        1, 512 * MIB,
    ),
    "a part of a processor": (
        "0::/\n", [V2.format(top="/")], {"cpu.max": "50000 100000", "memory.max": "max"}, 0.5, None,
    ),
    "a fraction, above a group without any": (
        "0::/kube/pod/site\n", [V2.format(top="/")],
        {"kube/pod/site/cpu.max": "max 100000", "kube/pod/cpu.max": "150000 100000",
         "kube/cpu.max": "400000 100000", "kube/pod/site/memory.max": "max",
         "kube/memory.max": str(800 * MIB), "kube/pod/memory.max": "max"},
        1.5, 800 * MIB,
    ),
    "the mount is the group, whose name is that of the host": (
        "0::/docker/7f3a\n", [V2.format(top="/docker/7f3a")],
        {"cpu.max": "200000 100000", "memory.max": str(600 * MIB)}, 2, 600 * MIB,
    ),
    "a group within that": (
        "0::/docker/7f3a/init\n", [V2.format(top="/docker/7f3a")],
        {"init/cpu.max": "300000 100000", "cpu.max": "200000 100000",
         "init/memory.max": str(300 * MIB), "memory.max": str(600 * MIB)}, 2, 300 * MIB,
    ),
    "a name that only begins like it": (
        "0::/docker/7f3abc\n", [V2.format(top="/docker/7f3a")],
        {"cpu.max": "200000 100000"}, 2, None,
    ),
    "outside of our namespace": ("0::/../other\n", [V2.format(top="/")], {"cpu.max": "max 1"},
                                 MANY, None),
    "memory.high counts": (
        "0::/\n", [V2.format(top="/")],
        {"memory.max": str(600 * MIB), "memory.high": str(400 * MIB)}, MANY, 400 * MIB,
    ),
    "no bound at all": (
        "0::/\n", [V2.format(top="/")], {"cpu.max": "max 100000", "memory.max": "max"}, MANY, None,
    ),
    "the root of the host has no such files": ("0::/\n", [V2.format(top="/")], {}, MANY, None),
    "version 1": (
        "4:memory:/docker/7f3a\n2:cpu,cpuacct:/docker/7f3a\n1:name=systemd:/docker/7f3a\n",
        [V1.format(top="/docker/7f3a", name="cpu,cpuacct"),
         V1.format(top="/docker/7f3a", name="memory")],
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000",
         "memory/memory.limit_in_bytes": str(700 * MIB)}, 2.5, 700 * MIB,
    ),
    "version 1, nested, on the host": (
        "4:memory:/a/b\n2:cpu:/a/b\n",
        [V1.format(top="/", name="cpu"), V1.format(top="/", name="memory")],
        {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "25000",
         "cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000",
         "memory/a/memory.limit_in_bytes": str(300 * MIB),
         "memory/a/b/memory.limit_in_bytes": NONE}, 2, 300 * MIB,
    ),
    "both versions, each with its controllers": (
        "3:memory:/a\n0::/a\n",
        [V1.format(top="/", name="memory"), V2.format(top="/").replace("cgroup rw", "cgroup/u rw")],
        {"memory/a/memory.limit_in_bytes": str(300 * MIB), "u/a/cpu.max": "300000 100000"},
        3, 300 * MIB,
    ),
    "a blank in the mount's name": (
        "0::/\n", [V2.format(top="/").replace("/sys/fs/cgroup", r"/sys/fs/cgroup/of\040us")],
        {"of us/cpu.max": "100000 100000"}, 1, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_the_least_of_all_groups_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: MANY)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))
    cgroup, mounts, files, processors, memory = TREES[name]
    for path, text in {
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": "".join(f"{mount}\n" for mount in mounts),
        **{f"sys/fs/cgroup/{file}": f"{value}\n" for file, value in files.items()},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = available(tmp_path)
    assert found.processors.amount == processors
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.memory.amount == (memory or physical)
    for bound, most in ((found.processors, MANY), (found.memory, physical)):
        told = bound.source if bound.amount == most else (tmp_path / bound.source).read_text()
        assert told == "the machine" if bound.amount == most else told.strip()


def resources(processors: float, mib: int) -> Resources:
    return Resources(Bound(processors, "a test"), Bound(mib * MIB, "a test"))


@pytest.mark.parametrize(
    ("processors", "mib", "workers", "renders"),
    [
        (2, 24_000, 2, 2),
        (16, 64_000, 16, 2),
        (1, 2000, 1, 2),
        (1.5, 2000, 2, 2),
        (0.5, 2000, 1, 2),
        (16, 512, 1, 3),
        (16, 2048, 5, 2),
        (16, 256, 1, 1),
        (16, 64, 1, 1),
        (1000, 1_000_000, 256, 2),
    ],
)
def test_processes_are_as_many_as_there_is_room_for(
    processors: float, mib: int, workers: int, renders: int
) -> None:
    found = sized(Settings(keys=(servers.KEY,)), resources(processors, mib))
    assert (found.workers, found.renders) == (workers, renders)
    if mib >= 256:
        assert found.workers * (128 + found.renders * 128) <= mib
        assert found.workers * (128 * MIB + 10 * found.render_pixels) <= mib * MIB


def test_what_is_set_is_kept_and_bounds_of_memory_fit() -> None:
    few = sized(Settings(keys=(servers.KEY,), workers=4, renders=3), resources(16, 1024))
    assert (few.workers, few.renders) == (4, 3)
    assert few.render_pixels == 512 * MIB // 10 // 4
    assert few.render_memory == 512 * MIB
    unbounded = sized(Settings(keys=(servers.KEY,), render_memory=0), resources(16, 1024))
    assert unbounded.render_memory == 0
    many = sized(Settings(keys=(servers.KEY,)), resources(2, 24_000))
    assert many.render_pixels == Settings(keys=(servers.KEY,)).render_pixels
    assert many.render_memory == Settings(keys=(servers.KEY,)).render_memory
    of_one_worker = sized(Settings(keys=(servers.KEY,), workers=1), resources(1000, 1_000_000))
    assert of_one_worker.renders == 256


def test_one_process_makes_as_many_pictures_as_there_is_room_for() -> None:
    assert [renders_alone(resources(16, mib)) for mib in (64, 512, 64_000)] == [1, 3, 16]


TELL = (
    "from thumbproxy.core.resources import available; found = available().processors; "
    "print(found.amount, found.source)"
)


def told(*command: str) -> str:
    return subprocess.run(
        [*command, sys.executable, "-c", TELL], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("namespace", [False, True])
def test_a_real_quota_of_a_real_control_group(namespace: bool) -> None:
    """It is that of a group above our own; in a namespace, whose name we do not know."""
    with quota_of_a_half(f"namespace-{namespace}") as group:
        inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
        unshared = ("unshare", "--cgroup") if namespace else ()
        assert re.fullmatch(rf"0\.5 {group.parent}/cpu\.\S+", told(*inside, *unshared))


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process may run on one alone, and so may all that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_core")
def test_serve_has_a_worker_for_each_processor_that_it_may_use(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with servers.thumbproxy(
        "--origin", str(tmp_path), "--cache-dir", str(tmp_path / "c"), log=log,
        THUMBPROXY_WORKERS="0",
    ) as server:  # fmt: skip
        assert server.ask("/healthz").status == 200
        assert re.search(r"processors: 1 \(.+\), memory: .+ \(.+\), workers: 1\n", log.read_text())
        assert server.process
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        assert len(children.read_text().split()) == 1


@pytest.mark.usefixtures("one_core")
def test_doctor_and_gunicorns_configuration_count_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBPROXY_KEYS", servers.KEY)
    monkeypatch.delenv("THUMBPROXY_WORKERS", raising=False)
    assert runpy.run_path(str(CONF))["workers"] == 1
    arguments = ["doctor", "--origin", str(tmp_path), "--cache-dir", str(tmp_path / "c")]
    report = CliRunner().invoke(main, arguments).output
    assert re.search(r"ok +processors: 1 \(.+\), workers: 1\n", report)


def test_conf_takes_the_number_by_gunicorns_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("THUMBPROXY_WORKERS", "5")
    assert runpy.run_path(str(CONF))["workers"] == 3


@pytest.mark.parametrize(
    ("number", "words"), [(7, "7 bytes"), (1536, "1.5 KiB"), (512 * MIB, "512 MiB")]
)
def test_sizes_are_told_in_words(number: int, words: str) -> None:
    assert size(number) == words
