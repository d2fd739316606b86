"""One request to the HTTP API of a CDN: with a deadline, retried where that helps, without
revealing secrets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.limits import Deadline
from thumbproxy.http.client_connections import told

_TOTAL_SECONDS = 30.0
_CONNECT_SECONDS, _READ_SECONDS = 3.05, 10.0
_ATTEMPTS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_LONGEST_ANSWER = 16_384
_TOO_MANY_REQUESTS = 429


class Api:
    """POSTs JSON to paths below `endpoint`.

    header  name and value of the one that says who asks; never shown
    """

    def __init__(self, name: str, endpoint: str, header: tuple[str, str]) -> None:
        self._name = name
        self._endpoint = endpoint.rstrip("/")
        self._header = header

    def __repr__(self) -> str:
        return f"Api({self._name!r}, {self._endpoint!r})"

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a call is answered with; None for an answer that is no JSON.

        Raises PurgeFailed.
        """
        deadline, pause, why = Deadline(_TOTAL_SECONDS), _FIRST_PAUSE, ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                if deadline.remaining <= pause:
                    break
                time.sleep(pause)
            try:
                reply = self._exchange(path, body, deadline)
            except requests.RequestException as error:
                # Its text may have the request in it.
                server = urlsplit(self._endpoint).netloc
                why = told(error, server) or f"no answer from {server} ({type(error).__name__})"
                pause = _longer(pause)
                continue
            if 200 <= reply.status_code < 300:
                return _json(reply)
            why = self._refusal(reply)
            if reply.status_code != _TOO_MANY_REQUESTS and reply.status_code < 500:
                break
            pause = _told(reply) or _longer(pause)
        raise PurgeFailed(f"{self._name}: {why}")

    def _exchange(
        self, path: str, body: Mapping[str, Any] | None, deadline: Deadline
    ) -> requests.Response:
        timeout = (
            deadline.within(_CONNECT_SECONDS).remaining,
            deadline.within(_READ_SECONDS).remaining,
        )
        with requests.Session() as session:
            # A redirect might lead the secret to somebody else.
            return session.post(
                f"{self._endpoint}{path}",
                json=body,
                headers={"Accept": "application/json"},
                auth=self._authorized,
                timeout=timeout,
                allow_redirects=False,
            )

    def _authorized(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """By this way, because else ~/.netrc would have the last word on Authorization."""
        name, secret = self._header
        request.headers[name] = secret
        return request

    def _refusal(self, reply: requests.Response) -> str:
        said = " ".join(reply.text[:_LONGEST_ANSWER].split())[:200]
        secret = self._header[1].rpartition(" ")[2]
        return f"{reply.status_code} {reply.reason}: {said.replace(secret, '***')}".rstrip(": ")


def _longer(pause: float) -> float:
    return min(2 * pause, _LONGEST_PAUSE)


def _told(reply: requests.Response) -> float | None:
    """Seconds of a Retry-After (RFC 9110 section 10.2.3) that can be waited for."""
    text = reply.headers.get("Retry-After", "")
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text), _LONGEST_PAUSE) or None


def _json(reply: requests.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None
