"""An announced stop: for some seconds /readyz says that the server is stopping, and everything else
continues.

Load balancers and Kubernetes take a moment to see that a server is going. Whoever they send to it
meanwhile would be refused, had it stopped to listen when it was told to.
"""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

# Shared with all processes that are forked from here: the master says it once, to all workers.
_announced = mmap.mmap(-1, 1)


def announced() -> bool:
    """Whether this server, of whose processes this is one, is about to stop."""
    return _announced[0] != 0


class Drain:
    """Has gunicorn's master wait between TERM and its stop; a second TERM ends the wait.

    seconds  how long, asked for when it begins

    INT and QUIT stop at once, and HUP replaces workers, as they always do. A master of which USR2
    has made another does not wait: that one listens on the same sockets.
    """

    def __init__(self, arbiter: Any, seconds: Callable[[], float]) -> None:
        self._arbiter = arbiter
        self._seconds = seconds
        self._end: float | None = None
        self._wait_for_signals = arbiter.wait_for_signals
        # gunicorn has no hook for it; these are called by its main loop, by name.
        arbiter.handle_term = self._handle_term
        arbiter.wait_for_signals = self._wait

    def _handle_term(self) -> None:
        seconds = 0.0 if self._arbiter.reexec_pid else self._seconds()
        if self._end is not None or not seconds:
            raise StopIteration  # as gunicorn itself: the end of its main loop
        self._end = time.monotonic() + seconds
        _announced[0] = 1
        log.info("about to stop, in %g s: /readyz says so", seconds)

    def _wait(self, timeout: float = 1.0) -> Any:
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise StopIteration
            timeout = min(timeout, left)
        return self._wait_for_signals(timeout=timeout)
