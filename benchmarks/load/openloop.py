"""Requests at moments that are fixed beforehand, whether or not the server keeps up.

A client that waits for a reply before it asks again does not ask while the server is slow, and so
does not see most of that. Here each latency counts from the moment at which its request was due.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection, socket
from typing import NamedTuple

from .servers import HOST

# Kept connections to begin with; more are made when all of them wait.
CONNECTIONS = 16
_FACTORY = multiprocessing.get_context("fork")


class Reply(NamedTuple):
    """due     seconds since the start of the round at which it was to be sent
    late    seconds by which it was sent later, because the client itself got no processor
    seconds from when it was due to the last byte of its reply
    status  0: none came, or not the whole of it
    length  bytes of the body
    """

    due: float
    late: float
    seconds: float
    status: int
    length: int


class _Asking:
    """A connection, and what is under way on it."""

    __slots__ = ("due", "got", "late", "length", "socket", "status", "whole")

    def __init__(self, port: int) -> None:
        self.socket: socket = create_connection((HOST, port))
        self.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.due = self.late = 0.0
        self.begin(0.0, 0.0)

    def begin(self, due: float, late: float) -> None:
        self.due, self.late = due, late
        self.status = self.got = self.length = 0
        self.whole = -1  # bytes of head and body; not known yet

    def read(self) -> bool:
        """Whether the reply is complete. Raises OSError when the connection ended before."""
        received = self.socket.recv(262_144)
        if not received:
            raise ConnectionResetError
        if self.whole < 0:
            head, _, _ = received.partition(b"\r\n\r\n")  # gunicorn sends it in one piece
            self.status = int(head[9:12])
            self.length = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
            self.whole = len(head) + 4 + self.length
        self.got += len(received)
        return self.got >= self.whole


def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> list[Reply]:
    """Ask `requests`, round and round, `rate` times a second at random moments (a Poisson process).

    All replies are waited for, for up to 30 seconds more.
    """
    numbers = random.Random(len(requests))
    poll, idle, busy = select.epoll(), deque[_Asking](), dict[int, _Asking]()
    for _ in range(CONNECTIONS):
        idle.append(_Asking(port))
    replies: list[Reply] = []
    began = time.monotonic()
    due, count = numbers.expovariate(rate), 0
    while due < seconds or busy:
        now = time.monotonic() - began
        if due < seconds and due <= now:
            asking = idle.popleft() if idle else _Asking(port)
            asking.begin(due, now - due)
            try:
                asking.socket.sendall(requests[count % len(requests)])
                busy[asking.socket.fileno()] = asking
                poll.register(asking.socket, select.EPOLLIN)
            except OSError:
                replies.append(Reply(due, asking.late, now - due, 0, 0))
                asking.socket.close()
            count += 1
            due += numbers.expovariate(rate)
            continue
        if now > seconds + 30:
            break
        # epoll itself waits for whole milliseconds, which is as long as a hit takes.
        wait = due - now if due < seconds else 1.0
        if select.select([poll], [], [], min(wait, 1.0))[0]:
            _collect(poll, idle, busy, replies, began)
    for left in (*busy.values(), *idle):
        left.socket.close()
    replies += [Reply(left.due, left.late, seconds, 0, 0) for left in busy.values()]
    return replies


def _collect(
    poll: select.epoll,
    idle: deque[_Asking],
    busy: dict[int, _Asking],
    replies: list[Reply],
    began: float,
) -> None:
    for number, _ in poll.poll(0):
        asking = busy[number]
        status = asking.status
        try:
            if not asking.read():
                continue
            idle.append(asking)
            status = asking.status
            poll.unregister(number)
        except (OSError, ValueError):
            status = 0
            poll.unregister(number)
            asking.socket.close()
        del busy[number]
        took = time.monotonic() - began - asking.due
        replies.append(Reply(asking.due, asking.late, took, status, asking.length))


def closed_loop(port: int, requests: Sequence[bytes], at_once: int, seconds: float) -> list[Reply]:
    """Ask as fast as it answers, `at_once` at a time."""
    poll, busy = select.epoll(), dict[int, _Asking]()
    replies: list[Reply] = []
    began = time.monotonic()
    for number in range(at_once):
        asking = _Asking(port)
        poll.register(asking.socket, select.EPOLLIN)
        busy[asking.socket.fileno()] = asking
        asking.begin(0.0, 0.0)
        asking.socket.sendall(requests[number])
    count = at_once
    while (now := time.monotonic() - began) < seconds:
        for fd, _ in poll.poll(seconds - now):
            asking = busy[fd]
            if asking.read():
                now = time.monotonic() - began
                replies.append(Reply(asking.due, 0, now - asking.due, asking.status, asking.length))
                asking.begin(now, 0.0)
                asking.socket.sendall(requests[count % len(requests)])
                count += 1
    for asking in busy.values():
        asking.socket.close()
    return replies


class Client:
    """Asks at fixed moments, in a process of its own, so that clients do not slow each other.

    It takes a few per cent of a processor, before everybody else where that is allowed (to root):
    else what is measured is how long the client waits for a processor. Real clients are elsewhere.
    """

    def __init__(self, port: int) -> None:
        self._ours, theirs = _FACTORY.Pipe()
        self._process = _FACTORY.Process(target=_run, args=(port, theirs), daemon=True)
        self._process.start()

    def begin(self, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self._ours.send((requests, rate, seconds))

    def replies(self) -> list[Reply]:
        """Of the round that was begun, when it is over."""
        replies: list[Reply] = self._ours.recv()
        return replies

    def close(self) -> None:
        self._ours.send(None)
        self._process.join()


def _run(port: int, asked: Connection) -> None:
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    while (round := asked.recv()) is not None:
        asked.send(open_loop(port, *round))


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
