"""Flights and leases: one for all."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from thumbproxy.core.errors import (
    ClientGone,
    EngineFailed,
    Overloaded,
    RenderTooSlow,
    SourceNotFound,
    TooSlow,
)
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank
from thumbproxy.scheduling.coalescing import (
    Among,
    Background,
    Hold,
    NegativeCache,
    SingleFlight,
    leased,
)
from thumbproxy.scheduling.coalescing import acquire_leases as held_by


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

    def at_once(self, *_: Any) -> Any:
        self.go.set()
        return self()

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        self.started.set()
        assert self.go.wait(10)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def fly(flights: SingleFlight, work: Held, followers: int = 5) -> list[Any]:
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
        (flight,) = flights._under_way.values()
        until(lambda: len(flight.outcome._condition._waiters) == followers)  # type: ignore[attr-defined]
        work.go.set()
        return [result.result() for result in asked]


def test_equal_work_is_done_once() -> None:
    work = Held()
    results = fly(SingleFlight(Rank.REQUEST), work)
    assert results == [("result", False)] + [("result", True)] * 5
    assert work.calls == 1


def test_followers_get_the_leaders_failure_as_their_own_exception() -> None:
    error = SourceNotFound("gone", log="why")
    results = fly(SingleFlight(Rank.REQUEST), Held(error))
    assert results[0] is error
    assert len({id(result) for result in results}) == len(results)
    assert all(isinstance(result, SourceNotFound) for result in results)
    assert {(result.reason, result.log) for result in results} == {("gone", "why")}


@pytest.mark.parametrize("error", [RuntimeError("bug"), SystemExit(1), KeyboardInterrupt()])
def test_followers_are_not_left_waiting_whatever_ends_the_leader(error: BaseException) -> None:
    results = fly(SingleFlight(Rank.REQUEST), Held(error))
    assert results[0] is error
    assert all(isinstance(result, EngineFailed) for result in results[1:])


def test_what_has_landed_is_done_anew() -> None:
    flights = SingleFlight(Rank.REQUEST)
    assert flights.do("key", lambda _: "first", Deadline(1)) == ("first", False)
    assert flights.do("key", lambda _: "second", Deadline(1)) == ("second", False)


def test_what_has_failed_is_done_anew() -> None:
    flights = SingleFlight(Rank.REQUEST)
    with pytest.raises(RuntimeError):
        flights.do("key", Held(RuntimeError()).at_once, Deadline(1))
    assert flights.do("key", lambda _: "second", Deadline(1)) == ("second", False)


def test_different_keys_do_not_wait_for_each_other() -> None:
    flights, work = SingleFlight(Rank.REQUEST), Held()
    with ThreadPoolExecutor(1) as pool:
        acquire_leases = pool.submit(flights.do, "one", work, Deadline(10))
        assert work.started.wait(10)
        assert flights.do("two", lambda _: "free", Deadline(10)) == ("free", False)
        work.go.set()
        acquire_leases.result()


def test_a_follower_waits_until_its_deadline_only() -> None:
    flights, work = SingleFlight(Rank.REQUEST), Held()
    with ThreadPoolExecutor(1) as pool:
        acquire_leases = pool.submit(flights.do, "key", work, Deadline(10))
        assert work.started.wait(10)
        with pytest.raises(TooSlow):
            flights.do("key", work, Deadline(0.02))
        work.go.set()
        assert acquire_leases.result() == ("result", False)


@pytest.mark.parametrize("error", [TooSlow(), ClientGone(), Overloaded()])
def test_a_follower_does_what_its_leader_could_not_for_reasons_of_its_own(
    error: Exception,
) -> None:
    flights, first, second = SingleFlight(Rank.REQUEST), Held(error), Held("done")
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(flights.do, "key", first, Deadline(10))
        assert first.started.wait(10)
        follower = pool.submit(flights.do, "key", second, Deadline(10))
        (flight,) = flights._under_way.values()
        until(lambda: len(flight.wanted_by) == 2)
        second.go.set()
        first.go.set()
        assert leader.exception() is error
        assert follower.result() == ("done", False)


def test_a_render_that_took_too_long_is_not_done_again_for_the_followers() -> None:
    results = fly(SingleFlight(Rank.REQUEST), work := Held(RenderTooSlow()))
    assert all(isinstance(result, RenderTooSlow) for result in results)
    assert work.calls == 1


def test_work_is_wanted_while_any_of_those_who_wait_is_there() -> None:
    flights, told = SingleFlight(Rank.REQUEST), Held()
    there = {"leader": True, "follower": True}
    wanted: list[Callable[[], bool]] = []

    def work(still: Callable[[], bool]) -> Any:
        wanted.append(still)
        return told()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(flights.do, "key", work, Deadline(10), lambda: there["leader"])
        assert told.started.wait(10)
        assert wanted[0]()
        there["leader"] = False
        assert not wanted[0]()
        follower = pool.submit(flights.do, "key", work, Deadline(10), lambda: there["follower"])
        until(wanted[0])
        told.go.set()
        assert follower.result() == ("result", True)


def test_a_follower_whose_client_has_gone_waits_no_longer() -> None:
    flights, work = SingleFlight(Rank.REQUEST), Held()
    with ThreadPoolExecutor(1) as pool:
        acquire_leases = pool.submit(flights.do, "key", work, Deadline(10))
        assert work.started.wait(10)
        with pytest.raises(ClientGone):
            flights.do("key", work, Deadline(10), lambda: False)
        work.go.set()
        assert acquire_leases.result() == ("result", False)


def test_in_the_background_a_key_is_done_once_at_a_time() -> None:
    background, acquire_leases, second = Background(2), Held(), threading.Event()
    assert background.do("key", acquire_leases)
    assert acquire_leases.started.wait(10)
    assert not background.do("key", acquire_leases)
    assert background.do("another", second.set), "which does not wait for it"
    assert second.wait(10)
    acquire_leases.go.set()
    until(lambda: background.do("key", acquire_leases))
    until(lambda: acquire_leases.calls == 2)


def test_in_the_background_so_much_may_wait() -> None:
    background, acquire_leases = Background(1), Held()
    taken = [background.do(number, acquire_leases) for number in range(300)]
    acquire_leases.go.set()
    assert taken == [True] * 256 + [False] * 44
    until(lambda: acquire_leases.calls == 256)


def test_what_fails_in_the_background_is_logged_and_done_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background, acquire_leases = Background(1), Held(RuntimeError("bug"))
    acquire_leases.go.set()
    background.do("key", acquire_leases)
    until(lambda: background.do("key", acquire_leases))
    until(lambda: acquire_leases.calls == 2)
    assert "unexpected error in the background, for 'key'" in caplog.text


class Leases:
    """A lease of which somebody who is stopped holds some keys. asked: for which keys."""

    among: Among = "host"

    def __init__(self, *stopped: str) -> None:
        self.stopped, self.asked, self.held = stopped, list[str](), set[str]()

    @contextmanager
    def hold(self, key: str, patience: Deadline) -> Iterator[Hold]:
        self.asked.append(key)
        if key in self.stopped:
            yield Hold.NOT
            return
        self.held.add(key)
        yield Hold.AT_ONCE
        self.held.discard(key)


def test_behind_one_that_is_stopped_one_goes_on_at_a_time() -> None:
    leases = Leases("key")
    with leased([leases], Rank.QUESTION, "key", Deadline(1)) as turn:
        assert turn.hold is Hold.AT_ONCE
        assert leases.held == {"key again"}
    assert leases.asked == ["key", "key again"]
    with leased([leases], Rank.QUESTION, "free", Deadline(1)):
        assert leases.held == {"free"}
    with leased([Leases("key", "key again")], Rank.QUESTION, "key", Deadline(1)) as turn:
        assert turn == (Hold.NOT, "host"), "and in the end it is done all the same"


def test_of_several_leases_the_last_that_was_waited_for_is_told() -> None:
    near, far = Leases(), Leases("key")
    with held_by([near, far], "key", Deadline(0)) as turn:
        assert (turn, near.held) == ((Hold.NOT, "host"), {"key"})
    with held_by([far, near], "key", Deadline(0)) as turn:
        assert (turn.hold, near.held) == (Hold.NOT, set()), "the others are not asked"
    with held_by([], "key", Deadline(0)) as turn:
        assert turn == (Hold.AT_ONCE, None)


def test_what_cannot_be_done_in_the_background_is_nobodys_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is ending, or may have no more threads: what is stale is served all the same."""

    def refused(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    background, done = Background(1), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", refused)
        assert not background.do("key", done.set)
    assert background.do("key", done.set), "and it is tried again"
    assert done.wait(10)


def test_a_failure_that_is_remembered_holds_nothing_of_what_it_was_raised_in() -> None:
    class Large:
        pass

    def fail() -> None:
        body = Large()
        gone.append(weakref.ref(body))
        raise SourceNotFound("gone", log="why")

    gone: list[weakref.ref[Large]] = []
    remembered = NegativeCache()
    try:
        fail()
    except SourceNotFound as error:
        remembered.remember("key", error, 10)
    gc.collect()
    assert gone[0]() is None
    with pytest.raises(SourceNotFound, match="gone") as raised:
        remembered.check("key")
    assert raised.value.log == "why"
