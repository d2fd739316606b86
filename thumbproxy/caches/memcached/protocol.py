"""A conversation with one memcached server that is not trusted, in its text protocol (its
doc/protocol.txt).

All that is read is bounded before it is read: lines, values, how many of them, and the time.
Whatever a server may not answer to what it was asked is a BadAnswer, after which the conversation
is over: nobody could tell to which question the rest belongs.
"""

from __future__ import annotations

import re
import select
import socket
import time
import weakref
from collections.abc import Collection, Mapping
from typing import NamedTuple

# What a server takes by default, key and all; nothing of ours is larger.
LARGEST_ITEM = 1024 * 1024
# Seconds of silence after which a server has stopped.
SILENCE = 0.05
_SILENCES = 5
# How exactly waiting is measured, and what receiving anything counts for at least.
_SLICE, _LEAST = 0.01, 0.00002
_LONGEST_LINE = 512
_BUFFER = 32 * 1024
_END = b"\r\n"
_NUMBER = rb"(0|[1-9][0-9]{0,%d})"
_VALUE = re.compile(
    rb"VALUE ([0-9a-f]{64}) " + _NUMBER % 9 + b" " + _NUMBER % 6 + rb"(?: ([0-9]{1,20}))?"
)
_REFUSED = b"SERVER_ERROR"
# What each command may be answered with, and whether it is done then.
_STORED = {b"STORED": True, b"NOT_STORED": False}
_OUTCOMES: Mapping[bytes, Mapping[bytes, bool]] = {
    b"set": _STORED,
    b"add": _STORED,
    b"cas": {b"STORED": True, b"EXISTS": False, b"NOT_FOUND": False},
    b"delete": {b"DELETED": True, b"NOT_FOUND": False},
}


class Patience:
    """How long servers may take for a question, everything that belongs to it included: 0.25 s, or
    so many times as much. A value of 1 MB takes 0.1 s at 100 Mbit/s.

    What counts is waiting for them, to within a slice of it for each time that something comes; not
    that this process waits for a processor, or for Python's lock, which is no fault of theirs.
    """

    __slots__ = ("_left",)

    def __init__(self, times: float = 1) -> None:
        self._left = times * _SILENCES * SILENCE

    def wait(self, poll: select.poll) -> None:
        """Until something has come. Raises TimeoutError after SILENCE, or when all is used up."""
        until = max(0.0, self._left - SILENCE)
        while self._left > until:
            began = time.monotonic()
            come = poll.poll(1000 * _SLICE)
            took = time.monotonic() - began if come else _SLICE
            self._left -= max(_LEAST, min(took, _SLICE))
            if come:
                return
        raise TimeoutError("no answer in time" if self._left > 0 else "no whole answer in time")


class BadAnswer(OSError):
    """A server has said what it may not say."""


class Found(NamedTuple):
    """A value, and by what it is known to be the same still; b"" where that was not asked for."""

    value: bytes
    token: bytes


class Conversation:
    """Questions to a server, by one thread at a time. All methods raise OSError, BadAnswer among
    them; then the conversation is over.

    connection  a connected socket
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        weakref.finalize(self, connection.close)  # who is killed in between does not
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._awaited = select.POLLIN
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # what was received and not read yet

    def close(self) -> None:
        self._connection.close()

    @property
    def stands(self) -> bool:
        """Whether the next question can be asked here; not if the server has closed the
        connection since the last. Raises BadAnswer for what was not asked for."""
        if not self._poll.poll(0):
            return True
        try:
            come = self._connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        if come:
            raise BadAnswer("it says what it was not asked")
        return False

    # -- questions -------------------------------------------------------------------------

    def ask(self, command: bytes, names: Collection[bytes], patience: Patience) -> None:
        """Ask for values, by `get` or `gets`. `values` reads the answer."""
        self._send([b"%s %s\r\n" % (command, b" ".join(names))], patience)

    def values(
        self, command: bytes, names: Collection[bytes], patience: Patience
    ) -> dict[bytes, Found]:
        """The answer to `ask`: what there is of it, each once."""
        awaited, found = set(names), dict[bytes, Found]()
        with_tokens = command == b"gets"
        while (line := self._line(patience)) != b"END":
            value = _VALUE.fullmatch(line)
            if value is None or value[1] not in awaited or bool(value[4]) != with_tokens:
                raise BadAnswer(f"it answers {_shown(line)}")
            awaited.remove(value[1])
            body = self._body(int(value[3]), patience)
            # What has flags is not ours. It is no value, but it is there: `add` fails.
            found[value[1]] = Found(body if value[2] == b"0" else b"", value[4] or b"")
        self._finished()
        return found

    def store(
        self, command: bytes, name: bytes, value: bytes, seconds: int, token: bytes,
        patience: Patience,
    ) -> bool:  # fmt: skip
        """`set`, `add`, or `cas` with the token of a value. Whether it is stored."""
        more = b" " + token if token else b""
        head = b"%s %s 0 %d %d%s\r\n" % (command, name, seconds, len(value), more)
        self._send([head, value, _END], patience)
        return self._outcome(command, patience)

    def delete(self, name: bytes, patience: Patience) -> bool:
        self._send([b"delete %s\r\n" % name], patience)
        return self._outcome(b"delete", patience)

    def _outcome(self, command: bytes, patience: Patience) -> bool:
        line = self._line(patience)
        self._finished()
        if line in _OUTCOMES[command]:
            return _OUTCOMES[command][line]
        # It has no room, or takes no value as large as that; but it is well.
        if line.partition(b" ")[0] == _REFUSED:
            return False
        raise BadAnswer(f"it answers {_shown(line)}")

    # -- what is sent and received ---------------------------------------------------------

    def _line(self, patience: Patience) -> bytes:
        while (at := self._buffer.find(_END, self._start, self._end)) < 0:
            if self._end - self._start > _LONGEST_LINE:
                raise BadAnswer("it begins a line that does not end")
            self._fill(patience)
        line = bytes(self._view[self._start : at])
        if len(line) > _LONGEST_LINE:
            raise BadAnswer("it sends too long a line")
        self._start = at + len(_END)
        return line

    def _fill(self, patience: Patience) -> None:
        """Receive more into the buffer, of which a line at most is unread."""
        rest = self._end - self._start
        if self._start:
            self._buffer[:rest] = self._view[self._start : self._end].tobytes()
            self._start, self._end = 0, rest
        self._end += self._receive(self._view[rest:], patience)

    def _body(self, size: int, patience: Patience) -> bytes:
        """A value of so many bytes, and the end of its line."""
        if size > LARGEST_ITEM:
            raise BadAnswer(f"it offers a value of {size} bytes")
        whole = size + len(_END)
        come = min(self._end - self._start, whole)
        body = self._view[self._start : self._start + come]
        self._start += come
        if come < whole:
            more = memoryview(bytearray(whole))
            more[:come] = body
            while come < whole:
                come += self._receive(more[come:], patience)
            body = more
        if body[size:] != _END:
            raise BadAnswer("it sends a value that is not as long as it said")
        return bytes(body[:size])

    def _finished(self) -> None:
        if self._start != self._end:
            raise BadAnswer("it says more than it was asked")

    def _receive(self, into: memoryview, patience: Patience) -> int:
        self._wait(select.POLLIN, patience)
        come = self._connection.recv_into(into)
        if not come:
            raise ConnectionResetError("it has closed the connection")
        return come

    def _send(self, parts: list[bytes], patience: Patience) -> None:
        rest = [memoryview(part) for part in parts]
        while rest:
            try:
                sent = self._connection.sendmsg(rest)
            except BlockingIOError:
                self._wait(select.POLLOUT, patience)
                continue
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][sent:]

    def _wait(self, for_what: int, patience: Patience) -> None:
        if for_what != self._awaited:
            self._poll.modify(self._connection, for_what)
            self._awaited = for_what
        patience.wait(self._poll)


def _shown(line: bytes) -> str:
    """What a server has said, for a log: the beginning, without what a terminal would obey."""
    return repr(line[:40].decode("ascii", "replace"))
