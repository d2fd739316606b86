"""The access log: one line for each request, which no client can forge."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

# Where, in a WSGI environ, those who answer put what they know of a request: a dict of
#   result           what became of it (metrics.Result)
#   reason           the token of an error
#   fetch, render, encode  seconds
# It is there only if somebody writes it down.
FACTS = "thumbproxy.facts"

log = logging.getLogger("thumbproxy.access")
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_LONGEST = 2048
_DECIMALS = 4  # of seconds: what is less is noise
# Of a line for people, what stands behind the request and its status.
_SHOWN = (
    "bytes",
    "seconds",
    "result",
    "reason",
    "fetch",
    "render",
    "encode",
    "client",
    "forwarded",
    "id",
)


class AccessLog:
    """Writes down what `app` answers. The path is that of the request, without its query."""

    def __init__(self, app: Callable[..., Iterable[bytes]], *, json: bool) -> None:
        self._app = app
        self._json = json

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        began = time.perf_counter()
        facts: dict[str, Any] = {}
        environ[FACTS] = facts
        told: dict[str, Any] = {"status": 500, "bytes": None}

        def answered(
            status: str, headers: list[tuple[str, str]], *exc_info: Any
        ) -> Callable[[bytes], object]:
            told["status"] = int(status[:3])
            told["bytes"] = _length(headers)
            write: Callable[[bytes], object] = start_response(status, headers, *exc_info)
            return write

        try:
            return self._app(environ, answered)
        finally:
            told["seconds"] = time.perf_counter() - began
            self._write(environ, told | facts)

    def _write(self, environ: dict[str, Any], told: dict[str, Any]) -> None:
        asked = environ.get("HTTP_X_REQUEST_ID", "")
        request = {
            "method": escaped(environ.get("REQUEST_METHOD", "")),
            "path": escaped(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")),
        }
        told = {
            name: round(fact, _DECIMALS) if isinstance(fact, float) else fact
            for name, fact in told.items()
        }
        told["client"] = escaped(environ.get("REMOTE_ADDR", "")) or None
        told["forwarded"] = escaped(environ.get("HTTP_X_FORWARDED_FOR", "")[:256]) or None
        if _SANE_ID.fullmatch(asked):
            told["id"] = asked
        line = f"{request['method']} {request['path']} {told['status']}"
        if self._json:
            agent = escaped(environ.get("HTTP_USER_AGENT", "")[:256])
            fields = request | told | ({"agent": agent} if agent else {})
            log.info(line, extra={name: fact for name, fact in fields.items() if fact is not None})
        else:
            shown = [f"{name}={told[name]}" for name in _SHOWN if told.get(name) is not None]
            log.info("%s", " ".join([line, *shown]))


def _length(headers: list[tuple[str, str]]) -> int | None:
    for name, value in headers:
        if name.lower() == "content-length" and value.isascii() and value.isdigit():
            return int(value)
    return None


def escaped(text: str) -> str:
    """What a client sent, as WSGI has it, in visible ASCII: all else, and what could end a field,
    as the bytes that came (`%0A`)."""
    raw = text[:_LONGEST].encode("latin-1", "replace")
    shown = "".join(chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}" for byte in raw)
    return shown + "..." * (len(text) > _LONGEST)
