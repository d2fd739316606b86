"""Parses XML from the network as it arrives, with all sizes limited.

A document type is refused before anything that it declares is read, so there are no entities
but the five of XML itself, and none that could grow or lead to a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.parsers import expat

_DEEPEST = 16
_LONGEST_TEXT = 8192
_LONGEST_PROLOG = 8192
_LONGEST_TOKEN = 256 * 1024


class BadMarkup(ValueError):
    """It is not XML, or not as harmless as lists of pictures are."""


class _Leaves:
    """Collects the elements that hold only text, by their path."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.begun = False
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._length = 0
        self._fed = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            raise BadMarkup(f"it is not well-formed XML: {error}") from None
        self._fed += len(chunk)
        # Of a comment or a tag that does not end, expat reads all again with every chunk.
        if self._fed - self._parser.CurrentByteIndex > _LONGEST_TOKEN:
            raise BadMarkup(f"a tag or a comment has more than {_LONGEST_TOKEN >> 10} KiB")

    def _doctype(self, name: str, *_: object) -> None:
        raise BadMarkup("it has a DOCTYPE")

    def _start(self, name: str, attributes: object) -> None:
        self.begun = True
        self._path.append(name.rpartition(" ")[2])
        if len(self._path) > _DEEPEST:
            raise BadMarkup(f"its elements are nested more than {_DEEPEST} deep")
        self._text, self._length = [], 0

    def _characters(self, text: str) -> None:
        if self._text is None:
            return
        self._length += len(text)
        if self._length > _LONGEST_TEXT:
            raise BadMarkup(f"an element has more than {_LONGEST_TEXT} characters")
        self._text.append(text)

    def _end(self, name: str) -> None:
        if self._text is not None:
            self.found.append(("/".join(self._path), "".join(self._text).strip()))
        self._text = None
        self._path.pop()


def leaves(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Path (names without namespaces, joined by /) and text of each element without children.

    Raises BadMarkup.
    """
    reader, prolog = _Leaves(), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        # expat reads a chunk to its end whatever a handler says. Byte by byte it has seen nothing
        # of a document type but its name when it is refused.
        while rest and not reader.begun:
            reader.feed(bytes(rest[:1]))
            rest, prolog = rest[1:], prolog + 1
            if prolog > _LONGEST_PROLOG:
                raise BadMarkup(f"nothing begins within {_LONGEST_PROLOG} bytes")
        reader.feed(bytes(rest))
        yield from reader.found
        reader.found.clear()
    reader.feed(b"", last=True)
    yield from reader.found
