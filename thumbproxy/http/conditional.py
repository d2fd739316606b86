"""Conditional requests and ranges (RFC 9110 sections 13 and 14): pure rules, no I/O.

werkzeug has such rules too. They are not used because they take If-Match for a reason to answer
304, let an If-None-Match that names nothing fall through to the date, match tags without quotes,
and refuse a suffix longer than the picture; its dates raise on a year that no clock can show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from werkzeug.http import parse_date

# A request with none of these, as nearly all are, gets the whole picture.
CONDITIONS = frozenset(
    {"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE",
     "HTTP_RANGE"}
)  # fmt: skip

# The three forms of an HTTP-date (section 5.6.7). What is looser is no date at all: "A recipient
# MUST ignore the If-Modified-Since header field if the received field value is not a valid
# HTTP-date".
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]{5,8}, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}",
    re.ASCII,
)
# One range. A number too long to be a position anywhere makes the field invalid, so it is ignored.
_BYTE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


def precondition(environ: Mapping[str, Any], etag: str, modified: int) -> int:
    """200 to go on, 304 or 412: the steps of section 13.2.2, in its order.

    For GET and HEAD of something that exists. etag: quoted and strong. modified: unix seconds.
    """
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:  # step 1
        if not _strong_match(if_match, etag):
            return 412
    else:  # step 2
        date = _seconds(environ.get("HTTP_IF_UNMODIFIED_SINCE"))
        if date is not None and modified > date:
            return 412
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:  # step 3
        return 304 if _weak_match(if_none_match, etag) else 200
    date = _seconds(environ.get("HTTP_IF_MODIFIED_SINCE"))  # step 4
    return 304 if date is not None and modified <= date else 200


def byte_range(
    environ: Mapping[str, Any], etag: str, last_modified: str, length: int
) -> range | None:
    """The bytes that are asked for; None for all of them, empty when there are none there.

    Several ranges, other units and what is malformed count as no Range at all (section 14.2:
    a server "MAY ignore" it). last_modified: as in our header. length: bytes of the picture.
    """
    wanted = environ.get("HTTP_RANGE")
    # "A server MUST ignore a Range header field received with a request method that is
    # unrecognized or for which range handling is not defined." (section 14.2)
    if wanted is None or environ["REQUEST_METHOD"] != "GET":
        return None
    # Section 13.1.5 wants the strong comparison, and dates to match exactly: so text equals text.
    if environ.get("HTTP_IF_RANGE", etag) not in (etag, last_modified):
        return None
    match = _BYTE_RANGE.fullmatch(wanted)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        if last and int(last) < int(first):
            return None
        return range(int(first), min(int(last) + 1, length) if last else length)
    # "If the selected representation is shorter than the specified suffix-length, the entire
    # representation is used." (section 14.1.2)
    return range(max(0, length - int(last)), length) if last else None


def _weak_match(tags: str, etag: str) -> bool:
    """Section 8.8.3.2. Our tag has its quotes, and those are in no other tag of a list."""
    return tags == "*" or etag in tags


def _strong_match(tags: str, etag: str) -> bool:
    """As the weak one, but W/"x" is no match for "x"."""
    return tags == "*" or re.search(f"(?<!/){re.escape(etag)}", tags) is not None


def _seconds(date: str | None) -> int | None:
    """Unix seconds of an HTTP-date; None for what is none."""
    if date is None or not _HTTP_DATE.fullmatch(date):
        return None
    parsed = parse_date(date)
    return None if parsed is None else int(parsed.timestamp())
