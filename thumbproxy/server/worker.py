"""gunicorn's worker with threads, extended so that slow clients occupy no thread."""

from __future__ import annotations

import errno
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.util import unquote_to_wsgi_str
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from thumbproxy.http.forwarding import TRUSTED
from thumbproxy.http.responses import refusal
from thumbproxy.server.buffered_io import Wait
from thumbproxy.server.connection import (
    Connection,
    allowed_files,
    end_of_body,
    last_words,
    settle_lists,
)
from thumbproxy.server.metrics_files import reserve
from thumbproxy.server.request_bodies import PATIENCE, Body, Room
from thumbproxy.server.sending import SendingWorker

# What `accept` fails with while there are too many files or too little memory.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Open files that a client takes, its connection and the file that it is sent; and what is left for
# caches, origins and renders.
_FILES_OF_A_CLIENT = 2
_OTHER_FILES = 128
# The signals by which a server is stopped.
STOPPING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def quieten() -> None:
    """Leave out of gunicorn's log how it ends, one line for each process."""
    logging.getLogger("gunicorn.error").setLevel(logging.WARNING)


def call_process(name: str) -> None:
    """What `ps -o comm` shows of this process, up to 15 letters."""
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(name)


class Worker(SendingWorker):
    """Serves plain HTTP/1.1; with TLS or HTTP/2 of its own it is gunicorn's worker.

    Connections come here, to the main thread, whenever they wait for a client; a thread has one
    while it reads the head of a request, and from the end of its body until its reply is made.

    Seconds that a client has, until it is hung up on:
    head     for a request's head, from its first byte, or from the connection
    body     for each 4 KiB of a request's body, or its end
    """

    head_seconds = 10.0
    body_seconds = PATIENCE
    wsgi: Callable[..., Iterable[bytes]]
    worker_connections: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plain = not self.cfg.is_ssl and self.cfg.http_protocols == ["h1"]
        self._wait = Wait(max(1, self.cfg.threads // 2))
        self._wait.hurried = lambda: not self.alive
        self._room = Room()
        self._ignores_body: Callable[[str], bool] = lambda _: False
        self._swept = 0.0
        self._current = threading.local()

    def init_process(self) -> None:
        # Until gunicorn has its own handlers, the signals to stop would be lost, and the master
        # would wait for us in vain.
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "alive", False))
        for name in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(name, self.handle_quit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        room = (allowed_files() - _OTHER_FILES) // _FILES_OF_A_CLIENT
        self.worker_connections = max(self.cfg.threads + 1, min(self.worker_connections, room))
        self.max_keepalived = self.worker_connections - self.cfg.threads
        reserve()
        call_process("thumb-worker")
        super().init_process()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """gunicorn's hook: end at once. What is being loaded then would end in tracebacks."""
        if not self.booted:
            os._exit(0)
        quieten()
        super().handle_quit(sig, frame)

    # -- requests come ---------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        try:
            if self._plain:
                self._welcome(listener)
            else:
                super().accept(listener)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self.log.warning("no connection can be accepted for now: %s", error.strerror)
            time.sleep(0.05)  # it would be tried again at once

    def _welcome(self, listener: socket.socket) -> bool:
        """Accept a connection; whether there was one."""
        try:
            accepted, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        self.nr_conns += 1
        conn = Connection(self.cfg, accepted, (client, listener.getsockname()), self._wait)
        if not conn.read():
            self._close(conn)
        elif conn.ready:
            self.enqueue_req(conn)
        else:
            self._await(conn, self.pending_conns, self.head_seconds)
        return True

    def _await(self, conn: Connection, queue: deque[Connection], seconds: float) -> None:
        """Until a request comes. Those in a queue all wait for the same time, in its order."""
        conn.timeout = time.monotonic() + seconds
        conn.queue = queue
        queue.append(conn)
        if not conn.watched:
            conn.watched = True
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))

    def _read(self, conn: Connection, _: socket.socket) -> None:
        if conn.queue is None:
            # A thread has it. Most clients say nothing until they have its reply, so it was
            # watched on, which costs less than to take it out and to put it back. If the thread
            # was done a moment ago, it is watched for something else.
            if conn not in self._engaged:
                self._unwatch(conn)
            return
        alive = conn.read()
        if alive and not conn.ready:
            if conn.queue is self.keepalived_conns:  # its head has begun
                conn.queue.remove(conn)
                self._await(conn, self.pending_conns, self.head_seconds)
            return
        conn.queue.remove(conn)
        conn.queue = None
        if alive:
            self.enqueue_req(conn)
        else:
            self._close(conn)

    @property
    def _body_patience(self) -> float:
        return self.body_seconds if self.alive else min(self.body_seconds, STOP_KEEPALIVE_LINGER)

    def _gather(self, body: Body, conn: Connection) -> None:
        """A body goes to no thread before it is whole: however slowly it comes, it keeps nobody
        else waiting."""
        try:
            alive = conn.gather(body)
        except OSError:
            self._close(conn)
            return
        if body.malformed or not (alive or body.ready):
            self._refuse(conn, 400, "The body of this request is malformed or cut off.")
        elif body.ready:
            self._disengage(conn)
            self.enqueue_req(conn)
        elif body.in_pace():
            conn.timeout = time.monotonic() + self._body_patience

    def _refuse(self, conn: Connection, status: int, reason: str) -> None:
        """For a client that still listens; there is no next request on this connection."""
        self._disengage(conn)
        conn.forget_body()
        conn.stays = False
        try:
            conn.out.sendall(last_words(refusal(status, reason)))
        except OSError:
            self._close(conn)
            return
        self._deliver(conn)

    # -- threads answer them -----------------------------------------------------------------

    def load_wsgi(self) -> None:
        super().load_wsgi()
        app = self.wsgi
        self._ignores_body = getattr(app, "ignores_body", self._ignores_body)

        def patient(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            reply = start_response.__self__  # it is a method of gunicorn's
            environ[TRUSTED] = reply.req._peer_is_trusted_proxy
            if self._plain:
                reply.sock = self._current.conn.out
                reply.sock.begin()
            return app(environ, start_response)

        self.wsgi = patient

    def handle(self, conn: Any) -> Any:
        if self._plain:
            if conn.body is None and conn.too_long:
                self.handle_error(None, conn.sock, conn.client, LimitRequestHeaders("too long"))
                return False
            conn.init()
            self._current.conn = conn
        stays = super().handle(conn)
        if self._plain:
            conn.out.end()
        return stays

    def handle_request(self, req: Any, conn: Any) -> Any:
        settle_lists(req)
        if not self._plain:
            return super().handle_request(req, conn)
        if req._expected_100_continue:
            # gunicorn would wait for ever for a client that reads nothing.
            req._expected_100_continue = False
            conn.out.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if conn.body is None and self._awaits_body(req, conn):
            return False  # it comes here once more
        return super().handle_request(req, conn)

    def _awaits_body(self, req: Any, conn: Connection) -> bool:
        """Whether something of the body of a request is wanted, and not there."""
        end = end_of_body(req)
        if end is None or self._ignores_body(unquote_to_wsgi_str(req.path)):
            return False
        return conn.await_body(end, self._room)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """gunicorn's hook, in the main thread: a thread is done with a connection."""
        if not self._plain:
            super().finish_request(conn, fs)
            return
        body = conn.awaited_body
        if body is not None and body.malformed:
            self._refuse(conn, 400, "The body of this request is malformed.")
            return
        if body is not None:
            step = partial(self._gather, body)
            self._engage(conn, selectors.EVENT_READ, step, self._body_patience)
            return
        conn.forget_body()
        conn.stays = not fs.cancelled() and fs.exception() is None and bool(fs.result())
        self._deliver(conn)

    def _go_on(self, conn: Connection) -> None:
        conn.take_back()
        if conn.ready:
            self.enqueue_req(conn)
        elif conn.head:
            self._await(conn, self.pending_conns, self.head_seconds)
        else:
            seconds = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
            self._await(conn, self.keepalived_conns, seconds)

    # -- time passes -------------------------------------------------------------------------

    def murder_pending(self) -> None:
        """gunicorn's hook, after each round of events: close what has waited for too long."""
        super().murder_pending()
        now = time.monotonic()
        if now - self._swept < 1:
            return
        self._swept = now
        for conn in [conn for conn in self._engaged if conn.timeout < now]:
            if conn.awaited_body:
                self._refuse(conn, 408, "The body of this request did not come in time.")
            else:
                self._close(conn)

    def set_accept_enabled(self, enabled: bool) -> None:
        """When we stop, accept all whom the kernel has let in, and let in no more.

        Else those who come while others are still being answered would be cut off unheard. The
        listeners of other processes stay open.
        """
        if enabled or self.alive or not self._plain:
            super().set_accept_enabled(enabled)
            return
        super().set_accept_enabled(False)
        for listener in self.sockets:
            listener.setblocking(False)
            with suppress(OSError):
                while self._welcome(listener):
                    pass
            listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in (*self.pending_conns, *(conn for conn in self._engaged if conn.awaited_body)):
            conn.timeout = min(conn.timeout, deadline)
