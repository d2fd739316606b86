"""Structured fields (RFC 9651): the values of newer HTTP header fields. Dictionaries only."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Of a member's value only what we use is told apart: an integer, a boolean, a string. All others
# are the text that they were written as.
Value = bool | int | str | bytes

_KEY = r"[a-z*][a-z0-9_\-.*]*"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_ITEM = (
    r"(?:"
    r"-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])"  # a decimal
    r"|@?-?[0-9]{1,15}(?![0-9.])"  # an integer, a date
    rf"|%?{_STRING}"
    r"|\?[01]"
    r"|:[A-Za-z0-9+/=]*:"  # bytes
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"  # a token
    r")"
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_ITEM})?)*"
_ENTRY = _ITEM + _PARAMETERS
_LIST = rf"\( *(?:{_ENTRY}(?: +{_ENTRY})* *)?\)"
_MEMBER = re.compile(rf"(?P<key>{_KEY})(?:=(?:(?P<item>{_ITEM})|{_LIST}))?{_PARAMETERS}", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)


def dictionary(text: str) -> Mapping[str, Value] | None:
    """The members of a dictionary; None for what is none ("parsing fails", section 4.2).

    An integer is an int, a boolean a bool, a string a str; all else is bytes, as it was written.
    Parameters are left out. Lines of one field are joined by a comma before.
    """
    text = text.strip(" ")
    members: dict[str, Value] = {}
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return None
        # "If dictionary already contains a key this_key [...], overwrite its value" (4.2.2).
        members[member["key"]] = _value(text[member.end("key") : member.end()], member["item"])
        at = member.end()
        if at == len(text):
            return members
        comma = _COMMA.match(text, at)
        if comma is None or comma.end() == len(text):
            return None
        at = comma.end()
    return members


def _value(written: str, item: str | None) -> Value:
    if not written.startswith("="):  # "the value is Boolean true"
        return True
    if item is None:
        return written.encode()
    if _INTEGER.fullmatch(item):
        return int(item)
    if item in ("?0", "?1"):
        return item == "?1"
    if item.startswith('"'):
        return re.sub(r"\\(.)", r"\1", item[1:-1])
    return item.encode()
