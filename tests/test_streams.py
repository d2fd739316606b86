"""What is written to a client that reads late is kept in order, and bounded; what a thread waits
for, it does not wait for long."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thumbproxy.server import buffered_io
from thumbproxy.server.buffered_io import Incoming, Outgoing, SlowClient, Wait
from thumbproxy.server.request_bodies import PACE

HELD = 256 * 1024


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which takes little at a time, and the client's."""
    ours, client = socket.socketpair()
    with ours, client:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(10)
        yield ours, client


Ends = tuple[socket.socket, socket.socket]


def received(client: socket.socket) -> bytes:
    """What has come so far."""
    client.setblocking(False)
    come = b""
    try:
        while piece := client.recv(1 << 20):
            come += piece
    except BlockingIOError:
        pass
    return come


def sent_on(out: Outgoing, client: socket.socket) -> bytes:
    """All that is left, sent whenever the client has room."""
    come = received(client)
    while out:
        assert out.push(), "what the client has room for is sent"
        come += received(client)
    return come


def test_the_head_of_a_reply_goes_with_what_comes_next(ends: Ends) -> None:
    ours, client = ends
    out = Outgoing(ours, Wait(1))
    out.begin()
    out.sendall(b"head ")
    assert received(client) == b""
    out.sendall(b"body ")
    assert received(client) == b"head body "
    out.sendall(b"more")
    assert received(client) == b"more"
    out.end()
    assert received(client) == b""
    out.begin()
    out.sendall(b"a head alone")
    out.end()
    assert received(client) == b"a head alone"


def test_bytes_and_files_come_whole_and_in_order(ends: Ends, tmp_path: Path) -> None:
    ours, client = ends
    file = tmp_path / "picture"
    file.write_bytes(os.urandom(300_000))
    before, after = os.urandom(100_000), os.urandom(100_000)
    out = Outgoing(ours, Wait(1))
    out.begin()
    out.sendall(b"head")
    with file.open("rb") as opened:
        out.sendall(before)
        out.sendfile(opened, 1000, 250_000)
    out.sendall(after)
    assert out
    assert sent_on(out, client) == b"head" + before + file.read_bytes()[1000:251_000] + after
    assert out.push() == 0, "nothing is left"


def test_a_file_alone_follows_its_head(ends: Ends, tmp_path: Path) -> None:
    ours, client = ends
    file = tmp_path / "picture"
    file.write_bytes(os.urandom(200_000))
    out = Outgoing(ours, Wait(1))
    out.begin()
    out.sendall(b"head")
    with file.open("rb") as opened:
        out.sendfile(opened, 0, 200_000)
    out.end()
    assert sent_on(out, client) == b"head" + file.read_bytes()


def test_a_file_that_became_shorter_breaks_the_reply(ends: Ends, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    file.write_bytes(b"short")
    out = Outgoing(ends[0], Wait(1))
    with file.open("rb") as opened, pytest.raises(ConnectionResetError):
        out.sendfile(opened, 0, 6)


def test_what_is_dropped_leaves_no_file_open(ends: Ends, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    file.write_bytes(bytes(300_000))
    before = set(os.listdir("/proc/self/fd"))
    out = Outgoing(ends[0], Wait(1))
    with file.open("rb") as opened:
        out.sendfile(opened, 0, 300_000)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    out.drop()
    assert not out
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_long_reply_waits_for_its_client_and_no_more_than_that_is_held(ends: Ends) -> None:
    ours, client = ends
    out, pieces = Outgoing(ours, Wait(1)), [os.urandom(64 * 1024) for _ in range(16)]
    written = threading.Semaphore(0)

    def write() -> None:
        for piece in pieces:
            out.sendall(piece)
            written.release()

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        for _ in range(HELD // len(pieces[0])):
            assert written.acquire(timeout=10), "so much is taken at once"
        assert not written.acquire(timeout=0.3), "the rest waits for the client"
        come = b""
        while not writing.done():
            select.select([client], [], [], 0.1)
            come += received(client)
        writing.result()
    assert come + sent_on(out, client) == b"".join(pieces)


def test_as_many_wait_as_may_and_the_next_is_given_up_at_once(ends: Ends) -> None:
    ours, client = ends
    wait = Wait(1)

    def until_it_comes() -> None:
        while True:
            try:
                return wait(ours, select.POLLIN, 10)
            except ConnectionResetError as error:  # the place was taken below
                if "too many" not in str(error):
                    raise

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(until_it_comes)
        refused = False
        while not refused:
            with pytest.raises(ConnectionResetError) as given_up:
                wait(ours, select.POLLIN, 0.01)
            refused = "too many" in str(given_up.value)
        client.sendall(b"some")
        waiting.result(5)
    wait(ours, select.POLLIN, 10)  # there is a place again


def test_a_body_that_comes_late_is_read_and_one_that_does_not_is_given_up(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, client = ends
    incoming = Incoming(ours, Wait(1))
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(incoming.recv, 10)
        client.sendall(b"late")
        assert reading.result(5) == b"late"
    monkeypatch.setattr(buffered_io, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError, match="too slow"):
        Incoming(ours, Wait(1)).recv(10)
    client.close()
    assert incoming.recv(10) == b""


def test_a_body_that_drips_is_given_up_as_one_that_stalls(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some bytes do not buy more time; so many do."""
    monkeypatch.setattr(buffered_io, "PATIENCE", 0.3)
    ours, client = ends
    stopped = threading.Event()

    def drip() -> None:
        while not stopped.wait(0.02):
            client.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    incoming = Incoming(ours, Wait(1))
    with pytest.raises(SlowClient):
        b"".join(incoming.recv(100) for _ in range(1000))
    stopped.set()
    dripping.join()
    steady = Incoming(ours, Wait(1))
    for _ in range(5):
        client.sendall(bytes(PACE))
        steady.recv(2 * PACE)
        with pytest.raises(SlowClient):
            steady._wait(ours, select.POLLIN, 0.1)
    client.sendall(b"x")
    assert steady.recv(1) == b"x"


def test_when_the_process_ends_bodies_are_not_waited_for_but_replies_are(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered_io, "_LOOK", 0.01)
    monkeypatch.setattr(buffered_io, "_HURRY", 0.05)
    ours, client = ends
    wait = Wait(1)
    wait.hurried = lambda: True
    with pytest.raises(SlowClient):
        wait(ours, select.POLLIN)
    Outgoing(ours, wait).sendall(bytes(200_000))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, ours, select.POLLOUT)
        assert not waiting.done()
        while not waiting.done():
            received(client)
        waiting.result()


def test_what_waits_in_memory_is_bounded_over_all_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many waits in its thread, until its client takes something or is hung up on."""
    monkeypatch.setattr(buffered_io, "_MOST_HELD_IN_ALL", 3_000_000)
    monkeypatch.setattr(Wait.__call__, "__defaults__", (0.05,))
    wait, pairs = Wait(1), [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    replies = [Outgoing(ours, wait) for ours, _ in pairs]
    for reply in replies[:2]:
        reply.begin()
        reply.sendall(b"head")
        reply.sendall(bytes(1_400_000))
    assert 2_500_000 < wait.held < 3_000_000
    replies[2].begin()
    replies[2].sendall(b"head")
    with pytest.raises(ConnectionResetError):
        replies[2].sendall(bytes(1_400_000))
    for reply in replies:
        reply.drop()
    assert wait.held == 0
    for pair in pairs:
        for end in pair:
            end.close()


def test_what_nobody_reads_of_a_request_is_not_waited_for() -> None:
    """gunicorn reads it away with a timeout, in a thread that others could have."""
    wait = Wait(1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming = Incoming(ours, wait)
        incoming.settimeout(5)
        assert incoming.gettimeout() == 5
        with pytest.raises(ConnectionResetError, match="nobody"):
            incoming.recv(10)
        theirs.sendall(b"here")
        assert incoming.recv(10) == b"here"
