"""A circuit breaker: a tier that fails is not asked for a while, and each change is logged once."""

from __future__ import annotations

import logging
import threading
import time

from thumbproxy.core.forking import PerProcess
from thumbproxy.telemetry.metrics import Metrics, Tier

log = logging.getLogger("thumbproxy.caches")
# Seconds without a failure after which a tier is well: what fails now and then is failing.
_SETTLED = 1.0


class Breaker:
    """Opens for `pause` seconds after a failure; what is open is not asked.

    After a pause one thread asks; the others go on passing it over until that one has an answer,
    so that they do not all wait for it. With a pause of 0 it never opens and only keeps the log
    short.
    """

    def __init__(self, name: str, pause: float, tier: Tier, metrics: Metrics) -> None:
        self._name = name
        self._pause = pause
        self._tier: Tier = tier
        self._metrics = metrics
        self._open_until = self._failed_at = 0.0
        self._failing = False
        self._lock = PerProcess(threading.Lock)

    def admits(self) -> bool:
        """Whether the tier may be asked now. Who is admitted says what came of it."""
        if not (self._failing and self._pause):
            return True
        with self._lock.value:
            now = time.monotonic()
            if self._failing and self._open_until > now:
                return False
            self._open_until = now + self._pause
            return True

    def failed(self, why: str) -> None:
        with self._lock.value:
            self._failed_at = time.monotonic()
            self._open_until = self._failed_at + self._pause
            news, self._failing = not self._failing, True
        self._metrics.tier_failed(self._tier)
        if news:
            log.warning("%s fails and is passed over for now: %s", self._name, why)

    def succeeded(self) -> None:
        if not self._failing:
            return
        with self._lock.value:
            self._open_until = 0.0
            news = self._failing and time.monotonic() - self._failed_at >= _SETTLED
            self._failing = self._failing and not news
        if news:
            self._metrics.tier_recovered(self._tier)
            log.warning("%s works again", self._name)
