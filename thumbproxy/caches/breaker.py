"""What a tier remembers of its own failures: one log line for each change, and a pause."""

from __future__ import annotations

import logging
import time

from thumbproxy.metrics import Metrics, Tier

log = logging.getLogger("thumbproxy.caches")


class Breaker:
    """Opens for `pause` seconds after a failure; what is open is not asked.

    With a pause of 0 it never opens and only keeps the log short.
    """

    def __init__(self, name: str, pause: float, tier: Tier, metrics: Metrics) -> None:
        self._name = name
        self._pause = pause
        self._tier: Tier = tier
        self._metrics = metrics
        self._open_until = 0.0
        self._failing = False

    @property
    def open(self) -> bool:
        return self._open_until > time.monotonic()

    def failed(self, error: BaseException) -> None:
        self._open_until = time.monotonic() + self._pause
        self._metrics.tier_failed(self._tier)
        if not self._failing:
            self._failing = True
            log.warning("%s fails and is passed over for now: %s", self._name, error)

    def succeeded(self) -> None:
        if self._failing:
            self._failing = False
            self._metrics.tier_recovered(self._tier)
            log.warning("%s works again", self._name)
