"""Replies as values: a rendition or an error in, status, headers and body out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from werkzeug.http import http_date, is_resource_modified

from thumbproxy.errors import MethodNotAllowed, ThumbproxyError
from thumbproxy.media import Format, Rendition
from thumbproxy.urls import ImageRequest

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
YEAR = 31_536_000

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
# A picture is never a page: what a browser is tricked into opening runs nothing.
_PROTECTION = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
]
_VARY = ("Vary", "Accept")


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP reply; a WSGI application that gives it."""

    status: int
    headers: Headers
    body: bytes

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(_STATUS_LINES[self.status], self.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" or not self.body else [self.body]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """For how long others may keep what we send, in seconds (RFC 9111, RFC 5861)."""

    max_age: int = 30 * 86_400
    stale_while_revalidate: int = 86_400
    stale_if_error: int = 7 * 86_400

    def cache_control(self, request: ImageRequest, rendition: Rendition) -> str:
        if not rendition.storable:
            return "no-store"
        if request.options.expires is not None:
            # Nobody may keep it for longer than its address is good for.
            longest = YEAR if request.options.version else self.max_age
            left = max(0, request.options.expires - int(time.time()))
            return f"public, max-age={min(longest, left)}"
        if rendition.immutable:
            return f"public, max-age={YEAR}, immutable"
        return (
            f"public, max-age={self.max_age}, "
            f"stale-while-revalidate={self.stale_while_revalidate}, "
            f"stale-if-error={self.stale_if_error}"
        )


def image_response(
    request: ImageRequest, rendition: Rendition, environ: Environ, policy: CachePolicy
) -> Response:
    """200 with the picture, or 304 when the client has it."""
    etag = f'"{rendition.modified:x}-{len(rendition.body):x}"'  # as nginx makes it from the file
    headers = [
        ("ETag", etag),
        ("Last-Modified", _http_date(rendition.modified)),
        ("Cache-Control", policy.cache_control(request, rendition)),
        ("Cache-Status", f"thumbproxy; {rendition.cache_status}"),
        ("Content-Disposition", content_disposition(request.source, rendition.format)),
        *_PROTECTION,
    ]
    if request.auto:
        headers.append(_VARY)
    if rendition.timings:
        headers.append(("Server-Timing", _server_timing(rendition)))
    if _not_modified(environ, etag, rendition.modified):
        # RFC 9110 section 15.4.5: the headers that a 200 would have; a body's own are left out.
        return Response(304, headers, b"")
    headers.append(("Content-Type", rendition.format.content_type))
    headers.append(("Content-Length", str(len(rendition.body))))
    return Response(200, headers, rendition.body)


def error_response(error: ThumbproxyError, *, auto: bool) -> Response:
    """A token for machines and a sentence for people, never stored by anyone."""
    body = f"{error.token}: {error.reason}\n".encode("utf-8", "replace")
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *_PROTECTION,
    ]
    if auto:
        headers.append(_VARY)
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", "GET, HEAD"))
    return Response(error.status, headers, body)


def _not_modified(environ: Environ, etag: str, modified: int) -> bool:
    if "HTTP_IF_NONE_MATCH" not in environ and "HTTP_IF_MODIFIED_SINCE" not in environ:
        return False
    return not is_resource_modified(
        environ, etag=etag, last_modified=_http_date(modified), ignore_if_range=True
    )


_http_date = lru_cache(maxsize=4096)(http_date)


@lru_cache(maxsize=4096)
def content_disposition(source: str, format: Format) -> str:
    """`inline` with the source's name and the output's extension (RFC 6266, RFC 8187)."""
    stem = source.rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    name = f"{stem}.{format.extension}"
    ascii_name = re.sub(r"[^A-Za-z0-9 !#$&+.^_`|~()@,=-]", "_", name)
    if ascii_name == name:
        return f'inline; filename="{name}"'
    return f"inline; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _server_timing(rendition: Rendition) -> str:
    """Durations in milliseconds (W3C Server Timing)."""
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in rendition.timings)
