"""The standalone server: gunicorn with threads, set up for images."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from thumbproxy.errors import SettingsError
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


def run(app: Callable[..., Any], settings: Settings, greeting: str) -> None:
    """Serve `app` until the process is told to stop.

    greeting: what to print when the server listens. Raises SettingsError when it cannot.
    """
    _check_bind(settings.bind)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] [%(process)d] %(message)s")

    def when_ready(server: Any) -> None:
        sys.stdout.write(f"{greeting}\n")
        sys.stdout.flush()

    _Server(app, {**gunicorn_options(settings), "when_ready": when_ready}).run()


def _check_bind(bind: str) -> None:
    """gunicorn would try for five seconds, and then say it in ten lines."""
    if bind.startswith("unix:") or "GUNICORN_FD" in os.environ:  # a socket that we were handed
        return
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise SettingsError(
            [f"bind: cannot listen on {bind}: {reason}. Choose another with --bind."]
        ) from None
