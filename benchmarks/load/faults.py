"""What happens to a server while it serves, and what of that its clients may notice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .family import family
from .kinds import Record
from .servers import Server

# Seconds after a fault for which it still explains something: requests that were waiting, and
# failures that are remembered.
GRACE = 5.0


class Fault(NamedTuple):
    """explains: outcomes of requests that overlap with it, of all kinds or ("purge: 503") of one.
    What is not named is promised not to be noticed by anybody."""

    name: str
    seconds: float
    begin: Callable[[], None]
    end: Callable[[], None]
    explains: frozenset[str] = frozenset()


class Window(NamedTuple):
    began: float
    ended: float
    explains: frozenset[str]


class Service:
    """A program beside the server that can be stopped, and started again on its port."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._process = start()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self._process = self._start()


class Faults:
    """One after the other, with pauses, again and again."""

    def __init__(self, faults: list[Fault], pause: float) -> None:
        self._coming = self._forever(faults)
        self._pause = pause
        self._current: Fault | None = None
        self._since = time.monotonic()
        self.windows: list[Window] = []
        self.names: list[str] = []

    def step(self) -> None:
        """Begin or end what is due."""
        passed = time.monotonic() - self._since
        if self._current is None and passed >= self._pause:
            self._current = next(self._coming)
            self._since = time.monotonic()
            self.names.append(self._current.name)
            self._current.begin()
        elif self._current is not None and passed >= self._current.seconds:
            self.stop()

    def stop(self) -> None:
        if self._current is not None:
            self._current.end()
            now = time.monotonic()
            self.windows.append(Window(self._since, now + GRACE, self._current.explains))
            self._current, self._since = None, now

    def explain(self, record: Record) -> bool:
        """Whether a fault accounts for the outcome of a request; asked when all are over."""
        names = {record.outcome, f"{record.kind}: {record.outcome}"}
        return any(names & window.explains
                   and record.began < window.ended and record.ended > window.began
                   for window in self.windows)  # fmt: skip

    @staticmethod
    def _forever(faults: list[Fault]) -> Iterator[Fault]:
        while True:
            yield from faults


def faults_of(server: Server, cache: Path, memcached: Service, origin: Service) -> list[Fault]:
    numbers = random.Random(3)
    hit: list[int] = []

    def to_one(role: str, number: signal.Signals) -> Callable[[], None]:
        def send() -> None:
            pids = [process.pid for process in family(server.pid) if process.role == role]
            if pids:
                hit.append(numbers.choice(pids))
                with suppress(ProcessLookupError):
                    os.kill(hit[-1], number)

        return send

    def remove_cache() -> None:
        aside = cache.with_name(f"{cache.name}-removed")
        cache.rename(aside)
        shutil.rmtree(aside)

    def nothing() -> None:
        pass

    def wake() -> None:
        with suppress(ProcessLookupError):
            os.kill(hit[-1], signal.SIGCONT)

    # A purge that did not reach the other hosts says so, to be sent again.
    alone = frozenset({"purge: 503"})
    return [
        Fault("memcached stopped", 3, memcached.freeze, memcached.thaw, alone),
        Fault("memcached killed", 3, memcached.kill, memcached.restart, alone),
        Fault("render process killed", 1, to_one("render", signal.SIGKILL), nothing),
        Fault("cache removed", 2, remove_cache, nothing),
        Fault("origin killed", 2, origin.kill, origin.restart, frozenset({"502", "504"})),
        Fault("worker killed", 2, to_one("worker", signal.SIGKILL), nothing,
              frozenset({"no reply"})),
        Fault("origin stopped", 4, origin.freeze, origin.thaw, frozenset({"502", "504", "503"})),
        # Who renders is replaced; its picture, and others of that source, are not made for a while.
        Fault("render process stopped", 4, to_one("render", signal.SIGSTOP), wake,
              frozenset({"504"})),
        Fault("fork server killed", 1, to_one("fork server", signal.SIGKILL), nothing),
        Fault("reload", 4, lambda: os.kill(server.pid, signal.SIGHUP), nothing),
    ]  # fmt: skip
