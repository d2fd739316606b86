"""Percent-encoding of request targets: path and query (RFC 3986)."""

from __future__ import annotations

import re
from urllib.parse import quote

# An escape; or what can stand in no target, a lone percent sign among it.
_ODD = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~!$&'()*+,;=:@/?-]")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normalized_target(text: str) -> str:
    """The one spelling of a percent-encoded target: escapes in capitals, none that need not be
    (RFC 3986 sections 6.2.2.1 and 6.2.2.2), and one for each byte that cannot stand there.

    "%2f" -> "%2F", "%41" -> "A", "%zz" -> "%25zz", "é" -> "%C3%A9". Escaped delimiters stay: "%2F"
    and "/" are two things. What it gives it leaves as it is.
    """
    return _ODD.sub(_normalized, text)


def _normalized(odd: re.Match[str]) -> str:
    text = odd[0]
    if len(text) == 1:
        return quote(text, safe="")
    character = chr(int(text[1:], 16))
    return character if _UNRESERVED.fullmatch(character) else text.upper()
