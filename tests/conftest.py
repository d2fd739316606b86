"""Fixtures that many tests share: real servers, started once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import lock_recorder
import pytest
import servers
from hypothesis import settings

from thumbproxy.core import lock_order

# Machines that run tests are noisy: an example may take its time.
settings.register_profile("thumbproxy", deadline=None)
settings.load_profile("thumbproxy")
# Whoever waits against the order of locks fails, even where nobody is in the way.
lock_order.check()
# And who waits, in any test or server, in an order that another has seen the other way round.
_recorder = lock_recorder.install()
import_module("patience").wait_for_memcached()  # what that loads is recorded


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    faults = _recorder.faults()
    if faults:
        pytest.fail("\n\n".join(faults), pytrace=False)


# Files that take longest, of all that run at the same time: what begins last must not be one.
_LONGEST = (
    "test_bare_debian", "test_wsgi_servers", "test_forking", "test_extras", "test_soak",
    "test_hostile_pictures", "test_snippets_commands", "test_interrupts", "test_herd",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


@pytest.fixture
def deep_path(tmp_path: Path) -> Iterator[Path]:
    """A tmp_path for trees so deep that neither rmtree nor pytest could remove them."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


@pytest.fixture(scope="session")
def memcached() -> Iterator[servers.Server]:
    """A real memcached for everyone; tests keep apart by namespaces."""
    with servers.memcached() as server:
        yield server
