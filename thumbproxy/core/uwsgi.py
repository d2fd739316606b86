"""Support for uWSGI: its module, and warnings about its settings."""

from __future__ import annotations

import logging
import os
import sys
from types import ModuleType

log = logging.getLogger(__name__)


def server() -> ModuleType | None:
    """The module that uWSGI gives to those it runs, and that cannot be installed."""
    return sys.modules.get("uwsgi")


class RequestConnection:
    """The connection of the request that the calling thread answers.

    uWSGI tells a number alone, which soon may be that of another connection. Raises OSError.
    """

    def __init__(self, uwsgi: ModuleType) -> None:
        self._descriptor: int = uwsgi.connection_fd()
        self._inode = os.fstat(self._descriptor).st_ino

    def fileno(self) -> int:
        """-1 when it is closed. Raises OSError."""
        same = os.fstat(self._descriptor).st_ino == self._inode
        return self._descriptor if same else -1


def check_threads() -> None:
    """Say what to do where uWSGI lets no thread run but those that answer requests, which is how
    older releases start: what a request begins in the background, stands still after it."""
    uwsgi = server()
    if uwsgi is not None and not uwsgi.has_threads:
        log.warning(
            "uWSGI runs no threads of applications, so old pictures are not asked about in the "
            "background, and purges of other hosts not heard of. Start it with --enable-threads."
        )
