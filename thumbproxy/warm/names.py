"""Names of sources: from arguments, lists and folders."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

from thumbproxy.core.escapes import normalized_target
from thumbproxy.core.formats import SOURCE_EXTENSIONS
from thumbproxy.urls.codec import LONGEST_SOURCE, MOST_SEGMENTS

_LONGEST_LINE = 8192


class Entry(NamedTuple):
    """A source, and options as URL text that it has besides those of every variant.

    where: it stands, if that helps to find it: a file and a line.
    """

    source: str
    options: str = "_"
    where: str = ""


class Refused(NamedTuple):
    """Something that names no source. skipped: it was not meant to, and is no failure."""

    where: str
    reason: str
    skipped: bool = False


Found = Entry | Refused


class Names:
    """Turns what stands in lists into names of sources.

    strip      what comes before the name and is taken off; what does not begin with it is skipped
    prepend    what is put before the name then
    locations  where the origins are, folder or URL, -> the prefix of their sources. Used when
               there is no `strip`.
    encoded    those of the prefixes whose sources stand as they are requested
    """

    def __init__(
        self,
        *,
        strip: str = "",
        prepend: str = "",
        locations: Mapping[str, str] | None = None,
        encoded: Container[str] = (),
    ) -> None:
        self._strip = strip
        self._prepend = prepend
        places = [(_below(place), prefix) for place, prefix in (locations or {}).items()]
        self._encoded = encoded
        self._places = sorted(places, key=lambda place: -len(place[0]))  # the nearest first

    def entry(self, text: str, where: str) -> Found:
        """From a name or a URL, perhaps with a tab and options behind it."""
        name, tab, options = text.partition("\t")
        found = self.url(name, where) if "://" in name else self.name(name, where)
        if isinstance(found, Entry) and tab:
            return found._replace(options=options.strip() or "_")
        return found

    def file(self, folder: str, relative: str) -> Found:
        """From a file: named as its origin does, else by its path below `folder`."""
        if not self._strip:
            path = f"{_below(os.path.abspath(folder))}{relative}"
            for place, prefix in self._places:
                if path.startswith(place):
                    return Entry(self._prepend + prefix + path[len(place) :])
        return self.name(relative, relative)

    def name(self, name: str, where: str) -> Found:
        if not name.startswith(self._strip):
            reason = f"elsewhere: {name!r} does not begin with {self._strip!r}"
            return Refused(where, reason, skipped=True)
        return Entry(self._prepend + name[len(self._strip) :], where=where)

    def url(self, url: str, where: str) -> Found:
        url = url.partition("#")[0]
        places = [(self._strip, "")] if self._strip else self._places
        for place, prefix in places:
            if url.startswith(place):
                source = prefix + self._source(url[len(place) :], prefix).lstrip("/")
                return Entry(self._prepend + source, where=where)
        return Refused(where, f"elsewhere: {url} is below no origin", skipped=True)

    def _source(self, target: str, prefix: str) -> str:
        if self._prepend + prefix in self._encoded:
            return normalized_target(target)
        # The query stays as it is: so it stands in a source.
        path, mark, query = target.partition("?")
        return unquote(path) + mark + query


def looks_like_picture(name: str) -> bool:
    """By its extension: for what lists everything there is."""
    return name.rpartition(".")[2].lower() in SOURCE_EXTENSIONS


def from_lines(lines: Iterable[bytes], names: Names, label: str) -> Iterator[Found]:
    """One source a line; empty lines and those that begin with # are left out."""
    for number, line in enumerate(lines, 1):
        where = f"{label}, line {number}"
        if len(line) > _LONGEST_LINE:
            yield Refused(where, f"bad-line: more than {_LONGEST_LINE} bytes")
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n ")
        except UnicodeError:
            yield Refused(where, "bad-line: not UTF-8")
            continue
        if text and not text.startswith("#"):
            yield names.entry(text, where)


def from_file(file: str, names: Names) -> Iterator[Found]:
    with open(file, "rb") as opened:
        yield from from_stream(opened, names, file)


def from_stream(file: BinaryIO, names: Names, label: str) -> Iterator[Found]:
    # readline, not larger blocks: what stands in a pipe is warmed before more is written to it.
    lines = iter(partial(file.readline, _LONGEST_LINE + 1), b"")
    return from_lines(bounded_lines(lines), names, label)


def bounded_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of chunks of any size; of one that is too long only so much that it shows."""
    pending = b""
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines
        # A file without line ends must not come to lie in memory whole.
        pending = pending[: _LONGEST_LINE + 1]
    if pending:
        yield pending


def from_folder(folder: str, names: Names) -> Iterator[Found]:
    """The pictures below a folder, by their extension, in the order of their names.

    Only regular files; neither links nor what is hidden, which no source can be. What is deeper
    than sources may be, and folders that cannot be read, are told and passed over.
    """
    stack = [_listed(folder, "")]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, Refused):
            yield found
        elif not found.endswith("/"):
            yield names.file(folder, found)
        elif len(stack) >= MOST_SEGMENTS or len(os.fsencode(found)) >= LONGEST_SOURCE:
            yield Refused(found, "bad-source: deeper than sources may be; nothing below is listed")
        else:
            stack.append(_listed(folder, found))


def _listed(folder: str, below: str) -> Iterator[str | Refused]:
    """What one folder has, in order; folders with a slash."""
    try:
        with os.scandir(os.path.join(folder, below)) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        if not below:
            raise
        yield Refused(below, f"unreadable: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield f"{below}{entry.name}/"
        elif entry.is_file(follow_symlinks=False) and looks_like_picture(entry.name):
            yield below + entry.name


def _below(place: str) -> str:
    return place.rstrip("/") + "/"
