"""The standalone server: gunicorn with threads, set up for images."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from thumbproxy.settings import Settings

_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn makes an unnamed file there


def gunicorn_options(settings: Settings) -> dict[str, Any]:
    """gunicorn's settings; conf/gunicorn.conf.py has the same for those who start it themselves."""
    return {
        "bind": settings.bind,
        "workers": settings.workers or os.cpu_count() or 1,
        "threads": settings.threads,
        "worker_class": "gthread",
        # A worker says that it lives by touching a file. On a disk that stalls, that would kill it.
        "worker_tmp_dir": _MEMORY if os.path.isdir(_MEMORY) else None,
        "control_socket_disable": True,
        # Else a client on this machine could set SCRIPT_NAME and PATH_INFO by headers.
        "forwarder_headers": "",
        "timeout": 60,
        # No request takes longer than its deadline, so a stop need not cut one off.
        "graceful_timeout": int(settings.request_timeout) + 5,
        # Longer than nginx keeps idle connections to us: the side that sends must hang up first.
        "keepalive": 75,
        "proc_name": "thumbproxy",
    }


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Callable[..., Any], options: dict[str, Any]) -> None:
        self._app = app
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        return self._app


def run(app: Callable[..., Any], settings: Settings) -> None:
    """Serve `app` until the process is told to stop."""
    _Server(app, gunicorn_options(settings)).run()
