"""A control for promises about time: how late anything is on this machine, at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import servers

# How often a request waits for a processor on its way: its client, the server's loop, a thread of
# it, the origin, a render process, and some of them again. The control does so once or twice.
_TURNS = 6


class Control:
    """How long a request took, at the most, that had nothing to wait for but a processor."""

    def __init__(self) -> None:
        self.longest = 0.0

    def allows(self, seconds: float) -> float:
        """What is promised, and as much more as a busy machine adds to everything."""
        return seconds + _TURNS * self.longest


@contextmanager
def control(server: servers.Server) -> Iterator[Control]:
    """Asks a server how it is, all the time."""
    over, told = threading.Event(), Control()

    def measure() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert server.ask("/healthz").status == 200
            told.longest = max(told.longest, time.monotonic() - began)
            over.wait(0.02)

    asking = threading.Thread(target=measure)
    asking.start()
    try:
        yield told
    finally:
        over.set()
        asking.join()
