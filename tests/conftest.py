"""Fixtures that many tests share: real servers, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import servers
from hypothesis import settings

from thumbproxy import lock_order

# Machines that run tests are noisy: an example may take its time.
settings.register_profile("thumbproxy", deadline=None)
settings.load_profile("thumbproxy")
# Whoever waits against the order of locks fails, even where nobody is in the way.
lock_order.check()


@pytest.fixture(scope="session")
def memcached() -> Iterator[servers.Server]:
    """A real memcached for everyone; tests keep apart by namespaces."""
    with servers.memcached() as server:
        yield server
