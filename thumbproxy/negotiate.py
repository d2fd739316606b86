"""Content negotiation: which format an `auto` URL gets (RFC 9110 section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from thumbproxy.media import Format
from thumbproxy.urls import ImageRequest

_LONGEST_ACCEPT = 1000
PREFERENCE = (Format.AVIF, Format.WEBP)


def negotiate(
    request: ImageRequest, accept: str, offered: Sequence[Format] = PREFERENCE
) -> ImageRequest:
    """The request with its format decided; one that names its format is left as it is.

    accept: the Accept header, "" when there is none. offered: best first, the fallback left out.
    """
    if not request.auto:
        return request
    # What is remembered must not be as large as a client likes to send.
    known = accept if len(accept) <= _LONGEST_ACCEPT else ""
    return request.accepting(best(known, tuple(offered), request.format))


@lru_cache(maxsize=512)  # browsers send a handful of different headers
def best(accept: str, offered: tuple[Format, ...], fallback: Format) -> Format:
    """The offered format that the client names with the highest q-value, else the fallback.

    A wildcard names no format: clients that cannot show AVIF or WebP send `*/*` as well.
    """
    named = {name.lower(): q for name, q in parse_accept_header(accept, MIMEAccept)}
    qualities = {format: named.get(format.content_type, 0) for format in offered}
    # max() keeps the first of equals, so our preference decides where the client has none.
    choice = max(offered, key=lambda format: qualities[format], default=fallback)
    return choice if qualities.get(choice) else fallback
