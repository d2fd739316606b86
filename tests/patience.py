"""Patience with memcached: one that does not get a processor for a moment, as beside other tests,
is up all the same, and what would be shared by it is."""

from __future__ import annotations

import os

from thumbproxy.caches.memcached import protocol

# For tests of one that does not answer, in their environment: as in production.
MILLISECONDS, USUAL = "MEMCACHED_MILLISECONDS", "50"


def wait_for_memcached() -> None:
    protocol.SILENCE = int(os.environ.get(MILLISECONDS, "3000")) / 1000
