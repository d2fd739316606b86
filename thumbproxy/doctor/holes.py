"""Known vulnerabilities of decoders that are fixed in a later version.

Only those that a picture from outside can reach here. Sources: the advisories named, the release
notes of Pillow 13.0.0 and of libwebp 1.3.2, dav1d 1.4.0, libavif 1.3.0.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_DOC = Path("/usr/share/doc")


class Hole(NamedTuple):
    """program   the name of the library
    fixed     the first version without it
    id        of the advisory
    what      goes wrong
    package   of Debian, whose changelog tells whether it was mended there; "" if it is not from it
    """

    program: str
    fixed: str
    id: str
    what: str
    package: str = ""


HOLES = (
    Hole("Pillow", "13.0.0", "CVE-2026-112403", "heap overflow in the JPEG decoder"),
    Hole("Pillow", "13.0.0", "CVE-2026-96639", "stale storage after a change of mode"),
    Hole("Pillow", "13.0.0", "CVE-2026-96643", "endless loop over EXIF headers"),
    Hole("libwebp", "1.3.2", "CVE-2023-4863", "heap overflow in the WebP decoder", "libwebp7"),
    Hole("dav1d", "1.4.0", "CVE-2024-1580", "integer overflow in the AV1 decoder", "libdav1d6"),
    Hole("libavif", "1.3.0", "CVE-2025-48174", "heap overflow in the writer", "libavif15"),
)


def known_holes(versions: dict[str, str], doc: Path = _DOC) -> Iterator[Hole]:
    """The holes of what is installed. versions: by program, as they call themselves.

    doc: where Debian keeps changelogs. Distributions mend holes without changing the version.
    """
    for hole in HOLES:
        version = versions.get(hole.program)
        if version and before(version, hole.fixed) and not _mended(hole, doc):
            yield hole


def before(version: str, other: str) -> bool:
    """Whether a version is an earlier one: "12.1.1.post0" is before "13.0.0"."""
    return numbers(version) < numbers(other)


def numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _mended(hole: Hole, doc: Path) -> bool:
    if not hole.package:
        return False
    try:
        with gzip.open(doc / hole.package / "changelog.Debian.gz", "rt", errors="replace") as file:
            return any(hole.id in line for line in file)
    except OSError:
        return False
