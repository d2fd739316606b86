"""Renders in processes: what a picture does to its process, it does to nobody else."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hostile_engine import START, Absent, HostileEngine
from pictures import encoded
from PIL import Image
from servers import freeze

from thumbproxy.assembly.factories import engine_of
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import (
    BadOptions,
    BrokenImage,
    CapacityError,
    DecoderFailed,
    EngineFailed,
    Overloaded,
    RenderKilled,
    RenderTooSlow,
    ThumbproxyError,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.messages import HEAD
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.telemetry.metrics import Ended, Metrics
from thumbproxy.urls.options import Options

MIB = 1024 * 1024
# Seconds. With nothing else to do, the machine needs a thousandth of it; and whoever waited for
# what hangs would wait longer.
SOON = 20


class Counted(Metrics):
    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()

    def render_process_ended(self, how: Ended) -> None:
        self.ended[how] += 1


@contextmanager
def runner(size: int = 2, **more: object) -> Iterator[Processes]:
    processes = Processes(HostileEngine(), Limits(), size, **more)  # type: ignore[arg-type]
    try:
        yield processes
    finally:
        processes.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Processes]:
    with runner(3, memory=512 * MIB) as processes:
        yield processes


def run(processes: Processes, source: str, seconds: float = 5, *, within: float = 20) -> str:
    """What came of it, as the picture says. seconds: of a processor; within: by the clock."""
    ended = threading.Semaphore(0)
    task = Task(source.encode(), ((Options(width=10), Format.JPEG),), seconds=seconds)
    try:
        (encoded,) = processes.run(task, Deadline(within), ended.release)
    finally:
        assert ended.acquire(blocking=False), "nobody was told that it has ended"
    return encoded.body.removeprefix(START).decode()


def pids(processes: Processes) -> set[int]:
    """Of all that it has, the fork server among them."""
    pool = processes._pool.value.pool
    server = pool and pool.starter._process
    if server is None:
        return set()
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return {server.pid, *map(int, children.split())}


def server_of(processes: Processes) -> int:
    server = processes._pool.value.made().starter._process
    assert server is not None
    return server.pid


def wait_until(true: object, seconds: float = SOON) -> None:
    deadline = Deadline(seconds)
    while not true():  # type: ignore[operator]
        assert not deadline.passed, "it did not happen"
        threading.Event().wait(0.005)


def gone(pid: int) -> bool:
    """Ended; a zombie has not been waited for, but does nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def full(processes: Processes) -> bool:
    return processes.pool_status().ready == processes.size


# --- what a picture does


@pytest.mark.parametrize(
    ("source", "error", "why"),
    [
        ("segv", DecoderFailed, "SIGSEGV"),
        ("abort", DecoderFailed, "SIGABRT"),
        ("exit", DecoderFailed, "exit status 3"),
        ("eat 4096", DecoderFailed, "more than render_memory"),
        ("hang-up", DecoderFailed, "hung up"),
        ("say 00000000", DecoderFailed, "nonsense"),
        ("say ffffffff", DecoderFailed, "nonsense"),
        ("say " + b"\0\0\0\x02[]".hex(), DecoderFailed, "nonsense"),
        ("say " + b"\0\0\0\x05hello".hex(), DecoderFailed, "nonsense"),
        ("sleep 60000", RenderTooSlow, "hangs, after 0.3 s"),
        ("spin", RenderTooSlow, "0.3 s of a processor"),
        ("broken", BrokenImage, "for\ufffd[31m the operator"),
        ("refused", BadOptions, ""),
        ("bug", EngineFailed, "KeyError: 'a bug' at "),
    ],
)
def test_a_picture_harms_itself_alone(
    shared: Processes, source: str, error: type[ThumbproxyError], why: str
) -> None:
    """It fails as it should and in time, those beside it do not notice, and the next is made."""
    seconds = 0.3 if error is RenderTooSlow else 5
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(run, shared, "sleep 150")
        began = time.monotonic()
        with pytest.raises(error) as caught:
            run(shared, source, seconds)
        # How long it takes to use up a processor's time, nobody can say.
        assert source == "spin" or time.monotonic() - began < seconds + SOON
        assert caught.type is error
        assert why in caught.value.log
        assert caught.value.reason.isprintable()
        began = time.monotonic()
        assert int(run(shared, "pid"))
        assert time.monotonic() - began < SOON
        assert beside.result() == "None"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF"])
def test_a_picture_that_needs_more_than_render_memory_is_told_from_a_broken_one(
    format: str,
) -> None:
    """By the engine that is used."""
    source = encoded(Image.new("L" if format == "GIF" else "RGB", (6000, 5000)), format)
    engine = engine_of(Settings(keys=("k" * 40,)), Limits())
    task = Task(source, ((Options(width=5000), Format.PNG),))
    processes = Processes(engine, Limits(), 1, memory=64 * MIB)
    try:
        with pytest.raises(DecoderFailed) as failed:
            processes.run(task, Deadline(20), lambda: None)
    finally:
        processes.close()
    assert "render_memory" in failed.value.log


def test_in_threads_a_picture_that_takes_all_memory_is_broken() -> None:
    class Eaten(HostileEngine):
        def render(self, *_: object, **__: object) -> Encoded:
            raise MemoryError("all of it")

    with pytest.raises(BrokenImage) as failed:
        Threads(Eaten(), 1).run(Task(b"", ((Options(), Format.JPEG),)), Deadline(5), lambda: None)
    assert failed.type is BrokenImage
    assert "all of it" in failed.value.log


def test_what_is_no_picture_is_never_passed_on() -> None:
    header = json.dumps({"made": [[6, 10, 10, 0, 0]], "resident": 1}).encode()
    page = HEAD.pack(len(header)) + header + b"<html>"
    with runner(1) as processes, pytest.raises(DecoderFailed) as failed:
        run(processes, f"say {page.hex()}")
    assert "nonsense" in failed.value.log


def test_what_fails_leaves_nothing_to_the_collector() -> None:
    """Neither its source nor what was decoded of it, until that comes."""
    with runner(1) as processes:
        run(processes, "garbage")
        for _ in range(5):
            with pytest.raises(BrokenImage):
                run(processes, "broken")
        assert run(processes, "garbage") == "0"


def test_an_error_keeps_its_words_and_cannot_break_a_line(shared: Processes) -> None:
    with pytest.raises(BrokenImage) as caught:
        run(shared, "broken")
    assert caught.value.reason == "It is broken\ufffd\ufffd."


def test_a_picture_that_was_put_into_a_poisoned_process_is_made_in_another() -> None:
    metrics = Counted()
    with runner(1, metrics=metrics) as processes:
        assert run(processes, "poison") == "poisoned"
        assert int(run(processes, "pid"))
        assert metrics.ended == {"crashed": 1}


def test_a_picture_that_always_crashes_is_tried_twice_at_most() -> None:
    metrics = Counted()
    with runner(1, metrics=metrics) as processes:
        run(processes, "pid")
        with pytest.raises(DecoderFailed):
            run(processes, "segv")
        assert metrics.ended == {"crashed": 2}


def test_large_pictures_come_and_go(shared: Processes) -> None:
    source = b"big 9000".ljust(20 * MIB)
    task = Task(source, ((Options(), Format.JPEG),) * 2)
    for made in shared.run(task, Deadline(10), lambda: None):
        assert len(made.body) == 9000 * 1024 + len(START)


def test_as_many_as_there_are_work_at_a_time(shared: Processes) -> None:
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(run, shared, "sleep 300") for _ in range(3)]
        wait_until(lambda: len(shared._pool.value.made()._busy) == 3)
        assert {future.result() for future in made} == {"None"}


# --- what a process may do


@pytest.mark.parametrize(
    "deed",
    ["open", "list", "write", "socket", "pair", "exec", "fork", "run", "kill", "kill-all", "trace",
     "new-code", "memfd"],
)  # fmt: skip
def test_a_render_process_reaches_nothing(shared: Processes, deed: str) -> None:
    assert run(shared, deed) == "PermissionError 1"


def test_a_render_process_may_have_threads(shared: Processes) -> None:
    assert run(shared, "thread") == "from a thread"


def test_a_render_process_has_one_connection_and_no_secrets(
    shared: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 to 2 are /dev/null; of the others one is the connection, one its own statm."""
    assert len(json.loads(run(shared, "descriptors"))) == 5
    monkeypatch.setenv("THUMBPROXY_KEYS", "a-key-that-nobody-may-see")
    with runner(1) as processes:
        assert "THUMBPROXY" not in run(processes, "environment")


def test_a_render_process_is_bounded_as_the_kernel_says(shared: Processes) -> None:
    pid = int(run(shared, "pid"))
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"
    assert {status[f"Cap{kind}"].strip() for kind in ("Eff", "Prm", "Inh")} == {"0" * 16}
    assert set(shared.pool_status().sandbox) == {"landlock", "seccomp"}
    # More would leave next to nothing to it beside busy neighbours.
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)


def test_a_render_process_writes_nothing_into_our_logs(capfd: pytest.CaptureFixture[str]) -> None:
    with runner(1) as processes:
        assert run(processes, "shout") == "shouted"
    assert "FORGED" not in "".join(capfd.readouterr())


# --- how processes come and go


def test_processes_are_replaced_after_so_many_jobs() -> None:
    metrics = Counted()
    with runner(1, metrics=metrics, jobs=3) as processes:
        makers = Counter(run(processes, "pid") for _ in range(9))
    assert sorted(makers.values()) == [3, 3, 3]
    assert metrics.ended["recycled"] == 3


def test_processes_that_have_grown_are_replaced() -> None:
    metrics = Counted()
    with runner(1, metrics=metrics, resident=200 * MIB) as processes:
        run(processes, "eat 64")
        assert not metrics.ended
        run(processes, "eat 256")
        assert metrics.ended == {"recycled": 1}


def test_an_idle_process_that_was_killed_is_not_missed() -> None:
    with runner(1) as processes:
        killed = int(run(processes, "pid"))
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        assert int(run(processes, "pid")) != killed
        assert time.monotonic() - began < SOON
        assert not processes._pool.value.made()._busy, "it takes nobody's place"


def test_a_picture_whose_process_was_killed_is_made_by_another() -> None:
    with runner(1) as processes, ThreadPoolExecutor() as pool:
        busy = int(run(processes, "pid"))
        made = pool.submit(run, processes, "sleep 400")
        wait_until(lambda: processes._pool.value.made()._busy)
        os.kill(busy, signal.SIGKILL)
        assert made.result() == "None"


def kill_whoever_works(processes: Processes, killed: set[int]) -> None:
    """With SIGKILL, as the kernel does when memory runs out."""
    pool = processes._pool.value.made()

    def working() -> set[int]:
        return {each.pid for each in tuple(pool._busy) if each.sandbox is not None} - killed

    wait_until(working)
    for pid in working():
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)


@pytest.mark.parametrize("used", [True, False])
def test_a_picture_whose_renders_are_killed_is_not_to_blame(used: bool) -> None:
    """Twice, and not more often, for one request."""
    with runner(1) as processes, ThreadPoolExecutor() as pool:
        if used:
            run(processes, "pid")
        made, killed = pool.submit(run, processes, "sleep 20000", 30), set[int]()
        for _ in range(2):
            kill_whoever_works(processes, killed)
        with pytest.raises(RenderKilled) as failed:
            made.result(10)
        assert "SIGKILL" in failed.value.log
        assert len(killed) == 2
        assert int(run(processes, "pid")) not in killed


def test_processes_that_are_killed_before_they_can_begin_are_no_fault_of_ours() -> None:
    """Out of memory, that hits the newest ones."""
    with runner(1) as processes:
        run(processes, "pid")
        over, killed, server = threading.Event(), set[int](), server_of(processes)

        def kill_all() -> None:
            while not over.is_set():
                for pid in pids(processes) - {server} - killed:
                    killed.add(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                over.wait(0.001)

        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill_all)
            try:
                for _ in range(3):
                    with pytest.raises(RenderKilled):
                        run(processes, "sleep 20000", 30)
            finally:
                over.set()
                killing.result()
        assert int(run(processes, "pid")) not in killed


def test_a_picture_outlives_its_fork_server() -> None:
    with runner(2) as processes, ThreadPoolExecutor() as pool:
        processes.start()
        wait_until(lambda: full(processes))
        made = pool.submit(run, processes, "sleep 400")
        wait_until(lambda: processes._pool.value.made()._busy)
        old = server_of(processes)
        os.kill(old, signal.SIGKILL)
        assert made.result() == "None"
        assert server_of(processes) != old
        wait_until(lambda: full(processes))


def test_the_log_has_a_line_for_a_fork_server_that_ended_and_one_when_another_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with runner(1) as processes:
        run(processes, "pid")
        os.kill(server_of(processes), signal.SIGKILL)
        wait_until(lambda: processes.pool_status().ready == 0)
        for _ in range(3):
            run(processes, "pid")
        server = server_of(processes)
    ended, back = (line for line in caplog.messages if "fork server of renders" in line)
    assert "has ended" in ended
    assert back == f"the fork server of renders is back: process {server}"


def test_a_crash_is_one_line_with_the_process_and_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with runner(1) as processes:
        for source in ("segv", "exit"):
            with pytest.raises(DecoderFailed) as failed:
                run(processes, source)
            (line,) = (line for line in caplog.messages if "render process" in line)
            _, _, pid, *_ = line.replace(":", "").split()
            why = "ended by SIGSEGV" if source == "segv" else "ended with exit status 3"
            assert line == f"render process {pid}: crashed: {why}"
            assert failed.value.log == f"its render process {pid} {why}"
            caplog.clear()


def test_processes_that_end_because_we_do_are_not_worth_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for patience in (0.0, 0.3, 0.5, 0.7):
        processes = Processes(HostileEngine(), Limits(), 4)
        processes.start()
        threading.Event().wait(patience)  # at whatever it is just doing
        processes.close()
    assert caplog.messages == []


def test_a_stopped_process_costs_its_picture_alone() -> None:
    with runner(1) as processes:
        freeze(int(run(processes, "pid")))
        with pytest.raises(RenderTooSlow):
            run(processes, "pid", 0.3)
        assert int(run(processes, "pid"))


def test_who_works_beyond_the_deadline_is_ended_then_and_another_takes_its_place() -> None:
    with runner(1) as processes:
        late = int(run(processes, "pid"))
        with pytest.raises(RenderTooSlow):
            run(processes, "sleep 60000", 0.3)
        wait_until(lambda: gone(late))
        wait_until(lambda: full(processes))
        assert late not in pids(processes)
        assert len(pids(processes)) == 2, "the fork server, and as many as there should be"


def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_anothers() -> None:
    task = Task(b"pid", ((Options(width=10), Format.JPEG),))
    with runner(1) as processes:
        run(processes, "pid")
        starter, server = processes._pool.value.made().starter, server_of(processes)
        freeze(server)
        with pytest.raises(Overloaded):
            starter.fork(Deadline(0.2))
        os.kill(server, signal.SIGCONT)
        process = starter.fork(Deadline(5))
        try:
            process.greeted(Deadline(5))
            (made,) = process.make(task, Limits(), Deadline(5))
        finally:
            process.kill()
            process.close()
    assert made.body == START + str(process.pid).encode()


def test_a_fork_server_that_cannot_start_is_said_so_at_once_and_not_started_all_the_time(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    processes = Processes(Absent(), Limits(), 1)
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(CapacityError):  # EngineFailed, if it fails in time
            run(processes, "pid")
    assert time.monotonic() - began < 20
    assert len([line for line in caplog.messages if "fork server" in line]) <= 4
    assert "no such engine" in capfd.readouterr().err
    processes.close()


def test_nothing_is_started_before_it_is_needed_and_nothing_is_left() -> None:
    processes = Processes(HostileEngine(), Limits(), 2)
    assert processes.pool_status() == ("processes", 2, 0, {})
    processes.start()
    processes.start()
    wait_until(lambda: full(processes))
    were = pids(processes)
    assert len(were) == 3
    processes.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in were)
    assert processes.pool_status().ready == 0
    assert int(run(processes, "pid")), "closed is not broken"
    processes.close()


def test_200_crashes_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with runner(2) as processes:
        with pytest.raises(DecoderFailed):
            run(processes, "segv")
        wait_until(lambda: full(processes))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            with pytest.raises(DecoderFailed):
                run(processes, "segv")
        wait_until(lambda: full(processes) and len(pids(processes)) == 3)
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(os.listdir(f"/proc/{server_of(processes)}/fd")) < 20


@pytest.mark.parametrize(
    "name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]
)
def test_signals_to_the_whole_group_do_not_stop_renders(
    shared: Processes, name: signal.Signals
) -> None:
    with ThreadPoolExecutor() as pool:
        pid = int(run(shared, "pid"))
        made = pool.submit(run, shared, "sleep 100")
        wait_until(lambda: shared._pool.value.made()._busy)
        for each in pids(shared):
            os.kill(each, name)
        assert made.result() == "None"
        assert not gone(pid)


# --- forks, and the end of the one who asks

ASKER = """
import os, sys, threading
from hostile_engine import HostileEngine
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.formats import Format
from thumbproxy.urls.options import Options
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.processes import Processes

def run(source):
    task = Task(source, ((Options(), Format.JPEG),))
    return processes.run(task, Deadline(30), lambda: None)[0].body[3:].decode()

processes = Processes(HostileEngine(), Limits(), 2)
"""


def asker(program: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", ASKER + program],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_processes_end_with_the_one_who_asked_even_if_a_fork_of_it_lives_on() -> None:
    """Killed in mid-render, with -9, and another process has inherited its connections."""
    program = """
first = run(b"pid")
other = os.fork()
if other == 0:
    import time
    time.sleep(30)
    os._exit(0)
threading.Thread(target=run, args=(b"spin",), daemon=True).start()
while not processes._pool.value.made()._busy: pass
print(other, processes._pool.value.made().starter._process.pid, first, flush=True)
sys.stdin.read()
"""
    with asker(program) as process:
        assert process.stdout
        other, *others = map(int, process.stdout.readline().split())
        try:
            process.kill()
            wait_until(lambda: all(gone(pid) for pid in others), 3)
        finally:
            os.kill(other, signal.SIGKILL)


def test_a_fork_has_processes_of_its_own_and_leaves_the_others_alone() -> None:
    program = """
theirs = run(b"pid")
before = len(os.listdir("/proc/self/fd"))
child = os.fork()
if child == 0:
    assert len(os.listdir("/proc/self/fd")) < before
    assert processes.pool_status().ready == 0
    mine = run(b"pid")
    assert mine != theirs
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert run(b"pid") == theirs
"""
    with asker(program) as process:
        assert process.wait(20) == 0


def test_who_ends_without_closing_leaves_nothing_and_gets_no_warnings() -> None:
    program = "print(run(b'pid'), processes._pool.value.made().starter._process.pid)"
    with asker(program) as process:
        assert process.stdout
        left = list(map(int, process.stdout.readline().split()))
        assert process.wait(10) == 0
    wait_until(lambda: all(gone(pid) for pid in left), 1)


# -- in the process of a server that is not ours -----------------------------------------------


def test_sockets_that_do_not_block_are_no_obstacle() -> None:
    """An application that sets a default timeout makes them all so, as gevent does."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        ended = Counted()
        with runner(1, metrics=ended) as processes:
            for _ in range(3):
                assert int(run(processes, "pid", 30))
                threading.Event().wait(0.05)  # time enough to give up waiting for an order
        assert not ended.ended["crashed"]
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize("program", ["/usr/sbin/uwsgi", "", None])
def test_a_server_that_has_python_within_it(
    monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with runner(1) as processes:
        assert int(run(processes, "pid", 30))
