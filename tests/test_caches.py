"""The contract of caches, run against the disk and a real memcached."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import servers

from thumbproxy.caches.base import Cache, Scope, SourceRecord, new_generation, read_record
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.memcached.cache import MemcachedCache
from thumbproxy.caches.memcached.client import strict_clients
from thumbproxy.caches.memcached.libmemcached import libmemcached_clients
from thumbproxy.core.formats import Format
from thumbproxy.core.media import ClientTerms, Rendition, Validators
from thumbproxy.http.cache_control import CacheFields, Directives
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

# By which memcached is asked.
CLIENTS = {"memcached": strict_clients, "memcached by pylibmc": libmemcached_clients}
SOURCE = "médias/été à Nice.jpg"
MakeCache = Callable[[], Cache]


def record(digit: str = "a", **more: object) -> SourceRecord:
    fields = {
        "version": digit * 64,
        "generation": new_generation(),
        "format": Format.JPEG,
        "size": 5,
        "width": 30,
        "height": 20,
        "frames": 1,
        "has_alpha": False,
        "validators": Validators('"etag"', "Tue, 14 Nov 2023 22:13:20 GMT"),
        "modified": 1_700_000_000,
        "fetched_at": time.time() - 10,
        "fresh_until": time.time() + 3600.5,
        "stale_until": time.time() + 7200,
        "error_until": time.time() + 9000,
        "v": "v1",
        **more,
    }
    return SourceRecord(**fields)  # type: ignore[arg-type]


def request(width: int = 4, source: str = SOURCE, **more: object) -> ImageRequest:
    options = Options(width=width, **more)  # type: ignore[arg-type]
    name = f"{options}.{'S' * 22}.webp"
    return ImageRequest(source, options, name, Format.WEBP, auto=False)


def rendition(body: bytes = b"picture") -> Rendition:
    return Rendition(body, Format.WEBP, 1_700_000_000, "fwd=uri-miss")


@pytest.fixture(params=["disk", *CLIENTS])
def make(request: pytest.FixtureRequest, tmp_path: Path, memcached: servers.Server) -> MakeCache:
    """Makes the cache as another process would: nothing shared but what is kept."""
    namespace = uuid.uuid4().hex

    def disk() -> Cache:
        cache = DiskCache(str(tmp_path / "cache"))
        cache.prepare()
        return cache

    def shared() -> Cache:
        return MemcachedCache(
            [f"127.0.0.1:{memcached.port}"],
            secret="tests", namespace=namespace, clients=CLIENTS[request.param],
        )  # fmt: skip

    return disk if request.param == "disk" else shared


def test_what_is_kept_is_found_by_everyone(make: MakeCache) -> None:
    stands = make().set_record(SOURCE, record())
    assert make().set(request(), stands, rendition(), public=False)
    assert make().record(SOURCE) == stands
    found = make().get(request(), stands, public=False)
    assert found is not None
    assert (found.body, found.format, found.modified) == (b"picture", Format.WEBP, 1_700_000_000)
    assert found.cache_status.startswith("hit; detail=")


def test_what_is_not_kept_is_a_miss(make: MakeCache) -> None:
    cache = make()
    assert cache.record(SOURCE) is None
    assert cache.get(request(), record(), public=False) is None
    assert cache.get(request(), None, public=True) is None


def test_variants_and_sources_are_kept_apart(make: MakeCache) -> None:
    cache = make()
    for source in ("a", "a/b", "b"):
        stands = cache.set_record(source, record())
        for width in (1, 2):
            body = f"{source} {width}".encode()
            assert cache.set(request(width, source), stands, rendition(body), public=False)
    for source in ("a", "a/b", "b"):
        for width in (1, 2):
            found = cache.get(request(width, source), cache.record(source), public=False)
            assert found is not None
            assert found.body == f"{source} {width}".encode()


def test_a_later_fetch_of_the_same_version_keeps_the_renditions(make: MakeCache) -> None:
    cache = make()
    first = cache.set_record(SOURCE, record())
    cache.set(request(), first, rendition(), public=False)
    later = cache.set_record(SOURCE, record(fetched_at=time.time(), v="v2"))
    assert later.generation == first.generation
    assert later.v == "v2"
    assert cache.record(SOURCE) == later
    assert cache.get(request(), later, public=False) is not None


def test_a_new_version_drops_what_was_made_of_the_old_one(make: MakeCache) -> None:
    cache = make()
    old = cache.set_record(SOURCE, record("a"))
    cache.set(request(), old, rendition(), public=False)
    new = cache.set_record(SOURCE, record("b", fetched_at=time.time()))
    assert cache.get(request(), new, public=False) is None


def test_a_render_of_an_old_version_is_not_kept(make: MakeCache) -> None:
    """A changed source beats a render in flight."""
    cache = make()
    old = cache.set_record(SOURCE, record("a"))
    new = cache.set_record(SOURCE, record("b", fetched_at=time.time()))
    cache.set(request(), old, rendition(b"old"), public=False)
    assert cache.get(request(), new, public=False) is None
    cache.set(request(), new, rendition(b"new"), public=False)
    found = cache.get(request(), new, public=False)
    assert found is not None
    assert found.body == b"new"


def test_what_is_forgotten_stays_forgotten(make: MakeCache) -> None:
    """A render that was in flight does not bring its source back."""
    cache = make()
    stands = cache.set_record(SOURCE, record())
    cache.set(request(), stands, rendition(), public=False)
    cache.purge(Scope(SOURCE))
    cache.set(request(), stands, rendition(), public=False)
    assert cache.record(SOURCE) is None
    again = cache.set_record(SOURCE, record(fetched_at=time.time()))
    assert again.generation != stands.generation
    assert cache.get(request(), again, public=False) is None


def test_another_version_is_never_modified_earlier(make: MakeCache) -> None:
    """Its ETag is made of seconds and a length, and must not be that of the version before."""
    cache = make()
    first = cache.set_record(SOURCE, record("a"))
    second = cache.set_record(SOURCE, record("b", fetched_at=time.time()))
    third = cache.set_record(SOURCE, record("c", fetched_at=time.time()))
    assert first.modified < second.modified < third.modified
    again = cache.set_record(SOURCE, record("c", fetched_at=time.time()))
    assert again.modified == third.modified, "another process that fetched the same"


def test_what_was_last_seen_is_not_lost(make: MakeCache) -> None:
    cache = make()
    cache.set_record(SOURCE, record(v="v1"))
    assert cache.set_record(SOURCE, record(fetched_at=time.time(), v="")).v == "v1"


def test_of_two_fetches_the_later_one_counts(make: MakeCache) -> None:
    cache = make()
    later = cache.set_record(SOURCE, record("b", fetched_at=time.time()))
    assert cache.set_record(SOURCE, record("a", fetched_at=time.time() - 5)) == later
    assert cache.record(SOURCE) == later


def test_a_record_from_the_future_does_not_stand(make: MakeCache) -> None:
    """A clock that jumped must not freeze a source."""
    cache = make()
    cache.set_record(SOURCE, record("a", fetched_at=time.time() + 9999))
    new = record("b", fetched_at=time.time())
    assert cache.set_record(SOURCE, new) == new
    assert cache.record(SOURCE) == new


def test_neither_expiry_nor_large_values_are_a_fault(make: MakeCache) -> None:
    cache = make()
    stands = cache.set_record(SOURCE, record())
    big = rendition(os.urandom(3_000_000))
    kept = cache.set(request(1), stands, big, public=False)
    found = cache.get(request(1), stands, public=False)
    whole = found and found.in_memory()
    assert (whole is not None and whole.body == big.body) == kept
    cache.set(request(2, expires=5), stands, rendition(), public=False)
    found = cache.get(request(2, expires=9_999), stands, public=False)
    assert found is not None, "the time of expiry is no part of the identity"


def test_many_threads_at_once(make: MakeCache) -> None:
    cache = make()
    wrong: list[object] = []

    def work(number: int) -> None:
        for round in range(10):
            stands = cache.set_record(SOURCE, record("abcdef"[round % 6], fetched_at=time.time()))
            body = f"{stands.version}".encode()
            cache.set(request(), stands, rendition(body), public=False)
            now = cache.record(SOURCE)
            found = cache.get(request(), now, public=False)
            # Between the two calls another version may have come; but never a broken body.
            if found is not None and (len(found.body) != 64 or len(set(found.body)) != 1):
                wrong.append(found)
            if now is None:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    last = cache.record(SOURCE)
    assert last is not None
    found = cache.get(request(), last, public=False)
    assert found is None or found.body.decode() == last.version


def test_records_survive_a_round_trip_and_damage_is_no_record() -> None:
    asked = Directives(no_cache=True), None, 0.0
    for said in (
        {},
        {"clients": ClientTerms(60, 90, stale_if_error=5), "fields": CacheFields(*asked)},
        {
            "clients": ClientTerms(storable=False),
            "fields": CacheFields(None, Directives(max_age=1)),
        },
    ):
        original = record(**said)
        text = original.to_json()
        assert read_record(text) == original
    for damaged in (b"", b"{}", b"[]", b"null", text[:-5], text.replace(b'"jpg"', b'"bmp"'),
                    text.replace(b'"v":', b'"other":'), b"\xff",
                    text.replace(b'"fields": [', b'"fields": [1, '),
                    text.replace(b"a" * 64, b"../../victim")):  # fmt: skip
        assert read_record(damaged) is None


@pytest.mark.parametrize("field", ["clients", "fields"])
def test_a_record_of_a_release_that_knew_less_is_no_record(field: str) -> None:
    """It would let clients keep for 30 days what its origin says is to be asked for."""
    values = json.loads(record().to_json())
    del values[field]
    assert read_record(json.dumps(values).encode()) is None


def test_same_source_needs_version_and_generation() -> None:
    first = record()
    assert first.same_source(replace(first, fetched_at=0.0, v="x"))
    assert not first.same_source(replace(first, version="b" * 64))
    assert not first.same_source(replace(first, generation="other"))
    assert not first.same_source(None)
