"""Health checks of the standalone server: /healthz of its process, /readyz of everything it
needs."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from thumbproxy.core.endpoints import Endpoint
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import Deadline
from thumbproxy.core.shortage import reason
from thumbproxy.http.forwarding import malformed
from thumbproxy.http.responses import Environ, Response
from thumbproxy.rendering.base import PoolStatus
from thumbproxy.web.admin_endpoints import HEALTH_PATH, READY_PATH, bears, json_reply, plain
from thumbproxy.web.middleware import NotWsgi

State = Literal["ok", "degraded", "down"]

# Seconds for which what was found is told again.
_FRESH = 2.0
# Seconds for one exchange with a server, and for the whole answer.
_EXCHANGE = 0.8
_ANSWER = 1.0
# Less room on the disk of the cache is worth a word, bytes.
_LITTLE_ROOM = 64 * 1024 * 1024


class Finding(NamedTuple):
    """detail: for operators."""

    state: State
    detail: str = ""


class Probe:
    """Looks at one part, now and then, in a thread of its own, and never twice at a time: what does
    not answer holds one thread, whoever asks.

    look: what there is to be found; an OSError or ValueError means that the part is down
    """

    def __init__(self, name: str, look: Callable[[], Finding]) -> None:
        self.name = name
        self._watch = PerProcess(lambda: _Watch(name, look))

    def ask(self) -> None:
        self._watch.value.ask()

    def finding(self, until: float) -> Finding:
        """What was found, if it is there by then (monotonic time). A part that is late already is
        waited for no more: or whoever asks often enough would hold all threads."""
        return self._watch.value.finding(until)


class _Watch:
    """A Probe of one process."""

    def __init__(self, name: str, look: Callable[[], Finding]) -> None:
        self._name = name
        self._look = look
        self._lock = threading.Lock()
        self._found = threading.Event()
        self._finding = Finding("down", "no answer yet")
        self._at = float("-inf")
        self._looking = False
        self._began = 0.0

    def ask(self) -> None:
        with self._lock:
            if self._looking or time.monotonic() - self._at < _FRESH:
                return
            self._looking, self._began = True, time.monotonic()
            self._found.clear()
        try:
            threading.Thread(target=self._find, name=f"probe {self._name}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._tell(Finding("down", str(error)))

    def finding(self, until: float) -> Finding:
        until = min(until, self._began + _ANSWER)
        if not self._found.wait(max(0.0, until - time.monotonic())):
            return Finding("down", "no answer in time")
        return self._finding

    def _find(self) -> None:
        try:
            finding = self._look()
        except (OSError, ValueError) as error:
            finding = Finding("down", getattr(error, "strerror", None) or str(error))
        self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        with self._lock:
            self._finding, self._at, self._looking = finding, time.monotonic(), False
            self._found.set()


class Readiness:
    """Whether pictures can be made, or at least served.

    origins, caches  a probe of each
    others           of what serves something else
    pool_status      what there is to make pictures with
    """

    def __init__(
        self,
        *,
        origins: Sequence[Probe],
        caches: Sequence[Probe],
        others: Sequence[Probe],
        pool_status: Callable[[], PoolStatus],
    ) -> None:
        self._origins = tuple(origins)
        self._caches = tuple(caches)
        self._others = tuple(others)
        self._pool_status = pool_status

    def look(self) -> tuple[State, dict[str, Finding]]:
        """All in all, and each part by its name. Takes a second at most.

        Down is a server that can neither make a picture nor look one up; what else fails is
        degraded, because other requests still get what they want.
        """
        probes = (*self._origins, *self._caches, *self._others)
        until = time.monotonic() + _ANSWER
        for probe in probes:
            probe.ask()
        found = {probe.name: probe.finding(until) for probe in probes}
        found["renders"] = renders = _renders(self._pool_status())
        # Of origins that may be anywhere there is no probe.
        reaches = not self._origins or _works(self._origins, found)
        makes = reaches and renders.state != "down"
        if not makes and not _works(self._caches, found):
            return "down", found
        well = all(finding.state == "ok" for finding in found.values())
        return "ok" if well else "degraded", found


def _works(probes: Sequence[Probe], found: dict[str, Finding]) -> bool:
    return any(found[probe.name].state != "down" for probe in probes)


def _renders(pool_status: PoolStatus) -> Finding:
    detail = f"{pool_status.ready} of {pool_status.size} {pool_status.isolation}"
    if not pool_status.ready:
        return Finding("down", detail)
    return Finding("ok" if pool_status.ready >= pool_status.size else "degraded", detail)


class Site:
    """The application of the standalone server: its own health first, then everything else.

    token         of those who are told more than a word; "" for nobody
    start         has the rest get ready
    ignores_body  whether a request for a path (PATH_INFO) is answered without its body
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        readiness: Readiness,
        *,
        token: str,
        start: Callable[[], None],
        ignores_body: Callable[[str], bool],
    ) -> None:
        self.ignores_body = ignores_body
        self._app = app
        self._readiness = readiness
        self._token = token
        self._start = start
        self._stopping: Callable[[], bool] = bool
        self._pages = {HEALTH_PATH: self._health, READY_PATH: self._ready}

    def start(self, stopping: Callable[[], bool]) -> None:
        """In the process that serves, when it begins to. stopping: whether it is about to end."""
        self._stopping = stopping
        self._start()

    def __call__(
        self,
        environ: Environ,
        start_response: Callable[..., Any] | None = None,
        send: object = None,
    ) -> Iterable[bytes]:
        if start_response is None or send is not None:
            raise NotWsgi
        refused = malformed(environ)
        if refused is not None:
            return refused(environ, start_response)
        page = self._pages.get(environ.get("PATH_INFO", ""))
        if page is None:
            return self._app(environ, start_response)
        return page(environ)(environ, start_response)

    def _health(self, environ: Environ) -> Response:
        return plain(200, "ok")

    def _ready(self, environ: Environ) -> Response:
        if self._stopping():
            return plain(503, "stopping")
        state, parts = self._readiness.look()
        status = 503 if state == "down" else 200
        if not (self._token and bears(environ, self._token)):
            return plain(status, state)
        told = {"state": state, "parts": {name: part._asdict() for name, part in parts.items()}}
        return json_reply(status, json.dumps(told))


def origin_probe(prefix: str, location: str) -> Probe:
    """Of a folder, or of an HTTP origin: whether its server accepts a connection."""
    name = f"origin {prefix}".strip()
    return Probe(name, lambda: _server(location) if "://" in location else _folder(location))


def upstream_probe(url: str) -> Probe:
    return Probe("upstream", lambda: _server(url))


def _server(url: str) -> Finding:
    target = urlsplit(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    socket.create_connection((target.hostname or "", port), _EXCHANGE).close()
    return Finding("ok")


def _folder(path: str) -> Finding:
    with os.scandir(os.path.expanduser(path)) as entries:
        next(entries, None)
    return Finding("ok")


def memcached_probe(servers: Sequence[str]) -> Probe:
    endpoints = [Endpoint(server) for server in servers]

    def look() -> Finding:
        failing = [server.text for server in endpoints if not _says_its_version(server)]
        if not failing:
            return Finding("ok")
        state: State = "degraded" if len(failing) < len(servers) else "down"
        return Finding(state, f"no answer from {', '.join(failing)}")

    return Probe("memcached", look)


def _says_its_version(server: Endpoint) -> bool:
    try:
        with server.connect(Deadline(_EXCHANGE)) as connection:
            connection.settimeout(_EXCHANGE)
            connection.sendall(b"version\r\n")
            return connection.recv(64).startswith(b"VERSION")
    except OSError:
        return False


def disk_probe(directory: str) -> Probe:
    """Of a cache directory: readable, writable, with room."""

    def look() -> Finding:
        # Raises what a hit would meet.
        os.scandir(os.path.join(directory, "public")).close()
        mark = os.path.join(directory, "tmp", f"probe-{uuid.uuid4().hex}")
        fault = _fault_of_writing(mark)
        room = os.statvfs(directory)
        if room.f_files and not room.f_favail:
            return Finding("degraded", "there are no inodes left")
        if fault:
            return Finding("degraded", f"cannot be written: {fault}")
        if room.f_bavail * room.f_frsize < _LITTLE_ROOM:
            return Finding("degraded", "there is little room left")
        return Finding("ok")

    return Probe("disk", look)


def _fault_of_writing(path: str) -> str | None:
    try:
        with open(path, "xb") as file:
            file.write(bytes(4096))
    except OSError as error:
        return reason(error, path)
    finally:
        with suppress(OSError):
            os.unlink(path)
    return None
