"""Responses as values: from a rendition or an error to status, headers and body."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from werkzeug.http import http_date

from thumbproxy.core.errors import ClientGone, EngineFailed, MethodNotAllowed, ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.core.media import ClientTerms, Rendition
from thumbproxy.core.memo import memoized
from thumbproxy.http.cache_tags import tag_header
from thumbproxy.http.conditional import CONDITIONS, byte_range, precondition
from thumbproxy.http.file_range import BLOCK, FilePart
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.urls.codec import ImageRequest

Environ = dict[str, Any]
Header = tuple[str, str]
Headers = list[Header]
YEAR = 31_536_000
log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_STATUS_LINES[ClientGone.status] = f"{ClientGone.status} Client Closed Request"
# Text of a header (RFC 9110 section 5.5), as far as it is not plain.
_FIELD_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# A picture is never a page: what a browser is tricked into opening runs nothing.
PROTECTION = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)
_VARY = ("Vary", "Accept")
_NO_STORE = ("Cache-Control", "no-store")
_FOR_EVER = ("Cache-Control", f"public, max-age={YEAR}, immutable")
# nginx neither counts `Age` nor takes over the headers of a 304: its copy of what has a lifetime
# would let clients keep that for too long.
_NOT_BY_NGINX = ("X-Accel-Expires", "0")
_CONTENT_TYPE = {format.extension: ("Content-Type", format.content_type) for format in Format}
_CONSTANT = (("Accept-Ranges", "bytes"), *PROTECTION)
_EXTRAORDINARY = re.compile(r"[^A-Za-z0-9 !#$&+.^_`|~()@,=-]")
# What turns a text about, so that "\u202egpw.exe" looks like "exe.wpg"; and breaks of lines.
_MISLEADING = re.compile(r"[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_COPIED = {"Cache-Control", "Content-Disposition", "Accept-Ranges"}
_ANOTHER_ONE = "precondition-failed: This image is not the one that the request is about."
_NOTHING_THERE = "range-not-satisfiable: The image ends before the range that was asked for."


class Response(NamedTuple):
    """One HTTP reply; a WSGI application that gives it (once, if it has a file).

    file    open, sent in place of `body`; closed when it is sent or the client is gone
    part    the bytes of the file that are sent
    """

    status: int
    headers: Headers
    body: bytes
    file: BinaryIO | None = None
    part: range = range(0)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.part) if self.file is not None else len(self.body)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not sendable(chain.from_iterable(self.headers)):
            log.error("a header of a reply is no text of HTTP: %r", self.headers)
            if self.file is not None:
                self.file.close()
            return error_response(EngineFailed(), auto=False)(environ, start_response)
        if self.file is not None:
            return self._from_file(self.file, environ, start_response)
        start_response(_STATUS_LINES[self.status], self.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" or not self.body else [self.body]

    def _from_file(
        self, file: BinaryIO, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        try:
            start_response(_STATUS_LINES[self.status], self.headers)
            file.seek(self.part.start)
            # Of a part, not every server's wrapper heeds the position and the Content-Length;
            # gunicorn's does.
            heeds = self.status == 200 or "gunicorn.socket" in environ
            if heeds and "wsgi.file_wrapper" in environ:
                wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, BLOCK)
                return wrapped
            return FilePart(file, len(self.part))
        except BaseException:
            file.close()
            raise


def sendable(texts: Iterable[str]) -> bool:
    """Whether these names and values can be sent as they are. Every reply that is ours passes here:
    with a line break in one, a header would become two, or a reply two replies.
    """
    text = "".join(texts)
    return (text.isascii() and text.isprintable()) or _FIELD_TEXT.fullmatch(text) is not None


_LIFETIMES = Lifetimes()


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """For how long others may keep what we send, in seconds (RFC 9111, RFC 5861).

    accel   an internal location of nginx whose files are those of the cache directory, like
            "/_thumbproxy": nginx then sends what lies there (X-Accel-Redirect). "" for no nginx
    tagged  headers with tags for a CDN (cache_tags.py)
    origins_count
            whether an origin's own word counts before max_age
    """

    max_age: int = 30 * 86_400
    stale_while_revalidate: int = _LIFETIMES.stale_while_revalidate
    stale_if_error: int = _LIFETIMES.stale_if_error
    accel: str = ""
    tagged: tuple[str, ...] = ()
    origins_count: bool = True
    _usual: Header = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        value = (
            f"public, max-age={self.max_age}, "
            f"stale-while-revalidate={self.stale_while_revalidate}, "
            f"stale-if-error={self.stale_if_error}"
        )
        object.__setattr__(self, "_usual", ("Cache-Control", value))

    def cache_control(self, request: ImageRequest, rendition: Rendition) -> Sequence[Header]:
        """Cache-Control, and what else says how long a reply may be kept."""
        if not rendition.storable:
            return (_NO_STORE,)
        clients = rendition.clients if self.origins_count else None
        if request.options.expires is not None:
            # Nobody may keep it for longer than its address is good for.
            left = max(0, request.options.expires - int(time.time()))
            if clients is not None:
                return _by_origin(ClientTerms(min(clients.max_age, left)))
            longest = YEAR if request.options.version else self.max_age
            return (("Cache-Control", f"public, max-age={min(longest, left)}"),)
        if rendition.immutable:
            return (_FOR_EVER,)
        return (self._usual,) if clients is None else _by_origin(clients)


@lru_cache(maxsize=256)
def _by_origin(clients: ClientTerms) -> tuple[Header, ...]:
    """As the origin said it. How much of it is over, `Age` tells."""
    if not clients.max_age:
        return (("Cache-Control", "no-cache"),)
    seconds = {
        "s-maxage": clients.s_maxage,
        "stale-while-revalidate": clients.stale_while_revalidate,
        "stale-if-error": clients.stale_if_error,
    }
    value = f"public, max-age={clients.max_age}" + ", proxy-revalidate" * clients.proxy_revalidate
    value += "".join(f", {name}={time}" for name, time in seconds.items() if time is not None)
    return ("Cache-Control", value), _NOT_BY_NGINX


def image_response(
    request: ImageRequest, rendition: Rendition, environ: Environ, policy: CachePolicy
) -> Response:
    """200 with the picture, 206 with a part of it, 304, 412 or 416 (RFC 9110).

    The rendition's file is the response's from here on, or it is closed.
    """
    if rendition.file is None:
        return _response(request, rendition, environ, policy)
    response = None
    try:
        response = _response(request, rendition, environ, policy)
    finally:
        if response is None or response.file is None:
            rendition.file.close()
    return response


def _response(
    request: ImageRequest, rendition: Rendition, environ: Environ, policy: CachePolicy
) -> Response:
    picture = _representation(
        request.source, rendition.format.extension, rendition.modified, rendition.length
    )
    told = _circumstances(request, rendition, policy)
    # A 304 would make a copy good again that a cache has from when this could still be kept.
    if rendition.storable and not environ.keys().isdisjoint(CONDITIONS):
        status = precondition(environ, picture.etag, rendition.modified)
        if status == 412:
            return refusal(412, _ANOTHER_ONE, auto=request.auto)
        if status == 304:
            # Section 15.4.5: of all that describes the picture, the ETag is enough.
            return Response(304, [("ETag", picture.etag), *told], b"")
        part = byte_range(environ, picture.etag, picture.last_modified, rendition.length)
        if part is not None:
            return _part_of(rendition, part, [*picture.common, *told], auto=request.auto)
    if policy.accel and rendition.path is not None:
        where = f"{policy.accel}/{quote(rendition.path)}"
        return _through_nginx(where, [*picture.common, *told])
    headers = [*picture.whole, *told]
    if rendition.file is None or environ["REQUEST_METHOD"] == "HEAD":
        return Response(200, headers, rendition.body)
    return Response(200, headers, b"", rendition.file, range(rendition.length))


def _part_of(rendition: Rendition, part: range, headers: Headers, *, auto: bool) -> Response:
    if not part:
        length = ("Content-Range", f"bytes */{rendition.length}")
        return refusal(416, _NOTHING_THERE, length, auto=auto)
    headers.append(("Content-Length", str(len(part))))
    position = f"bytes {part.start}-{part.stop - 1}/{rendition.length}"
    headers.append(("Content-Range", position))
    body = rendition.body[part.start : part.stop]
    return Response(206, headers, body, rendition.file, part)


def _through_nginx(where: str, headers: Headers) -> Response:
    """X-Accel-Redirect. Of HEAD too: then both have the same headers, which are nginx's.

    The file may be gone when nginx opens it, and a 404 must not say that it is good for a year. So
    what nginx would copy to any status goes by another name, which its location gives to pictures.
    """
    renamed = [(f"X-{name}" if name in _COPIED else name, value) for name, value in headers]
    return Response(200, [*renamed, ("Content-Length", "0"), ("X-Accel-Redirect", where)], b"")


def _circumstances(request: ImageRequest, rendition: Rendition, policy: CachePolicy) -> Headers:
    """What is said of this answer rather than of the picture, with any status."""
    headers = [
        *policy.cache_control(request, rendition),
        ("Cache-Status", f"thumbproxy; {rendition.cache_status}"),
    ]
    if policy.tagged:
        headers += [tag_header(request.source, name) for name in policy.tagged]
    if rendition.age is not None:
        headers.append(("Age", str(max(0, rendition.age))))
    if request.auto:
        headers.append(_VARY)
    if rendition.timings:
        headers.append(("Server-Timing", _server_timing(rendition)))
    return headers


def error_response(error: ThumbproxyError, *, auto: bool, methods: str = "GET, HEAD") -> Response:
    """A token for machines and a sentence for people, never stored by anyone.

    methods  what a 405 says is allowed
    """
    more = []
    if error.retry_after is not None:
        more.append(("Retry-After", str(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        more.append(("Allow", methods))
    return refusal(error.status, f"{error.token}: {error.reason}", *more, auto=auto)


def refusal(status: int, text: str, *more: Header, auto: bool = False) -> Response:
    """A line of text that nobody stores, nor takes for anything else."""
    body = f"{text}\n".encode("utf-8", "replace")
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        _NO_STORE,
        *PROTECTION,
        *more,
    ]
    if auto:
        headers.append(_VARY)
    return Response(status, headers, body)


class _Representation(NamedTuple):
    """A picture as its headers describe it.

    etag, last_modified   as nginx makes them from the file: strong, of time and length
    common                the headers of whole pictures and of parts
    whole                 the same with the length of all
    """

    etag: str
    last_modified: str
    common: tuple[Header, ...]
    whole: tuple[Header, ...]


# Extensions rather than formats, because the hash of an enum is computed in Python.
@memoized(1024)
def _representation(source: str, extension: str, modified: int, length: int) -> _Representation:
    """modified: unix seconds. length: bytes."""
    etag = f'"{modified:x}-{length:x}"'
    date = _date(modified)
    common = (
        _CONTENT_TYPE[extension],
        ("ETag", etag),
        ("Last-Modified", date),
        ("Content-Disposition", content_disposition(source, Format(extension))),
        *_CONSTANT,
    )
    return _Representation(etag, date, common, (*common, ("Content-Length", str(length))))


_date = lru_cache(maxsize=1024)(http_date)


def content_disposition(source: str, format: Format) -> str:
    """`inline` with the source's name and the output's extension (RFC 6266, RFC 8187)."""
    stem = _MISLEADING.sub("_", source.rpartition("/")[2])
    stem = stem.rpartition(".")[0] or stem
    name = f"{stem}.{format.extension}"
    if not _EXTRAORDINARY.search(name):
        return f'inline; filename="{name}"'
    ascii_name = _EXTRAORDINARY.sub("_", name)
    return f"inline; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _server_timing(rendition: Rendition) -> str:
    """Durations in milliseconds (W3C Server Timing)."""
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in rendition.timings)
