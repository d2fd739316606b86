"""Gates and slots: who may do work that takes long, and who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.core.errors import ClientGone, Overloaded
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.admission import ConcurrencyLimit, WeightedSemaphore, misses_of


def until(condition: Callable[[], bool]) -> None:
    deadline = Deadline(10)
    while not condition():
        assert not deadline.passed
        threading.Event().wait(0.001)


def test_some_threads_are_left_to_hits() -> None:
    assert [misses_of(threads) for threads in (1, 2, 3, 4, 8, 128)] == [1, 1, 2, 3, 6, 96]


def test_a_gate_refuses_at_once_whom_it_has_no_place_for() -> None:
    gate = ConcurrencyLimit(2)
    with gate.passed(), gate.passed(), pytest.raises(Overloaded):
        gate.enter()
    with gate.passed(), gate.passed():
        pass


def test_a_place_is_left_by_those_who_fail() -> None:
    gate = ConcurrencyLimit(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), gate.passed():
            raise RuntimeError


def test_so_many_at_a_time_in_their_order() -> None:
    slots, order = WeightedSemaphore(2, 100), list[int]()
    give_back = [slots.take(1, Deadline(1)) for _ in range(2)]

    def work(number: int) -> None:
        leave = slots.take(1, Deadline(10))
        order.append(number)
        leave()

    with ThreadPoolExecutor(5) as pool:
        for number in range(5):
            pool.submit(work, number)
            until(lambda: slots.waiting == number + 1)  # noqa: B023 - called at once
        assert order == []
        give_back.pop()()
    assert order == [0, 1, 2, 3, 4]
    give_back.pop()()


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 4), st.integers(1, 20))
def test_the_weight_of_all_is_never_over_the_room(weights: list[int], size: int, room: int) -> None:
    """What alone is too heavy waits until it is alone."""
    slots, lock = WeightedSemaphore(size, room), threading.Lock()
    inside: list[int] = []

    def work(weight: int) -> None:
        leave = slots.take(weight, Deadline(20))
        with lock:
            inside.append(weight)
            assert len(inside) <= size
            assert sum(inside) <= room or len([some for some in inside if some]) == 1
        with lock:
            inside.remove(weight)
        leave()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, weight) for weight in weights]:
            done.result()
    leave = slots.take(room, Deadline(0))
    leave()


def test_nobody_overtakes_what_is_large() -> None:
    slots = WeightedSemaphore(3, 10)
    small = slots.take(6, Deadline(1))
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(slots.take, 10, Deadline(10))
        until(lambda: slots.waiting == 1)
        late = pool.submit(slots.take, 1, Deadline(10))
        until(lambda: slots.waiting == 2)
        small()
        large.result()()
        late.result()()


def test_who_cannot_begin_before_the_deadline_is_refused_then() -> None:
    slots = WeightedSemaphore(1, 1)
    leave = slots.take(1, Deadline(1))
    began = time.monotonic()
    with pytest.raises(Overloaded):
        slots.take(1, Deadline(0.05))
    assert time.monotonic() - began >= 0.05
    assert slots.waiting == 0
    leave()
    slots.take(1, Deadline(0))()


def test_when_a_large_one_gives_up_those_behind_it_go_on() -> None:
    slots = WeightedSemaphore(2, 10)
    leave = slots.take(5, Deadline(1))
    with ThreadPoolExecutor(2) as pool:
        soon = Deadline(30)
        large = pool.submit(slots.take, 10, soon)
        until(lambda: slots.waiting == 1)
        behind = pool.submit(slots.take, 5, Deadline(30))
        until(lambda: slots.waiting == 2)
        soon.at = 0  # it looks now and then
        with pytest.raises(Overloaded):
            large.result()
        behind.result()()
    leave()


def test_nothing_is_begun_for_those_who_have_gone() -> None:
    slots = WeightedSemaphore(1, 1)
    with pytest.raises(ClientGone):
        slots.take(1, Deadline(1), lambda: False)
    slots.take(1, Deadline(0))()


def test_who_goes_while_it_waits_leaves_the_queue() -> None:
    slots, there = WeightedSemaphore(1, 1), threading.Event()
    there.set()
    leave = slots.take(1, Deadline(1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slots.take, 1, Deadline(10), there.is_set)
        until(lambda: slots.waiting == 1)
        there.clear()
        with pytest.raises(ClientGone):
            waiting.result()
    assert slots.waiting == 0
    leave()


def test_slots_are_busy_when_one_would_have_to_wait() -> None:
    slots = WeightedSemaphore(2, 10)
    first = slots.take(1, Deadline(1))
    assert not slots.busy
    second = slots.take(1, Deadline(1))
    assert slots.busy
    second()
    assert not slots.busy
    with ThreadPoolExecutor() as pool:
        large = pool.submit(slots.take, 10, Deadline(5))
        until(lambda: slots.waiting == 1)
        assert slots.busy, "there is a place, but not for who comes behind a large one"
        first()
        large.result()()
    assert not slots.busy
