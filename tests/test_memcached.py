"""memcached: what it says is checked, and what it does not say is not waited for."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pylibmc
import pytest
import servers
from impostors import Talk, impostor
from patience import USUAL
from test_caches import CLIENTS, SOURCE, record, rendition, request

from thumbproxy.caches.base import Scope
from thumbproxy.caches.breaker import Breaker
from thumbproxy.caches.memcached.cache import MemcachedCache
from thumbproxy.core.limits import Deadline
from thumbproxy.scheduling.coalescing import Hold
from thumbproxy.telemetry.metrics import Metrics


@pytest.fixture(params=CLIENTS)
def asks(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(memcached: servers.Server, asks: str) -> MemcachedCache:
    return MemcachedCache(
        [f"127.0.0.1:{memcached.port}"],
        secret="tests", namespace=uuid.uuid4().hex, clients=CLIENTS[asks],
    )  # fmt: skip


@pytest.fixture
def raw(memcached: servers.Server) -> pylibmc.Client:
    # Of no behaviors at all, pylibmc complains under Python 3.13.
    return pylibmc.Client([f"127.0.0.1:{memcached.port}"], behaviors={})


class Trap:
    """Unpickling one of these runs code."""

    def __reduce__(self) -> object:
        return (os._exit, (77,))


def test_values_that_do_not_prove_themselves_are_misses(
    cache: MemcachedCache, raw: pylibmc.Client
) -> None:
    stands = cache.set_record(SOURCE, record())
    cache.set(request(1), stands, rendition(b"one"), public=False)
    cache.set(request(2), stands, rendition(b"two"), public=False)
    first, second = (cache._first.rendition_key(request(n)).hex() for n in (1, 2))
    good = raw.get(first)
    assert isinstance(good, bytes)
    assert cache.get(request(1), stands, public=False) is not None
    hostile = [
        raw.get(second),  # another key's value
        good[:-1], good[:20], b"", b"x" * 500, good + b"more",
        bytes([good[0] ^ 1]) + good[1:],  # another format version
        good[:-1] + bytes([good[-1] ^ 1]),  # a flipped bit
        pickle.dumps(Trap()), Trap(), "text", 7, True,
    ]  # fmt: skip
    for value in hostile:
        raw.set(first, value)
        assert cache.get(request(1), stands, public=False) is None
    raw.set(first, good, min_compress_len=1)
    assert cache.get(request(1), stands, public=False) is None, "flagged values are not ours"


def test_sites_with_other_keys_share_nothing(memcached: servers.Server) -> None:
    """Nor can one write what another believes."""
    address, namespace = f"127.0.0.1:{memcached.port}", uuid.uuid4().hex
    ours, theirs = (
        MemcachedCache([address], secret=secret, namespace=namespace) for secret in ("a", "b")
    )
    stands = ours.set_record(SOURCE, record())
    ours.set(request(), stands, rendition(), public=False)
    assert theirs.record(SOURCE) is None
    assert theirs.get(request(), stands, public=False) is None
    raw = pylibmc.Client([address], behaviors={})
    key = ours._first.rendition_key(request())
    raw.set(key.hex(), theirs._first.seal.frame(key, b"x" * 100), min_compress_len=0)
    assert ours.get(request(), stands, public=False) is None


def ring(memcached: servers.Server, namespace: str, *secrets: str) -> MemcachedCache:
    return MemcachedCache(
        [f"127.0.0.1:{memcached.port}"],
        secret=secrets[0], others=secrets[1:], namespace=namespace, host="-".join(secrets),
    )  # fmt: skip


def test_a_key_takes_the_place_of_another_and_nothing_is_lost(memcached: servers.Server) -> None:
    """Host by host, in three steps: added as the last, moved to the front, alone."""
    namespace = uuid.uuid4().hex
    steps = [("old",), ("old", "new"), ("new", "old"), ("new",)]
    first, *others = [ring(memcached, namespace, *secrets) for secrets in steps]
    stands = first.set_record(SOURCE, record())
    first.set(request(), stands, rendition(), public=False)
    for cache in others:
        assert cache.record(SOURCE) == stands
        assert cache.get(request(), stands, public=False) is not None
    caches = [first, *others]
    for number, (one, two) in enumerate((*pairwise(caches), *pairwise(caches[::-1]))):
        source = f"{number}.jpg"
        again = one.set_record(source, record(fetched_at=time.time() - 1))
        assert two.record(source) == again, "hosts of neighbouring steps share"
        later = two.set_record(source, record("b", fetched_at=time.time()))
        assert one.record(source) == later
        one.purge(Scope(source))
        two.purges()
        assert two.record(source) is None, "purges too"
        assert two.purged_at(source) > 0


def test_neighbours_in_a_change_of_keys_have_one_lease(memcached: servers.Server) -> None:
    def got(cache: MemcachedCache) -> Hold:
        with cache.hold("work", Deadline(0.02)) as hold:
            return hold

    namespace = uuid.uuid4().hex
    steps = [("old",), ("old", "new"), ("new", "old"), ("new",)]
    caches = [ring(memcached, namespace, *secrets) for secrets in steps]
    for one, two in (*pairwise(caches), *pairwise(caches[::-1])):
        with one.hold("work", Deadline(5)) as hold, ThreadPoolExecutor(1) as neighbour:
            assert hold is Hold.AT_ONCE
            assert neighbour.submit(got, two).result() is Hold.NOT


def test_what_is_too_large_for_a_server_does_not_make_it_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = servers.free_port()
    command = ["memcached", "-l", servers.HOST, "-p", str(port), "-U", "0", "-I", "512k",
               "-u", "nobody"]  # fmt: skip
    with servers.running(command, port):
        cache = MemcachedCache([f"127.0.0.1:{port}"], secret="tests")
        stands = cache.set_record(SOURCE, record())
        assert not cache.set(request(1), stands, rendition(b"x" * 700_000), public=False)
        assert cache.set(request(2), stands, rendition(), public=False), "it is asked at once"
    assert caplog.messages == []


def test_after_a_pause_one_asks_and_the_others_do_not_wait(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("thumbproxy.caches.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker("it", 1.0, "memcached", Metrics())
    for _ in range(3):
        breaker.failed("gone")
    assert not breaker.admits()
    now[0] += 1.01
    assert [breaker.admits() for _ in range(5)] == [True, False, False, False, False]
    breaker.succeeded()
    assert [breaker.admits() for _ in range(5)] == [True] * 5
    assert caplog.messages == ["it fails and is passed over for now: gone", "it works again"]


def test_what_fails_now_and_then_fills_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk with some bad blocks, or one that is full and takes small files only."""
    now = [100.0]
    monkeypatch.setattr("thumbproxy.caches.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker("it", 0, "disk", Metrics())
    for _ in range(1000):
        breaker.failed("I/O error")
        assert breaker.admits()
        now[0] += 0.1
        breaker.succeeded()
    assert caplog.messages == ["it fails and is passed over for now: I/O error"]
    now[0] += 1
    breaker.succeeded()
    assert caplog.messages[1:] == ["it works again"]


def test_a_killed_server_is_a_miss_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    port = servers.free_port()
    cache = MemcachedCache([f"127.0.0.1:{port}"], secret="tests")
    with servers.memcached(port):
        stands = cache.set_record(SOURCE, record())
        assert cache.set(request(), stands, rendition(), public=False)
    for _ in range(50):
        assert cache.get(request(), stands, public=False) is None
        assert cache.record(SOURCE) is None
    assert len(caplog.messages) == 1, "one line for each change of state"
    with servers.memcached(port):
        deadline = time.monotonic() + 10
        while not cache.set(request(), cache.set_record(SOURCE, stands), rendition(), public=False):
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        assert cache.get(request(), stands, public=False) is not None
    assert [message.split()[-2:] for message in caplog.messages[1:]] == [["works", "again"]]


def test_a_frozen_server_costs_one_short_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbproxy.caches.memcached.protocol.SILENCE", float(USUAL) / 1000)
    with servers.memcached() as server:
        assert server.process is not None
        cache = MemcachedCache([f"127.0.0.1:{server.port}"], secret="tests")
        stands = cache.set_record(SOURCE, record())
        cache.set(request(), stands, rendition(), public=False)
        servers.freeze(server.process.pid)
        began = time.monotonic()
        for _ in range(200):
            assert cache.get(request(), stands, public=False) is None
        stalled = time.monotonic() - began
        os.kill(server.process.pid, signal.SIGCONT)
        # By default libmemcached waits for five seconds, each time.
        assert stalled < 4.0


def test_a_client_is_never_shared_with_a_forked_process(cache: MemcachedCache) -> None:
    stands = cache.set_record(SOURCE, record())
    for number in range(20):
        cache.set(request(number + 1), stands, rendition(b"%d" % number), public=False)
    read, write = os.pipe()
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            wrong = 0
            for number in list(range(20)) * 20:
                found = cache.get(request(number + 1), stands, public=False)
                wrong += found is None or found.body != b"%d" % number
            os.write(write, bytes([min(wrong, 255)]))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert os.read(read, 10) == bytes(3)
    os.close(read)
    os.close(write)


def hosts(memcached: servers.Server, *names: str) -> list[MemcachedCache]:
    namespace, address = uuid.uuid4().hex, f"127.0.0.1:{memcached.port}"
    return [
        MemcachedCache([address], secret="tests", namespace=namespace, host=name) for name in names
    ]


def test_a_lease_is_held_by_one_host_at_a_time(memcached: servers.Server) -> None:
    one, two = hosts(memcached, "one", "two")
    with one.hold("key", Deadline(0)) as first, two.hold("key", Deadline(0.03)) as second:
        assert (first, second) == (Hold.AT_ONCE, Hold.NOT)
        with two.hold("another", Deadline(0)) as other:
            assert other is Hold.AT_ONCE
        with two.hold("key", Deadline(0)) as third:
            assert third is Hold.NOT, "who has not got it gives nothing back"
    with two.hold("key", Deadline(0)) as hold:
        assert hold is Hold.AT_ONCE


def test_who_waits_for_a_lease_knows_that_others_had_it(memcached: servers.Server) -> None:
    one, two = hosts(memcached, "one", "two")
    holding, waiting = one.hold("key", Deadline(0)), threading.Event()
    got: list[Hold] = []

    def wait() -> None:
        waiting.set()
        with two.hold("key", Deadline(10)) as hold:
            got.append(hold)

    waiter = threading.Thread(target=wait)
    with holding:
        waiter.start()
        assert waiting.wait(10)
        waiter.join(0.05)
        assert got == []
    waiter.join(10)
    assert got == [Hold.AFTER_OTHERS]


def test_a_host_takes_over_what_its_dead_process_held(memcached: servers.Server) -> None:
    """A nearer lease sees to it that of one host only one process asks."""
    dead, living, stranger = hosts(memcached, "one", "one", "two")
    lease = dead.hold("key", Deadline(0))
    lease.__enter__()
    with living.hold("key", Deadline(0)) as hold:
        assert hold is Hold.AT_ONCE
        with stranger.hold("key", Deadline(0)) as other:
            assert other is Hold.NOT


def put_back(cache: MemcachedCache, raw: pylibmc.Client, key: str) -> None:
    """What who can write to memcached does: a lease that was seen, again, and for ever."""
    name = cache._first.seal.key("lease", key).hex()
    with cache.hold(key, Deadline(0)):
        seen = raw.get(name)
    assert raw.get(name) is None, "it was given back"
    raw.set(name, seen)


def test_a_lease_that_is_put_back_is_not_believed_for_long(
    memcached: servers.Server, raw: pylibmc.Client
) -> None:
    """Whatever it says, and memcached has it for ever."""
    namespace = uuid.uuid4().hex
    one, two = (
        MemcachedCache(
            [f"127.0.0.1:{memcached.port}"],
            secret="tests", namespace=namespace, host=host, lease_seconds=1,
        )
        for host in ("one", "two")
    )  # fmt: skip
    put_back(one, raw, "work")
    began = time.monotonic()
    with two.hold("work", Deadline(10)):
        assert time.monotonic() - began < 4


def test_a_lease_of_long_ago_is_not_believed(
    memcached: servers.Server, raw: pylibmc.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = hosts(memcached, "one", "two", "three")
    put_back(one, raw, "work")
    now = time.time()
    monkeypatch.setattr("thumbproxy.caches.memcached.lease.time.time", lambda: now + 10)
    with two.hold("work", Deadline(20)) as hold, three.hold("work", Deadline(0.02)) as other:
        assert (hold, other) == (Hold.AT_ONCE, Hold.NOT), "and another takes its place"
    monkeypatch.setattr("thumbproxy.caches.memcached.lease.time.time", lambda: now - 10)
    put_back(three, raw, "other work")
    monkeypatch.undo()
    with two.hold("other work", Deadline(20)) as hold:
        assert hold is Hold.AT_ONCE


def test_a_memcached_that_gives_and_shows_no_leases_is_not_waited_for() -> None:
    def says(talk: Talk) -> None:
        talk.say(b"NOT_STORED\r\n" if talk.command == b"add" else b"END\r\n")

    with impostor(says) as liar:
        cache = MemcachedCache([liar.address], secret="tests")
        with cache.hold("work", Deadline(20)) as hold:
            assert hold is Hold.AT_ONCE


def test_what_memcached_loses_of_purges_is_put_back(
    cache: MemcachedCache, raw: pylibmc.Client
) -> None:
    """By a process without a disk too, for what it knows; and nothing from before counts."""
    cache.purge(Scope("photos/"))
    cache.set_record(SOURCE, record(fetched_at=time.time() + 0.5))
    log = cache.purges()
    assert log is not None
    assert cache.record(SOURCE) is not None
    for lost in (None, b"", b"of somebody else"):
        key = cache._first.log.key.hex()
        raw.delete(key) if lost is None else raw.set(key, lost)
        again = cache.purges()
        assert again is not None
        assert again.epoch != log.epoch
        assert again.purges == log.purges
        assert cache.record(SOURCE) is None
        assert cache.purges() is again, "it was put there, and is the same for all"


def test_of_hosts_that_all_find_no_list_of_purges_one_makes_it(memcached: servers.Server) -> None:
    caches = hosts(memcached, *"abcdefgh")
    barrier, epochs = threading.Barrier(len(caches)), []

    def look(cache: MemcachedCache) -> None:
        barrier.wait(10)
        cache.purges()
        log = cache.purges()
        assert log is not None
        epochs.append(log.epoch)

    threads = [threading.Thread(target=look, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(epochs) == len(caches)
    assert len(set(epochs)) == 1
