"""Caches that cannot be renamed in: on overlayfs above a lower layer, as one that was baked into a
container's image, and where mounts lie between the places of a cache."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import pytest
import servers
from mounts import mounted, overlay
from origin import Gallery, is_close, jpeg, opened
from test_caches import record, rendition, request
from test_janitor import kept, real

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.caches.base import Scope, SourceRecord
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.size import Space

SOURCES = ("photos/a.jpg", "photos/2024/b.jpg", "other/c.jpg")
SCOPES = ["photos/a.jpg", "photos/2024/", "photos/", ""]
THUMBS = Thumbnails([servers.KEY])
TEAL, RED = (0, 128, 128), (255, 0, 0)


def at(root: Path) -> DiskCache:
    disk = DiskCache(str(root))
    disk.prepare()
    return disk


def keep(disk: DiskCache, source: str, width: int = 1) -> SourceRecord:
    digit = "abc"[SOURCES.index(source)]
    stands = disk.set_record(source, record(digit, fetched_at=time.time(), size=5))
    assert isinstance(stands, SourceRecord)
    disk.set_original(stands, b"bytes")
    for number, public in ((width, True), (width + 1, False)):
        assert disk.set(request(number, source), stands, rendition(), public=public)
    return stands


def shown(disk: DiskCache, source: str) -> list[object]:
    """Whatever is kept of a source."""
    public = disk.get(request(1, source), None, public=True)
    private = disk.get(request(2, source), None, public=False)
    return [it for it in (public, private, disk.record(source)) if it is not None]


def files(root: Path) -> int:
    return sum(
        not name.startswith(".")
        for tree in ("public", "private", "sources", "tmp")
        for _, _, names in os.walk(root / tree)
        for name in names
    )


@pytest.fixture
def baked(tmp_path: Path) -> Path:
    """A lower layer with a cache in it."""
    lower = tmp_path / "lower"
    for source in SOURCES:
        keep(at(lower / "cache"), source)
    return lower


@pytest.fixture
def root(baked: Path, tmp_path: Path) -> Iterator[Path]:
    with overlay(tmp_path / "container", baked) as merged:
        with pytest.raises(OSError, match="cross-device") as refused:
            os.rename(merged / "cache/private/photos", merged / "cache/tmp/x")
        assert refused.value.errno == errno.EXDEV
        yield merged / "cache"


@pytest.mark.parametrize("written", [False, True], ids=["lower", "merged"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_purge_on_an_overlay_is_complete(root: Path, scope: str, written: bool) -> None:
    disk = at(root)
    before = {source: keep(disk, source) for source in SOURCES} if written else {}
    purged = [source for source in SOURCES if Scope(scope).covers(source)]
    result = disk.purge(Scope(scope))
    for source in SOURCES:
        assert len(shown(disk, source)) == (0 if source in purged else 3)
    assert result.files == 3 * len(purged)
    assert files(root) == 3 * (len(SOURCES) - len(purged))
    for source in purged:
        if source in before:
            assert not disk.set(request(1, source), before[source], rendition(), public=True)
        disk.set_record(source, record(fetched_at=time.time() - 60))
        assert shown(disk, source) == [], "what was under way is not kept"
        again = disk.set_record(source, record(fetched_at=time.time() + 0.5))
        assert disk.set(request(1, source), again, rendition(), public=True)
    assert disk.janitor.trim(Space(1))
    assert kept(disk) == real(root)
    assert files(root) == 0


def test_who_reads_during_a_purge_finds_nothing_after_it(root: Path) -> None:
    """However many ask: from the moment on that it returns."""
    disk, done, late = at(root), threading.Event(), []

    def read() -> None:
        reader = DiskCache(str(root))
        for source in SOURCES:
            shown(reader, source)
        done.wait(30)
        late.extend(it for source in SOURCES for it in shown(reader, source))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in readers:
        thread.start()
    disk.purge(Scope(""))
    done.set()
    for thread in readers:
        thread.join()
    assert late == []


def test_who_has_a_picture_open_reads_on(root: Path, baked: Path) -> None:
    disk = at(root)
    stands = disk.record(SOURCES[0])
    assert isinstance(stands, SourceRecord)
    disk.set(request(5, SOURCES[0]), stands, rendition(b"x" * 400_000), public=True)
    found = disk.get(request(5, SOURCES[0]), None, public=True)
    assert found is not None
    assert found.file is not None
    disk.purge(Scope(""))
    with found.file:
        assert found.file.read() == b"x" * 400_000
    assert len(shown(at(baked / "cache"), SOURCES[0])) == 3, "the image is as it was"


def test_hard_links_in_a_layer_are_files_like_others(baked: Path, tmp_path: Path) -> None:
    """As what packs layers makes of equal files."""
    (file,) = (baked / "cache/public/photos/a.jpg").iterdir()
    for source in ("photos/link.jpg", "photos/2024/link.jpg"):
        os.makedirs(baked / "cache/public" / source)
        os.link(file, baked / "cache/public" / source / file.name)
    with overlay(tmp_path / "linked", baked) as merged:
        disk = at(merged / "cache")
        assert disk.get(request(1, "photos/link.jpg"), None, public=True)
        disk.purge(Scope("photos/2024/"))
        assert disk.get(request(1, "photos/2024/link.jpg"), None, public=True) is None
        assert disk.get(request(1, "photos/link.jpg"), None, public=True)
        disk.purge(Scope("photos/"))
        assert disk.get(request(1, "photos/link.jpg"), None, public=True) is None
        # A whiteout: the layer still has it.
        keep(disk, "photos/a.jpg")
        assert len(shown(disk, "photos/a.jpg")) == 3


def test_containers_of_one_image_are_hosts_of_their_own(baked: Path, tmp_path: Path) -> None:
    """Their locks do not hold for each other, though all began with the same files."""
    with overlay(tmp_path / "1", baked) as one, overlay(tmp_path / "2", baked) as two:
        assert at(one / "cache").host == at(one / "cache").host
        assert at(one / "cache").host != at(two / "cache").host


def test_a_server_with_a_baked_cache_purges_it(tmp_path: Path) -> None:
    gallery = Gallery(**dict.fromkeys(SOURCES, jpeg()))

    def app(cache: Path) -> ThumbProxy:
        return ThumbProxy(gallery, keys=[servers.KEY], cache_dir=str(cache))

    def ask(app: ThumbProxy, source: str, **options: object) -> tuple[str, bytes]:
        path = unquote(THUMBS.url(source, width=30, format="jpg", **options))
        reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "localhost",
                             "SERVER_PORT": "80"})  # fmt: skip
        assert reply is not None
        return dict(reply.headers)["Cache-Status"], reply.body

    lower = app(tmp_path / "lower" / "cache")
    for source in SOURCES:
        for more in ({}, {"version": "v1"}):
            ask(lower, source, **more)
    with overlay(tmp_path / "container", tmp_path / "lower") as merged:
        server = app(merged / "cache")
        gallery.pictures = dict.fromkeys(gallery.pictures, jpeg(color="red"))
        assert "hit; detail=disk" in ask(server, SOURCES[0], version="v1")[0]
        for scope in ("photos/", ""):
            result = server.purge(scope)
            assert result.complete, result.failed
        for source in SOURCES:
            for more in ({}, {"version": "v1"}):
                status, body = ask(server, source, **more)
                assert "fwd" in status
                assert is_close(opened(body), RED)
                assert "hit; detail=disk" in ask(server, source, **more)[0]


# -- mounts within a cache ---------------------------------------------------------------------


Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system of its own at a folder of the cache."""
    with ExitStack() as stack:

        def mount(folder: str) -> Path:
            place = tmp_path / "cache" / folder
            place.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(mounted(place, "tmpfs", "size=4m"))

        yield mount


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "places", [["public"], ["tmp"], ["public", "private", "sources"], ["locks"], ["private/photos"]]
)
def test_mounts_within_a_cache_keep_nothing_from_working(
    mount: Mount, tmp_path: Path, places: list[str], scope: str
) -> None:
    root = tmp_path / "cache"
    at(root)
    for place in places:
        mount(place)
    disk = at(root)
    for source in SOURCES:
        keep(disk, source)
        keep(disk, source, width=3)
    assert list((root / "tmp").iterdir()) == []
    disk.purge(Scope(scope))
    for source in SOURCES:
        assert len(shown(disk, source)) == (0 if Scope(scope).covers(source) else 3)
        keep(disk, source)
    assert all(os.path.ismount(root / place) for place in places)
    assert disk.janitor.trim(Space(1))
    assert files(root) == 0


def test_what_is_copied_across_a_mount_is_whole_or_absent(mount: Mount, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    at(root)
    public = mount("public")
    disk = at(root)
    stands = keep(disk, SOURCES[0])
    subprocess.run(["mount", "-o", "remount,size=200k", str(public)], check=True)
    body = b"x" * 150_000
    assert disk.set(request(7, SOURCES[0]), stands, rendition(body), public=True)
    assert not disk.set(request(8, SOURCES[0]), stands, rendition(body), public=True)
    assert disk.get(request(8, SOURCES[0]), None, public=True) is None
    found = disk.get(request(7, SOURCES[0]), None, public=True)
    assert found is not None
    assert found.body == body
    assert found.modified == 1_700_000_000
    assert sorted(path.name for path in (public / SOURCES[0]).iterdir()) == [
        f"w_{width}.{'S' * 22}.webp" for width in (1, 7)
    ]
    stray = public / SOURCES[0] / f".{os.uname().nodename}-1-x.1"
    stray.write_bytes(b"half")
    assert disk.janitor.trim()
    assert not stray.exists(), "what a killed process has left"
