"""Connections of clients: the head of a request is gathered before a thread is given to it."""

from __future__ import annotations

import resource
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any

from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn

from thumbproxy.streams import Incoming, Outgoing, Wait

# Bytes of a request's first line and headers. nginx sends 32 KiB at most.
LONGEST_HEAD = 64 * 1024
# Open files that a process should be allowed.
_FILES = 4096
_CHUNK = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
# SO_LINGER: on, for no time.
_RESET = struct.pack("ii", 1, 0)


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, as gunicorn has it, with what was read and what is to be sent.

    timeout    monotonic time at which it is closed if the client does nothing
    queue      where it waits for a request; None while it does not
    watched    whether the main thread is told when something comes
    stays      whether another request may come when this reply is sent
    allowance  bytes that may still come when nothing more is wanted
    """

    initialized: bool

    def __init__(self, config: Any, connection: socket.socket, ends: Any, wait: Wait) -> None:
        client, server = ends
        super().__init__(config, connection, client, server)
        self.data_ready = True  # never handed to a thread before
        self.head = bytearray()
        self.out = Outgoing(connection, wait)
        self.queue: deque[Connection] | None = None
        self.watched = False
        self.stays = False
        self.allowance = 0
        # gunicorn closes some in a thread. Its number must not be another's while it is watched.
        self._open = connection.makefile("rb", buffering=0)
        self._wait = wait

    def init(self) -> None:
        """gunicorn's hook, in the thread: the parser, which gets what was read so far."""
        if not self.initialized:
            self.initialized = True
            self.parser = get_parser(self.cfg, Incoming(self.sock, self._wait), self.client)
        if self.head:
            self.parser.unreader.unread(bytes(self.head))
            self.head.clear()

    def read(self) -> bool:
        """Gather what has come of a head; False when the client has gone."""
        try:
            data = self.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.head += data
        return bool(data)

    def take_back(self) -> None:
        """Of the next request, what the parser has read already."""
        if self.parser is not None:
            self.head += self.parser.unreader.take_buffered()

    @property
    def ready(self) -> bool:
        """Whether there is a whole head, or more than a head may be."""
        return _END_OF_HEAD in self.head or len(self.head) > LONGEST_HEAD

    @property
    def too_long(self) -> bool:
        """Whether a head goes on behind what it may have. What follows a head, a body or the next
        requests, has come with it, and is none of it."""
        longest = LONGEST_HEAD + len(_END_OF_HEAD)
        return len(self.head) > LONGEST_HEAD and self.head.find(_END_OF_HEAD, 0, longest) < 0

    def close(self, graceful: bool = False) -> None:
        self._open.close()
        super().close(graceful)

    def forget(self) -> None:
        if self.out:  # else the kernel would go on offering what the client does not take
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.out.drop()
        self.close()


def allowed_files() -> int:
    """How many files this process may have open, once it is as many as it should be, if the system
    lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return max(soft, wanted)
