"""What stands before and behind nginx in its tests: a cache with files put into it, a server that
tells what it was asked, and one that answers as thumbproxy does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
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


@dataclass
class Picture:
    """What stands behind nginx at a path: a picture as thumbproxy answers with it, or an error.

    status 0: the connection is closed without a reply, as when a process is killed.
    """

    body: bytes = b"picture"
    status: int = 200
    cache_control: str = "public, max-age=2592000, stale-while-revalidate=86400"
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{MODIFIED:x}-{len(self.body):x}"'


class Gallery(ThreadingHTTPServer):
    """Answers with `picture`, or what `pictures` has for the path; `asked` is what it was asked."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Wall)
        self.picture = Picture()
        self.pictures: dict[str, Picture] = {}
        self.asked: list[tuple[str, str, Message]] = []
        self.open = threading.Event()  # while it is not set, nobody gets an answer
        self.open.set()


class _Wall(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = -1
    server: Gallery

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # whatever the method
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers))
        self.server.open.wait(20)
        picture = self.server.pictures.get(self.path, self.server.picture)
        if not picture.status:
            self.close_connection = True
            return
        same = picture.status == 200 and self.headers.get("If-None-Match") == picture.etag
        self.send_response(304 if same else picture.status)
        for name, value in {
            "ETag": picture.etag,
            "Cache-Control": picture.cache_control,
            "Cache-Status": "thumbproxy; hit; detail=disk",
            **picture.more,
        }.items():
            self.send_header(name, value)
        if not same:
            self.send_header("Content-Type", "image/webp")
            self.send_header("Content-Length", str(len(picture.body)))
        self.end_headers()
        if not same and self.command != "HEAD":
            self.wfile.write(picture.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """The server in a thread: its "host:port"."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
