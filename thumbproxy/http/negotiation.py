"""Content negotiation: which format an `auto` URL gets (RFC 9110 section 12.5.1).

Two halves: what the client accepts is known at once, what the picture is only when its source is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from thumbproxy.core.formats import Format
from thumbproxy.core.media import ImageInfo
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

_LONGEST_ACCEPT = 1000
_PLAIN = re.compile(r"[A-Za-z0-9!#$&+.^_`|~*/;=, \t-]*")
PREFERENCE = (Format.AVIF, Format.WEBP)
# What every browser shows, and so what a wildcard stands for. Clients that cannot show AVIF or
# WebP send `*/*` as well, so those must be named.
_COMMON = ("image/jpeg", "image/png", "image/gif")


def negotiate(
    request: ImageRequest, accept: str, offered: Sequence[Format] = PREFERENCE
) -> ImageRequest:
    """The request with what its client accepts; one that names its format is left as it is.

    accept: the Accept header, "" when there is none. offered: best first, the fallback left out.
    """
    if not request.auto:
        return request
    # What is remembered must not be as large as a client likes to send. Of what no browser sends
    # (quotes, odd spaces) nginx would think otherwise, and keep what we say for the wrong clients.
    known = accept if len(accept) <= _LONGEST_ACCEPT and _PLAIN.fullmatch(accept) else ""
    return request._replace(accepted=accepted(known, tuple(offered)))


@lru_cache(maxsize=512)  # browsers send a handful of different headers
def accepted(accept: str, offered: tuple[Format, ...]) -> tuple[Format, ...]:
    """The offered formats that the client names, those with the highest q-value first.

    What it wants less than the common formats (JPEG, PNG, GIF) is left out.
    """
    named = {name.lower(): q for name, q in parse_accept_header(accept, MIMEAccept)}
    anything = named.get("image/*", named.get("*/*", 0))
    common = max(named.get(name, anything) for name in _COMMON)
    wanted = [format for format in offered if named.get(format.content_type, 0) > 0]
    # Sorting keeps the order of equals: our preference decides where the client has none.
    return tuple(
        sorted(
            (format for format in wanted if named[format.content_type] >= common),
            key=lambda format: -named[format.content_type],
        )
    )


def resolve_auto_format(
    request: ImageRequest, info: ImageInfo, pixels: int, avif_pixels: int
) -> ImageRequest:
    """The request with its format decided, now that its picture is known.

    pixels: of the output. avif_pixels: the most that are written as AVIF, which is slow.
    """
    animated = info.frames > 1 and not request.options.one_frame
    for format in request.accepted:
        # AVIF is slow to write, the more so for a whole animation, and not exact.
        slow = animated or pixels > avif_pixels or request.options.lossless
        if format is not Format.AVIF or not slow:
            return request.accepting(format)
    return request.accepting(fallback(request.options, info))


def fallback(options: Options, info: ImageInfo) -> Format:
    """What a client gets that names neither AVIF nor WebP."""
    if info.frames > 1 and not options.one_frame:
        return Format.GIF
    clear = options.background is None or len(options.background) == 8
    transparent = clear and (info.has_alpha or options.radius is not None)
    return Format.PNG if transparent or options.lossless else Format.JPEG
