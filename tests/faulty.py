"""An HTTP server that misbehaves exactly as told, byte by byte, for tests.

    with FaultyOrigin({"/cat.jpg": sends(b"HTTP/1.1 200 OK\\r\\n...")}) as origin:
        ... origin.url + "/cat.jpg" ...
        assert origin.requests[0].headers["host"] == ...

A script gets the `Exchange` of one request and may do with its socket what it likes. The
connection is kept for another request when it returns True, and closed otherwise. Whatever waits
in here ends when the server is closed, so that no test waits for time.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

Script = Callable[["Exchange"], object]


class Exchange:
    """One request as it came, and the socket to answer it on."""

    def __init__(self, connection: socket.socket, head: bytes, stopped: threading.Event) -> None:
        self.connection = connection
        self.head = head
        self._stopped = stopped
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:] if line)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        """A byte at a time, with a pause of `every` seconds before each."""
        for byte in data:
            if self._stopped.wait(every):
                return
            self.send(bytes([byte]))

    def hang(self) -> None:
        """Say nothing more, for as long as the server lives."""
        self._stopped.wait()

    def reset(self) -> None:
        """End the connection with RST."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


def sends(*pieces: bytes, keep: bool = False) -> Script:
    """Answers with these bytes, then closes (or keeps) the connection."""

    def script(exchange: Exchange) -> bool:
        for piece in pieces:
            exchange.send(piece)
        return keep

    return script


def replies(
    body: bytes = b"", *headers: str, status: str = "200 OK", length: int | str | None = -1
) -> Script:
    """A well-formed reply, kept alive. length: -1 the true one, None for no header."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return sends("\r\n".join([*lines, "", ""]).encode("latin-1") + body, keep=length == -1)


class FaultyOrigin:
    """A server on a port of 127.0.0.1. routes: path -> script; others are answered with 404."""

    def __init__(self, routes: Mapping[str, Script] | Script, *, host: str = "127.0.0.1") -> None:
        self._routes = routes
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # "::" listens for IPv4 as well.
        self._listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
        self.host, self.port = self._listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else self.host}:{self.port}"
        self.requests: list[Exchange] = []
        self.connections = 0
        self._callers: set[int] = set()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        # Only shutdown() wakes a thread that waits in accept() or recv().
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} did not end"
        self._listener.close()

    def reached(self) -> int:
        """How many connections there have been, of which those count that nobody has accepted yet.

        They are accepted in their order, so that when one of ours is, all before it are.
        """
        target = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        with self._lock:
            before = self.connections
        with socket.create_connection((target, self.port), 10) as probe:
            port = probe.getsockname()[1]
            while port not in self._callers:
                assert not self._stopped.wait(0.001), "it is closed"
        with self._lock:
            self.connections -= 1
            assert self.connections >= before
            return self.connections

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, caller = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
                self.connections += 1
                self._callers.add(caller[1])
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            while head := _read_head(connection):
                exchange = Exchange(connection, head, self._stopped)
                self.requests.append(exchange)
                if not self._script(exchange)(exchange):
                    return
        except OSError:  # the client went away, as some are meant to
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _script(self, exchange: Exchange) -> Script:
        if callable(self._routes):
            return self._routes
        path = exchange.target.partition("?")[0]
        return self._routes.get(path, replies(b"no such file", status="404 Not Found"))


def _read_head(connection: socket.socket) -> bytes:
    """One request's head; nothing when the client closes. Bodies are taken in and dropped."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(65536)
        if not received:
            return b""
        head += received
    head, _, body = head.partition(b"\r\n\r\n")
    announced = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    missing = int(announced[1]) - len(body) if announced else 0
    while missing > 0 and (received := connection.recv(min(missing, 65536))):
        missing -= len(received)
    return head


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
