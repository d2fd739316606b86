"""The rules for requests and responses that a gateway forwards (RFC 9110 section 7), without any
I/O."""

from __future__ import annotations

import http
import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from urllib3 import HTTPHeaderDict
from urllib3.util import SKIP_HEADER

from thumbproxy.http.responses import Response, refusal, sendable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Where a server puts a function that tells whether the peer is a proxy whose word counts.
TRUSTED = "thumbproxy.peer_is_trusted"

# RFC 9110 section 7.6.1, and what a proxy settles with its client itself. Trailers are not passed
# on, so nobody is told of them.
_HOP_BY_HOP = {
    "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info",
}  # fmt: skip
# What the server that runs us has dealt with, or what is said anew.
_SAID_ANEW = {"expect", "content-length", "content-type", "via", "forwarded"}
_PSEUDONYM = "thumbproxy"
_VERSIONS = {10: "1.0", 11: "1.1"}
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# uri-host [ ":" port ] (RFC 9110 section 7.2), the host as RFC 3986 section 3.2.2 has it.
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::\d{0,5})?"
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a header's name, RFC 9110 section 5.1
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
# Methods with which Max-Forwards counts.
_TRACING = ("OPTIONS", "TRACE")
_METHODS = ("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


# -- requests --------------------------------------------------------------------------------


def malformed(environ: WSGIEnvironment) -> Response | None:
    """The refusal of a request that no server may answer otherwise; None for all others.

    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
    lacks a Host header field and to any request message that contains more than one Host header
    field line or a Host header field with an invalid field value" (RFC 9112 section 3.2).
    """
    host = environ.get("HTTP_HOST")
    if host is None:
        protocol = environ.get("SERVER_PROTOCOL", "HTTP/1.0")
        if protocol.startswith("HTTP/1.") and protocol != "HTTP/1.0":
            return refusal(400, "An HTTP/1.1 request must have a Host header.")
    elif not _is_host(host):
        return refusal(400, "The Host header of this request is malformed.")
    target = environ.get("RAW_URI", "")
    # No form of a request target has a fragment (RFC 9112 section 3.2): whoever reads one as such
    # asks for something else than who does not.
    if "#" in target:
        return refusal(400, 'The target of this request has a "#"; write it as %23.')
    if (
        not target.startswith("/")
        and (named := _ABSOLUTE.fullmatch(target))
        and not _is_host(named[1])
    ):
        return refusal(400, "The host in the target of this request is malformed.")
    return None


@lru_cache(maxsize=256)
def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    if match is None or match["address"] is None:
        return match is not None
    try:
        ipaddress.IPv6Address(match["address"])
    except ValueError:
        return False
    return True


def unforwardable(environ: WSGIEnvironment) -> Response | None:
    """The reply to a request that goes no further than here; None for one that can be forwarded."""
    codings = _listed(environ.get("HTTP_TRANSFER_ENCODING", ""))
    if codings - {"chunked", "identity", ""}:
        # "A server that receives a request message with a transfer coding it does not understand
        # SHOULD respond with 501 (Not Implemented)" (RFC 9112 section 6.1).
        return refusal(501, "This transfer coding is not understood.")
    hops = environ.get("HTTP_MAX_FORWARDS")
    if hops is None or environ["REQUEST_METHOD"] not in _TRACING:
        return None
    # "Each intermediary that receives a TRACE or OPTIONS request containing a Max-Forwards header
    # field MUST check and update its value prior to forwarding the request. If the received value
    # is zero (0), the intermediary MUST NOT forward the request; instead, the intermediary MUST
    # respond as the final recipient" (RFC 9110 section 7.6.2).
    if not re.fullmatch(r"[0-9]{1,18}", hops):
        return refusal(400, "The Max-Forwards header of this request is no number.")
    if int(hops):
        return None
    if environ["REQUEST_METHOD"] == "OPTIONS":
        return Response(200, [_METHODS, ("Content-Length", "0")], b"")
    # To send back what came would show what proxies before us have put into it.
    return refusal(405, "TRACE is not answered here.", _METHODS)


def target_of(environ: WSGIEnvironment) -> tuple[str, str]:
    """The authority that a request names, "" if it names none, and its target in origin form."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    authority, raw = environ.get("HTTP_HOST", ""), ""
    for name in ("RAW_URI", "REQUEST_URI"):
        sent = str(environ.get(name, ""))
        absolute = _ABSOLUTE.fullmatch(sent)
        if absolute:
            # "When an origin server receives a request with an absolute-form of request-target, the
            # origin server MUST ignore the received Host header field (if any) and instead use the
            # host information of the request-target" (RFC 9112 section 3.2.2).
            authority, sent = absolute[1], absolute[2]
        sent = sent.partition("?")[0]
        # As it was sent, because decoding loses the difference of "%2F" and "/"; unless some
        # middleware has changed the path since.
        if sent.startswith("/") and unquote_to_bytes(sent).decode("latin-1") == path:
            raw = sent
    raw = raw or quote(path.encode("latin-1"), safe="/-._~!$&'()*,;=:@") or "/"
    query = environ.get("QUERY_STRING", "")
    return authority, raw + "?" + _LONE_PERCENT.sub("%25", query) if query else raw


def is_chunked(environ: WSGIEnvironment) -> bool:
    return bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ


def has_body(environ: WSGIEnvironment) -> bool:
    return is_chunked(environ) or environ.get("CONTENT_LENGTH", "0") not in ("", "0")


def request_headers(environ: WSGIEnvironment, host: str, upstream: str) -> HTTPHeaderDict:
    """What is passed on.

    host      the authority that the request names, or ""
    upstream  that of the server behind, for a client of HTTP/1.0 that names none: "A client MUST
              send a Host header field in all HTTP/1.1 request messages" (RFC 9112 section 3.2)
    """
    dropped = _HOP_BY_HOP | _SAID_ANEW | _listed(environ.get("HTTP_CONNECTION", ""))
    headers = HTTPHeaderDict({"Host": host or upstream})
    for key, value in environ.items():
        name = key[5:].replace("_", "-").title()
        if not key.startswith("HTTP_") or name.startswith("X-Forwarded-"):
            continue
        if name != "Host" and name.lower() not in dropped:
            headers[name] = value
    if environ["REQUEST_METHOD"] in _TRACING and "Max-Forwards" in headers:
        headers["Max-Forwards"] = str(int(headers["Max-Forwards"]) - 1)
    if environ.get("CONTENT_TYPE"):
        headers["Content-Type"] = environ["CONTENT_TYPE"]
    if environ.get("CONTENT_LENGTH") and not is_chunked(environ):
        headers["Content-Length"] = environ["CONTENT_LENGTH"]
    # urllib3 would say something of its own where the client said nothing.
    for name in ("Accept-Encoding", "User-Agent"):
        headers.setdefault(name, SKIP_HEADER)
    version = environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2]
    headers["Via"] = _via(environ.get("HTTP_VIA", ""), version)
    _add_forwarded(headers, environ, host or environ["SERVER_NAME"])
    return headers


def _via(chain: str, version: str) -> str:
    # "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each inbound request
    # message and MAY send a Via header field in forwarded response messages" (RFC 9110 section
    # 7.6.3).
    own = f"{version} {_PSEUDONYM}"
    return f"{chain}, {own}" if chain else own


def _add_forwarded(headers: HTTPHeaderDict, environ: WSGIEnvironment, host: str) -> None:
    """Tells the upstream who asked, and how, by one rule:

    What is known here is said anew: X-Forwarded-Proto and X-Forwarded-Host. The two lists,
    X-Forwarded-For and Forwarded (RFC 7239), are continued if the peer is a trusted proxy, and
    dropped if not. No other X-Forwarded-* is passed on. Host stays the client's: the app behind
    builds links and redirects with it, and checks it.

    Which proxies are trusted, the server that runs us knows (gunicorn: forwarded_allow_ips); their
    X-Forwarded-Proto it has put into wsgi.url_scheme.
    """
    client, scheme = environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"]
    trusted = _peer_is_trusted(environ)
    if client:
        chain = environ.get("HTTP_X_FORWARDED_FOR") if trusted else ""
        headers["X-Forwarded-For"] = f"{chain}, {client}" if chain else client
    headers["X-Forwarded-Proto"] = scheme
    headers["X-Forwarded-Host"] = host
    if trusted and environ.get("HTTP_FORWARDED"):
        address = f'"[{client}]"' if ":" in client else client or "unknown"
        quoted = host.replace("\\", "\\\\").replace('"', '\\"')
        own = f'for={address};host="{quoted}";proto={scheme}'
        headers["Forwarded"] = f"{environ['HTTP_FORWARDED']}, {own}"


def _peer_is_trusted(environ: WSGIEnvironment) -> bool:
    """By default this machine, as gunicorn has it; "" is the other end of a Unix socket."""
    told: Any = environ.get(TRUSTED)
    return bool(told()) if told else environ.get("REMOTE_ADDR", "") in ("", "127.0.0.1", "::1")


# -- replies ---------------------------------------------------------------------------------


def response_headers(
    lines: Iterable[tuple[str, str]], *, status: int, version: int
) -> list[tuple[str, str]]:
    """What is passed on. version: that of the reply, 11 for HTTP/1.1.

    Raises ValueError for what is no header.
    """
    # Each line by itself: Set-Cookie cannot be joined.
    lines = [(name, _FOLD.sub(" ", value)) for name, value in lines]
    dropped, chain = set(_HOP_BY_HOP), []
    for name, value in lines:
        # "A recipient of CR, LF, or NUL within a field value MUST either reject the message or
        # replace each of those characters with SP" (RFC 9110 section 5.5).
        if not (_TOKEN.fullmatch(name) and sendable((value,))):
            raise ValueError(f"the header {name[:80]!r} of its reply is malformed")
        if name.lower() == "connection":
            dropped |= _listed(value)
        elif name.lower() == "via":
            chain.append(value)
    # "If a message is received with both a Transfer-Encoding and a Content-Length header field, the
    # Transfer-Encoding overrides the Content-Length" (RFC 9112 section 6.3). "A server MUST NOT
    # send a Content-Length header field in any response with a status code of 1xx (Informational)
    # or 204 (No Content)" (RFC 9110 section 8.6).
    encoded = any(name.lower() == "transfer-encoding" for name, _ in lines)
    if encoded or status == http.HTTPStatus.NO_CONTENT:
        dropped.add("content-length")
    passed = [(name, value) for name, value in lines if name.lower() not in dropped | {"via"}]
    return [*passed, ("Via", _via(", ".join(chain), _VERSIONS[version]))]


def status_line(status: int, reason: str | None) -> str:
    """Raises ValueError for one that cannot be passed on."""
    if not reason:
        known = http.HTTPStatus.__members__.values()
        reason = next((one.phrase for one in known if one == status), "Unknown")
    if not sendable((reason,)):
        raise ValueError("the status line of its reply is malformed")
    return f"{status} {reason}"


def _listed(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}
