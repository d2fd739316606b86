"""The pictures of a folder: their names, and what a page needs to know of each."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from thumbproxy.core.errors import BadSource
from thumbproxy.core.formats import SOURCE_EXTENSIONS
from thumbproxy.urls.codec import LONGEST_SOURCE, MOST_SEGMENTS, check_source

MOST_PICTURES = 200

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class Picture:
    """A source as the page shows it. Width and height are px and upright; `error` says, in a
    sentence, why it cannot be shown."""

    source: str
    version: str = ""
    width: int = 3
    height: int = 2
    error: str = ""

    @property
    def ratio(self) -> float:
        return self.width / self.height


def list_pictures(folder: Path, limit: int = MOST_PICTURES) -> tuple[list[str], int]:
    """The sources below `folder`, sorted, `limit` at most; and how many there are in all.

    A source is the path below the folder with slashes. Whatever starts with a dot is left out,
    symbolic links to folders are not followed.
    """
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        below = Path(parent).relative_to(folder)
        deepest = len(below.parts) + 1 >= MOST_SEGMENTS or len(bytes(below)) >= LONGEST_SOURCE
        folders[:] = [name for name in folders if not (deepest or name.startswith("."))]
        names += (
            (below / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix[1:].lower() in SOURCE_EXTENSIONS
        )
    names.sort()
    return names[:limit], len(names)


def read_picture(folder: Path, source: str) -> Picture:
    """What the file's header says. A file that cannot be used is a Picture with an error."""
    try:
        check_source(source)
        path = folder / source
        version = version_of(path)
        width, height = _upright_size(path)
    except BadSource as error:
        return Picture(source, error=error.reason)
    except UnidentifiedImageError:
        return Picture(source, error="This file is not a JPEG, PNG, GIF, WebP or AVIF picture.")
    except FileNotFoundError:
        return Picture(source, error="There is no such file.")
    # A damaged header makes Pillow raise almost anything: struct.error, KeyError, MemoryError…
    except Exception as error:  # one bad file must not hide the others
        return Picture(source, error=f"This file cannot be read ({type(error).__name__}).")
    return Picture(source, version, width, height)


def version_of(path: Path) -> str:
    """Another text whenever the file is another: 12 hexadecimal digits of its time and size."""
    stat = path.stat()
    return hashlib.sha256(f"{stat.st_mtime_ns}-{stat.st_size}".encode()).hexdigest()[:12]


def _upright_size(path: Path) -> tuple[int, int]:
    with Image.open(path, formats=_FORMATS) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS:
            width, height = height, width
    return width, height
