"""What pages of other origins may do with our replies: CORS and Cross-Origin-Resource-Policy, both
of the Fetch standard (https://fetch.spec.whatwg.org, "CORS protocol" and the header of that name).

No reply depends on who asks: a client's cookies and authorization never reach an origin. So
credentials are never allowed, and a browser's `use-credentials` fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thumbproxy.http.responses import Header, Headers, Response

_ALL = "*"
_FOR_ALL = "cross-origin"
# What a script may read besides what the standard lets it ("CORS-safelisted response-header name").
_EXPOSED = (
    "Access-Control-Expose-Headers",
    "Accept-Ranges, Age, Cache-Status, Content-Disposition, Content-Range, ETag, Retry-After, "
    "Server-Timing",
)
# What a script may send besides what needs no question: all that counts for a reply.
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    (
        "Access-Control-Allow-Headers",
        "Accept, Cache-Control, If-Match, If-Modified-Since, If-None-Match, If-Range, "
        "If-Unmodified-Since, Range",
    ),
    ("Access-Control-Max-Age", "86400"),  # the most that browsers remember it for
)


class CrossOrigin:
    """Tells browsers whose pages may read and embed what we send.

    origins  of pages whose scripts may read it, as in an Origin header: "https://shop.example.com";
             or "*" alone, for all
    policy   the Cross-Origin-Resource-Policy: whose pages may embed it
    """

    def __init__(self, origins: Sequence[str] = (), policy: str = _FOR_ALL) -> None:
        self._policy = ("Cross-Origin-Resource-Policy", policy)
        self._every: tuple[Header, ...] | None = _grant(_ALL) if _ALL in origins else None
        self._granted = {origin: _grant(origin) for origin in origins}
        self.answers_options = bool(origins)

    def tell(self, headers: Headers, environ: dict[str, Any], *, private: bool = False) -> None:
        """Add to the headers of a reply, of whatever status, what browsers are told.

        private  whether its origin keeps it from shared caches: then nothing says that pages of
                 other sites may embed it
        """
        if not private or self._policy[1] != _FOR_ALL:
            headers.append(self._policy)
        if self._granted:
            headers.append(_EXPOSED)
            headers += self._grant_for(headers, environ)

    def preflight(self, environ: dict[str, Any], methods: str) -> Response:
        """The answer to OPTIONS. methods: that there are at all."""
        headers = [("Allow", methods)]
        grant = self._grant_for(headers, environ)
        if grant:
            headers += [grant[0], *_PREFLIGHT]
        return Response(204, headers, b"")

    def _grant_for(self, headers: Headers, environ: dict[str, Any]) -> Sequence[Header]:
        """What allows the page that asks to read the reply; and a Vary where others get another.

        It is there also for those who get nothing, and for requests without an Origin, or a cache
        would keep the reply for all ("CORS protocol and HTTP caches").
        """
        if self._every is not None:
            return self._every
        accept = ("Vary", "Accept")
        if accept in headers:
            headers[headers.index(accept)] = ("Vary", "Accept, Origin")
        else:
            headers.append(("Vary", "Origin"))
        return self._granted.get(environ.get("HTTP_ORIGIN", "").lower(), ())


def _grant(origin: str) -> tuple[Header, ...]:
    return ("Access-Control-Allow-Origin", origin), ("Timing-Allow-Origin", origin)
