"""Freed memory is kept for the next picture, unless the operator has decided otherwise."""

from __future__ import annotations

import ctypes
import os
import resource

import pytest
from pictures import encoded, landscape

from thumbproxy.imaging.memory import keep_freed_memory
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.limits import Limits
from thumbproxy.media import Format
from thumbproxy.options import Options

TUNED = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
HAS_MALLOPT = hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(TUNED or not HAS_MALLOPT, reason="malloc is tuned from outside, or not glibc's")
def test_rendering_again_asks_the_kernel_for_hardly_any_memory() -> None:
    engine = PillowEngine(Limits())
    source = encoded(landscape(2400, 2000))
    faults = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        engine.render(source, Options(width=1800), Format.JPEG)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    # Its pixels take about 45 MB: 11 000 pages.
    assert min(faults) < 1_000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_an_operator_who_tuned_malloc_is_not_overruled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("malloc was touched"))
    keep_freed_memory()


def test_a_c_library_without_mallopt_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory()
