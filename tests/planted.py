"""Faults that no schedule here comes to, for test_lock_recorder.py, which has them done by code
that passes for thumbproxy's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thumbproxy.caches.disk import locks
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline


def one_after_the_other(*acts: Callable[[], object]) -> None:
    """In threads, of which none ever waits for another."""
    for act in acts:
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()


def nested(outer: Any, inner: Any) -> Callable[[], None]:
    def act() -> None:
        with outer, inner:
            pass

    return act


def file_lock(directory: Path, key: str) -> Any:
    fd = os.open(directory / "usage", os.O_RDWR | os.O_CREAT)
    return locks.locked(fd, key, Deadline(5))


def forked() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def while_another_holds(lock: Any, act: Callable[[], object]) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    act()
    go.set()
    thread.join()


def two_locks(_: Path) -> None:
    one = threading.Lock()
    other = threading.Lock()
    one_after_the_other(nested(one, other), nested(other, one))


def three_locks(_: Path) -> None:
    one = threading.Lock()
    other = threading.Condition(threading.Lock())
    third = threading.RLock()
    one_after_the_other(nested(one, other), nested(other, third), nested(third, one))


def two_of_a_kind(_: Path) -> None:
    one, other = (threading.Lock() for _ in range(2))
    one_after_the_other(nested(one, other), nested(other, one))


def a_lock_and_that_of_a_file(directory: Path) -> None:
    lock = threading.Lock()
    one_after_the_other(nested(lock, file_lock(directory, "usage")))
    one_after_the_other(nested(file_lock(directory, "usage"), lock))


def a_lease_and_a_lock(directory: Path) -> None:
    disk, lock = DiskCache(str(directory)), threading.Lock()
    disk.prepare()
    one_after_the_other(nested(disk.hold("source a", Deadline(5)), lock))
    one_after_the_other(nested(lock, disk.hold("source b", Deadline(5))))


def a_fork(_: Path) -> None:
    while_another_holds(threading.Lock(), forked)


def in_the_same_order(_: Path) -> None:
    one = threading.Lock()
    other = threading.Lock()
    one_after_the_other(nested(one, other), nested(one, other))


def taken_if_free(_: Path) -> None:
    one = threading.Lock()
    other = threading.Lock()

    def act() -> None:
        with other:
            assert one.acquire(blocking=False)
            one.release()

    one_after_the_other(nested(one, other), act)


def a_fork_with_an_answer(directory: Path) -> None:
    lock = PerProcess(threading.Lock)
    while_another_holds(lock.value, forked)
    while_another_holds(file_lock(directory, "usage"), forked)


FAULTY = [two_locks, three_locks, two_of_a_kind, a_lock_and_that_of_a_file, a_lease_and_a_lock,
          a_fork]  # fmt: skip
GOOD = [in_the_same_order, taken_if_free, a_fork_with_an_answer]
