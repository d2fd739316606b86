"""The program of an origin that has pictures and faults: `python -m benchmarks.load.origin PORT`.

    /good/N/ANYTHING      picture N of the gallery
    /hostile/N/ANYTHING   what is refused
    /fails/ANYTHING       500
    /cut/ANYTHING         half of a picture, though the whole is announced
    /hangs/ANYTHING       a head, and then nothing
Everything else is 404. A new name of a picture is a new source.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .gallery import gallery, hostile
from .servers import HOST

_HANG = 30.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    good: tuple[bytes, ...] = ()
    bad: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        bodies = {"good": self.good, "hostile": self.bad}.get(kind)
        number = rest.partition("/")[0]
        if bodies and number.isdigit():
            self._send(bodies[int(number) % len(bodies)])
        elif kind == "fails":
            self._send(b"out of order", status=500)
        elif kind in ("cut", "hangs"):
            self._send_half(self.good[0], hang=kind == "hangs")
        else:
            self._send(b"no such picture", status=404)

    def _send(self, body: bytes, status: int = 200) -> None:
        etag = f'"{sha256(body).hexdigest()[:16]}"'
        if status == 200 and self.headers.get("If-None-Match") == etag:
            status, body = 304, b""
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Cache-Control", "max-age=20")
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_half(self, body: bytes, *, hang: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if hang:
            threading.Event().wait(_HANG)
        else:
            self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def handle(self) -> None:
        with suppress(OSError):  # the client went away
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    _Handler.good = tuple(picture.body for picture in gallery())
    _Handler.bad = tuple(hostile())
    _Server((HOST, int(sys.argv[1])), _Handler).serve_forever()


if __name__ == "__main__":
    main()
