"""What an origin's response headers let a shared cache do (RFC 9111). Rules only, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, parse_list_header, parse_set_header

from thumbproxy.media import Validators

# "If a cache receives a delta-seconds value greater than the greatest integer it can represent
# [...] the cache MUST consider the value to be 2147483648" (RFC 9111 section 1.2.2).
_LONGEST = 2_147_483_648
_WHOLE = re.compile(r"[0-9]+")
# What may be sent back as a header line: visible ASCII, obs-text, spaces inside.
_FIELD_VALUE = re.compile(r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
# Seconds after which a date tells versions apart.
_SETTLED = 2.0
_PERSONAL = {"*", "cookie", "authorization"}


@dataclass(frozen=True, slots=True)
class Freshness:
    """What response headers say about keeping and asking again.

    lifetime         seconds for which a copy may be used; None: the origin does not say
    validators       to ask with the next time
    modified         unix seconds of the source's last change; None: the origin does not say
    storable         False: a shared cache may not keep it at all
    must_revalidate  True: a stale copy may not be used while or because the origin is not asked
    stale_while_revalidate, stale_if_error
                     seconds past its lifetime for which it may (RFC 5861); None: it does not say
    """

    lifetime: float | None
    validators: Validators
    modified: int | None
    storable: bool
    must_revalidate: bool
    stale_while_revalidate: float | None
    stale_if_error: float | None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how long a source counts whose origin does not say, in seconds (RFC 9111, RFC 5861).

    source                  a source is fresh
    stale_while_revalidate  it is served after that while the origin is asked
    stale_if_error          it is served after that if the origin fails
    not_found, failure      an origin that had no picture, or failed, is not asked again
    """

    source: float = 3600.0
    stale_while_revalidate: float = 86_400.0
    stale_if_error: float = 604_800.0
    not_found: float = 5.0
    failure: float = 5.0


def read_freshness(headers: Headers, now: float) -> Freshness:
    """Read a response's headers, received at `now` (unix seconds). Raises nothing."""
    control = _directives(headers)
    return Freshness(
        lifetime=_lifetime(headers, control, now),
        validators=_validators(headers, now),
        modified=last_modified(headers.get("Last-Modified", ""), now),
        storable=_storable(headers, control),
        # "A cache MUST NOT generate a stale response if it is prohibited by an explicit
        # in-protocol directive (e.g., by a no-cache response directive, a must-revalidate
        # response directive, or an applicable s-maxage or proxy-revalidate response directive)"
        # (section 4.2.4).
        must_revalidate=not control.keys().isdisjoint(
            ("no-cache", "must-revalidate", "s-maxage", "proxy-revalidate")
        ),
        stale_while_revalidate=_window(control, "stale-while-revalidate"),
        stale_if_error=_window(control, "stale-if-error"),
    )


def _window(control: Mapping[str, str], name: str) -> float | None:
    return _seconds(control[name]) if name in control else None


def _validators(headers: Headers, now: float) -> Validators:
    etag, date = _sendable(headers, "ETag"), _sendable(headers, "Last-Modified")
    modified = last_modified(date, now)
    # "The validator is about to be used by a client [...] and that cache entry includes a Date
    # value which is at least one second after the Last-Modified value" (RFC 9110 section 8.8.2.2);
    # before, the source could change again within the second, and nobody would notice.
    if not etag and modified is not None and now - modified < _SETTLED:
        date = ""
    return Validators(etag, date)


def last_modified(text: str, now: float) -> int | None:
    """Unix seconds of a Last-Modified value; None for none and for what is not a date.

    A moment in the future becomes `now`: "An origin server with a clock MUST NOT generate a
    Last-Modified date that is later than the server's time of message origination"
    (RFC 9110 section 8.8.2.1), and ours would pass it on.
    """
    moment = _date(text)
    if moment is None or moment < 0:
        return None
    return int(min(moment, now))


def _directives(headers: Headers) -> Mapping[str, str]:
    """Cache-Control as lower-case names -> arguments.

    "When there is more than one value present for a given directive [...], either the first
    occurrence should be used or the response should be considered stale" (section 4.2.1).
    """
    found: dict[str, str] = {}
    for item in parse_list_header(",".join(headers.getlist("Cache-Control"))):
        name, _, argument = item.partition("=")
        found.setdefault(name.strip().lower(), argument.strip().strip('"'))
    return found


def _storable(headers: Headers, control: Mapping[str, str]) -> bool:
    # "the no-store cache directive is not present in the response", "if the cache is shared:
    # the private response directive is either not present or allows a shared cache to store a
    # modified response" (section 3). We have no use for a response without some of its fields,
    # so private="field" counts like private.
    if "no-store" in control or "private" in control:
        return False
    # Not of RFC 9111: a reply that sets a cookie was made for one client.
    if "Set-Cookie" in headers:
        return False
    # "A stored response with a Vary header field value containing a member "*" always fails to
    # match" (section 4.1); and of the credentials we never send any.
    vary = parse_set_header(",".join(headers.getlist("Vary")))
    return _PERSONAL.isdisjoint(name.lower() for name in vary)


def _lifetime(headers: Headers, control: Mapping[str, str], now: float) -> float | None:
    granted = _granted(headers, control, now)
    if granted is None:
        return None
    # "response_is_fresh = (freshness_lifetime > current_age)" (section 4.2).
    return max(0.0, granted - _age(headers))


def _granted(headers: Headers, control: Mapping[str, str], now: float) -> float | None:
    """The freshness lifetime when the response was made (section 4.2.1)."""
    # "the response MUST NOT be used to satisfy any other request without forwarding it for
    # validation and receiving a successful response" (section 5.2.2.4).
    if "no-cache" in control:
        return 0.0
    # "If the cache is shared and the s-maxage response directive is present, use its value, or
    # if the max-age response directive is present, use its value" (section 4.2.1).
    for name in ("s-maxage", "max-age"):
        if name in control:
            return _seconds(control[name])
    # "If the Expires response header field is present, use its value minus the value of the
    # Date response header field" (section 4.2.1).
    if "Expires" in headers:
        # "A cache recipient MUST interpret invalid date formats, especially the value "0", as
        # representing a time in the past (i.e., "already expired")" (section 5.3).
        expires = _date(headers["Expires"])
        made = _date(headers.get("Date", ""))
        return 0.0 if expires is None else max(0.0, expires - (now if made is None else made))
    return None


def _seconds(text: str) -> float:
    # "Caches are encouraged to consider responses that have invalid freshness information
    # (e.g., a max-age directive with non-integer content) to be stale" (section 4.2.1).
    # Its length is bounded because int() refuses text of some thousand digits.
    if not _WHOLE.fullmatch(text):
        return 0.0
    return float(min(int(text), _LONGEST)) if len(text) <= 20 else float(_LONGEST)


def _age(headers: Headers) -> float:
    # "a cache encountering a message with a list-based Age field value SHOULD use the first
    # member of the field value, discarding subsequent ones. If the field value [...] is invalid
    # (e.g., contains something other than a non-negative integer), a cache SHOULD ignore the
    # field" (section 5.1).
    return _seconds(headers.get("Age", "").partition(",")[0].strip())


def _date(text: str) -> float | None:
    moment = parse_date(text)
    return None if moment is None else moment.timestamp()


def _sendable(headers: Headers, name: str) -> str:
    """A header's value, if it can be sent back as it is; else nothing."""
    value = headers.get(name, "").strip()
    return value if _FIELD_VALUE.fullmatch(value) else ""
