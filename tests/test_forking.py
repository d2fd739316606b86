"""A forked process works like its parent, whatever threads of that were doing at the fork."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import servers
from origin import Gallery, jpeg

from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Hold

PROGRAM = Path(__file__).parent / "forks.py"
TOKEN = "a-token-that-only-the-tests-use"


def forked(tmp_path: Path, memcached: servers.Server, isolation: str, *arguments: str) -> str:
    gallery = Gallery(**{"a.jpg": jpeg(600, 400), "passed-on": b"as it is"})
    gallery.headers = [("Cache-Control", "max-age=0")]
    with servers.wsgi(gallery, validate=False) as origin:
        settings = {
            "keys": [servers.KEY], "isolation": isolation, "renders": 1,
            "cache_dir": str(tmp_path / "cache"), "origins": {"": origin.url},
            "upstream": origin.url, "memcached": [f"127.0.0.1:{memcached.port}"],
            "memcached_namespace": str(tmp_path), "metrics_token": TOKEN, "purge_token": TOKEN,
            "threads": 8, "request_timeout": 240, "render_timeout": 120, "fetch_timeout": 120,
        }  # fmt: skip
        ran = subprocess.run(
            [sys.executable, str(PROGRAM), json.dumps(settings), *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
    assert ran.returncode == 0, ran.stderr[-6000:]
    assert "Traceback" not in ran.stderr, ran.stderr[-6000:]
    return ran.stdout


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("isolation", "rounds"), [("threads", 140), ("processes", 60)])
def test_children_forked_at_random_moments_do_all_that_their_parent_does(
    tmp_path: Path, memcached: servers.Server, isolation: str, rounds: int
) -> None:
    told = forked(tmp_path, memcached, isolation, "random", str(rounds), "1")
    assert told.startswith(f"{rounds} children")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("isolation", ["threads", "processes"])
def test_a_child_finds_no_lock_held_by_threads_that_it_has_not(
    tmp_path: Path, memcached: servers.Server, isolation: str
) -> None:
    """Even when all of them were held."""
    told = forked(tmp_path, memcached, isolation, "worst", "2", "1")
    number = int(told.split()[2])
    assert number > 20, "the locks were recorded"


def test_a_value_is_of_its_process() -> None:
    made, left = list[int](), list[int]()
    value = PerProcess(lambda: made.append(os.getpid()) or len(made), left.append)
    assert not made, "before it is asked for, gevent may replace what it is made of"
    assert value.value == value.value == 1
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, f"{value.value} {left} {made[-1] == os.getpid()}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as told:
        assert told.read() == b"2 [1] True"
    assert (value.value, left) == (1, [])
    value.renew()
    assert (value.value, left) == (2, [])


def test_a_value_goes_with_its_owner() -> None:
    value = PerProcess(threading.Lock)
    kept = weakref.ref(value)
    del value
    gc.collect()
    assert kept() is None


def test_a_file_lock_does_not_outlive_its_process_in_a_child(tmp_path: Path) -> None:
    """Though the child has the same open file."""
    program = f"""
import os, sys
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.limits import Deadline
disk = DiskCache({str(tmp_path)!r})
disk.prepare()
with disk.hold("work", Deadline(0)):
    child = os.fork()
    if child:
        print(child, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        disk = DiskCache(str(tmp_path))
        with disk.hold("work", Deadline(0)) as hold:
            assert hold is Hold.NOT
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            os.kill(child, 0)
            with disk.hold("work", Deadline(0)) as hold:
                assert hold is Hold.AT_ONCE
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_leaves_where_its_parent_held_a_lock_leaves_the_lock_to_that(
    tmp_path: Path,
) -> None:
    disk, other = DiskCache(str(tmp_path)), DiskCache(str(tmp_path))
    disk.prepare()
    parent = os.getpid()
    try:
        with disk.hold("work", Deadline(0)):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                with other.hold("work", Deadline(0)) as hold:
                    assert hold is Hold.NOT
    finally:
        if os.getpid() != parent:
            os._exit(0)
