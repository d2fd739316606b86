"""An origin for tests: a WSGI application with pictures that a test can change."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from io import BytesIO
from typing import Any

from PIL import Image


def jpeg(width: int = 60, height: int = 40, color: str = "teal") -> bytes:
    out = BytesIO()
    Image.new("RGB", (width, height), color).save(out, "JPEG", quality=90)
    return out.getvalue()


def opened(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    image.load()
    return image


def is_close(image: Image.Image, color: tuple[int, int, int], by: int = 12) -> bool:
    """Whether the middle of a picture has about this colour."""
    pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return all(abs(int(a) - b) <= by for a, b in zip(pixel, color, strict=True))


class Gallery:
    """Pictures by path, answered as a careful origin does: with ETags and 304.

    asked    how often each path was asked for; `conditional` with If-None-Match
    headers  more headers of every reply
    absence  the status for what is not among them
    after    called when a reply is decided, before it is sent
    """

    def __init__(self, **pictures: bytes) -> None:
        self.pictures = {f"/{name}": body for name, body in pictures.items()}
        self.headers: list[tuple[str, str]] = []
        self.absence = "404 Not Found"
        self.asked: Counter[str] = Counter()
        self.conditional: Counter[str] = Counter()
        self.environs: list[dict[str, Any]] = []
        self.after: Callable[[dict[str, Any]], None] = lambda environ: None
        self._lock = threading.Lock()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        with self._lock:
            self.asked[path] += 1
            self.conditional[path] += "HTTP_IF_NONE_MATCH" in environ
            self.environs.append(environ)
        body = self.pictures.get(path)
        self.after(environ)
        if body is None:
            text = b"no such picture\n"
            start_response(self.absence, [("Content-Type", "text/plain"),
                                          ("Content-Length", str(len(text)))])  # fmt: skip
            return [text]
        etag = f'"{sha256(body).hexdigest()[:16]}"'
        headers = [("ETag", etag), *self.headers]
        if environ.get("HTTP_IF_NONE_MATCH") == etag:
            start_response("304 Not Modified", headers)
            return []
        headers += [("Content-Type", "image/jpeg"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]
