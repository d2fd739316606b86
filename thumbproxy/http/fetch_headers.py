"""Which headers a configuration may add to the requests that fetch sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

# RFC 9110 sections 5.1 and 5.5.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[ -~\t\x80-\xff]*[!-~\x80-\xff])?)?")
# What says whom we ask, how the connection is used, and which reply we can understand.
_OWN = {
    "accept-encoding", "cache-control", "cdn-loop", "connection", "content-length", "expect",
    "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "keep-alive", "max-forwards", "pragma", "proxy-authorization", "proxy-connection", "range",
    "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip


def header_faults(headers: Mapping[Any, Any]) -> Iterator[str]:
    """What is wrong with headers. Names are shown; values, which may be secrets, never are."""
    counts = Counter(name.lower() for name in headers if isinstance(name, str))
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield f"{name!r} cannot be the name of a header"
        elif name.lower() in _OWN:
            yield f"the header {name!r} is set by thumbproxy itself"
        elif counts[name.lower()] > 1:
            yield f"the header {name!r} is there twice, in capitals and not"
        elif not isinstance(value, str):
            yield f"the header {name!r} has a value that is no text"
        elif not _VALUE.fullmatch(value):
            yield (
                f"the header {name!r} cannot be sent: its value has characters that no header may "
                "have, such as a line break at its end"
            )
