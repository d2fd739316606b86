"""The gallery as a WSGI app: one page at "/", nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from thumbproxy.demo.folder import MOST_PICTURES, list_pictures
from thumbproxy.demo.page import gallery
from thumbproxy.imaging.base import Engine
from thumbproxy.urls.builder import Thumbnails

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The page runs no scripts and loads nothing from elsewhere; data: is for its own small patterns.
_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class GalleryApp:
    """Shows the pictures of `folder`, read anew for every request.

    thumbs  whose addresses the page uses; their sources are paths below the folder
    engine  makes the placeholder that the page shows; without it the page only links to one
    limit   pictures on the page at most
    """

    def __init__(
        self,
        thumbs: Thumbnails,
        folder: Path,
        *,
        engine: Engine | None = None,
        limit: int = MOST_PICTURES,
    ) -> None:
        self._thumbs = thumbs
        self._folder = folder
        self._engine = engine
        self._limit = limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        extra: list[tuple[str, str]] = []
        content_type = "text/plain; charset=utf-8"
        if method not in {"GET", "HEAD"}:
            status, text = "405 Method Not Allowed", "The gallery answers GET and HEAD only.\n"
            extra = [("Allow", "GET, HEAD")]
        elif environ.get("PATH_INFO", "") not in {"", "/"}:
            status, text = "404 Not Found", "There is nothing here. The gallery is at /.\n"
        else:
            status, text = "200 OK", self._page()
            content_type = "text/html; charset=utf-8"
        body = text.encode("utf-8", "replace")  # names of files need not be Unicode
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", _POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ]
        start_response(status, headers + extra)
        return [] if method == "HEAD" else [body]

    def _page(self) -> str:
        names, total = list_pictures(self._folder, self._limit)
        return gallery(self._thumbs, self._folder, names, total=total, engine=self._engine)
