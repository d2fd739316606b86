"""Whoever wants all locks gets them, however many hold one."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from thumbproxy.caches.locks import acquire
from thumbproxy.concurrency import Hold
from thumbproxy.limits import Deadline


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
        began = time.monotonic()
        assert locked(None, 0) is not Hold.NOT
        assert time.monotonic() - began < 5
    finally:
        stop.set()
        for thread in threads:
            thread.join()
