"""Reads the bodies of requests before a thread is given to them.

Up to 64 KiB are kept in memory, the rest in an unnamed file where temporary files go. What is
longer than may be kept is not refused: its thread reads on from the client.
"""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from io import FileIO
from typing import Any

from thumbproxy.core.forking import PerProcess
from thumbproxy.core.shortage import reason

log = logging.getLogger(__name__)

# Seconds in which a client has to send so many bytes of a body, or its end.
PATIENCE = 10.0
PACE = 4096
# Bytes of a body that are kept in memory, and those that are kept at all.
_MOST_IN_MEMORY = 64 * 1024
_MOST_OF_ONE = 64 * 1024 * 1024
# Bytes in the files of a process.
_MOST_IN_ALL = 1024 * 1024 * 1024
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*[;\r]")
_LONGEST_LINE = 16 * 1024


class Room:
    """How many bytes of bodies lie in the files of this process."""

    def __init__(self) -> None:
        self._lock = PerProcess(threading.Lock)
        self._used = 0
        self._failing = False

    def take(self, size: int) -> None:
        """So many bytes more, or less."""
        with self._lock.value:
            self._used += size
        if size > 0:
            self._failing = False

    @property
    def full(self) -> bool:
        return self._used >= _MOST_IN_ALL

    def failed(self, error: OSError) -> None:
        if not self._failing:  # once, until it works again
            why = reason(error, tempfile.gettempdir())
            log.warning("bodies of requests cannot be kept in a file: %s", why)
        self._failing = True


class Length:
    """Counts a body with Content-Length. ended: it is whole."""

    malformed = False

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def ended(self) -> bool:
        return not self._left

    def take(self, data: bytes) -> int:
        """How many of these bytes, which come next, are of the body."""
        used = min(self._left, len(data))
        self._left -= used
        return used


class Chunks:
    """Finds the end of a chunked body (RFC 9112 section 7.1).

    ended      it is whole
    malformed  nobody knows where it ends
    """

    def __init__(self) -> None:
        self.ended = self.malformed = False
        self._left = 0  # of the data of a chunk
        self._line = b""
        self._take_line = self._take_size

    def take(self, data: bytes) -> int:
        """How many of these bytes, which come next, are of the body."""
        used = 0
        while used < len(data) and not (self.ended or self.malformed):
            if self._left:
                step = min(self._left, len(data) - used)
                self._left -= step
            else:
                step = (data.find(b"\n", used) + 1 or len(data)) - used
                self._line += data[used : used + step]
                self._look_at_line()
            used += step
        return used

    def _look_at_line(self) -> None:
        if self._line.endswith(b"\r\n"):
            line, self._line = self._line, b""
            self._take_line(line)
        else:
            self.malformed = self._line.endswith(b"\n") or len(self._line) > _LONGEST_LINE

    def _take_size(self, line: bytes) -> None:
        size = _CHUNK_LINE.match(line)
        self.malformed = size is None
        self._left = int(size[1], 16) if size else 0
        self._take_line = self._take_end_of_data if self._left else self._take_trailer

    def _take_end_of_data(self, line: bytes) -> None:
        self.malformed = line != b"\r\n"
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.ended = line == b"\r\n"


class Body:
    """What has come of a body, as it came, chunks and all, until it has been read.

    end  finds it: a Length or Chunks
    """

    def __init__(self, end: Length | Chunks, room: Room) -> None:
        self._end = end
        self._room = room
        self._file: FileIO | None = None
        self._filed = 0
        self._memory = bytearray()  # what follows the file
        self._full = False
        self._reading = False
        self._since = 0

    @property
    def ready(self) -> bool:
        """Whether it is whole, or no more of it can be kept."""
        return self._end.ended or self._full

    @property
    def malformed(self) -> bool:
        """Whether it can never be whole."""
        return self._end.malformed

    def add(self, data: bytes) -> bytes:
        """Keep what comes next; what of it follows the body."""
        used = self._end.take(data)
        self._since += used
        self._memory += data[:used]
        if len(self._memory) > _MOST_IN_MEMORY:
            self._move_to_file()
        return data[used:]

    def in_pace(self) -> bool:
        """Whether enough has come since this was last so."""
        if self._since < PACE:
            return False
        self._since = 0
        return True

    def _move_to_file(self) -> None:
        try:
            if self._file is None:
                unnamed: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see `close`
                self._file = unnamed
            written = self._file.write(self._memory)
        except OSError as error:
            self._room.failed(error)
            self._full = True
            return
        del self._memory[:written]
        self._filed += written
        self._room.take(written)
        self._full = self._filed >= _MOST_OF_ONE or self._room.full

    def read(self, size: int) -> bytes:
        """The next bytes of what has come; none after the last."""
        if self._file is not None:
            if not self._reading:
                self._reading = True
                self._file.seek(0)
            if filed := self._file.read(size):
                return filed
        data = bytes(self._memory[:size])
        del self._memory[:size]
        return data

    def close(self) -> None:
        self._memory.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._room.take(-self._filed)
        self._filed = 0
