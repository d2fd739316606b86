"""Sources as request targets: from decoded text to what stands in a request line."""

from __future__ import annotations

import re
from urllib.parse import quote

from thumbproxy.errors import SourceNotFound

# What browsers leave as it is in a path. Not "+": object stores read it as a space.
_PATH = "/-._~!$&'()*,;=:@"
_QUERY = _PATH + "?+%"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def request_target(source: str) -> str:
    """Path and query, percent-encoded, of a decoded source.

    In the path a `%` is a character like others. The first `?` begins the query, which whoever
    signed the URL wrote as it is to be sent: escapes in it stay escapes, and only what cannot
    stand in a query (RFC 3986 section 3.4) is encoded.

    Raises SourceNotFound for a path that climbs.
    """
    path, mark, query = source.partition("?")
    # No such source is signed; were one to come here, it would leave the folder of the origin.
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise SourceNotFound
    return quote(path, safe=_PATH) + mark + quote(_LONE_PERCENT.sub("%25", query), safe=_QUERY)
