"""HTTP dates (RFC 9110 section 5.6.7), parsed as a cache must: a value in none of the three formats
is not a date."""

from __future__ import annotations

import calendar
import re
import time
from datetime import datetime

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# "Although all date formats are specified to be case-sensitive, a cache recipient SHOULD match the
# field value case-insensitively", and it "SHOULD consider a date with a zone abbreviation other
# than "GMT" to be invalid for calculating expiration" (RFC 9111 section 4.2).
_FORMATS = tuple(
    re.compile(text, re.IGNORECASE | re.ASCII)
    for text in (
        # Sun, 06 Nov 1994 08:49:37 GMT
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        # Sunday, 06-Nov-94 08:49:37 GMT
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        # Sun Nov  6 08:49:37 1994
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def read_date(text: str, now: float) -> float | None:
    """Unix seconds of an HTTP-date; None for what is none.

    now: unix seconds, by which years of two digits are understood.
    """
    for format in _FORMATS:
        found = format.fullmatch(text)
        if found is not None:
            return _moment(found, now)
    return None


def _moment(found: re.Match[str], now: float) -> float | None:
    year = int(found["year"])
    if len(found["year"]) == 2:
        year = _whole_year(year, now)
    month = _MONTHS.index(found["month"].lower()) + 1
    day, hour, minute, second = (int(found[name]) for name in ("day", "hour", "minute", "second"))
    try:
        # The grammar has a second 60, for leap seconds; datetime has not.
        datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return None
    return (
        float(calendar.timegm((year, month, day, hour, minute, second))) if second <= 60 else None
    )


def _whole_year(year: int, now: float) -> int:
    # "a timestamp that appears to be more than 50 years in the future" is one of "the most recent
    # year in the past that had the same last two digits" (RFC 9110 section 5.6.7).
    this = time.gmtime(now).tm_year
    year += this // 100 * 100
    if year > this + 50:
        return year - 100
    return year + 100 if year <= this - 50 else year
