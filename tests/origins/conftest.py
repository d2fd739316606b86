"""Questions to origins, and servers to ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import FetchRequest

Ask = Callable[..., FetchRequest]
Serve = Callable[[Any], str]


class _Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL of a real threaded server that runs `app`."""
    server: Any = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    server.daemon_threads = False  # so that closing it waits until every request has ended
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture
def ask() -> Ask:
    """Makes a FetchRequest: ask("cat.jpg", etag=..., seconds=..., limits=..., client=...)."""

    def make(path: str, *, etag: str = "", last_modified: str = "", **changes: Any) -> FetchRequest:
        return FetchRequest(
            path=path,
            validators=changes.get("validators", Validators(etag, last_modified)),
            deadline=Deadline(changes.get("seconds", 5)),
            limits=changes.get("limits", Limits()),
            fresh=changes.get("fresh", False),
            client=changes.get("client", {}),
        )

    return make
