"""A render process, as its worker sees it."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
from dataclasses import replace

from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded
from thumbproxy.rendering.allowance import Allowance
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.messages import (
    HEAD,
    Reply,
    check_picture,
    header_length,
    order,
    read_hello,
    read_reply,
)

_AT_ONCE = 1 << 20


class Gone(Exception):
    """The process has ended, or has hung up."""


class RenderProcess:
    """One process and the connection to it; for one thread at a time.

    What is waited for has a deadline: then TimeoutError is raised, or TooSlow while it works, and
    the process is of no more use. Gone and Garbled, too, are the end of it.

    sandbox   what keeps it in, once it has said so
    done      how many tasks it has ended
    resident  memory that it has, bytes, as it said last
    """

    def __init__(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self.pid = pid
        self.sandbox: dict[str, str] | None = None
        self.done = 0
        self.resident = 0
        self._pidfd = pidfd
        self._connection = connection
        self._allowance: Allowance | None = None  # of what it is working at
        connection.setblocking(False)

    @property
    def usable(self) -> bool:
        """Whether it lives, and says nothing that it has not been asked."""
        unasked = self.sandbox is not None and self._readable(0, self._connection.fileno())
        return not unasked and not self.ends(0)

    def greeted(self, deadline: Deadline) -> dict[str, str]:
        """Its sandbox. Waits until it is ready for work."""
        if self.sandbox is None:
            self.sandbox = read_hello(self._header(deadline))
        return self.sandbox

    def make(self, task: Task, limits: Limits, deadline: Deadline) -> list[Encoded]:
        """The pictures of a task. Raises what the engine there has raised; RenderTooSlow, and
        TooSlow at the deadline."""
        self._allowance = Allowance(task.seconds, f"/proc/{self.pid}")
        try:
            self._send(order(task), deadline)
            self._send(task.source, deadline)
            reply = read_reply(self._header(deadline), task, limits)
            pictures = [
                replace(picture, body=self._receive(length, deadline))
                for picture, length in zip(reply.pictures, reply.lengths, strict=True)
            ]
        except TimeoutError:
            raise self._allowance.too_late() from None
        return self._checked(reply, pictures)

    def _checked(self, reply: Reply, pictures: list[Encoded]) -> list[Encoded]:
        for picture in pictures:
            check_picture(picture.body, picture.format)
        self.done += 1
        self.resident = reply.resident
        if reply.error is not None:
            raise reply.error
        return pictures

    def kill(self) -> None:
        """By its pidfd: nobody else is ever meant, even if it has ended long ago."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ends(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        return self._pidfd < 0 or self._readable(seconds, self._pidfd)

    def close(self) -> None:
        """Forget it. One that waits for work ends by itself."""
        self._connection.close()
        with contextlib.suppress(OSError):
            os.close(self._pidfd)
        self._pidfd = -1

    def _header(self, deadline: Deadline) -> bytes:
        return self._receive(header_length(self._receive(HEAD.size, deadline)), deadline)

    def _send(self, content: bytes, deadline: Deadline) -> None:
        left = memoryview(content)
        while left:
            try:
                left = left[self._connection.send(left) :]
            except BlockingIOError:
                self._await(select.POLLOUT, deadline)
            except OSError:
                raise Gone from None

    def _receive(self, size: int, deadline: Deadline) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = self._connection.recv(min(size, _AT_ONCE))
            except BlockingIOError:
                self._await(select.POLLIN, deadline)
                continue
            except OSError:
                raise Gone from None
            if not part:
                raise Gone
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _await(self, event: int, deadline: Deadline) -> None:
        """Until the connection is ready, or the process has ended.

        The latter is asked for by itself: somebody may have inherited the other end of the
        connection, by a fork of ours at a bad moment, and keep it open.
        """
        poll = select.poll()
        poll.register(self._connection, event)
        poll.register(self._pidfd, select.POLLIN)
        while not (ready := poll.poll(math.ceil(self._until_a_look(deadline) * 1000))):
            if deadline.passed:
                raise TimeoutError
            if self._allowance is not None:
                self._allowance.check()
        if self._connection.fileno() not in (descriptor for descriptor, _ in ready):
            raise Gone

    def _until_a_look(self, deadline: Deadline) -> float:
        pause = self._allowance.pause if self._allowance is not None else math.inf
        return min(pause, deadline.remaining)

    def _readable(self, seconds: float, descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(math.ceil(seconds * 1000)))
