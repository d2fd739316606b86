"""Files of the cache that are not what was written: none is served, all are made anew."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import servers
from commands import thumbproxy
from origin import Gallery, opened
from pictures import encoded, landscape
from PIL import Image
from test_caches import SOURCE, record, rendition, request
from test_explain import snapshot, told
from test_service import get

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.cli.decoding import decoder
from thumbproxy.config.settings import Settings
from thumbproxy.core.formats import Format
from thumbproxy.core.stamps import LARGE
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

THUMBS = Thumbnails([servers.KEY])
PHOTO = encoded(landscape(700, 500), "WEBP")
LONG = os.urandom(LARGE + 5000)


@pytest.fixture
def disk(tmp_path: Path) -> DiskCache:
    cache = DiskCache(str(tmp_path / "cache"))
    cache.prepare()
    return cache


def kept(disk: DiskCache, body: bytes) -> Path:
    stands = disk.set_record(SOURCE, record())
    assert disk.set(request(1), stands, rendition(body), public=True)
    (path,) = (path for path in Path(disk.layout.public).rglob("*.webp"))
    return path


def named(source: str, extension: str) -> ImageRequest:
    name = f"w_1.{'S' * 22}.{extension}"
    return ImageRequest(source, Options(width=1), name, Format(extension), auto=False)


def body_of(disk: DiskCache) -> bytes | None:
    found = disk.get(request(1), None, public=True)
    whole = found and found.in_memory()
    return whole and whole.body


def on_the_disk(path: Path, body: bytes) -> None:
    """As a disk damages a file, which does not know of it."""
    status = path.stat()
    path.write_bytes(body)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_hand(path: Path, body: bytes) -> None:
    path.write_bytes(body)


def without(body: bytes, start: int, size: int) -> bytes:
    """A hole of zeros in it."""
    end = min(len(body), start + size)
    return body[:start] + bytes(end - start) + body[end:]


def damages(body: bytes) -> dict[str, bytes]:
    cuts = {f"cut at {at}": body[:at] for at in (0, 1, 16, 4096, len(body) // 2, len(body) - 1)}
    ends = {"one byte more": body + b"\0", "zeros": bytes(len(body)), "0xff": b"\xff" * len(body)}
    other = encoded(Image.effect_noise((300, 200), 90).convert("RGB"), "JPEG")
    foreign = {"another picture": other, "text": b"<html>Please log in</html>"}
    return {**cuts, **ends, **foreign, "another of its size": os.urandom(len(body))}


HOLES = [(512, at) for at in range(0, len(PHOTO), 512)]
HOLES += [(4096, at) for at in range(0, len(PHOTO), 4096)]


@pytest.mark.parametrize("put", [on_the_disk, by_hand])
@pytest.mark.parametrize("body", [PHOTO, LONG], ids=["photo", "long"])
def test_what_is_not_what_was_written_is_a_miss_and_written_again(
    disk: DiskCache, put: Callable[[Path, bytes], None], body: bytes
) -> None:
    path = kept(disk, body)
    assert body_of(disk) == body
    for name, damaged in damages(body).items():
        put(path, damaged)
        assert body_of(disk) is None, name
        kept(disk, body)
        assert body_of(disk) == body, name


def test_a_hole_anywhere_is_found(disk: DiskCache) -> None:
    """Of a sector or a page, as they are lost."""
    path = kept(disk, PHOTO)
    missed = []
    for size, at in HOLES:
        on_the_disk(path, without(PHOTO, at, size))
        if body_of(disk) is not None:
            missed.append((size, at))
    assert len(HOLES) > 50
    assert missed == []


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    (path / "below").mkdir(parents=True)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


@pytest.mark.parametrize("put", [fifo, folder, link, listening])
def test_what_is_no_file_is_never_read_and_makes_room(
    disk: DiskCache, put: Callable[[Path], None]
) -> None:
    """Nobody waits for who writes to a FIFO, for one."""
    picture = kept(disk, PHOTO)
    mark = Path(disk.layout.record(SOURCE))
    original = Path(disk.layout.original(record().version))
    for path in (picture, mark, original):
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        put(path)
    assert body_of(disk) is disk.record(SOURCE) is disk.original(record()) is None
    kept(disk, PHOTO)
    assert body_of(disk) == PHOTO
    assert disk.record(SOURCE) is not None


def test_a_file_that_has_lost_the_fraction_of_its_time_is_still_served(disk: DiskCache) -> None:
    """By an archive or a file system that keeps none."""
    path = kept(disk, PHOTO)
    os.utime(path, ns=(0, 1_700_000_000 * 10**9))
    assert body_of(disk) == PHOTO
    path.write_bytes(bytes(len(PHOTO)))
    os.utime(path, ns=(0, 1_700_000_000 * 10**9))
    assert body_of(disk) is None


def test_a_format_under_the_name_of_another_is_not_served(disk: DiskCache) -> None:
    path = kept(disk, PHOTO)
    jpeg = named(SOURCE, "jpg")
    path.rename(path.with_name(jpeg.filename))
    assert disk.get(jpeg, None, public=True) is None


def test_an_original_that_is_not_its_version_is_fetched_again(tmp_path: Path) -> None:
    """And no picture is made of what has become of it."""
    gallery = Gallery(**{"a.jpg": PHOTO})
    app = ThumbProxy(gallery, keys=[servers.KEY], cache_dir=str(tmp_path / "cache"))
    assert get(app).status == 200
    (original,) = tmp_path.glob("cache/sources/*/*")
    for width, damage in ((41, without(PHOTO, 4096, 4096)), (42, bytes(len(PHOTO))), (43, b"")):
        on_the_disk(original, damage)
        assert get(app, width=width).status == 200
        assert original.read_bytes() == PHOTO
    assert gallery.asked["/a.jpg"] == 4


@pytest.mark.parametrize(
    "damage",
    [b"", bytes(400), b"[" * 100_000, b"null", b"[]", b'{"validators": {}}', b"\xff\xfe", b"7",
     b'{"failure": {"token": "source-not-found", "reason": "", "retry_at": "x", "pause": null},'
     b'"validators": {}, "modified": 0, "fetched_at": "soon", "v": ""}'],
)  # fmt: skip
def test_a_record_that_is_none_is_no_record(disk: DiskCache, damage: bytes) -> None:
    kept(disk, PHOTO)
    Path(disk.layout.record(SOURCE)).write_bytes(damage)
    assert disk.record(SOURCE) is None
    kept(disk, PHOTO)
    assert disk.record(SOURCE) is not None


# -- the whole of it, beside a server ---------------------------------------------------------


def verify(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return thumbproxy("cache", "verify", "--cache-dir", str(cache), *arguments)


def test_verify_finds_all_of_it_beside_a_running_server(tmp_path: Path) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    Image.effect_noise((900, 700), 60).convert("RGB").save(photos / "a.png")
    site = ("--origin", str(photos), "--cache-dir", str(cache))
    formats = ("jpg", "png", "webp", "gif", "avif", "json")
    urls = [THUMBS.url("a.png", width=500, format=format) for format in formats]
    pinned = THUMBS.url("a.png", width=501, format="jpg", version="1")
    with servers.thumbproxy(*site) as server:
        for url in (*urls, pinned):
            while server.ask(url).status == 503:
                pass
        files = sorted(path for path in cache.rglob("a.png/*") if path.suffix)
        assert len(files) == len(formats) + 1
        for path in files:
            body = path.read_bytes()
            on_the_disk(path, body[: len(body) // 2])
        (only,) = cache.glob("public/a.png/*")
        assert "made anew" in told(pinned, *site)["kept"]["disk"]["damaged"]
        before = snapshot(cache)
        dry = verify(cache, "--dry-run")
        assert dry.returncode == 1
        assert dry.stdout.splitlines()[-1] == "8 files: 7 damaged"
        assert f"'public/a.png/{only.name}': its bytes" in dry.stdout
        assert snapshot(cache) == before, "it changes nothing, not even when a file was last used"

        reply = server.ask(urls[0])
        assert opened(reply.body).size == (500, 389)
        assert reply["Cache-Status"] == "thumbproxy; fwd=uri-miss; stored"

        removed = verify(cache)
        assert removed.returncode == 1
        assert removed.stdout.splitlines()[-1] == "8 files: 6 damaged, and removed"
        for url in (*urls, pinned):
            assert server.ask(url).status == 200
        sound = verify(cache)
        assert (sound.returncode, sound.stdout, sound.stderr) == (0, "8 files: 0 damaged\n", "")


def test_verify_decodes_what_has_the_right_checksum(disk: DiskCache) -> None:
    """It was kept like that, or has lost the fraction of its time."""
    bodies = {"jpg": PHOTO, "webp": PHOTO[:-900], "png": b"\x89PNG\r\n\x1a\n", "json": b"[]",
              "avif": b"\0\0\0\x18ftypavif" + bytes(8), "gif": PHOTO}  # fmt: skip
    for extension, body in bodies.items():
        stands = disk.set_record(extension, record())
        assert disk.set(named(extension, extension), stands, rendition(body), public=False)
    kept(disk, PHOTO)
    with decoder(Settings(keys=(servers.KEY,))) as decode:
        look = disk.verification(decode, lambda files: None)
        found = {damage.place.split("/")[1]: damage.why for damage in look.run(remove=True)}
    assert found.keys() == bodies.keys()
    assert found["jpg"] == found["gif"] == "it is webp"
    assert (look.looked_at, look.unknown) == (14, 0)
    assert body_of(disk) == PHOTO
    assert disk.get(named("png", "png"), None, public=False) is None
