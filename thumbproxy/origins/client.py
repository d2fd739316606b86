"""Asks HTTP servers, where a guard allows it."""

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

from thumbproxy.connections import is_stale, told
from thumbproxy.errors import OriginFailed, OriginTimeout
from thumbproxy.forking import PerProcess
from thumbproxy.hosts import PORTS, Server, told_url
from thumbproxy.origins.base import FetchRequest
from thumbproxy.origins.exchange import Reply, request_headers
from thumbproxy.origins.guard import Guard
from thumbproxy.origins.guarded import GuardedHTTPPool, GuardedHTTPSPool

_CHUNK = 256 * 1024
_KEPT_CONNECTIONS = 32
# RFC 9110 sections 5.1 and 5.5.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[ -~\t\x80-\xff]*[!-~\x80-\xff])?)?")
# Nothing that two parsers could read as two hosts; in brackets IPv6, perhaps with its zone.
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+(?:%[A-Za-z0-9._%-]+)?\]")


class Client:
    """Asks one URL at a time, through connections that it keeps.

    guard    says who may be asked, and connects
    headers  sent to those only whom the guard trusts
    ca_file  PEM file of the authorities that are trusted; default: those of certifi
    """

    def __init__(
        self, guard: Guard, *, headers: Mapping[str, str] | None = None, ca_file: str | None = None
    ) -> None:
        self._guard = guard
        self._headers = _sendable(headers or {})
        self._ca = ca_file or True
        self._adapter = PerProcess(lambda: _GuardedAdapter(guard))

    @contextmanager
    def ask(self, url: str, request: FetchRequest) -> Iterator[Reply]:
        """The reply, redirects not followed. Raises OriginFailed, OriginTimeout."""
        try:
            target = parsed(url)
        except ValueError as error:
            raise OriginFailed(log=f"{told_url(url)}: {error}") from error
        server = server_of(target)
        self._guard.admit(server)
        headers = request_headers(request)
        if self._guard.trusts(server):
            headers |= self._headers
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
                raise OriginTimeout(log=f"{told_url(url)}: {why}") from error
            raise OriginFailed(log=f"{told_url(url)}: {why}") from error

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


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises ValueError, which does not show the value, for a header that no request can have."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(
                f"the header {name!r} cannot be sent: its name or its value has characters that "
                "no header may have, such as a line break at its end"
            )
    return dict(headers)


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
