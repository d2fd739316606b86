"""memcached: what it says is checked, and what it does not say is not waited for."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
import uuid

import pylibmc
import pytest
import servers
from test_caches import SOURCE, record, rendition, request

from thumbproxy.caches.memcached import MemcachedCache


@pytest.fixture
def cache(memcached: servers.Server) -> MemcachedCache:
    return MemcachedCache(
        [f"127.0.0.1:{memcached.port}"], secret="tests", namespace=uuid.uuid4().hex
    )


@pytest.fixture
def raw(memcached: servers.Server) -> pylibmc.Client:
    return pylibmc.Client([f"127.0.0.1:{memcached.port}"])


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
    first, second = (cache._rendition_key(request(n)).hex() for n in (1, 2))
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
    raw = pylibmc.Client([address])
    key = ours._rendition_key(request())
    raw.set(key.hex(), theirs._frame(key, b"x" * 100), min_compress_len=0)
    assert ours.get(request(), stands, public=False) is None


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


def test_a_frozen_server_costs_one_short_stall() -> None:
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
