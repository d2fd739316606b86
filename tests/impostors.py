"""Servers that listen where a memcached should, and say what they like."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import servers

_STORES = re.compile(rb"(?:set|add|cas) \S+ \d+ \d+ (\d+)(?: \d+)?\r\n")


class Talk:
    """One connection to an impostor.

    command, names  of the question that came last
    """

    def __init__(self, connection: socket.socket, served: Impostor) -> None:
        self._connection = connection
        self._served = served
        self._lines = connection.makefile("rb")
        self.command, self.names = b"", [b""]

    def next(self) -> bool:
        """Whether another question came; it has been read whole."""
        line = self._lines.readline()
        words = line.split()
        if not words or words == [b"quit"]:
            return False
        self.command, self.names = words[0], words[1:]
        if store := _STORES.match(line):
            self._lines.read(int(store[1]) + 2)
            self.names = words[1:2]
        self._served.asked.append(self.command)
        return True

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self._connection.sendall(part)
            self._served.sent += len(part)

    def value(self, name: bytes, value: bytes, length: bytes = b"", flags: bytes = b"0") -> bytes:
        """A value as a server gives it, with a token where one was asked for."""
        token = b" 1" if self.command == b"gets" else b""
        said = length or b"%d" % len(value)
        return b"VALUE %s %s %s%s\r\n%s\r\n" % (name, flags, said, token, value)

    def drip(self, text: bytes, seconds: float = 0.03) -> None:
        """A byte at a time, until the other side has had enough."""
        for byte in text:
            if self._served.over.wait(seconds):
                return
            self.say(bytes([byte]))

    def reset(self) -> None:
        """End the connection without a proper goodbye (RFC 9293 section 3.5.2)."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
        self._connection.close()


Says = Callable[[Talk], None]


@dataclass
class Impostor:
    """asked: the commands that came; sent: bytes that went out; says: what is answered now."""

    port: int
    says: Says
    asked: list[bytes] = field(default_factory=list)
    sent: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"{servers.HOST}:{self.port}"


@contextmanager
def impostor(says: Says) -> Iterator[Impostor]:
    """A server that answers each question by `says`; what is not an answer ends a connection."""
    with socket.create_server((servers.HOST, 0)) as listener:
        served = Impostor(listener.getsockname()[1], says)
        connections: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def talk(connection: socket.socket) -> None:
            with contextlib.suppress(OSError, ValueError), connection:
                talk = Talk(connection, served)
                while talk.next():
                    served.says(talk)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])
                    threads.append(threading.Thread(target=talk, args=connections[-1:]))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield served
        finally:
            served.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)
