"""Sends responses to clients outside of the threads that made them."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from thumbproxy.server.connection import Connection

# Bytes that a client may still send after its last reply.
_PARTING_BYTES = 64 * 1024
_Step = Callable[[Connection], None]


class SendingWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, whose main thread sends what clients do not take at once.

    Seconds that a client has, until it is hung up on:
    reply    to take something of a reply that waits for it
    parting  to hang up after its last reply
    """

    reply_seconds = 30.0
    parting_seconds = 2.0
    nr_conns: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Connections that have a step taken whenever their client lets us.
        self._engaged: set[Connection] = set()

    def _deliver(self, conn: Connection) -> None:
        """Send what is left of a reply, and go on to what follows it."""
        try:
            if conn.out:
                self._engage(conn, selectors.EVENT_WRITE, self._push, self.reply_seconds)
            else:
                self._sent(conn)
        except (OSError, ValueError):  # the latter if gunicorn has closed it
            self._close(conn)

    def _engage(self, conn: Connection, event: int, step: _Step, seconds: float) -> None:
        """Have a step taken whenever the client lets us, for so long."""
        self._unwatch(conn)
        conn.timeout = time.monotonic() + seconds
        conn.watched = True
        self._engaged.add(conn)
        self.poller.register(conn.sock, event, lambda _: step(conn))

    def _disengage(self, conn: Connection) -> None:
        self._engaged.discard(conn)
        self._unwatch(conn)

    def _push(self, conn: Connection) -> None:
        try:
            if conn.out.push():
                conn.timeout = time.monotonic() + self.reply_seconds
            if conn.out:
                return
        except OSError:
            self._close(conn)
            return
        self._disengage(conn)
        self._sent(conn)

    def _sent(self, conn: Connection) -> None:
        if conn.stays:
            self._go_on(conn)
        else:
            self._part(conn)

    def _go_on(self, conn: Connection) -> None:
        """A reply is sent, and another request may come."""
        raise NotImplementedError

    def _part(self, conn: Connection) -> None:
        """Say that nothing follows, and wait for the client to hang up: if something of it came to
        a closed socket, the kernel would take back what it has not yet received (RFC 9112 9.6)."""
        conn.allowance = _PARTING_BYTES
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        self._engage(conn, selectors.EVENT_READ, self._drain, self.parting_seconds)

    def _drain(self, conn: Connection) -> None:
        conn.head.clear()
        alive = conn.read()
        conn.allowance -= len(conn.head)
        if not alive or conn.allowance < 0:
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        self.nr_conns -= 1
        self._disengage(conn)
        conn.forget()

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched:
            conn.watched = False
            self.poller.unregister(conn.sock)
