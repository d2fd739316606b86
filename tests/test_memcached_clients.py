"""The contract of clients of memcached, run with each against real servers; and what the strict one
takes from servers that lie."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pylibmc
import pytest
import servers
from impostors import Impostor, Says, Talk, impostor
from patience import USUAL
from test_caches import CLIENTS

from thumbproxy.caches.memcached.client import Client, MakeClient, strict_clients
from thumbproxy.caches.memcached.ketama import Ring
from thumbproxy.caches.memcached.protocol import LARGEST_ITEM, Patience
from thumbproxy.caches.memcached.servers import Servers
from thumbproxy.core import connecting
from thumbproxy.core.endpoints import Endpoint

# What a busy machine may take besides; where nothing bounds it, it is 5 s and more.
LATE = 2.0
MIB = 1024 * 1024


def new_key() -> bytes:
    return secrets.token_bytes(32)


def ready(make: MakeClient, times: float = 100) -> Client:
    client = make()
    client.patience = Patience(times)
    return client


@pytest.fixture(scope="module")
def several() -> Iterator[list[str]]:
    """Three servers, one of them at the end of a path."""
    with ExitStack() as stack:
        ports = [stack.enter_context(servers.memcached()).port for _ in range(3)]
        yield [f"{servers.HOST}:{port}" for port in ports]


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest, memcached: servers.Server) -> MakeClient:
    return CLIENTS[request.param]([f"{servers.HOST}:{memcached.port}"])


# -- the contract --------------------------------------------------------------------------


def test_what_is_put_there_is_found(make: MakeClient) -> None:
    client = ready(make)
    keys = [new_key() for _ in range(5)]
    values = [b"", b"x", b"\r\nEND\r\n\0", os.urandom(40_000), os.urandom(900_000)]
    assert client.get(keys[0]) is None
    assert client.gets(keys[0]) == (None, b"")
    for key, value in zip(keys, values, strict=True):
        assert client.set(key, value, 60)
        assert client.get(key) == value
    found = client.get_many([*keys, new_key()])
    assert found == dict(zip(keys, values, strict=True))
    assert client.delete(keys[1])
    assert not client.delete(keys[1])
    assert client.get(keys[1]) is None


def test_only_who_is_first_adds_and_who_saw_it_last_replaces(make: MakeClient) -> None:
    one, two, key = ready(make), ready(make), new_key()
    assert one.add(key, b"one", 60)
    assert not two.add(key, b"two", 60)
    value, token = one.gets(key)
    assert value == b"one"
    assert two.cas(key, b"two", two.gets(key)[1], 60)
    assert not one.cas(key, b"three", token, 60)
    assert one.get(key) == b"two"
    assert two.delete(key)
    assert not one.cas(key, b"three", one.gets(new_key())[1] or token, 60)


def test_what_is_put_there_for_a_second_is_gone_after_it(make: MakeClient) -> None:
    client, key = ready(make), new_key()
    assert client.set(key, b"x", 1)
    deadline = time.monotonic() + 20
    while client.get(key) is not None:
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)


def test_what_has_flags_is_there_but_is_no_value(
    make: MakeClient, memcached: servers.Server
) -> None:
    client, key = ready(make), new_key()
    pylibmc.Client([f"{servers.HOST}:{memcached.port}"]).set(key.hex(), 7)
    assert client.get(key) == b""
    assert client.gets(key)[0] == b""
    assert not client.add(key, b"x")


def test_what_is_too_large_for_a_server_is_not_stored(make: MakeClient) -> None:
    client, key = ready(make), new_key()
    for size in (LARGEST_ITEM, LARGEST_ITEM + 1, 3 * MIB):
        assert not client.set(key, bytes(size), 60)
    assert client.set(key, b"x", 60)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clients_of_all_kinds_find_what_the_others_put(several: list[str], count: int) -> None:
    ours, theirs = (ready(kind(several[:count])) for kind in CLIENTS.values())
    keys = [new_key() for _ in range(60)]
    for client, some in ((ours, keys[:30]), (theirs, keys[30:])):
        assert all(client.set(key, key[:9]) for key in some)
    for client in (ours, theirs):
        assert client.get_many(keys) == {key: key[:9] for key in keys}


@pytest.mark.parametrize("names", [
    ["10.0.0.1:11211", "10.0.0.2:11211"],
    ["10.0.0.1:11211", "10.0.0.2:11212", "cache.example:11211", "[::1]:11211", "[fe80::2]:9"],
    ["unix:/run/a/memcached.sock", "unix:/run/b/memcached.sock"],
])  # fmt: skip
def test_keys_are_placed_as_libmemcached_places_them(names: list[str]) -> None:
    endpoints = [Endpoint(name) for name in names]
    ring = Ring(endpoints)
    theirs = pylibmc.Client([name.removeprefix("unix:") for name in names],
                            behaviors={"ketama": True})  # fmt: skip
    for _ in range(2000):
        name = new_key().hex().encode()
        assert ring.place(name) == theirs.hash(name)


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_may_listen_on_a_path(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "memcached.sock"
    with servers.memcached_at(path):
        client = ready(CLIENTS[kind]([f"unix:{path}"]))
        assert client.set(key := new_key(), b"x" * 100_000)
        assert client.get(key) == b"x" * 100_000


def test_a_server_of_another_user_where_everybody_may_listen_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in /tmp, while ours is down."""
    path = Path("/tmp", f"{uuid.uuid4().hex}.sock")
    with servers.memcached_at(path, user="nobody"):
        if us := os.geteuid():  # who is not root cannot start one as another user
            monkeypatch.setattr("os.geteuid", lambda: us + 1)
        client = ready(strict_clients([f"unix:{path}"]))
        with pytest.raises(PermissionError, match="listens there, whom neither"):
            client.get(new_key())


def test_a_server_is_asked_that_belongs_to_who_owns_the_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        path = Path(folder, "memcached.sock")
        with servers.memcached_at(path, user="nobody"):
            assert ready(strict_clients([f"unix:{path}"])).get(new_key()) is None


# -- names that are not resolved -----------------------------------------------------------


def test_a_slow_resolver_is_not_waited_for_and_not_asked_twice(
    memcached: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = [], threading.Event()

    def slow(host: str, port: int, flags: int = 0) -> list[connecting.Answer]:
        if flags:
            raise socket.gaierror
        asked.append(host)
        assert go.wait(20)
        return [(socket.AF_INET, (servers.HOST, port))]

    monkeypatch.setattr(connecting, "_look_up", slow)
    monkeypatch.setattr("thumbproxy.caches.memcached.protocol.SILENCE", float(USUAL) / 1000)
    make = strict_clients([f"cache.example:{memcached.port}"])
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="not resolved in time"):
            ready(make).get(new_key())
        assert time.monotonic() - began < LATE
    go.set()
    assert ready(make).get(new_key()) is None
    assert asked == ["cache.example"], "and its answer counts for all"


# -- servers that lie ----------------------------------------------------------------------


def blocks(times: int) -> Says:
    """Each value that is asked for, so many times."""
    return lambda talk: talk.say(
        *(talk.value(name, b"a value") for name in talk.names for _ in range(times)), b"END\r\n"
    )


def huge(length: bytes) -> Says:
    def says(talk: Talk) -> None:
        talk.say(b"VALUE %s 0 %s\r\n" % (talk.names[0], length))
        for _ in range(64):
            talk.say(bytes(MIB))

    return says


def endless(talk: Talk) -> None:
    while not talk._served.over.is_set():
        talk.say(*(talk.value(new_key().hex().encode(), b"x" * 1000) for _ in range(100)))


def reset_amid(talk: Talk) -> None:
    talk.say(b"VALUE %s 0 1000\r\n" % talk.names[0], b"x" * 500)
    talk.reset()


LIES: dict[str, Says] = {
    "each value twice": blocks(2),
    "each value four times": blocks(4),
    "64 MiB": huge(b"67108864"),
    "512 MiB": huge(b"536870912"),
    "2**64": huge(b"18446744073709551616"),
    "a negative length": huge(b"-1"),
    "a length that is none": huge(b"12x"),
    "a length in another notation": huge(b"+12"),
    "no length": lambda talk: talk.say(b"VALUE %s 0\r\nEND\r\n" % talk.names[0]),
    "values without end": endless,
    "another key": lambda talk: talk.say(talk.value(b"ab" * 32, b"x"), b"END\r\n"),
    "a key of ten kilobytes": lambda talk: talk.say(talk.value(b"a" * 10_000, b"x"), b"END\r\n"),
    "more than its length": lambda talk: talk.say(
        talk.value(talk.names[0], b"x" * 50, b"40"), b"END\r\n"
    ),
    "less than its length": lambda talk: talk.say(
        talk.value(talk.names[0], b"x" * 40, b"50"), b"END\r\n"
    ),
    "NUL": lambda talk: talk.say(b"VALUE %s\0 0 1\r\nx\r\nEND\r\n" % talk.names[0]),
    "NUL only": lambda talk: talk.say(bytes(100_000)),
    "a line of megabytes": lambda talk: talk.say(b"SERVER_ERROR ", *[b"x" * MIB] * 8, b"\r\n"),
    "more after the end": lambda talk: talk.say(b"END\r\nEND\r\n"),
    "a token that was not asked for": lambda talk: talk.say(
        b"VALUE %s 0 1 7\r\nx\r\nEND\r\n" % talk.names[0]
    ),
    "the answer to a store": lambda talk: talk.say(b"STORED\r\n"),
    "HTTP": lambda talk: talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "SERVER_ERROR": lambda talk: talk.say(b"SERVER_ERROR out of memory\r\n"),
    "nothing": lambda talk: None,
    "half a value, and a reset": reset_amid,
    "a line, dripping": lambda talk: talk.drip(b"VALUE %s 0 1\r\n" % talk.names[0]),
    "a value, dripping": lambda talk: talk.drip(talk.value(talk.names[0], b"x" * 90)),
}  # fmt: skip


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Says], tuple[Servers, Impostor]]]:
    monkeypatch.setattr("thumbproxy.caches.memcached.protocol.SILENCE", float(USUAL) / 1000)
    with ExitStack() as stack:

        def begin(says: Says) -> tuple[Servers, Impostor]:
            liar = stack.enter_context(impostor(says))
            return Servers("it", strict_clients([liar.address])), liar

        yield begin


Asking = Callable[[Says], tuple[Servers, Impostor]]


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_left(
    asking: Asking, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In time, before more than a little is read, and then it is passed over."""
    asked, liar = asking(LIES[lie])
    keys = [new_key(), new_key()]
    began = time.monotonic()
    assert asked.ask(lambda client: client.get_many(keys), "nothing") == "nothing"
    assert time.monotonic() - began < 0.3 + LATE
    began, before = time.monotonic(), len(liar.asked)
    for _ in range(20):
        assert asked.ask(lambda client: client.get(keys[0]), "nothing") == "nothing"
    assert len(liar.asked) - before <= time.monotonic() - began + 1, "once in a second"
    # What the kernels on both sides hold for a connection is not read by anybody.
    assert liar.sent < 16 * MIB
    assert len([it for it in caplog.records if it.levelno == logging.WARNING]) == 1


@pytest.mark.parametrize("lie", ["64 MiB", "each value four times", "values without end"])
def test_a_server_that_lies_costs_no_memory(asking: Asking, lie: str) -> None:
    import tracemalloc  # noqa: PLC0415 - nothing else needs it, and it slows all down

    asked, _ = asking(LIES[lie])
    tracemalloc.start()
    try:
        for _ in range(10):
            asked.ask(lambda client: client.get_many([new_key()] * 2), None, urgent=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB
