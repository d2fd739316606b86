"""Parses what the headers of a response say about caching (RFC 9111 section 5, RFC 9213)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from werkzeug.datastructures import Headers

from thumbproxy.http.dates import read_date
from thumbproxy.http.structured_fields import dictionary

# "If a cache receives a delta-seconds value greater than the greatest integer it can represent
# [...] the cache MUST consider the value to be 2147483648" (RFC 9111 section 1.2.2).
_LONGEST = 2_147_483_648
_WHOLE = re.compile(r"[0-9]+", re.ASCII)
# A comma within quotes separates nothing; a quote that nobody closes is a character like others.
_DIRECTIVE = re.compile(r'(?:"[^"]*"|[^,])+')
# Every past is the same to a cache.
LONG_AGO = 0.0

_FLAGS = {
    "no-store": "no_store",
    "private": "no_store",
    "no-cache": "no_cache",
    "must-revalidate": "must_revalidate",
    "proxy-revalidate": "proxy_revalidate",
}
_SECONDS = {
    "max-age": "max_age",
    "s-maxage": "s_maxage",
    "stale-while-revalidate": "stale_while_revalidate",
    "stale-if-error": "stale_if_error",
}
# Which may name header fields, and are then strings.
_QUALIFIED = ("private", "no-cache")


class Directives(NamedTuple):
    """The cache directives that count for us (RFC 9111 section 5.2.2, RFC 5861). Times are seconds;
    None: it has none such. What was no number of seconds is 0.

    no_store  also for `private`: what we send goes to anyone. We have no use for a response without
              some of its fields, so `private` and `no-cache` that name some are like the bare ones
    """

    no_store: bool = False
    no_cache: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None


class CacheFields(NamedTuple):
    """What a response says of caching it.

    control   of Cache-Control; None: there is no such field
    targeted  of CDN-Cache-Control, where that is a valid one
    expires   of Expires, unix seconds; LONG_AGO for what is no date
    """

    control: Directives | None = None
    targeted: Directives | None = None
    expires: float | None = None

    @classmethod
    def read(cls, headers: Headers, now: float, stored: CacheFields) -> Self:
        """Of a response that came at `now`, unix seconds. A 304 leaves `stored` as it is where it
        has no such field itself (RFC 9111 section 3.2). Raises nothing."""
        control, targeted, expires = stored
        if "Cache-Control" in headers:
            control = _control(headers.getlist("Cache-Control"))
        if "CDN-Cache-Control" in headers:
            targeted = _targeted(headers.getlist("CDN-Cache-Control"))
        if "Expires" in headers:
            expires = _expires(headers.getlist("Expires"), now)
        return cls(control, targeted, expires)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """What `json` made of one. Raises TypeError, ValueError for anything else."""
        *controls, expires = values
        control, targeted = (None if one is None else Directives(*one) for one in controls)
        return cls(control, targeted, expires)


UNSAID = CacheFields()


def delta_seconds(text: str) -> int:
    """Seconds as a directive has them; 0 for what is no such number."""
    # "Caches are encouraged to consider responses that have invalid freshness information
    # (e.g., a max-age directive with non-integer content) to be stale" (section 4.2.1).
    # Its length is bounded because int() refuses text of some thousand digits.
    if not _WHOLE.fullmatch(text):
        return 0
    return min(int(text), _LONGEST) if len(text) <= 20 else _LONGEST


def _control(lines: Iterable[str]) -> Directives:
    # "When there is more than one value present for a given directive [...], either the first
    # occurrence should be used or the response should be considered stale" (section 4.2.1).
    found: dict[str, Any] = {}
    for name, argument in _pairs(lines):
        if name in _FLAGS:
            found.setdefault(_FLAGS[name], True)
        elif name in _SECONDS:
            found.setdefault(_SECONDS[name], delta_seconds(argument))
    return Directives(**found)


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names, which are "compared case-insensitively", and arguments, which may be quoted (5.2).
    Line by line, so that an open quote in one cannot hide what the next forbids."""
    for line in lines:
        for directive in _DIRECTIVE.findall(line):
            name, _, argument = directive.strip(" \t").partition("=")
            if len(argument) > 1 and argument[0] == argument[-1] == '"':
                argument = argument[1:-1]
            # A space before the "=" is as wrong as one behind it, which is no number.
            yield name.rstrip(" \t").lower(), "" if name[-1:] in (" ", "\t") else argument


def _targeted(lines: Iterable[str]) -> Directives | None:
    # "If a targeted field in a given response is empty, or a parsing error is encountered, that
    # field MUST be ignored" (RFC 9213 section 2.1). A value of another type "SHOULD NOT" be
    # consumed; a field that has one is ignored as well.
    members = dictionary(", ".join(lines))
    if not members or not _well_typed(members):
        return None
    found: dict[str, Any] = {
        field: min(max(0, int(members[name])), _LONGEST)
        for name, field in _SECONDS.items()
        if name in members
    }
    found |= {field: True for name, field in _FLAGS.items() if name in members}
    return Directives(**found)


def _well_typed(members: Mapping[str, object]) -> bool:
    flags = all(
        members[name] is True or (name in _QUALIFIED and isinstance(members[name], str))
        for name in members.keys() & _FLAGS
    )
    return flags and all(type(members[name]) is int for name in members.keys() & _SECONDS)


def _expires(lines: list[str], now: float) -> float:
    # "A cache recipient MUST interpret invalid date formats, especially the value "0", as
    # representing a time in the past (i.e., "already expired")" (section 5.3). So it does several
    # lines, of which nobody can tell which one is meant.
    moment = read_date(lines[0], now) if len(lines) == 1 else None
    return LONG_AGO if moment is None else moment
