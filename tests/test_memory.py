"""What requests leave behind in a process: nothing, or so much and no more."""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pictures import encoded, landscape
from servers import KEY
from werkzeug.test import Client

from thumbproxy import Folder, Options, Signer, Thumbnails, ThumbProxy
from thumbproxy.caches.base import Failure, FailureRecord
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.errors import SourceNotFound
from thumbproxy.core.media import Validators
from thumbproxy.scheduling.coalescing import NegativeCache
from thumbproxy.urls.codec import UrlCodec

THUMBS = Thumbnails(keys=[KEY])
# Bytes that the source of a refusal has, and that nobody may keep.
LARGE = 200_000
_NUMBERS = itertools.count()


def origin(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Sources whose names say what becomes of them. What they are called besides is all one."""
    kind = environ["PATH_INFO"].rpartition("/")[2].partition("-")[0]
    status, body = {
        "good": ("200 OK", encoded(landscape(80, 60))),
        "broken": ("200 OK", b"\x89PNG\r\n\x1a\n".ljust(LARGE, b"?")),
        "unknown": ("200 OK", b"text".ljust(LARGE)),
        "cut": ("200 OK", encoded(landscape(400, 300), "PNG", compress_level=0)[:LARGE]),
        "failing": ("500 Out Of Order", b"".ljust(LARGE)),
    }.get(kind, ("404 Not Found", b"nothing"))
    start_response(status, [("Content-Length", str(len(body))), ("ETag", f'"{next(_NUMBERS)}"')])
    return [body]


STATUS = {"good": 200, "broken": 422, "unknown": 415, "cut": 422, "failing": 502, "missing": 404}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "good.jpg").write_bytes(encoded(landscape(80, 60)))
    origins = {"folder/": Folder(tmp_path / "folder"), "": origin}
    return Client(
        ThumbProxy(origin, origins=origins, keys=[KEY], cache_dir=str(tmp_path / "cache"))
    )


def ask(client: Client, kind: str, name: str) -> int:
    path = THUMBS.url(f"{name}/{kind}-{next(_NUMBERS)}", width=20, format="jpg")
    return client.get(path, headers={"Host": f"host-{next(_NUMBERS)}.example"}).status_code


@contextmanager
def garbage() -> Iterator[list[Any]]:
    """What is left for the collector, which waits meanwhile."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", STATUS)
def test_a_request_leaves_no_source_to_the_collector(client: Client, kind: str) -> None:
    """Which comes late, or for hours not at all, to a process that does nothing else."""
    assert ask(client, kind, "first") == STATUS[kind]
    with garbage() as left:
        for _ in range(5):
            assert ask(client, kind, "then") == STATUS[kind]
    kinds = Counter(type(thing).__name__ for thing in left)
    held = [thing for each in left for thing in gc.get_referents(each) if type(thing) is bytes]
    assert not [len(body) for body in held if len(body) >= LARGE // 2], kinds
    assert not kinds["frame"], kinds


def kept_of(each: Callable[[int], object], count: int = 200) -> float:
    """Bytes that are still there of each."""
    each(count)  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            each(number)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()


def test_addresses_as_long_as_can_be_take_no_memory_for_good() -> None:
    signer = Signer([KEY])
    codec = UrlCodec(signer)
    paths = [codec.build(f"{('x' * 99 + '/') * 20}{number}.jpg", Options(width=20), "jpg")
             for number in range(201)]  # fmt: skip
    assert kept_of(lambda number: codec.parse(paths[number])) < 100


def test_records_with_validators_as_long_as_can_be_take_no_memory_for_good(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)

    def each(number: int) -> None:
        validators = Validators(f'"{number:060000}"')
        failure = Failure(SourceNotFound.token, "", time.time() + 60)
        cache.set_record(f"{number}.jpg", FailureRecord(failure, validators, 0, time.time()))
        assert cache.record(f"{number}.jpg") is not None

    assert kept_of(each) < 1000


def test_failures_that_are_over_are_forgotten() -> None:
    remembered = NegativeCache()
    for number in range(100):
        remembered.remember(f"{number}", SourceNotFound(), 0)
    remembered.remember("the last", SourceNotFound(), 60)
    assert len(remembered._failures) == 1
