"""What the status of an origin's answer says of a picture, and so of the copies of it.

RFC 5861 section 4 lets a stale copy stand for an origin that fails: "an error is any situation that
would result in a 500, 502, 503, or 504 HTTP response status code being returned". That the origin
does not give a picture is none: what was made of it is not served on. The table for people is in
docs/sources.md.
"""

from __future__ import annotations

from http import HTTPStatus

from werkzeug.datastructures import Headers

from thumbproxy.core.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    SourceBlocked,
    SourceNotFound,
    SourceRefused,
    SourceWithdrawn,
)
from thumbproxy.http.cache_control import delta_seconds
from thumbproxy.http.dates import read_date

# About the picture: the origin has answered, and does not give it.
_WITHDRAWN: dict[int, type[SourceWithdrawn]] = {
    HTTPStatus.UNAUTHORIZED: SourceRefused,
    HTTPStatus.PAYMENT_REQUIRED: SourceRefused,
    HTTPStatus.FORBIDDEN: SourceRefused,
    HTTPStatus.NOT_FOUND: SourceNotFound,
    HTTPStatus.GONE: SourceNotFound,
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: SourceBlocked,
}
# About the moment or the connection: who asks again may get the picture (408 and 421, RFC 9110
# section 15.5; 425, RFC 8470 section 5.2; 429, RFC 6585 section 4).
_LATER = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
# All others of the class 4xx are about our request, "something that is perceived to be a client
# error" (400, as which one that is not known counts: RFC 9110 section 15). Whoever asks us has made
# none: it is a fault between the origin and us, which is a 502.

# Seconds. An origin that asks to be spared for longer is asked once in that time.
LONGEST_PAUSE = 3600


def failure_of(
    status: int, headers: Headers, log: str, now: float
) -> SourceWithdrawn | OriginError:
    """The error that an answer is that is neither a picture, nor 304, nor a redirect.

    headers  of the answer; now: unix seconds
    log      what the operator is told
    """
    if status in _LATER:
        return OriginBusy(log=log, retry_after=_retry_after(headers, now))
    return _WITHDRAWN.get(status, OriginFailed)(log=log)


def _retry_after(headers: Headers, now: float) -> int | None:
    """Seconds of Retry-After, "an HTTP-date or a number of seconds" (RFC 9110 section 10.2.3)."""
    said = headers.get("Retry-After", "").strip()
    date = read_date(said, now)
    seconds = delta_seconds(said) if date is None else max(0, round(date - now))
    return min(seconds, LONGEST_PAUSE) or None
