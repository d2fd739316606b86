"""Purging: whatever is kept or on its way of a source, a folder or everything is gone at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import nginx
import pytest
import servers
from commands import thumbproxy
from origin import Gallery, is_close, jpeg, opened

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.caches.base import Scope
from thumbproxy.core.errors import BadSource
from thumbproxy.core.media import Encoded
from thumbproxy.http.cache_tags import tag_of, tags_of
from thumbproxy.http.responses import Response
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.purging.purger import scope_of

KEY = servers.KEY
TOKEN = "a-token-that-only-the-tests-use"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
THUMBS = Thumbnails([KEY])
TEAL, RED = (0, 128, 128), (255, 0, 0)
CAT, DOG, ODD = "photos/cat.jpg", "photos/2024/dog.jpg", "médias/été à Nice.jpg"
SCOPES = [CAT, "photos/", ""]


def get(app: ThumbProxy, source: str = CAT, **options: Any) -> Response:
    path = unquote(THUMBS.url(source, **{"width": 30, "format": "jpg", **options}))
    reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path.encode().decode("latin-1"),
                         "SERVER_NAME": "localhost", "SERVER_PORT": "80"})  # fmt: skip
    assert reply is not None
    assert reply.status == 200, reply.body
    return reply


def is_hit(reply: Response) -> bool:
    return "hit" in dict(reply.headers)["Cache-Status"]


def shows(reply: Response, color: tuple[int, int, int]) -> bool:
    return is_close(opened(reply.body), color)


@pytest.fixture
def gallery() -> Gallery:
    gallery = Gallery(**dict.fromkeys((CAT, DOG, ODD), jpeg()))
    gallery.headers = [("Cache-Control", "max-age=600")]
    return gallery


@pytest.fixture
def make(gallery: Gallery, tmp_path: Path) -> Callable[..., ThumbProxy]:
    def make(**settings: Any) -> ThumbProxy:
        values = {"cache_dir": str(tmp_path / "cache"), "purge_token": TOKEN, **settings}
        return ThumbProxy(gallery, keys=[KEY], **values)

    return make


Make = Callable[..., ThumbProxy]


def kept(cache: Path) -> list[str]:
    """Pictures and originals on a disk, from which others may be removing them."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), cache)
        for tree in ("public", "private", "sources", "tmp")
        for folder, _, names in os.walk(cache / tree)
        for name in names
        if not name.startswith(".")
    )


# -- what is purged ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "gone"), [(CAT, {CAT}), ("photos/", {CAT, DOG}), ("", {CAT, DOG, ODD})]
)
def test_a_purge_removes_what_it_is_about_and_nothing_else(
    make: Make, gallery: Gallery, tmp_path: Path, scope: str, gone: set[str]
) -> None:
    app = make()
    for source in (CAT, DOG, ODD):
        get(app, source)
        get(app, source, version="v1")
    result = app.purge(scope)
    assert result.complete
    assert result.purged == ("disk",)
    assert result.files == 2 * len(gone) + 1, "the pictures, and the original, which is but one"
    assert result.bytes > 0
    for source in (CAT, DOG, ODD):
        assert any(source in path for path in kept(tmp_path / "cache")) == (source not in gone)
        gallery.pictures[f"/{source}"] = jpeg(color="red")
        # The original, which all of them had in common, may be gone; the rest is not touched.
        assert is_hit(get(app, source)) == (source not in gone)
        assert shows(get(app, source), RED if source in gone else TEAL)
        assert shows(get(app, source, version="v1"), RED if source in gone else TEAL)


def test_purging_what_is_not_there_is_no_fault(make: Make) -> None:
    app = make()
    get(app)
    for _ in range(2):
        assert app.purge(CAT).complete
    again = app.purge("")
    assert (again.files, again.bytes, again.failed) == (0, 0, {})
    assert app.purge("photos/absent.jpg").complete
    assert app.purge("nowhere/at/all/").complete
    assert app.purge(f"{CAT}/no/folder/").complete


def test_many_purge_at_once(make: Make, gallery: Gallery) -> None:
    """Of several apps, as of several processes, over one cache."""
    apps = [make() for _ in range(3)]
    for source in (CAT, DOG, ODD):
        get(apps[0], source)
    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(lambda work: work[0].purge(work[1]),
                                [(app, scope) for app in apps for scope in SCOPES]))  # fmt: skip
    assert all(result.complete for result in results)
    assert sum(result.files for result in results) == 4, "each file is counted once"


@pytest.mark.parametrize("wrong", ["/", "//", "photos//", ".hidden/", "a/../b", "http://a/b.jpg"])
def test_what_is_neither_source_nor_folder_is_refused(make: Make, wrong: str) -> None:
    with pytest.raises(BadSource):
        make().purge(wrong)


def test_a_purge_is_told_to_callables(make: Make) -> None:
    told: list[tuple[Scope, str]] = []
    app = make(on_purge=lambda scope, tag: told.append((scope, tag)))
    app.purge("photos/")
    assert told == [(Scope("photos/"), "thumbproxy/photos/")]


def test_a_callable_that_fails_is_reported_and_the_rest_is_purged(
    make: Make, tmp_path: Path
) -> None:
    told: list[str] = []

    def broken(scope: Scope, tag: str) -> None:
        raise RuntimeError("the secret is 1234")

    def works(scope: Scope, tag: str) -> None:
        told.append(scope.text)

    app = make(on_purge=[broken, works])
    get(app)
    result = app.purge(CAT)
    assert result.failed == {"on_purge broken": "on_purge broken: RuntimeError"}
    assert result.purged == ("disk", "on_purge works")
    assert told == [CAT]
    assert kept(tmp_path / "cache") == []


# -- over HTTP --------------------------------------------------------------------------------


def serving(app: Any) -> Any:
    """Not validated: wsgiref's validator does not know PURGE."""
    return servers.wsgi(app, validate=False)


@pytest.fixture
def site(make: Make) -> Iterator[servers.Server]:
    with serving(make()) as server:
        yield server


def url(source: str = CAT, **options: Any) -> str:
    return THUMBS.url(source, **{"width": 30, "format": "jpg", **options})


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/thumb/photos/cat.jpg", CAT),
        ("/thumb/photos/", "photos/"),
        ("/thumb/", ""),
        (url(), CAT),
        (url(format="auto", version="v1"), CAT),
        (f"/thumb/{quote(ODD)}", ODD),
        (f"/thumb/{quote(ODD, safe='')}", ODD),
        ("/thumb/photos/cat.jpg?a=query", CAT),
    ],
)
def test_purge_is_a_method(site: servers.Server, path: str, scope: str) -> None:
    source = scope if scope.endswith("jpg") else CAT
    assert site.ask(url(source)).status == 200
    assert "hit" in site.ask(url(source))["Cache-Status"]
    reply = site.ask(path, BEARER, "PURGE")
    assert reply.status == 200
    assert reply["Content-Type"] == "application/json"
    assert reply["Cache-Control"] == "no-store"
    told = json.loads(reply.body)
    assert told.pop("bytes") > 0
    assert told == {"scope": scope, "files": 2, "purged": ["disk"], "failed": {}}
    assert "hit" not in site.ask(url(source))["Cache-Status"]


def test_only_those_with_the_token_purge(site: servers.Server) -> None:
    site.ask(url())
    basic = "Basic " + TOKEN
    for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer "},
                  {"Authorization": basic}, {"Authorization": TOKEN},
                  {"Authorization": "Bearer é".encode().decode("latin-1")}):  # fmt: skip
        for path in ("/thumb/photos/cat.jpg", "/thumb/", "/thumb/.no/source"):
            reply = site.ask(path, wrong, "PURGE")
            assert reply.status == 401
            assert reply["WWW-Authenticate"] == 'Bearer realm="thumbproxy"'
            assert TOKEN.encode() not in reply.body
    assert "hit" in site.ask(url())["Cache-Status"]
    assert site.ask("/thumb/photos/cat.jpg", {"Authorization": f"bearer {TOKEN}"}, "PURGE").status \
        == 200, "the scheme's case does not matter (RFC 9110 section 11.1)"  # fmt: skip


def test_without_a_token_nobody_purges_by_http(make: Make) -> None:
    with serving(make(purge_token="")) as site:
        site.ask(url())
        for headers in ({}, BEARER, {"Authorization": "Bearer "}):
            reply = site.ask("/thumb/photos/cat.jpg", headers, "PURGE")
            assert reply.status == 405
            assert reply["Allow"] == "GET, HEAD"
        assert "hit" in site.ask(url())["Cache-Status"]


@pytest.mark.parametrize("path", ["/thumb//", "/thumb/a//b.jpg", "/thumb/.git/x", "/thumb/a%5Cb"])
def test_a_purge_of_what_is_no_source_is_refused(site: servers.Server, path: str) -> None:
    reply = site.ask(path, BEARER, "PURGE")
    assert reply.status == 400
    assert reply.body.startswith(b"bad-source: ")


def test_purges_of_other_paths_are_the_applications(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()]

    proxy = ThumbProxy(app, keys=[KEY], cache_dir=str(tmp_path), purge_token=TOKEN)
    with serving(proxy) as site:
        assert site.ask("/other", {}, "PURGE").body == b"PURGE /other"
        assert site.ask("/thumb", BEARER, "PURGE").body == b"PURGE /thumb"


def test_what_could_not_be_purged_is_a_503_that_says_so(make: Make) -> None:
    app = make(memcached=[f"127.0.0.1:{servers.free_port()}"])
    get(app)
    with serving(app) as site:
        reply = site.ask("/thumb/photos/cat.jpg", BEARER, "PURGE")
    assert reply.status == 503
    told = json.loads(reply.body)
    assert (told["files"], told["purged"]) == (2, ["disk"]), "the rest is purged all the same"
    assert "memcached does not answer" in told["failed"]["memcached"]


def test_a_disk_that_cannot_be_purged_does_not_keep_nginx_from_it(
    make: Make, tmp_path: Path
) -> None:
    nginx = tmp_path / "nginx"
    copy = nginx / ("a" * 32)
    nginx.mkdir()
    copy.write_bytes(b"\n\nKEY: thumbproxy /photos/cat.jpg/w_30.S.jpg\n\n")
    app = make(nginx_cache_dir=str(nginx))
    get(app)
    locks = tmp_path / "cache" / "locks" / "records"
    locks.unlink()
    os.mknod(locks, stat.S_IFSOCK)  # nobody can open that, nor can root
    result = app.purge("")
    assert result.purged == ("nginx",)
    assert result.failed["disk"].startswith("the disk cache")
    assert not copy.exists()
    locks.unlink()
    result = app.purge("")
    assert (result.files, result.purged) == (2, ("disk", "nginx"))


def test_an_address_is_about_its_source() -> None:
    assert scope_of(unquote(url(ODD)).removeprefix("/thumb/")) == ODD
    for same in ("", "a", "a/", "a/b.jpg", "a/_.short.jpg", f"_.{'S' * 22}.jpg", f"a/_.{'S' * 22}"):
        assert scope_of(same) == same


# -- what is on its way -----------------------------------------------------------------------


@contextmanager
def caught(gallery: Gallery) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The next reply of the origin is decided, and then waits until it may go."""
    decided, free = threading.Event(), threading.Event()

    def hold(environ: dict[str, Any]) -> None:
        if not decided.is_set():
            decided.set()
            assert free.wait(20)

    gallery.after = hold
    try:
        yield decided, free
    finally:
        free.set()


class SlowEngine(PillowEngine):
    """Waits after it has begun to render."""

    began, free = threading.Event(), threading.Event()
    held = False

    def render(self, body: bytes, *arguments: Any, **more: Any) -> Encoded:
        if not type(self).held:
            type(self).held = True
            self.began.set()
            assert self.free.wait(20)
        return super().render(body, *arguments, **more)


@pytest.fixture
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> type[SlowEngine]:
    SlowEngine.began, SlowEngine.free = threading.Event(), threading.Event()
    SlowEngine.held = False
    monkeypatch.setattr("thumbproxy.assembly.factories.PillowEngine", SlowEngine)
    return SlowEngine


def check_that_nothing_old_is_left(
    make: Make, gallery: Gallery, cache: Path, **shared: Any
) -> None:
    """Neither on disk nor in memcached: another process and another host see the new picture."""
    for other in (make(**shared), make(**shared, cache_dir=str(cache.parent / "another host"))):
        assert shows(get(other), RED)
        assert shows(get(other, version="v1"), RED)
    for path in (cache / "public", cache / "private"):
        for picture in path.rglob("*.jpg"):
            if picture.is_file():
                assert is_close(opened(picture.read_bytes()), RED)


@pytest.fixture(params=["disk", "disk and memcached"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "disk":
        return {}
    memcached = request.getfixturevalue("memcached")
    address = f"127.0.0.1:{memcached.port}"
    return {"memcached": [address], "memcached_namespace": str(tmp_path)}


@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_purge_beats_a_fetch_under_way(
    make: Make, gallery: Gallery, tmp_path: Path, shared: dict[str, Any], scope: str,
    version: str | None,
) -> None:  # fmt: skip
    app = make(**shared)
    with caught(gallery) as (decided, free), ThreadPoolExecutor(1) as pool:
        began_before = pool.submit(get, app, version=version)
        assert decided.wait(20)
        gallery.pictures[f"/{CAT}"] = jpeg(color="red")
        assert app.purge(scope).complete
        free.set()
        began_before.result()
    assert shows(get(app, version=version), RED)
    check_that_nothing_old_is_left(make, gallery, tmp_path / "cache", **shared)


@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_purge_beats_a_render_under_way(  # noqa: PLR0917 - fixtures
    make: Make, gallery: Gallery, tmp_path: Path, shared: dict[str, Any], scope: str,
    version: str | None, slow_engine: type[SlowEngine],
) -> None:  # fmt: skip
    app = make(**shared)
    with ThreadPoolExecutor(1) as pool:
        began_before = pool.submit(get, app, version=version)
        assert slow_engine.began.wait(20)
        gallery.pictures[f"/{CAT}"] = jpeg(color="red")
        assert app.purge(scope).complete
        slow_engine.free.set()
        assert shows(began_before.result(), TEAL)
    assert shows(get(app, version=version), RED)
    check_that_nothing_old_is_left(make, gallery, tmp_path / "cache", **shared)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("under_way", ["fetch", "render"])
def test_who_asks_after_a_purge_does_not_wait_for_what_began_before(
    make: Make, gallery: Gallery, slow_engine: type[SlowEngine], scope: str, under_way: str
) -> None:
    """Requests are coalesced, but not with those of before a purge."""
    app = make()
    with caught(gallery) as (decided, free), ThreadPoolExecutor(2) as pool:
        before: Future[Response] = pool.submit(get, app)
        assert decided.wait(20)
        if under_way == "fetch":
            slow_engine.held = True
        else:
            free.set()
            assert slow_engine.began.wait(20)
        gallery.pictures[f"/{CAT}"] = jpeg(color="red")
        app.purge(scope)
        after = pool.submit(get, app)
        free.set()
        slow_engine.free.set()
        assert shows(before.result(), TEAL)
        assert shows(after.result(), RED)


def test_of_two_purges_in_a_row_each_is_told_apart(
    make: Make, memcached: servers.Server, tmp_path: Path
) -> None:
    """memcached reckons with clocks that differ, so what it says of the first is after the second,
    of which only the disk knows."""
    shared = {"memcached": [f"127.0.0.1:{memcached.port}"], "memcached_namespace": str(tmp_path)}
    app = make(**shared)
    thumbnailer = app._thumbnailer
    path = unquote(THUMBS.url(CAT, width=30, format="jpg"))
    request = app._urls.parse(path)
    assert request is not None
    seen = set()
    for one in (None, app, make()):
        if one is not None:
            one.purge(CAT)
        seen.add(thumbnailer._records.purge_epoch(thumbnailer._context(request, {}, 5)))
    assert len(seen) == 3


# -- tags -------------------------------------------------------------------------------------


def test_a_source_has_a_tag_for_whatever_covers_it() -> None:
    assert tags_of(ODD) == [
        "thumbproxy/", "thumbproxy/m%C3%A9dias/",
        "thumbproxy/m%C3%A9dias/%C3%A9t%C3%A9%20%C3%A0%20Nice.jpg",
    ]  # fmt: skip
    deep = "/".join("folder" * 20 + str(n) for n in range(40)) + "/a, b.jpg"
    tags = tags_of(deep)
    assert all(len(tag) <= 128 and tag.isascii() and tag.isprintable() for tag in tags)
    assert not any(set(tag) & set(" ,") for tag in tags)
    assert len(",".join(tags)) < 2400
    segments = deep.split("/")
    for scope in ("", *("/".join(segments[:n]) + "/" for n in range(1, 41)), deep):
        assert Scope(scope).covers(deep)
        assert tag_of(scope) in tags, "whatever a purge is about, its tag is there"
    assert tag_of("a/b/") not in tags_of("a/b")
    assert tag_of("a/b") not in tags_of("a/b/c")


def test_tags_are_sent_with_pictures_where_wanted(make: Make) -> None:
    app = make(surrogate_keys=["Surrogate-Key", "Cache-Tag"])
    expected = ["thumbproxy/", "thumbproxy/photos/", "thumbproxy/photos/cat.jpg"]
    with servers.wsgi(app) as site:
        first = site.ask(url())
        etag = {"If-None-Match": first["ETag"]}
        replies = [first, site.ask(url()), site.ask(url(), etag), site.ask(url(), {}, "HEAD"),
                   site.ask(url(), {"Range": "bytes=0-9"})]  # fmt: skip
    assert [reply.status for reply in replies] == [200, 200, 304, 200, 206]
    for reply in replies:
        assert reply["Surrogate-Key"].split(" ") == expected
        assert reply["Cache-Tag"].split(",") == expected


def test_tags_are_not_sent_unasked(site: servers.Server) -> None:
    assert not {"Surrogate-Key", "Cache-Tag"} & set(site.ask(url()).headers)


# -- the command ------------------------------------------------------------------------------


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return thumbproxy("purge", *arguments, **{"THUMBPROXY_KEYS": KEY, **environ})


def test_a_command_purges_without_a_server(make: Make, tmp_path: Path) -> None:
    app, cache = make(), ("--cache-dir", str(tmp_path / "cache"))
    for source in (CAT, ODD):
        get(app, source)
    done = command(CAT, *cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"'{CAT}': removed 2 files" in done.stdout
    assert not is_hit(get(app))
    assert is_hit(get(app, ODD))
    told = json.loads(command("--all", "--json", *cache).stdout)
    assert (told["files"], told["purged"], told["failed"]) == (3, ["disk"], {})
    assert not is_hit(get(app, ODD))


def test_a_command_that_could_not_purge_all_fails(tmp_path: Path) -> None:
    down = f"127.0.0.1:{servers.free_port()}"
    (tmp_path / "cache" / "locks").mkdir(parents=True)
    done = command("a/", "--cache-dir", str(tmp_path / "cache"), "--memcached", down)
    assert done.returncode == 1
    assert "purged: disk" in done.stdout
    assert "NOT purged: memcached does not answer" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("a.jpg", "--all"), ("a//b.jpg",), ("",)])
def test_a_command_must_say_what_to_purge(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command(*arguments, "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_root_leaves_no_files_that_the_server_cannot_change(make: Make, tmp_path: Path) -> None:
    get(make())
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != folder.parent and "pytest" in str(folder):
            folder.chmod(0o755)
    for path in (tmp_path / "cache", *(tmp_path / "cache").rglob("*")):
        os.chown(path, 65534, 65534)
    assert command("photos/", "--cache-dir", str(tmp_path / "cache")).returncode == 0
    assert {path.stat().st_uid for path in (tmp_path / "cache").rglob("*")} == {65534}


# -- a full disk ------------------------------------------------------------------------------


def test_a_purge_makes_room_on_a_full_disk(make: Make, tmp_path: Path) -> None:
    """Where not even the mark of a purge has room, the next one finds some."""
    full = tmp_path / "cache"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=60", "tmpfs", str(full)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        app = make()
        for width in range(1, 80):
            get(app, width=width)
        before = len(kept(full))
        assert before < 80
        for number in range(60):
            with suppress(OSError):
                (full / "public" / f"{number}").touch()
        results = [app.purge("photos/") for _ in range(2)]
        assert results[1].complete
        assert not any("photos" in path for path in kept(full))
        assert not list((full / "tmp").iterdir())
    finally:
        subprocess.run(["umount", str(full)], check=True)


# -- nginx in front ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/thumb/photos/cat.jpg", "/thumb/photos/", "/thumb/", "address"])
def test_a_purge_through_nginx_reaches_all_that_nginx_serves(
    make: Make, gallery: Gallery, tmp_path: Path, path: str
) -> None:
    """What lies in public/, what nginx keeps by itself, and what thumbproxy has."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    urls = [url(), url(version="v1")]
    with (
        serving(make(nginx_cache_dir=str(folder / "cache"), client_lifetime="max_age")) as site,
        nginx.running(folder, f"127.0.0.1:{site.port}", tmp_path / "cache") as (_, port),
    ):
        front = servers.Server(port)
        for _ in range(2):
            replies = [front.ask(address) for address in urls]
        assert all("nginx; hit" in str(reply.headers.get_all("Cache-Status")) for reply in replies)
        gallery.pictures[f"/{CAT}"] = jpeg(color="red")
        path = urls[1] if path == "address" else path
        assert front.ask(path, {}, "PURGE").status == 401
        reply = front.ask(path, BEARER, "PURGE")
        assert reply.status == 200, reply.body
        assert json.loads(reply.body)["purged"] == ["disk", "nginx"]
        for address in urls:
            assert is_close(opened(front.ask(address).body), RED)


def test_who_is_overtaken_by_a_purge_is_not_kept_by_anybody(
    make: Make, gallery: Gallery, slow_engine: type[SlowEngine]
) -> None:
    """A CDN that was purged as well would keep it for a month, or with `v_` for a year."""
    app = make()
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(get, app, version="v1")
        assert slow_engine.began.wait(20)
        app.purge(CAT)
        slow_engine.free.set()
        assert dict(before.result().headers)["Cache-Control"] == "no-store"
    assert "immutable" in dict(get(app, version="v1").headers)["Cache-Control"]


def test_who_asks_after_a_file_was_replaced_does_not_get_what_began_before(
    tmp_path: Path, slow_engine: type[SlowEngine]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(jpeg())
    app = ThumbProxy(
        lambda environ, start_response: [],
        origins={"": str(tmp_path)}, keys=[KEY], cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(get, app)
        assert slow_engine.began.wait(20)
        (tmp_path / "new").write_bytes(jpeg(color="red"))
        os.rename(tmp_path / "new", photos / "cat.jpg")
        after = pool.submit(get, app)
        assert shows(after.result(20), RED), "though the other has not ended yet"
        slow_engine.free.set()
        assert shows(before.result(), TEAL)


@pytest.mark.parametrize("scope", SCOPES)
def test_what_comes_after_a_purge_has_another_etag(
    make: Make, gallery: Gallery, scope: str
) -> None:
    """Of the same length, and of the same second as what was purged."""
    app, tags = make(), set()
    gallery.headers.append(("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"))
    for color in ("#102030", "#302010", "#203010"):
        gallery.pictures[f"/{CAT}"] = jpeg(color=color)
        tags.add(dict(get(app, format="png").headers)["ETag"])
        assert app.purge(scope).complete
    assert len(tags) == 3


def test_a_purge_that_memcached_missed_counts_on_this_host(
    make: Make, gallery: Gallery, tmp_path: Path, memcached: servers.Server
) -> None:
    """Before it could be told again, in a worker that did not purge."""
    shared = {"memcached": [f"127.0.0.1:{memcached.port}"], "memcached_namespace": str(tmp_path)}
    app = make(**shared)
    get(app)
    gallery.pictures[f"/{CAT}"] = jpeg(color="red")
    # As `thumbproxy purge` would while memcached cannot be reached.
    assert make().purge(CAT).complete
    assert shows(get(app), RED)
