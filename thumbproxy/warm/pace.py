"""Limits the number of images per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Any number of threads take turns at `rate` tokens a second.

    Each take waits until its tokens have come since the take before it, the first since it began.
    So there are never more than the rate allows, and nobody can save up: after a pause it goes on
    at the rate, not with a burst.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """rate: tokens a second; None: as many as one likes. sleep: takes seconds."""
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._last: float | None = None

    def take(self, tokens: int = 1) -> None:
        """Wait until so many may be used."""
        if not self._interval:
            return
        with self._lock:
            now = self._clock()
            last = now if self._last is None else self._last
            mine = self._last = max(last + tokens * self._interval, now)
        if mine > now:
            self._sleep(mine - now)
