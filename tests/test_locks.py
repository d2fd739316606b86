"""Locks between processes: who waits, for how long, and what is no lock at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thumbproxy.caches.disk.locks import acquire
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Hold


def test_who_wants_all_locks_is_not_starved_by_those_who_hold_one(tmp_path: Path) -> None:
    path, stop = tmp_path / "locks", threading.Event()

    def locked(key: str | None, seconds: float) -> Hold:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            hold = acquire(fd, key, Deadline(20))
            time.sleep(seconds)
            return hold
        finally:
            os.close(fd)

    def busy(key: str) -> None:
        while not stop.is_set():
            locked(key, 0.01)

    threads = [threading.Thread(target=busy, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    try:
        assert locked(None, 0) is not Hold.NOT
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "locks"
    path.touch()
    return path


@pytest.fixture
def fds(path: Path) -> Iterator[list[int]]:
    opened = [os.open(path, os.O_RDWR) for _ in range(2)]
    yield opened
    for fd in opened:
        os.close(fd)


def test_one_key_is_held_by_one_and_others_are_free(fds: list[int]) -> None:
    one, two = fds
    assert acquire(one, "a", Deadline(0)) is Hold.AT_ONCE
    assert acquire(two, "a", Deadline(0)) is Hold.NOT
    assert acquire(two, "b", Deadline(0)) is Hold.AT_ONCE


def test_all_keys_are_held_when_no_other_is(fds: list[int]) -> None:
    one, two = fds
    assert acquire(one, "a", Deadline(0)) is Hold.AT_ONCE
    assert acquire(two, None, Deadline(0)) is Hold.NOT


def test_patience_ends_when_it_ends(fds: list[int]) -> None:
    one, two = fds
    acquire(one, "a", Deadline(0))
    began = time.monotonic()
    assert acquire(two, "a", Deadline(0.03)) is Hold.NOT
    assert time.monotonic() - began >= 0.03


def test_a_file_that_cannot_be_locked_is_an_error_and_no_lock(path: Path) -> None:
    """Neither held, which two would do, nor busy, for which one would wait."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            acquire(fd, "a", Deadline(0.01))
    finally:
        os.close(fd)
