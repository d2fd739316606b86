"""Plays threads in all orders: one at a time, with a switch wherever one waits or is told to.

    def scenario(play: Play) -> Callable[[], None]:
        slots = Slots(1, 1)
        play.task("first", lambda: slots.take(1, Deadline(5))())
        play.task("second", lambda: slots.take(1, Deadline(5))())
        return lambda: check(slots)

    explore(scenario, monkeypatch, switches=2)

Locks, events, futures and the clock of thumbproxy's modules are replaced by ones that belong to the
play, whose time goes on only when it is told to. So each order is played exactly, and again from
its list of names, which is part of a failure: `replay(scenario, monkeypatch, [...])`. Orders are
played with few switches first: a switch is to go on with a thread, or with the clock, though the
thread before could. Between `switches` of them all orders are played, or `explore` fails.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

CLOCK = "clock"
# Real seconds for which one thread may go on by itself.
_STUCK = 30
_EPOCH = 1_800_000_000.0


class Stopped(BaseException):
    """Ends the threads of a play that is over."""


class Failed(AssertionError):
    """What a play came to, and its order."""


class Step(NamedTuple):
    options: tuple[str, ...]
    chosen: str
    before: str  # who went on last


class _Task:
    def __init__(self, name: str, act: Callable[[], Any]) -> None:
        self.name = name
        self.act = act
        self.go = threading.Semaphore(0)
        self.ready: Callable[[], bool] = lambda: True
        self.until: float | None = None
        self.done = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.play: Play

    def _run(self) -> None:
        self.go.acquire()
        try:
            if not self.play.over:
                self.act()
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        self.done = True
        self.play.turn.release()


class Play:
    """One order of events.

    order  its beginning; what follows has as few switches as may be
    files  a directory: others may go on wherever a file there is opened, moved or removed, or any
           is locked
    """

    def __init__(self, order: Sequence[str] = (), *, files: str = "") -> None:
        self._order = list(order)
        self.files = files
        self._tasks: dict[str, _Task] = {}
        self.turn = threading.Semaphore(0)
        self.over = False
        self.now = 0.0
        self.steps: list[Step] = []

    def task(self, name: str, act: Callable[[], Any]) -> None:
        """A thread. What it raises is a failure of the play."""
        task = self._tasks[name] = _Task(name, act)
        task.play = self

    # -- called by threads -----------------------------------------------------------------

    def switch(self) -> None:
        """Here another may go on."""
        self.wait(lambda: True)

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Until it is ready, or so much of the play's time is over. Whether it is ready."""
        task = self._tasks.get(threading.current_thread().name)
        if task is None or self.over:  # not one of ours: who builds and checks things
            return ready()
        task.ready = ready
        task.until = None if seconds is None else self.now + seconds
        self.turn.release()
        task.go.acquire()
        if self.over:
            raise Stopped
        return ready()

    # -- the play --------------------------------------------------------------------------

    def run(self) -> None:
        for task in self._tasks.values():
            task.thread.start()
        last = ""
        try:
            while any(not task.done for task in self._tasks.values()):
                last = self._step(last)
        finally:
            self.over = True
            for task in self._tasks.values():
                if not task.done:
                    task.go.release()
                task.thread.join(_STUCK)

    def _step(self, last: str) -> str:
        living = [task for task in self._tasks.values() if not task.done]
        able = [task.name for task in living if task.ready() or self._late(task)]
        times = [task.until for task in living if task.until is not None and task.name not in able]
        options = (*able, *[CLOCK] * bool(times))
        if not options:
            raise AssertionError(f"{', '.join(task.name for task in living)} wait for ever")
        chosen = last if last in able else options[0]
        if len(self.steps) < len(self._order):
            chosen = self._order[len(self.steps)]
            assert chosen in options, f"{chosen} cannot go on; it is not always the same play"
        self.steps.append(Step(options, chosen, last))
        if chosen == CLOCK:
            self.now = max(self.now, min(times))
            return last
        task = self._tasks[chosen]
        task.go.release()
        assert self.turn.acquire(timeout=_STUCK), f"{chosen} waits for something real"
        if task.error is not None:
            raise task.error
        return chosen

    def _late(self, task: _Task) -> bool:
        return task.until is not None and task.until <= self.now


def _cost(step: Step, chosen: str) -> int:
    """Whether it is a switch, where the thread before could have gone on."""
    if chosen == CLOCK:
        return int(len(step.options) > 1)
    return int(step.before in step.options and chosen != step.before)


# -- what a play is played with --------------------------------------------------------------


class _Lock:
    def __init__(self, play: Play) -> None:
        self._play = play
        self._taken = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking:
            self._play.wait(lambda: not self._taken, None if timeout < 0 else timeout)
        else:
            self._play.switch()
        if self._taken:
            return False
        self._taken = True
        return True

    def release(self) -> None:
        assert self._taken
        self._taken = False

    __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self.release()


class _Event:
    def __init__(self, play: Play) -> None:
        self._play = play
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        return self._play.wait(self.is_set, timeout)


class Stand:
    """In the place of a module: what it has of its own, and the rest of the module."""

    def __init__(self, module: Any, **own: Any) -> None:
        self.__dict__.update(own)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Future(Future[Any]):
    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not _now_playing().wait(self.done, timeout):
            raise TimeoutError
        return super().exception(0)


class _Now:
    playing: Play | None = None


# Of the audit events of Python: what others can see of files.
_FILES = {"open", "os.rename", "os.remove", "os.utime", "os.mkdir", "os.rmdir", "fcntl.fcntl"}
_hooked: list[bool] = []


def _now_playing() -> Play:
    assert _Now.playing is not None
    return _Now.playing


def _audit(event: str, of: tuple[Any, ...]) -> None:
    play = _Now.playing
    if play is None or not play.files or event not in _FILES:
        return
    if event == "fcntl.fcntl" or str(of[0]).startswith(play.files):
        play.switch()


_LOCKS = Stand(threading, Lock=lambda: _Lock(_now_playing()), Event=lambda: _Event(_now_playing()))
_TIME = Stand(
    time,
    monotonic=lambda: _now_playing().now,
    time=lambda: _EPOCH + _now_playing().now,
    time_ns=lambda: int((_EPOCH + _now_playing().now) * 1e9),
    sleep=lambda seconds: _now_playing().wait(lambda: False, seconds),
)
_REPLACED: list[tuple[str, Any, Any]] = [
    ("threading", threading, _LOCKS), ("time", time, _TIME), ("Future", Future, _Future),
]  # fmt: skip


@contextmanager
def replaced(
    monkeypatch: pytest.MonkeyPatch, stands: Sequence[tuple[str, Any, Any]]
) -> Iterator[None]:
    """Where thumbproxy's modules have, by a name, one thing, they have another."""
    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for attribute, real, ours in stands if name.startswith("thumbproxy") else ():
                if getattr(module, attribute, None) is real:
                    patch.setattr(module, attribute, ours)
        yield


@contextmanager
def _stage(monkeypatch: pytest.MonkeyPatch, files: str) -> Iterator[None]:
    """Where thumbproxy's modules have the play's locks and its time."""
    if files and not _hooked:
        sys.addaudithook(_audit)  # for the rest of the process
        _hooked.append(True)
    with replaced(monkeypatch, _REPLACED):
        try:
            yield
        finally:
            _Now.playing = None


Scenario = Callable[[Play], Callable[[], object]]


def replay(
    scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
    order: Sequence[str] = (),
    *,
    files: str = "",
) -> None:
    """Play one order. Raises Failed with the whole of it."""
    with _stage(monkeypatch, files):
        _play(scenario, order, files)


def _play(scenario: Scenario, order: Sequence[str], files: str) -> list[Step]:
    play = _Now.playing = Play(order, files=files)
    check = scenario(play)
    try:
        play.run()
        check()
    except BaseException as error:
        told = [step.chosen for step in play.steps]
        raise Failed(f"{error!r} in the order {told}") from error
    return play.steps


def explore(
    scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
    *,
    switches: int = 2,
    most: int = 20_000,
    files: str = "",
) -> int:
    """Play all orders of no more switches than that; how many they are. Raises Failed.

    files  of Play
    most   orders, after which it is a failure not to have come to the end; THUMBPROXY_SCHEDULES
           times as many, and as many more switches, when that is in the environment
    """
    more = int(os.environ.get("THUMBPROXY_SCHEDULES", "0"))
    orders, played = deque[list[str]]([[]]), 0
    with _stage(monkeypatch, files):
        while orders:
            order = orders.popleft()
            steps = _play(scenario, order, files)
            played += 1
            assert played <= most * (more + 1), f"more than {most} orders"
            orders += _others(steps, len(order), switches + more)
    return played


def _others(steps: Sequence[Step], begin: int, switches: int) -> Iterator[list[str]]:
    """The orders that leave this one at some step, from `begin` on."""
    cost = 0
    for place, step in enumerate(steps):
        for other in step.options if place >= begin else ():
            if other != step.chosen and cost + _cost(step, other) <= switches:
                yield [each.chosen for each in steps[:place]] + [other]
        cost += _cost(step, step.chosen)
