"""What stands before and behind nginx in its tests: a cache with files put into it, and a server
that tells what it was asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

MODIFIED = 1_700_000_000


class Reply(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def asked(self) -> str | None:
        """What thumbproxy was asked for; None: nginx answered by itself."""
        return self.headers.get("X-Asked")


class Echo(BaseHTTPRequestHandler):
    """Stands where thumbproxy stands: tells the request line, and the headers as its body."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = -1  # a reply in one packet

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = "".join(f"{name}: {value}\n" for name, value in self.headers.items()).encode()
        self.send_response(200)
        self.send_header("X-Asked", f"{self.command} {self.path}")
        self.send_header("X-Connection", str(self.client_address[1]))
        self.send_header("Cache-Status", "thumbproxy; fwd=uri-miss")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # whatever the method
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        pass


class EchoServer(ThreadingHTTPServer):
    daemon_threads = True


class Site:
    """nginx, with a cache whose files can be put and a server behind."""

    def __init__(self, address: tuple[str, int], cache: Path) -> None:
        self.cache = cache
        self._address = address

    def put(self, path: str, body: bytes = b"picture") -> Path:
        file = self.cache / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        os.utime(file, (MODIFIED, MODIFIED))
        return file

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] = {},
        method: str = "GET",
        body: bytes | None = None,
    ) -> Reply:
        connection = HTTPConnection(*self._address, timeout=10)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()
