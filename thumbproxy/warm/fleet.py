"""Warms servers over HTTP, with the requests of their clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus

import requests

from thumbproxy._version import __version__
from thumbproxy.core.formats import Format
from thumbproxy.warm.pace import Pace
from thumbproxy.warm.tasks import Outcome, Stopped, Task, Wanted

_BUSY = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
_TRIES = 20
_RECONNECTS = 4
_LONGEST_PAUSE = 30.0
_TIMEOUT = (10, 60)  # a server answers by its own deadline, 25 s
_CHUNK = 64 * 1024
_REASON = 300


class FleetWarmer:
    """Asks for every picture and reads it to its end.

    base_url  what comes before the signed path
    pause     waits for some seconds; True: the run is stopped
    """

    def __init__(self, base_url: str, pace: Pace, pause: Callable[[float], bool]) -> None:
        self._base = base_url.rstrip("/")
        self._pace = pace
        self._pause = pause
        self._threads = threading.local()

    def warm(self, task: Task) -> Outcome:
        made, there, failed = 0, 0, []
        for wanted in task.wanted:
            answer = self._picture(wanted)
            made += answer == "made"
            there += answer == "there"
            if answer not in ("made", "there"):
                failed.append(answer)
        return Outcome(task, made, there, tuple(failed))

    def _picture(self, wanted: Wanted) -> str:
        """made, there, or why it is not."""
        answer = ""
        for attempt in range(_TRIES):
            self._pace.take()
            self._rest(0)
            try:
                response = self._session().get(
                    self._base + wanted.path,
                    headers={"Accept": _accept(wanted.accepted)},
                    stream=True,
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                )
                with response:
                    answer = _answer(response)
                wait = _wait(response, attempt) if response.status_code in _BUSY else 0.0
            except requests.RequestException as error:
                answer, wait = f"connection: {error}", 0.5 * 2**attempt
                if attempt == _RECONNECTS:
                    return answer
            if not wait:
                return answer
            self._rest(wait)
        return answer

    def _rest(self, seconds: float) -> None:
        if self._pause(seconds):
            raise Stopped

    def _session(self) -> requests.Session:
        """The connections of this thread."""
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            session.trust_env = False
            session.headers["User-Agent"] = f"thumbproxy-warm/{__version__}"
        return session


def _answer(response: requests.Response) -> str:
    if response.status_code != HTTPStatus.OK:
        said = next(response.iter_content(_REASON), b"").decode("utf-8", "replace")
        ours = response.headers.get("Content-Type", "").startswith("text/plain")
        line = said.strip().partition("\n")[0] if ours else response.reason
        return f"{response.status_code} {line}"
    for _ in response.iter_content(_CHUNK):
        pass
    # A web server or a CDN in front that has it itself need not say so.
    return "made" if "fwd=uri-miss" in response.headers.get("Cache-Status", "") else "there"


def _wait(response: requests.Response, attempt: int) -> float:
    """Seconds: what the server says; a date (RFC 9110 section 10.2.3) counts as if it said none."""
    said = response.headers.get("Retry-After", "")
    seconds = float(said) if said.isascii() and said.isdigit() and len(said) < 6 else 2.0**attempt
    return min(max(seconds, 0.1), _LONGEST_PAUSE)


def _accept(formats: tuple[Format, ...]) -> str:
    return ",".join([*(format.content_type for format in formats), "*/*"])
