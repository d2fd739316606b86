"""Reads requests and writes responses without blocking a thread for long because of a slow client.

What a client does not take of a reply is kept, to be sent outside of the thread that made it, and
bodies are gathered before a thread reads them. What then is left to wait for in a thread, bodies
and replies too long to be kept, is allowed to a part of the threads.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from thumbproxy.core.forking import PerProcess
from thumbproxy.server.request_bodies import PACE, PATIENCE, Body

# Bytes of a reply that wait in memory. More of what is passed on wait in a thread.
_MOST_HELD = 256 * 1024
# And of all replies of a process.
_MOST_HELD_IN_ALL = 64 * 1024 * 1024
# Seconds between two looks at whether the process is about to end, and those that a client then
# has to send something.
_LOOK = 0.5
_HURRY = 2.0


class _Part(NamedTuple):
    """What is left of a file to be sent; the descriptor is ours."""

    descriptor: int
    offset: int
    length: int


class SlowClient(ConnectionResetError, TimeoutError):
    """A client that does not send or take anything in time. gunicorn takes it for gone."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNRESET, reason)


class Wait:
    """Lets few threads at a time wait for their clients, and those not for long.

    held     bytes of all replies that wait in memory
    hurried  whether the process is about to end, and waits for nobody who does not send
    """

    def __init__(self, most: int) -> None:
        self._places = PerProcess(lambda: threading.BoundedSemaphore(most))
        self._lock = PerProcess(threading.Lock)
        self.held = 0
        self.hurried: Callable[[], bool] = bool

    def hold(self, size: int) -> None:
        """So many bytes more wait in memory, or less."""
        with self._lock.value:
            self.held += size

    @property
    def full(self) -> bool:
        return self.held > _MOST_HELD_IN_ALL

    def __call__(self, connection: socket.socket, event: int, seconds: float = PATIENCE) -> None:
        """Until there is something to be done. Raises SlowClient."""
        places = self._places.value
        if not places.acquire(blocking=False):
            raise SlowClient("too many clients are slow")
        try:
            poll = select.poll()
            poll.register(connection, event)
            began = time.monotonic()
            until = began + seconds
            while not poll.poll(max(0.0, min(_LOOK, until - time.monotonic())) * 1000):
                if event == select.POLLIN and self.hurried():
                    until = min(until, began + _HURRY)
                if time.monotonic() >= until:
                    raise SlowClient("the client is too slow")
        finally:
            places.release()


class Incoming:
    """What gunicorn's parser reads from: what was gathered of a body, and then a socket whose
    client has to go on sending."""

    def __init__(self, connection: socket.socket, wait: Wait) -> None:
        self._connection = connection
        self._wait = wait
        self._seconds: float | None = None
        self.begin(None)

    def begin(self, body: Body | None) -> None:
        """Of a request, with what was gathered of its body."""
        self._body = body
        self._patience = PATIENCE
        self._since = 0

    def gettimeout(self) -> float | None:
        return self._seconds

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def recv(self, size: int) -> bytes:
        gathered = self._body.read(size) if self._body is not None else b""
        while not gathered:
            try:
                return self._counted(self._connection.recv(size, socket.MSG_DONTWAIT))
            except BlockingIOError:
                if self._seconds is not None:  # gunicorn throws away what nobody has read
                    raise ConnectionResetError(errno.ECONNRESET, "nobody wants it") from None
                began = time.monotonic()
                self._wait(self._connection, select.POLLIN, self._patience)
                self._patience -= time.monotonic() - began
        return gathered

    def _counted(self, data: bytes) -> bytes:
        self._since += len(data)
        if self._since >= PACE:
            self._since, self._patience = 0, PATIENCE
        return data


class Outgoing:
    """What gunicorn writes replies to: sends what the client takes at once, and keeps the rest.

    The head of a reply is held back until something of its body comes, which gunicorn has at
    hand, or until `end`: one packet and one wake-up of the client instead of two.
    """

    def __init__(self, connection: socket.socket, wait: Wait) -> None:
        self._connection = connection
        self._wait = wait
        self._head: bytes | None = b""
        self._rest: deque[memoryview | _Part] = deque()
        self._held = 0

    def __bool__(self) -> bool:
        """Whether something is left to be sent."""
        return bool(self._rest)

    def begin(self) -> None:
        """A new reply."""
        self._head = None

    def end(self) -> None:
        """The reply is whole."""
        if self._head:
            self._write((self._head,))
        self._head = b""

    def sendall(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
        elif self._head:
            head, self._head = self._head, b""
            self._write((head, data))
        else:
            self._write((data,))

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int = 0) -> None:
        if self._head:
            self._write((self._head,), socket.MSG_MORE)
            self._head = b""
        sent = 0 if self._rest else self._send_file(file.fileno(), offset, count)
        if sent < count:  # the file is closed when we come back
            self._rest.append(_Part(os.dup(file.fileno()), offset + sent, count - sent))

    def _write(self, data: tuple[bytes, ...], flags: int = 0) -> None:
        size = sum(map(len, data))
        while self._held and self._held + size > _MOST_HELD:
            self._wait(self._connection, select.POLLOUT)
            self.push()
        sent = 0 if self._rest else self._send(data, flags)
        if sent < size:
            left = memoryview(data[0] if len(data) == 1 else b"".join(data))[sent:]
            self._rest.append(left)
            self._hold(len(left))
            while self._held and self._wait.full:
                self._wait(self._connection, select.POLLOUT)
                self.push()

    def push(self) -> int:
        """Send what the client takes now; the bytes. Raises OSError when it takes no more."""
        pushed = 0
        while self._rest:
            first = self._rest[0]
            left: memoryview | _Part
            if isinstance(first, _Part):
                sent = self._send_file(*first)
                left = first._replace(offset=first.offset + sent, length=first.length - sent)
                done = not left.length
            else:
                sent = self._send((first,))
                left, done = first[sent:], sent == len(first)
                self._hold(-sent)
            pushed += sent
            if not done:
                self._rest[0] = left
                break
            self._forget_first()
        return pushed

    def drop(self) -> None:
        while self._rest:
            self._forget_first()
        self._hold(-self._held)

    def _hold(self, size: int) -> None:
        self._held += size
        self._wait.hold(size)

    def _forget_first(self) -> None:
        first = self._rest.popleft()
        if isinstance(first, _Part):
            os.close(first.descriptor)

    def _send(self, data: tuple[bytes | memoryview, ...], flags: int = 0) -> int:
        try:
            return self._connection.sendmsg(data, (), socket.MSG_DONTWAIT | flags)
        except BlockingIOError:
            return 0

    def _send_file(self, descriptor: int, offset: int, count: int) -> int:
        self._connection.setblocking(False)  # there is no other way to say so to `sendfile`
        sent = 0
        try:
            while sent < count:
                more = os.sendfile(
                    self._connection.fileno(), descriptor, offset + sent, count - sent
                )
                if not more:
                    raise ConnectionResetError(errno.ECONNRESET, "the file has become shorter")
                sent += more
        except BlockingIOError:
            pass
        return sent
