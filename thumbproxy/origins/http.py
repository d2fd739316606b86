"""Sources that an HTTP server has."""

from __future__ import annotations

import functools
import os
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

from thumbproxy.connections import is_stale, told
from thumbproxy.errors import OriginFailed, OriginTimeout
from thumbproxy.origins.addresses import AllowedNetworks
from thumbproxy.origins.base import Fetched, FetchRequest
from thumbproxy.origins.exchange import Reply, fetch_by, request_headers
from thumbproxy.origins.guard import Guard
from thumbproxy.origins.guarded import GuardedHTTPPool, GuardedHTTPSPool
from thumbproxy.origins.targets import request_target

_PORTS = {"http": 80, "https": 443}
_CHUNK = 256 * 1024
_KEPT_CONNECTIONS = 32


class HttpOrigin:
    """The sources below `base_url`, for example "https://images.example.com/originals/".

    headers         sent to that server only, not where it redirects to
    allow_networks  non-global networks ("10.1.0.0/16") that redirects may lead to; the host of
                    `base_url` itself may have any address
    ca_file         PEM file of the authorities that are trusted; default: those of certifi
    Raises ValueError for a URL or a network that cannot be used.
    """

    local = False
    personal = False

    def __init__(
        self,
        base_url: str,
        *,
        immutable: bool = False,
        headers: Mapping[str, str] | None = None,
        allow_networks: tuple[str, ...] = (),
        ca_file: str | None = None,
    ) -> None:
        base = _parse(base_url)
        if isinstance(base, str) or base.query is not None or base.fragment is not None:
            fault = base if isinstance(base, str) else "it has a query or a fragment"
            raise ValueError(f"{base_url!r} cannot be the URL of an origin: {fault}")
        self.immutable = immutable
        self._base = base_url.rstrip("/") + "/"
        self._headers = dict(headers or {})
        self._ca = ca_file or True
        host, port = _server(base)
        # A server that moves to TLS is still the same server.
        trusted = {(host, port)} | ({(host, 443)} if port == 80 else set())
        self._guard = Guard(trusted, AllowedNetworks(tuple(allow_networks)))
        self._kept: tuple[int, _GuardedAdapter] | None = None

    def __repr__(self) -> str:
        return f"HttpOrigin({self._base!r})"

    def fetch(self, request: FetchRequest) -> Fetched:
        return fetch_by(self._ask, self._base + request_target(request.path), request)

    def fingerprint(self, path: str) -> str | None:
        return None

    @contextmanager
    def _ask(self, url: str, request: FetchRequest) -> Iterator[Reply]:
        target = _parse(url)
        if isinstance(target, str):
            raise OriginFailed(log=f"{url}: {target}")
        headers = request_headers(request)
        if self._guard.trusts(*_server(target)):
            headers |= self._headers
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
            host, port = _server(target)
            why = told(error, f"{host}:{port}") or str(error)
            if request.deadline.passed or isinstance(error, requests.Timeout | Urllib3Timeout):
                raise OriginTimeout(log=f"{url}: {why}") from error
            raise OriginFailed(log=f"{url}: {why}") from error

    def _send(
        self, url: str, headers: Mapping[str, str], request: FetchRequest
    ) -> requests.Response:
        """The response, body unread. Straight through the adapter, not through a Session: that
        one keeps cookies, reads netrc and proxy variables, and reads the bodies of redirects."""
        prepared = requests.Request("GET", url, headers=headers).prepare()
        while True:
            timeout: Any = Timeout(total=max(request.deadline.remaining, 0.001))
            try:
                return self._adapter().send(prepared, stream=True, timeout=timeout, verify=self._ca)
            except requests.ConnectionError as error:
                if not is_stale(error) or request.deadline.passed:
                    raise

    def _adapter(self) -> _GuardedAdapter:
        """The connections of this process. After a fork those of the parent must not be used."""
        process = os.getpid()
        if self._kept is None or self._kept[0] != process:
            # Two threads may come here at once; the connections of one are then made for nothing.
            self._kept = process, _GuardedAdapter(self._guard)
        return self._kept[1]


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


def _parse(url: str) -> Url | str:
    """A URL that may be asked, or what is wrong with it.

    By urllib3's parser, because that is the one whose reading is connected to.
    """
    try:
        parsed = parse_url(url)
    except LocationParseError as error:
        return str(error)
    if parsed.scheme not in _PORTS:
        return "only http and https are asked"
    if parsed.auth is not None:
        return "it has a user name or a password"
    if not parsed.host:
        return "it has no host"
    return parsed


def _server(url: Url) -> tuple[str, int]:
    return (url.host or "").lower(), url.port or _PORTS[url.scheme or ""]
