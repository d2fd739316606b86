"""A site as people write one, for the servers that they run it with: a WSGI application, wrapped.

The folder that SITE names has its pictures in `media`, and its cache. Which pictures were asked for
stands in the file `asked`, a line for each request, whichever process it came to. A picture that is
`held` is not sent before there is a file with its name in the folder `released`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import servers

from thumbproxy import ThumbProxy

SITE = Path(os.environ["SITE"])


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/page":
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        told = [b"sent ", sent, b" by ", environ["REQUEST_METHOD"].encode()]
        headers = [("X-Page", "1"), ("Content-Length", str(sum(map(len, told))))]
        start_response("200 OK", headers)
        return iter(told)
    with open(SITE / "asked", "a") as asked:
        asked.write(f"{path}\n")
    patience = time.monotonic() + 20
    while "held" in path and not (SITE / "released" / path[1:]).exists():
        assert time.monotonic() < patience
        time.sleep(0.005)
    try:
        body = (SITE / "media" / path[1:]).read_bytes()
    except OSError:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    headers = [("Content-Length", str(len(body))), ("Cache-Control", "max-age=600")]
    start_response("200 OK", headers)
    return [body]


app = ThumbProxy(
    application,
    keys=[servers.KEY],
    cache_dir=str(SITE / "cache"),
    isolation=os.environ["ISOLATION"],
    misses=int(os.environ["MISSES"]),
    renders=2,
    # Nothing here is to fail because other programs have the processors.
    request_timeout=50,
    render_timeout=25,
)
