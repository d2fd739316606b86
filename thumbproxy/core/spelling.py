"""Names that differ in Unicode's normalization alone (UAX 15): "é" is one character (NFC), or two,
as on disks of macOS (NFD). To us, and to most file systems, these are two names; some file systems,
and some HTTP servers, take them for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from unicodedata import normalize

# Bytes that a segment may have on disk. A few characters take more in the composed form.
_LONGEST_SEGMENT = 255
_MOST = 8  # three such segments; CloudFront takes 15 paths at a time


def composed(name: str) -> str:
    """A source or folder in the form that all spellings of it share."""
    if name.isascii():
        return name
    return "/".join(map(_composed, name.split("/")))


def spellings(name: str) -> Iterator[str]:
    """The names that a source or folder may have besides its own, and that: each segment composed,
    decomposed, or as it is; where there are many such segments, all of them in one form."""
    segments = [_forms(segment) for segment in name.split("/")]
    if prod(map(len, segments)) <= _MOST:
        yield from map("/".join, product(*segments))
    else:
        yield from _forms(name)


def _composed(segment: str) -> str:
    found = normalize("NFC", segment)
    return found if len(found.encode()) <= _LONGEST_SEGMENT else segment


def _forms(name: str) -> list[str]:
    return list(dict.fromkeys((name, normalize("NFC", name), normalize("NFD", name))))
