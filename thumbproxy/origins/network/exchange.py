"""What every origin that speaks HTTP has in common, whether over a socket or as a WSGI call:
the request's headers, and what each status, length and redirect means."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import urljoin

from werkzeug.datastructures import Headers

from thumbproxy._version import __version__
from thumbproxy.core.errors import OriginFailed, OriginTimeout, SourceTooLarge
from thumbproxy.core.media import Validators
from thumbproxy.http.freshness import Freshness, last_modified, read_freshness
from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.origins.statuses import failure_of
from thumbproxy.urls.hosts import redact_url

_REDIRECTS = {301, 302, 303, 307, 308}
_WHOLE = re.compile(r"[0-9]{1,18}")
# All that change a body (IANA HTTP Content Coding Registry).
_CODINGS = {
    "aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip",
    "x-compress", "x-gzip", "zstd",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response whose body has not been read yet."""

    status: int
    headers: Headers
    chunks: Iterable[bytes]


# Asks one URL, without following redirects. Raises OriginFailed, OriginTimeout. What it opened is
# closed when the context ends, whether the body was read or not.
Ask = Callable[[str, FetchRequest], AbstractContextManager[Reply]]


def fetch_by(ask: Ask, url: str, request: FetchRequest) -> Fetched:
    """The source at `url`, redirects followed. Errors as in `Origin.fetch`."""
    for _ in range(request.limits.redirects + 1):
        if request.deadline.passed:
            raise OriginTimeout(log=f"{redact_url(url)}: no time left")
        with ask(url, request) as reply:
            if reply.status not in _REDIRECTS:
                return _fetched(url, reply, request)
            url = _redirect(url, reply)
    raise OriginFailed(
        log=f"more than {request.limits.redirects} redirects, the last to {redact_url(url)}"
    )


def request_headers(request: FetchRequest) -> dict[str, str]:
    """The headers of a fetch. Nothing of the client's request is among them."""
    headers = {
        "Accept": "*/*",
        # A coding would hide the length and let a small reply grow.
        "Accept-Encoding": "identity",
        "User-Agent": f"thumbproxy/{__version__}",
        # So that an origin that leads back to us can be told (RFC 8586).
        "CDN-Loop": "thumbproxy",
    }
    if request.validators.etag:
        headers["If-None-Match"] = request.validators.etag
    if request.validators.last_modified:
        headers["If-Modified-Since"] = request.validators.last_modified
    if request.fresh:
        headers["Cache-Control"] = "max-age=0"
    return headers


def _redirect(url: str, reply: Reply) -> str:
    location = reply.headers.get("Location", "")
    if not location:
        raise OriginFailed(log=f"{redact_url(url)}: status {reply.status} without Location")
    # http.client reads header lines as Latin-1; a Location in raw UTF-8 becomes itself again.
    text = location.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        return urljoin(url, text).partition("#")[0]
    except ValueError as error:
        raise OriginFailed(
            log=f"{redact_url(url)}: redirect to {redact_url(location)!r}"
        ) from error


def _fetched(url: str, reply: Reply, request: FetchRequest) -> Fetched:
    """What a status other than a redirect means."""
    if reply.status == 304:
        return _not_modified(url, reply, request)
    received = time.time()
    if reply.status != 200:
        told = f"{redact_url(url)}: status {reply.status}"
        raise failure_of(reply.status, reply.headers, told, received)
    body = _read(url, reply, request)
    freshness = read_freshness(reply.headers, received)
    return _answer(body, freshness.validators, freshness.modified, freshness)


def _not_modified(url: str, reply: Reply, request: FetchRequest) -> Fetched:
    validators = request.validators
    if not (validators.etag or validators.last_modified):
        raise OriginFailed(
            log=f"{redact_url(url)}: status 304, but nothing was asked that it could answer"
        )
    now = time.time()
    modified = last_modified(validators.last_modified, now)
    # Our validators stay: they belong to the bytes that we have. Were the reply's to differ, the
    # next question would be about bytes that we never saw.
    return _answer(None, validators, modified, read_freshness(reply.headers, now, request.fields))


def _answer(
    body: bytes | None, validators: Validators, modified: int | None, freshness: Freshness
) -> Fetched:
    return Fetched(
        body,
        validators,
        modified,
        freshness.lifetime,
        freshness.storable,
        freshness.must_revalidate,
        freshness.stale_while_revalidate,
        freshness.stale_if_error,
        freshness.clients,
        freshness.fields,
    )


def _read(url: str, reply: Reply, request: FetchRequest) -> bytes:
    """The whole body, as long as announced and no longer than allowed."""
    coding = content_coding(reply.headers)
    if coding is not None:
        raise OriginFailed(
            log=f"{redact_url(url)}: Content-Encoding {coding!r}, though identity was asked for"
        )
    limit = request.limits.source_bytes
    announced = announced_length(reply.headers)
    if announced is not None and announced > limit:
        raise SourceTooLarge(
            log=f"{redact_url(url)}: {announced} bytes announced; max_source_bytes is {limit}"
        )
    chunks = []
    length = 0
    for chunk in reply.chunks:
        length += len(chunk)
        if length > limit:
            raise SourceTooLarge(
                log=f"{redact_url(url)}: more bytes than max_source_bytes, which is {limit}"
            )
        if request.deadline.passed:
            raise OriginTimeout(log=f"{redact_url(url)}: {length} bytes came in time")
        chunks.append(chunk)
    if announced is None and not length:
        # To http.client the end of the stream in the middle of the headers is the end of them.
        raise OriginFailed(log=f"{redact_url(url)}: nothing came after the headers")
    if announced is not None and length != announced:
        raise OriginFailed(log=f"{redact_url(url)}: {announced} bytes announced, {length} received")
    return b"".join(chunks)


def content_coding(headers: Headers) -> str | None:
    """The first coding that a body has; None if it has none. A name that is no coding's changes no
    bytes: servers send `UTF-8`, `binary`, `none`, `aws-chunked`, `undefined` with sound ones."""
    listed = ",".join(headers.getlist("Content-Encoding")).split(",")
    # "All content codings are case-insensitive" (RFC 9110 section 8.4.1). They have no parameters,
    # but a server that sends some has still encoded.
    names = (entry.partition(";")[0].strip(" \t\"'").lower() for entry in listed)
    return next((name for name in names if name in _CODINGS), None)


def announced_length(headers: Headers) -> int | None:
    """Content-Length; None when there is none. Raises OriginFailed when it is not one number."""
    # "If a message is received without Transfer-Encoding and with an invalid Content-Length header
    # field, then the message framing is invalid and the recipient MUST treat it as an
    # unrecoverable error, unless [...] all values in the list are valid [...] and the same"
    # (RFC 9112 section 6.3).
    lines = ",".join(headers.getlist("Content-Length"))
    values = {value.strip() for value in lines.split(",")} if lines else set()
    if not values:
        return None
    value = values.pop()
    if values or not _WHOLE.fullmatch(value):
        raise OriginFailed(log=f"Content-Length {lines!r}")
    return int(value)
