"""Hosts that a configuration names, and the sources that a `remote` origin has of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from thumbproxy.core.errors import BadSource
from thumbproxy.core.escapes import normalized_target

PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<wild>\*\.)?(?P<host>\[[^\[\]]+\]|[^\s:/?#@*\[\]]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_PLACE = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\s:/?#@\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
# What a resolver may read as a number, in any base (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_SCHEMES = " and ".join(PORTS)


class Server(NamedTuple):
    """Who is asked: host as `plain_host` spells it."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def plain_host(text: str) -> str:
    """The one spelling of a host: in small letters, in ASCII (UTS 46), no dot at the end, IPv6 in
    brackets. Raises ValueError for what is none, and for odd spellings of IPv4 addresses."""
    if text.startswith("["):
        if "%" in text:
            raise ValueError(f"{text!r} has a zone")
        return f"[{IPv6Address(text.strip('[]'))}]"
    if not text.isascii():
        import idna  # noqa: PLC0415 - large, and hardly ever needed

        text = idna.encode(text, uts46=True).decode()
    text = text.lower().removesuffix(".")
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no host")
    # 0x7f.1 and 2130706433 are addresses to resolvers.
    return str(IPv4Address(text)) if _NUMBER.fullmatch(text) else text


def redact_url(url: str) -> str:
    """A URL as a log or a message may show it: without what may be a secret in it, the user's
    password and the query's signature."""
    plain, query, _ = re.sub(r"//[^/?#]*@", "//***@", url).partition("?")
    return f"{plain}?…" if query else plain


class AllowedHosts:
    """Hosts that may be asked, each with its scheme and port.

    entries  "images.example.com" (https, 443), "*.cdn.example.net" (all below it, at any depth, but
             not itself), "http://legacy.example.org:8080". What is allowed by http on port 80
             is by https on 443 as well.
    Raises ValueError for what is no such entry.
    """

    __slots__ = ("_below", "_named")

    def __init__(self, entries: Iterable[str]) -> None:
        named: set[Server] = set()
        below: set[Server] = set()
        for entry in entries:
            server, wild = host_entry(entry)
            chosen = below if wild else named
            chosen.add(server)
            if server.port == PORTS["http"] and server.scheme == "http":
                chosen.add(Server("https", server.host, PORTS["https"]))
        self._named = frozenset(named)
        self._below = frozenset(below)

    def __contains__(self, server: Server) -> bool:
        if server in self._named:
            return True
        _, dot, parent = server.host.partition(".")
        while dot:
            if server._replace(host=parent) in self._below:
                return True
            _, dot, parent = parent.partition(".")
        return False


def host_entry(text: str) -> tuple[Server, bool]:
    """What an entry of `AllowedHosts` names, and whether it is what is below that.

    Raises ValueError.
    """
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no host like images.example.com or *.example.com")
    scheme, wild = found["scheme"] or "https", bool(found["wild"])
    try:
        host = plain_host(found["host"])
    except ValueError:
        raise ValueError(f"{text!r} is no host that can be asked") from None
    if wild and (host.startswith("[") or _NUMBER.fullmatch(host)):
        raise ValueError(f"{text!r}: nothing is below an address")
    return Server(scheme, host, _port(found["port"], scheme)), wild


def _port(text: str | None, scheme: str) -> int:
    port = PORTS[scheme] if text is None else int(text)
    if not 1 <= port <= 65_535:
        raise ValueError(f"{port} is no port")
    return port


def remote_server(path: str) -> tuple[Server, str]:
    """Who has the source "https/images.example.com/a/b.jpg", and "a/b.jpg", its path there.

    Raises BadSource.
    """
    scheme, _, rest = path.partition("/")
    place, _, rest = rest.partition("/")
    found = _PLACE.fullmatch(place)
    try:
        if scheme not in PORTS or found is None or not rest:
            raise ValueError
        return Server(scheme, plain_host(found["host"]), _port(found["port"], scheme)), rest
    except ValueError:
        raise BadSource(
            f"The source {path[:80]!r} names no host: it is written like "
            "https/images.example.com/photos/cat.jpg."
        ) from None


def source_at(url: str, mount: str, *, encoded: bool) -> str:
    """How a source stands for an absolute URL; whether it can be one is not known yet.

    encoded  whether the origin has sources as they are requested
    Raises BadSource.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in PORTS:
            raise ValueError(f"only {_SCHEMES} are asked")
        if "@" in parts.netloc:
            raise ValueError("it has a user name or a password")
        found = _PLACE.fullmatch(parts.netloc)
        if found is None:
            raise ValueError("it has no host")
        port = _port(found["port"], parts.scheme)
        place = Server(parts.scheme, plain_host(found["host"]), port).url.replace("://", "/")
        path = _path(parts.path.removeprefix("/"), encoded=encoded)
    except ValueError as error:
        raise BadSource(f"The URL {url[:80]!r} cannot be a source: {error}.") from None
    query = f"?{parts.query}" if parts.query else ""
    query = normalized_target(query) if encoded else query
    folder = f"{mount.removesuffix('/')}/" if mount else ""
    return f"{folder}{place}/{path}{query}"


def _path(escaped: str, *, encoded: bool) -> str:
    """The path of a URL as a source has it. Raises ValueError."""
    if encoded:
        return normalized_target(escaped)
    # A source is text, in which an escaped slash would be one that is not.
    try:
        if not re.search("%(?:2f|3f)", escaped, re.IGNORECASE):
            return unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        pass
    raise ValueError(
        "its path has an escaped slash or question mark, or bytes that are not UTF-8; an origin "
        "with `encoded` can have it"
    )
