"""Connections of clients: a request is read completely before a thread is given to it."""

from __future__ import annotations

import resource
import socket
import struct
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn
from werkzeug.http import http_date

from thumbproxy.http.responses import Response
from thumbproxy.server.buffered_io import Incoming, Outgoing, Wait
from thumbproxy.server.request_bodies import Body, Chunks, Length, Room

# Bytes of a request's first line and headers. nginx sends 32 KiB at most.
LONGEST_HEAD = 64 * 1024
# Open files that a process should be allowed.
_FILES = 4096
_CHUNK = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
# SO_LINGER: on, for no time.
_RESET = struct.pack("ii", 1, 0)


class _Parser(RequestParser):  # type: ignore[misc]
    """gunicorn's, that gives a request once more when its body has been gathered."""

    again = False

    def __next__(self) -> Any:
        if self.again:
            self.again = False
            return self.mesg
        return super().__next__()


class Connection(TConn):  # type: ignore[misc]
    """A client's connection, as gunicorn has it, with what was read and what is to be sent.

    timeout    monotonic time at which it is closed if the client does nothing
    body       of the request, as far as it was gathered; None for a request without one
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
        self.body: Body | None = None
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
            self._incoming = Incoming(self.sock, self._wait)
            self.parser = _Parser(self.cfg, self._incoming, self.client)
        if self.head and not self.parser.again:
            self.parser.unreader.unread(bytes(self.head))
            self.head.clear()

    def await_body(self, end: Length | Chunks, room: Room) -> bool:
        """In the thread: whether the body of the request is still to be gathered. What of it came
        with the head is taken, and what follows it is the next head."""
        self.body = Body(end, room)
        self._incoming.begin(self.body)
        self.head += self.body.add(self.parser.unreader.take_buffered())
        self.parser.again = not self.body.ready
        return not self.body.ready

    @property
    def awaited_body(self) -> Body | None:
        return self.body if self.body is not None and self.parser.again else None

    def gather(self, body: Body) -> bool:
        """What has come of a body; False when the client says no more. Raises OSError."""
        try:
            data = self.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self.head += body.add(data)
        return bool(data)

    def forget_body(self) -> None:
        if self.body is not None:
            self.body.close()
            self.body = None
            self._incoming.begin(None)

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
            self.head[:0] = self.parser.unreader.take_buffered()

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
        self.forget_body()
        self.close()


def end_of_body(request: Any) -> Length | Chunks | None:
    """What finds the end of the body of a request that gunicorn has parsed; None without one."""
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return Chunks()
    return Length(reader.length) if isinstance(reader, LengthReader) and reader.length else None


def settle_lists(request: Any) -> None:
    """Read those headers as lists that gunicorn takes as they are.

    "If there are multiple Cookie header fields after decompression, these MUST be concatenated into
    a single octet string using the two-octet delimiter of 0x3b, 0x20 (the ASCII string "; ")" (RFC
    9113 section 8.2.3), by whoever comes from HTTP/2, and does not always. WSGI servers join by
    commas, which cookies may contain. And `close` may be one of several connection options (RFC
    9110 section 7.6.1).
    """
    names = [name for name, _ in request.headers]
    if names.count("COOKIE") > 1:
        cookies = [value for name, value in request.headers if name == "COOKIE"]
        others = [(name, value) for name, value in request.headers if name != "COOKIE"]
        request.headers = [*others, ("COOKIE", "; ".join(cookies))]
    if "CONNECTION" in names:
        options = ",".join(value for name, value in request.headers if name == "CONNECTION")
        if "close" in [option.strip() for option in options.lower().split(",")]:
            request.force_close()


def last_words(reply: Response) -> bytes:
    """A reply after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Date: {http_date()}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body


def allowed_files() -> int:
    """How many files this process may have open, once it is as many as it should be, if the system
    lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return max(soft, wanted)
