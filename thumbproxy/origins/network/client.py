"""An HTTP client that connects only where a guard allows it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.util import Url, parse_url
from werkzeug.datastructures import Headers

from thumbproxy.core.errors import OriginFailed, OriginTimeout
from thumbproxy.core.forking import PerProcess
from thumbproxy.http.client_connections import is_stale, told
from thumbproxy.http.fetch_headers import header_faults
from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.origins.network.exchange import Reply, fetch_by, request_headers
from thumbproxy.origins.network.guard import Guard
from thumbproxy.origins.network.guarded import GuardedHTTPPool, GuardedHTTPSPool
from thumbproxy.urls.hosts import PORTS, Server, redact_url

_CHUNK = 256 * 1024
_KEPT_CONNECTIONS = 32
# Nothing that two parsers could read as two hosts; in brackets IPv6, perhaps with its zone.
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+(?:%[A-Za-z0-9._%-]+)?\]")


class Client:
    """Asks HTTP servers, through connections that it keeps.

    guard    says who may be asked, and connects
    headers  sent besides those of every fetch, or in place of them, until a redirect leads to
             another server
    ca_file  PEM file of the authorities that are trusted; default: those of certifi
    """

    def __init__(
        self, guard: Guard, *, headers: Mapping[str, str] | None = None, ca_file: str | None = None
    ) -> None:
        self._guard = guard
        self._headers = dict(headers or {})
        faults = list(header_faults(self._headers))
        if faults:
            raise ValueError(", ".join(faults))
        self._ca = ca_file or True
        self._adapter = PerProcess(lambda: _GuardedAdapter(guard))

    def fetch(self, url: str, request: FetchRequest) -> Fetched:
        """The source at `url`, redirects followed. Errors as in `Origin.fetch`."""
        # "user agents SHOULD [...] remove header fields [...] that are specific to the target"
        # (RFC 9110 section 15.4). Once away, for good: whoever sends us back must not choose what
        # we ask for with a secret.
        headers, first = self._headers, None

        @contextmanager
        def ask(url: str, request: FetchRequest) -> Iterator[Reply]:
            nonlocal headers, first
            target = _target(url)
            server = server_of(target)
            first = first or server
            if not _is_same(server, first):
                headers = {}
            with self._ask(target, request, headers) as reply:
                yield reply

        return fetch_by(ask, url, request)

    @contextmanager
    def _ask(self, target: Url, request: FetchRequest, more: Mapping[str, str]) -> Iterator[Reply]:
        """The reply, redirects not followed. Raises OriginFailed, OriginTimeout."""
        server = server_of(target)
        self._guard.admit(server)
        headers = {**request_headers(request), **more}
        # Written anew from its parts, so that what was judged is what is asked.
        url = f"{server.url}{target.request_uri}"
        try:
            response = self._send(url, headers, request)
            try:
                raw: HTTPResponse = response.raw
                lines = Headers(list(raw.headers.iteritems()))
                yield Reply(response.status_code, lines, _chunks(raw))
                if raw.length_remaining == 0:
                    raw.read()  # the end of a reply without a body: its connection can be kept
            finally:
                response.close()
        except (requests.RequestException, HTTPError, ValueError) as error:
            # ValueError: requests passes on what http.client says of a header that it cannot send.
            why = told(error, f"{server.host}:{server.port}") or str(error)
            if request.deadline.passed or isinstance(error, requests.Timeout | Urllib3Timeout):
                raise OriginTimeout(log=f"{redact_url(url)}: {why}") from error
            raise OriginFailed(log=f"{redact_url(url)}: {why}") from error

    def _send(
        self, url: str, headers: Mapping[str, str], request: FetchRequest
    ) -> requests.Response:
        """The response, body unread. Straight through the adapter, not through a Session: that
        one keeps cookies, reads netrc and proxy variables, and reads the bodies of redirects."""
        prepared = requests.Request("GET", url, headers=headers).prepare()
        try:
            return self._sent(prepared, request)
        except requests.ConnectionError as error:
            if not is_stale(error) or request.deadline.passed:
                raise
        # Once, and on a connection of its own: were all that are kept tried in turn, an origin that
        # fails would be asked as many times.
        self._adapter.renew()
        return self._sent(prepared, request)

    def _sent(self, prepared: requests.PreparedRequest, request: FetchRequest) -> requests.Response:
        timeout: Any = Timeout(total=max(request.deadline.remaining, 0.001))
        return self._adapter.value.send(prepared, stream=True, timeout=timeout, verify=self._ca)


def _target(url: str) -> Url:
    """What is asked. Raises OriginFailed for what cannot be."""
    try:
        return parsed(url)
    except ValueError as error:
        raise OriginFailed(log=f"{redact_url(url)}: {error}") from error


def _is_same(server: Server, first: Server) -> bool:
    """Whether it is the server that was asked first, perhaps by TLS now."""
    moved = (first.scheme, first.port, server.scheme, server.port) == ("http", 80, "https", 443)
    return server == first or (moved and server.host == first.host)


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__(pool_maxsize=_KEPT_CONNECTIONS)

    def init_poolmanager(self, connections: int, maxsize: int, *_: Any, **__: Any) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize)
        self.poolmanager.pool_classes_by_scheme = {
            "http": functools.partial(GuardedHTTPPool, guard=self._guard),
            "https": functools.partial(GuardedHTTPSPool, guard=self._guard),
        }


def _chunks(raw: HTTPResponse) -> Iterator[bytes]:
    while chunk := raw.read(_CHUNK, decode_content=False):
        yield chunk


def parsed(url: str) -> Url:
    """A URL that may be asked. Raises ValueError with what is wrong with it.

    By urllib3's parser, because that is the one whose reading is connected to.
    """
    try:
        target = parse_url(url)
    except LocationParseError as error:
        raise ValueError(str(error)) from None
    if target.scheme not in PORTS:
        raise ValueError("only http and https are asked")
    if target.auth is not None:
        raise ValueError("it has a user name or a password")
    if not target.host or not _HOST.fullmatch(target.host.lower()):
        raise ValueError("it has no host")
    return target


def server_of(url: Url) -> Server:
    """Who answers a URL that `parsed` gave."""
    scheme = url.scheme or ""
    return Server(scheme, (url.host or "").lower(), url.port or PORTS[scheme])
