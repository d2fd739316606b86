"""Flights and slots: one for all, and only so many at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from thumbproxy.concurrency import Flights, Load, Slots
from thumbproxy.errors import EngineFailed, Overloaded, SourceNotFound, TooSlow
from thumbproxy.limits import Deadline


def until(condition: Callable[[], bool]) -> None:
    deadline = Deadline(10)
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.001)


class Held:
    """Work that waits to be let go, and counts how often it is done."""

    def __init__(self, result: Any = "result") -> None:
        self.result, self.calls = result, 0
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self) -> Any:
        self.calls += 1
        self.started.set()
        assert self.go.wait(10)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def fly(flights: Flights, work: Held, followers: int = 5) -> list[Any]:
    """What a leader and its followers get: results or exceptions."""

    def ask() -> Any:
        try:
            return flights.do("key", work, Deadline(10))
        except BaseException as error:
            return error

    with ThreadPoolExecutor(followers + 1) as pool:
        asked = [pool.submit(ask)]
        assert work.started.wait(10)
        asked += [pool.submit(ask) for _ in range(followers)]
        (future,) = flights._under_way.values()
        until(lambda: len(future._condition._waiters) == followers)  # type: ignore[attr-defined]
        work.go.set()
        return [result.result() for result in asked]


def test_equal_work_is_done_once() -> None:
    work = Held()
    results = fly(Flights(), work)
    assert results == [("result", False)] + [("result", True)] * 5
    assert work.calls == 1


def test_followers_get_the_leaders_failure_as_their_own_exception() -> None:
    error = SourceNotFound("gone", log="why")
    results = fly(Flights(), Held(error))
    assert results[0] is error
    assert len({id(result) for result in results}) == len(results)
    assert all(isinstance(result, SourceNotFound) for result in results)
    assert {(result.reason, result.log) for result in results} == {("gone", "why")}


@pytest.mark.parametrize("error", [RuntimeError("bug"), SystemExit(1), KeyboardInterrupt()])
def test_followers_are_not_left_waiting_whatever_ends_the_leader(error: BaseException) -> None:
    results = fly(Flights(), Held(error))
    assert results[0] is error
    assert all(isinstance(result, EngineFailed) for result in results[1:])


def test_what_has_landed_is_done_anew() -> None:
    flights = Flights()
    assert flights.do("key", lambda: "first", Deadline(1)) == ("first", False)
    assert flights.do("key", lambda: "second", Deadline(1)) == ("second", False)


def test_different_keys_do_not_wait_for_each_other() -> None:
    flights, work = Flights(), Held()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(flights.do, "one", work, Deadline(10))
        assert work.started.wait(10)
        assert flights.do("two", lambda: "free", Deadline(10)) == ("free", False)
        work.go.set()
        held.result()


def test_a_follower_waits_until_its_deadline_only() -> None:
    flights, work = Flights(), Held()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(flights.do, "key", work, Deadline(10))
        assert work.started.wait(10)
        with pytest.raises(TooSlow):
            flights.do("key", work, Deadline(0.02))
        work.go.set()
        assert held.result() == ("result", False)


def test_slots_admit_so_many_let_so_many_wait_and_refuse_the_rest() -> None:
    slots, go = Slots(2, queue=3), threading.Event()
    most = 0

    def work() -> None:
        nonlocal most
        with slots.taken(Deadline(10)):
            most = max(most, slots.load.active)
            assert go.wait(10)

    with ThreadPoolExecutor(5) as pool:
        admitted = [pool.submit(work) for _ in range(5)]
        until(lambda: slots.load == Load(2, 3))
        with pytest.raises(Overloaded), slots.taken(Deadline(10)):
            pass
        go.set()
        for future in admitted:
            future.result()
    assert most == 2
    assert slots.load == Load(0, 0)


def test_who_waits_for_a_slot_is_refused_at_the_deadline() -> None:
    slots = Slots(1, queue=1)
    with slots.taken(Deadline(1)):
        with pytest.raises(Overloaded), slots.taken(Deadline(0.02)):
            pass
        assert slots.load == Load(1, 0)


def test_a_slot_is_given_back_when_the_work_fails() -> None:
    slots = Slots(1, queue=0)
    with pytest.raises(RuntimeError), slots.taken(Deadline(1)):
        raise RuntimeError
    assert slots.load == Load(0, 0)
