"""In all orders of events: nobody waits in vain, nothing is lost, and what is purged is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from explorer import Failed, Play, explore, replay
from test_caches import SOURCE, record, rendition, request

from thumbproxy.caches.base import Scope
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.errors import BrokenImage, ClientGone, Overloaded, ThumbproxyError, TooSlow
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank
from thumbproxy.scheduling.admission import WeightedSemaphore
from thumbproxy.scheduling.coalescing import Hold, SingleFlight, leased

Check = Callable[[], object]


# -- the explorer itself ---------------------------------------------------------------------


def test_a_lost_update_is_found_and_can_be_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(play: Play) -> Check:
        count = [0]

        def add() -> None:
            before = count[0]
            play.switch()
            count[0] = before + 1

        play.task("one", add)
        play.task("other", add)

        def check() -> None:
            assert count == [2]

        return check

    assert explore(scenario, monkeypatch, switches=0) == 2
    with pytest.raises(Failed, match="assert ") as failed:
        explore(scenario, monkeypatch, switches=1)
    order = eval(str(failed.value).partition("in the order ")[2])
    with pytest.raises(Failed, match="assert "):
        replay(scenario, monkeypatch, order)


def test_all_orders_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three threads of two steps each there are 90; of no switches but where one ends, 6."""
    seen = set[str]()

    def scenario(play: Play) -> Check:
        told: list[str] = []

        def act(name: str) -> None:
            told.append(name)
            play.switch()
            told.append(name)

        for name in "abc":
            play.task(name, lambda name=name: act(name))  # type: ignore[misc]
        return lambda: seen.add("".join(told))

    assert explore(scenario, monkeypatch, switches=0) == len(seen) == 6
    explore(scenario, monkeypatch, switches=9)
    assert len(seen) == 90


def test_who_waits_for_ever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(play: Play) -> Check:
        slots = WeightedSemaphore(1, 1), WeightedSemaphore(1, 1)

        def both(one: WeightedSemaphore, other: WeightedSemaphore) -> None:
            leave = one.take(1, Deadline(1e9))
            other.take(1, Deadline(1e9), lambda: play.now < 1000)()
            leave()

        play.task("one", lambda: both(*slots))
        play.task("other", lambda: both(*reversed(slots)))
        return lambda: None

    with pytest.raises(Failed, match="ClientGone"):
        explore(scenario, monkeypatch, switches=1)


def cache(directory: Path) -> DiskCache:
    disk = DiskCache(str(directory))
    disk.prepare()
    return disk


def turns(asks_in_its_turn: bool, directory: Path) -> Callable[[Play], Check]:
    """Whoever renders needs a turn; whoever asks the origin, its lease."""

    def scenario(play: Play) -> Check:
        slots, disk, in_vain = WeightedSemaphore(1, 1), cache(directory), list[str]()

        def asked() -> None:
            with disk.hold("source a.jpg", Deadline(5)) as hold:
                in_vain.extend(["lease"] * (hold is Hold.NOT))

        def rendered(before: Callable[[], object], meanwhile: Callable[[], object]) -> None:
            before()
            leave = slots.take(1, Deadline(20))
            meanwhile()
            leave()

        def checks() -> None:
            """What replaces a good picture is decoded while the question is under way."""
            with disk.hold("source a.jpg", Deadline(5)):
                rendered(lambda: None, play.switch)

        if asks_in_its_turn:
            play.task("render", lambda: rendered(lambda: None, asked))
        else:
            play.task("render", lambda: rendered(asked, lambda: None))
        play.task("question", checks)

        def check() -> None:
            assert in_vain == []

        return check

    return scenario


def test_a_render_that_asks_in_its_turn_is_found_to_wait_for_who_waits_for_a_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Failed, match="lease"):
        explore(turns(True, tmp_path), monkeypatch, switches=1, most=20)


def test_a_render_that_asks_before_its_turn_waits_for_nobody_in_vain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert explore(turns(False, tmp_path), monkeypatch, switches=3) > 20


# -- flights ---------------------------------------------------------------------------------

OUTCOMES: dict[str, list[type[ThumbproxyError] | None]] = {
    "all is well": [None],
    "the leader is out of time": [TooSlow, None],
    "leaders leave": [ClientGone, ClientGone, None],
    "no slot for the leader": [Overloaded, None],
    "it cannot be done": [BrokenImage],
}


@pytest.mark.parametrize("outcomes", OUTCOMES.values(), ids=OUTCOMES.keys())
def test_flights_land_whatever_becomes_of_their_leaders(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[type[ThumbproxyError] | None]
) -> None:
    def scenario(play: Play) -> Check:
        flights, works = SingleFlight(Rank.REQUEST), list[int]()
        got, working = dict[str, Any](), list[str]()

        def work(name: str) -> int:
            assert not working, "one at a time"
            working.append(name)
            play.switch()
            working.remove(name)
            works.append(len(works))
            failure = outcomes[min(len(works), len(outcomes)) - 1]
            if failure is not None:
                raise failure(log=name)
            return works[-1]

        def ask(name: str) -> None:
            try:
                got[name] = flights.do("key", lambda wanted: work(name), Deadline(60))
            except ThumbproxyError as error:
                got[name] = error

        for name in "abc":
            play.task(name, lambda name=name: ask(name))  # type: ignore[misc]

        def check() -> None:
            assert flights._under_way == {}
            told = Counter(type(each) for each in got.values())
            expected = Counter(failure for failure in outcomes if failure is not None)
            if outcomes[-1] is not None:  # all are told, each by an exception of its own
                assert told == {outcomes[-1]: 3}
                assert len({id(error) for error in got.values()}) == 3
                return
            assert {kind: told[kind] for kind in expected} == expected, "of who did the work"
            results = [each for each in got.values() if isinstance(each, tuple)]
            assert len(results) == 3 - sum(expected.values())
            assert sum(not followed for _, followed in results) == len(works) - sum(
                expected.values()
            )

        return check

    assert explore(scenario, monkeypatch, switches=2) > 100


def test_a_follower_waits_to_its_own_deadline_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scenario(play: Play) -> Check:
        flights, got = SingleFlight(Rank.REQUEST), dict[str, object]()

        def work() -> str:
            play.wait(lambda: False, 10)
            return "done"

        def ask(name: str, seconds: float) -> None:
            deadline = Deadline(seconds)
            try:
                got[name] = flights.do("key", lambda wanted: work(), deadline)[0]
            except TooSlow:
                assert play.now >= deadline.at
                got[name] = "late"

        play.task("patient", lambda: ask("patient", 60))
        play.task("hasty", lambda: ask("hasty", 3))

        def check() -> None:
            assert got["patient"] == "done"
            assert got["hasty"] in ("done", "late")
            assert flights._under_way == {}

        return check

    explore(scenario, monkeypatch, switches=1)


# -- slots -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("leaves", [Overloaded, ClientGone])
def test_slots_are_given_on_whoever_leaves(
    monkeypatch: pytest.MonkeyPatch, size: int, leaves: type[ThumbproxyError]
) -> None:
    """One of those who wait is out of time, or has gone. Who stands behind it is called then, if
    there is room for it beside the first, and not when that is done."""
    until, gone_at = (60, 0.3) if leaves is ClientGone else (0.4, 60)

    def scenario(play: Play) -> Check:
        slots, inside, got = WeightedSemaphore(size, 10), list[int](), dict[str, str]()

        def all_are_called() -> None:
            if slots._queue:
                assert not slots._free or slots._queue[0].weight > slots._left

        def work(name: str, weight: int, deadline: float, gone_at: float = 60) -> None:
            try:
                leave = slots.take(weight, Deadline(deadline), lambda: play.now < gone_at)
            except (Overloaded, ClientGone) as error:
                got[name] = error.token
                all_are_called()
                return
            inside.append(weight)
            assert len(inside) <= size
            assert sum(inside) <= 10
            play.wait(lambda: False, 1)
            inside.remove(weight)
            leave()
            all_are_called()
            got[name] = "made"

        play.task("first", lambda: work("first", 4, 60))
        play.task("leaving", lambda: work("leaving", 8, until, gone_at))
        play.task("behind", lambda: work("behind", 5, 60))

        def check() -> None:
            assert got["first"] == got["behind"] == "made"
            assert got["leaving"] in ("made", leaves.token)
            assert (slots._free, slots._left, slots.waiting) == (size, 10, 0)
            assert not slots.busy

        return check

    assert explore(scenario, monkeypatch, switches=1) > 50


# -- the disk --------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [SOURCE, SOURCE.rpartition("/")[0] + "/", ""])
def test_a_purge_beats_what_is_committed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scope: str
) -> None:
    """Wherever either of them is: what was there before the purge is gone when that returns."""
    number = iter(range(10**6))

    def scenario(play: Play) -> Check:
        disk = cache(tmp_path / str(next(number)))
        old = record(fetched_at=1_800_000_000.0, modified=1_700_000_000)

        def commit() -> None:
            stands = disk.set_record(SOURCE, old)
            disk.set(request(), stands, rendition(), public=False)  # type: ignore[arg-type]

        def purge() -> None:
            play.wait(lambda: False, 0.001)
            disk.purge(Scope(scope))

        play.task("commit", commit)
        play.task("purge", purge)

        def check() -> None:
            assert disk.record(SOURCE) is None
            assert disk.get(request(), old, public=False) is None
            assert not list((tmp_path / disk.layout.tmp).iterdir())
            kept = [path for path in Path(disk.layout.private).rglob("*") if path.is_file()]
            assert {path.name for path in kept} <= {".purged"}

        return check

    assert explore(scenario, monkeypatch, switches=1, files=str(tmp_path)) > 50


def test_of_two_fetches_the_later_one_stands_with_renditions_of_its_own_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = iter(range(10**6))

    def scenario(play: Play) -> Check:
        disk = cache(tmp_path / str(next(number)))

        def commit(digit: str, fetched_at: float) -> None:
            asked = record(digit, fetched_at=fetched_at)
            stands = disk.set_record(SOURCE, asked)
            disk.set(request(), asked, rendition(digit.encode()), public=False)
            assert stands.fetched_at >= fetched_at

        play.task("earlier", lambda: commit("a", 1_799_999_000.0))
        play.task("later", lambda: commit("b", 1_799_999_001.0))

        def check() -> None:
            stands = disk.record(SOURCE)
            assert stands is not None
            assert stands.version == record("b").version
            found = disk.get(request(), stands, public=False)
            assert found is not None
            assert found.body == b"b"

        return check

    assert explore(scenario, monkeypatch, switches=1, files=str(tmp_path)) > 50


def test_of_all_who_want_the_lease_of_some_work_one_does_it_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = cache(tmp_path)

    def scenario(play: Play) -> Check:
        done, doing = list[Hold](), list[str]()

        def work(name: str) -> None:
            with leased([disk], Rank.QUESTION, "work", Deadline(60)) as turn:
                assert not doing
                doing.append(name)
                play.switch()
                doing.remove(name)
                done.append(turn.hold)

        for name in "abc":
            play.task(name, lambda name=name: work(name))  # type: ignore[misc]

        def check() -> None:
            assert len(done) == 3
            assert done[0] is Hold.AT_ONCE
            assert Hold.NOT not in done

        return check

    assert explore(scenario, monkeypatch, switches=1, files=str(tmp_path)) > 50
