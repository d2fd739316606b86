"""Converts sources, which are decoded text, to request targets."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from thumbproxy.core.errors import BadSource, SourceNotFound
from thumbproxy.core.escapes import normalized_target

# What browsers leave as it is in a path. Not "+": object stores read it as a space.
_PATH = "/-._~!$&'()*,;=:@"
_QUERY = _PATH + "?+%"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SEPARATORS = re.compile(r"[/\\]")


def request_target(source: str) -> str:
    """Path and query, percent-encoded, of a decoded source.

    In the path a `%` is a character like others. The first `?` begins the query, which whoever
    signed the URL wrote as it is to be sent: escapes in it stay escapes, and only what cannot
    stand in a query (RFC 3986 section 3.4) is encoded.

    Raises SourceNotFound for a path that climbs.
    """
    path, mark, query = source.partition("?")
    # No such source is signed; were one to come here, it would leave the folder of the origin.
    if _climbs(path):
        raise SourceNotFound
    return quote(path, safe=_PATH) + mark + quote(_LONE_PERCENT.sub("%25", query), safe=_QUERY)


def check_encoded(source: str) -> None:
    """Raise BadSource for the source of an `encoded` origin that is not as it is to be sent.

    Each has one spelling, which is the target: so no two of them are one picture, and there is one
    for each target whose segments can be those of a source.
    """
    normalized = normalized_target(source)
    if normalized != source:
        raise BadSource(
            f"The source {source[:80]!r} is of an origin with `encoded`, whose sources stand as in "
            f"a request: write {normalized[:240]!r}."
        )
    # Servers decode before they look for a file.
    if _climbs(unquote(source.partition("?")[0], errors="replace")):
        raise BadSource(f"The source {source[:80]!r} would lead out of the folder of its origin.")


def _climbs(path: str) -> bool:
    return not {".", ".."}.isdisjoint(_SEPARATORS.split(path))
