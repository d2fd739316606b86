"""The rules for how long a shared cache may use a response (RFC 9111), without any I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from werkzeug.datastructures import Headers
from werkzeug.http import parse_date, parse_set_header

from thumbproxy.core.media import ClientTerms, Validators
from thumbproxy.http.cache_control import UNSAID, CacheFields, Directives, delta_seconds
from thumbproxy.http.dates import read_date

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
    clients          what it says to those who get the picture from us; None: nothing
    fields           all this as the response had it, and before it the ones that it confirms
    """

    lifetime: float | None
    validators: Validators
    modified: int | None
    storable: bool
    must_revalidate: bool
    stale_while_revalidate: float | None
    stale_if_error: float | None
    clients: ClientTerms | None
    fields: CacheFields


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how long a source counts whose origin does not say, in seconds (RFC 9111, RFC 5861).

    source                  a source is fresh
    stale_while_revalidate  it is served after that while the origin is asked
    stale_if_error          it is served after that if the origin fails
    not_found, failure      an origin that had no picture, or failed, is not asked again
    """

    source: int = 3600
    stale_while_revalidate: int = 86_400
    stale_if_error: int = 7 * 86_400
    not_found: float = 5
    failure: float = 5


def read_freshness(headers: Headers, now: float, stored: CacheFields = UNSAID) -> Freshness:
    """Read a response's headers, received at `now` (unix seconds). Raises nothing.

    stored: what was read of the response that a 304 confirms.
    """
    fields = CacheFields.read(headers, now, stored)
    made = read_date(headers.get("Date", ""), now)
    age = _age(headers, made, now)
    since = now if made is None else made
    # "the cache MUST select the first [...] field with a valid, non-empty value and use its value
    # to determine the caching policy for the response, and it MUST ignore the Cache-Control and
    # Expires header fields" (RFC 9213 section 2.2).
    control = fields.targeted or fields.control or Directives()
    expires = fields.expires if fields.targeted is None else None
    return Freshness(
        lifetime=_lifetime(control, expires, since, age),
        validators=_validators(headers, now),
        modified=last_modified(headers.get("Last-Modified", ""), now),
        storable=not control.no_store and not _is_personal(headers),
        # "A cache MUST NOT generate a stale response if it is prohibited by an explicit
        # in-protocol directive (e.g., by a no-cache response directive, a must-revalidate
        # response directive, or an applicable s-maxage or proxy-revalidate response directive)"
        # (section 4.2.4).
        must_revalidate=control.no_cache
        or control.must_revalidate
        or control.proxy_revalidate
        or control.s_maxage is not None,
        stale_while_revalidate=control.stale_while_revalidate,
        stale_if_error=control.stale_if_error,
        clients=_for_clients(fields.control or Directives(), fields.expires, since, age),
        fields=fields,
    )


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
    date = parse_date(text)
    moment = -1.0 if date is None else date.timestamp()
    return None if moment < 0 else int(min(moment, now))


def _is_personal(headers: Headers) -> bool:
    """Whether a response was made for one client, whatever its directives."""
    if "Set-Cookie" in headers:  # which RFC 9111 does not mind
        return True
    # "A stored response with a Vary header field value containing a member "*" always fails to
    # match" (section 4.1); and of the credentials we never send any.
    vary = parse_set_header(",".join(headers.getlist("Vary")))
    return not _PERSONAL.isdisjoint(name.lower() for name in vary)


def _lifetime(control: Directives, expires: float | None, made: float, age: float) -> float | None:
    """For how long we may use it from now on; None: it does not say."""
    # "the response MUST NOT be used to satisfy any other request without forwarding it for
    # validation and receiving a successful response" (section 5.2.2.4).
    if control.no_cache:
        return 0.0
    # "If the cache is shared and the s-maxage response directive is present, use its value, or
    # if the max-age response directive is present, use its value" (section 4.2.1).
    granted = _granted(control, expires, made) if control.s_maxage is None else control.s_maxage
    # "response_is_fresh = (freshness_lifetime > current_age)" (section 4.2).
    return None if granted is None else max(0.0, granted - age)


def _granted(control: Directives, expires: float | None, made: float) -> float | None:
    """The lifetime of a response in any cache, when it was made."""
    if control.max_age is not None:
        return control.max_age
    # "If the Expires response header field is present, use its value minus the value of the
    # Date response header field" (section 4.2.1).
    return None if expires is None else expires - made


def _for_clients(
    control: Directives, expires: float | None, made: float, age: float
) -> ClientTerms | None:
    """What the response says to caches behind us. CDN-Cache-Control says nothing to them."""
    if control.no_store:
        return ClientTerms(storable=False)
    granted = _granted(control, expires, made)
    if granted is None:
        granted = control.s_maxage  # a browser would guess, and we know better
    if control.no_cache or control.must_revalidate:
        granted = 0.0
    if granted is None:
        return None
    if granted - age < 1:
        return ClientTerms()
    return ClientTerms(
        max_age=int(granted - age),
        s_maxage=None if control.s_maxage is None else max(0, int(control.s_maxage - age)),
        proxy_revalidate=control.proxy_revalidate,
        stale_while_revalidate=control.stale_while_revalidate,
        stale_if_error=control.stale_if_error,
    )


def _age(headers: Headers, made: float | None, now: float) -> float:
    """Seconds since the response was made or confirmed, wherever it has been since then."""
    # "a cache encountering a message with a list-based Age field value SHOULD use the first
    # member of the field value, discarding subsequent ones. If the field value [...] is invalid
    # (e.g., contains something other than a non-negative integer), a cache SHOULD ignore the
    # field" (section 5.1).
    told = delta_seconds(headers.get("Age", "").partition(",")[0].strip())
    # "apparent_age = max(0, response_time - date_value)", "corrected_initial_age =
    # max(apparent_age, corrected_age_value)" (section 4.2.3): caches on the way may tell no Age.
    # Dates are whole seconds. The delay of the response is not added, because lifetimes are counted
    # from when it was asked for.
    return max(told, 0 if made is None else int(now) - made)


def _sendable(headers: Headers, name: str) -> str:
    """A header's value, if it can be sent back as it is; else nothing."""
    value = headers.get(name, "").strip()
    return value if _FIELD_VALUE.fullmatch(value) else ""
