"""The work for one source, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from thumbproxy.core.formats import Format
from thumbproxy.urls.codec import AUTO, UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.warm.journal import digest
from thumbproxy.warm.names import Entry
from thumbproxy.warm.variants import Variant, audiences, combined


class Wanted(NamedTuple):
    """One picture: its signed path, percent-encoded, and what its client accepts (`auto`)."""

    path: str
    accepted: tuple[Format, ...] = ()


class Task(NamedTuple):
    """Everything that is wanted of one source. mark: its place in the journal."""

    source: str
    wanted: tuple[Wanted, ...]
    mark: int


class Outcome(NamedTuple):
    """What came of a task. failed: a reason for each picture that is not there now."""

    task: Task
    made: int = 0
    there: int = 0
    failed: tuple[str, ...] = ()


class Stopped(Exception):
    """A person has stopped the run."""


class Warmer(Protocol):
    def warm(self, task: Task) -> Outcome:
        """Have the pictures made. Used by several threads at once. Raises Stopped."""
        ...


class Planner:
    """Turns sources into tasks.

    where  what is warmed, a server or a cache: a journal of one does not count for another
    """

    def __init__(
        self,
        urls: UrlCodec,
        variants: Sequence[Variant],
        auto_formats: Sequence[Format],
        *,
        where: str,
    ) -> None:
        self._urls = urls
        self._variants = [(Options.read(options), format) for options, format in variants]
        self._audiences = audiences(auto_formats)
        self._where = where

    def task(self, entry: Entry) -> Task:
        """Raises BadSource, BadOptions."""
        wanted = []
        for options, format in self._variants:
            if entry.options != "_":
                options = combined(str(options), entry.options)  # noqa: PLW2901
            path = self._urls.build(entry.source, options, format)
            groups = self._audiences if format == AUTO else [()]
            wanted += [Wanted(path, accepted) for accepted in groups]
        names = [
            " ".join([path, *(format.value for format in formats)]) for path, formats in wanted
        ]
        return Task(entry.source, tuple(wanted), digest([self._where, *names]))
