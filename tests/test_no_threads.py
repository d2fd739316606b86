"""A system that gives no more threads costs what needs one, for as long as it lasts."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import pytest
from hostile_engine import HostileEngine
from pictures import encoded, quadrants

from thumbproxy.core.connecting import resolve
from thumbproxy.core.errors import EngineFailed
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.telemetry.logs import Writer
from thumbproxy.urls.options import Options
from thumbproxy.web import health
from thumbproxy.web.health import Finding, Probe

Exhausted = Callable[[], None]


@pytest.fixture
def none_left(monkeypatch: pytest.MonkeyPatch) -> Exhausted:
    """From here on no thread can be started; called, it is over."""

    def fails(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    return monkeypatch.undo


def task() -> Task:
    return Task(encoded(quadrants(50, 40), "PNG"), ((Options(width=10), Format.PNG),))


def test_a_render_in_threads_fails_and_gives_its_slot_back(none_left: Exhausted) -> None:
    threads, ended = Threads(PillowEngine(Limits()), 1), threading.Semaphore(0)
    with pytest.raises(EngineFailed):
        threads.run(task(), Deadline(5), ended.release)
    assert ended.acquire(blocking=False), "a slot that nobody gives back is lost for ever"
    none_left()
    (made,) = threads.run(task(), Deadline(5), ended.release)
    assert made.width == 10


def test_render_processes_are_started_later(none_left: Exhausted) -> None:
    runner = Processes(HostileEngine(), Limits(), 1)
    try:
        runner.start()
        none_left()
        runner.start()
        until = time.monotonic() + 20
        while not runner.pool_status().ready:
            assert time.monotonic() < until
            threading.Event().wait(0.01)
    finally:
        runner.close()


def test_a_log_line_is_lost_and_the_next_is_written(none_left: Exhausted) -> None:
    reading, writing = os.pipe()
    writer = Writer(writing)
    writer.handle(logging.makeLogRecord({"msg": "first"}))
    none_left()
    writer.handle(logging.makeLogRecord({"msg": "second"}))
    writer.flush()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read().endswith(b"second\n")


def test_a_probe_says_so_at_once_and_looks_again(
    none_left: Exhausted, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe("part", lambda: Finding("ok"))
    probe.ask()
    assert probe.finding(time.monotonic()) == Finding("down", "can't start new thread")
    none_left()
    monkeypatch.setattr(health, "_FRESH", 0.0)
    probe.ask()
    assert probe.finding(time.monotonic() + 5) == Finding("ok")


def test_a_name_is_not_resolved(none_left: Exhausted) -> None:
    with pytest.raises(OSError, match="can't start new thread"):
        resolve("a.name.invalid", 80, Deadline(5))
    none_left()
    assert resolve("127.0.0.1", 80, Deadline(5)) == [(socket.AF_INET, ("127.0.0.1", 80))]
