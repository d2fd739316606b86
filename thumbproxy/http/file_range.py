"""A part of an open file as a WSGI body."""

from __future__ import annotations

from typing import BinaryIO

BLOCK = 128 * 1024


class FilePart:
    """The next `left` bytes of a file, in blocks. Servers close what they iterate (PEP 3333)."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self._left = left
        self.close = file.close

    def __iter__(self) -> FilePart:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        block = self._file.read(min(BLOCK, self._left))
        if not block:  # the server must hang up, or the client waits for the rest
            raise EOFError(f"a cached file ends {self._left} bytes early")
        self._left -= len(block)
        return block
