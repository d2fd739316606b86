"""Fixtures that many tests share: real servers, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import servers
from hypothesis import settings

# Machines that run tests are noisy: an example may take its time.
settings.register_profile("thumbproxy", deadline=None)
settings.load_profile("thumbproxy")


@pytest.fixture(scope="session")
def memcached() -> Iterator[servers.Server]:
    """A real memcached for everyone; tests keep apart by namespaces."""
    with servers.memcached() as server:
        yield server
