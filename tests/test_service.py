"""The service: one fetch, one render, and never a picture of another version."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import servers
from origin import Gallery, is_close, jpeg, opened

from thumbproxy import Folder, Thumbnails, ThumbProxy
from thumbproxy.core.media import Encoded, Rendition
from thumbproxy.http.responses import Response
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.origins.base import Fetched, FetchRequest

KEY = servers.KEY
THUMBS = Thumbnails([KEY])
TEAL, RED = (0, 128, 128), (255, 0, 0)


def get(app: ThumbProxy, source: str = "a.jpg", **options: Any) -> Response:
    options = {"width": 30, "format": "jpg", **options}
    path = unquote(THUMBS.url(source, **options)).encode().decode("latin-1")
    reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "localhost",
                         "SERVER_PORT": "80", "HTTP_HOST": "localhost"})  # fmt: skip
    assert reply is not None
    return reply


def status(reply: Response) -> str:
    return dict(reply.headers)["Cache-Status"].removeprefix("thumbproxy; ")


@pytest.fixture
def gallery() -> Gallery:
    return Gallery(**{"a.jpg": jpeg(), "b.jpg": jpeg(color="red")})


@pytest.fixture(params=["wsgi", "http"])
def make(
    request: pytest.FixtureRequest, gallery: Gallery, tmp_path: Path
) -> Iterator[Callable[..., ThumbProxy]]:
    """Makes a ThumbProxy over the gallery, in process and behind a socket."""

    def over(origin: Any) -> Callable[..., ThumbProxy]:
        def make(**settings: Any) -> ThumbProxy:
            settings = {"cache_dir": str(tmp_path / "cache"), **settings}
            return ThumbProxy(gallery, keys=[KEY], origins={"": origin}, **settings)

        return make

    if request.param == "wsgi":
        yield over(gallery)
        return
    # Not validated: Werkzeug's server forgets to close when the client hangs up, as for 413.
    with servers.wsgi(gallery, validate=False) as server:
        yield over(server.url)


Make = Callable[..., ThumbProxy]


def test_a_picture_is_fetched_and_made_once(make: Make, gallery: Gallery) -> None:
    app = make()
    first, second = get(app), get(app)
    assert (status(first), status(second)) == ("fwd=uri-miss; stored", "hit; detail=disk")
    assert first.body == second.body
    assert opened(first.body).size == (30, 20)
    assert is_close(opened(first.body), TEAL)
    assert gallery.asked["/a.jpg"] == 1


def test_a_second_size_needs_no_second_fetch(make: Make, gallery: Gallery) -> None:
    app = make()
    get(app, width=30)
    assert opened(get(app, width=12).body).size == (12, 8)
    assert opened(get(app, width=15, format="webp").body).format == "WEBP"
    assert gallery.asked["/a.jpg"] == 1


def lose_originals(app_cache: Path) -> None:
    for original in (app_cache / "sources").rglob("*"):
        if original.is_file():
            original.unlink()


def test_a_slow_origin_keeps_no_render_waiting(
    make: Make, gallery: Gallery, tmp_path: Path
) -> None:
    app = make(renders=1)
    assert get(app, "a.jpg").status == get(app, "b.jpg").status == 200
    lose_originals(tmp_path / "cache")
    asked, answers = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any]) -> None:
        if environ["PATH_INFO"] == "/a.jpg":
            asked.set()
            assert answers.wait(10)

    gallery.after = slow
    with ThreadPoolExecutor() as clients:
        first = clients.submit(get, app, "a.jpg", width=12)
        assert asked.wait(10)
        try:
            assert clients.submit(get, app, "b.jpg", width=12).result(5).status == 200
        finally:
            answers.set()
        assert first.result().status == 200


def test_news_of_a_source_whose_bytes_were_lost_need_no_second_slot(
    make: Make, gallery: Gallery, tmp_path: Path
) -> None:
    app = make(renders=1, request_timeout=8)
    assert get(app).status == 200
    lose_originals(tmp_path / "cache")
    gallery.pictures["/a.jpg"] = jpeg(color="red")
    reply = get(app, width=12)
    assert reply.status == 200
    assert is_close(opened(reply.body), RED)


def test_another_process_finds_what_one_has_made(make: Make, gallery: Gallery) -> None:
    first = get(make())
    second = get(make())
    assert status(second) == "hit; detail=disk"
    same = ("ETag", "Last-Modified", "Content-Length")
    assert [dict(first.headers)[name] for name in same] == [
        dict(second.headers)[name] for name in same
    ]
    assert gallery.asked["/a.jpg"] == 1


def test_memcached_answers_when_the_disk_is_lost(
    make: Make, gallery: Gallery, memcached: servers.Server, tmp_path: Path
) -> None:
    shared = {"memcached": [f"127.0.0.1:{memcached.port}"], "memcached_namespace": str(tmp_path)}
    first = get(make(**shared))
    app = make(**shared, cache_dir=str(tmp_path / "other-host"))
    second, third = get(app), get(app)
    assert status(second) == "hit; detail=memcached"
    assert status(third) == "hit; detail=disk", "the nearer cache has it now"
    assert {dict(reply.headers)["ETag"] for reply in (first, second, third)} == {
        dict(first.headers)["ETag"]
    }
    assert {reply.body for reply in (first, second, third)} == {first.body}
    assert gallery.asked["/a.jpg"] == 1
    get(app, width=12)
    assert gallery.asked["/a.jpg"] == 2, "this host has no original yet"


def test_memcached_alone_is_enough(
    make: Make, gallery: Gallery, memcached: servers.Server, tmp_path: Path
) -> None:
    app = make(
        cache_dir="", memcached=[f"127.0.0.1:{memcached.port}"], memcached_namespace=str(tmp_path)
    )
    assert status(get(app)) == "fwd=uri-miss; stored"
    assert status(get(app)) == "hit; detail=memcached"
    assert status(get(app, version="v1")) == "fwd=uri-miss; stored"
    assert status(get(app, version="v1")) == "hit; detail=memcached"


def test_without_any_cache_pictures_are_still_served(make: Make, gallery: Gallery) -> None:
    app = make(cache_dir="")
    assert [status(get(app)) for _ in range(2)] == ["fwd=uri-miss"] * 2
    assert gallery.asked["/a.jpg"] == 2


def test_a_fresh_source_is_not_asked_about(make: Make, gallery: Gallery) -> None:
    gallery.headers = [("Cache-Control", "max-age=600")]
    app = make()
    get(app)
    gallery.pictures["/a.jpg"] = jpeg(color="red")
    assert is_close(opened(get(app).body), TEAL)


@pytest.mark.parametrize("control", ["no-cache", "max-age=0"])
def test_a_stale_source_is_asked_about(make: Make, gallery: Gallery, control: str) -> None:
    gallery.headers = [("Cache-Control", control)]
    app = make()
    first = get(app)
    assert status(get(app)) == "fwd=stale; fwd-status=304; detail=disk"
    assert (gallery.asked["/a.jpg"], gallery.conditional["/a.jpg"]) == (2, 1)
    gallery.pictures["/a.jpg"] = jpeg(color="red")
    changed = get(app)
    assert is_close(opened(changed.body), RED)
    assert dict(changed.headers)["ETag"] != dict(first.headers)["ETag"]


def test_a_304_makes_it_fresh_again(make: Make, gallery: Gallery) -> None:
    gallery.headers = [("Cache-Control", "no-cache")]
    app = make()
    get(app)
    gallery.headers = [("Cache-Control", "max-age=600")]
    get(app)
    get(app)
    assert (gallery.asked["/a.jpg"], gallery.conditional["/a.jpg"]) == (2, 1)


def test_a_new_v_never_shows_the_old_picture(make: Make, gallery: Gallery) -> None:
    gallery.headers = [("Cache-Control", "max-age=600")]
    app = make()
    assert is_close(opened(get(app, version="1").body), TEAL)
    gallery.pictures["/a.jpg"] = jpeg(color="red")
    assert is_close(opened(get(app, version="2").body), RED)
    assert is_close(opened(get(app, version="2", width=12).body), RED)
    assert gallery.conditional["/a.jpg"] == 1, "the same v_ is no news"


def test_a_v_reply_is_immutable_and_public(make: Make, tmp_path: Path) -> None:
    app = make()
    for options, immutable in (
        ({"version": "1"}, True),
        ({}, False),
        ({"version": "1", "expires": 10**10}, False),
    ):
        control = dict(get(app, **options).headers)["Cache-Control"]
        assert ("immutable" in control) == immutable
    names = [path.name for path in (tmp_path / "cache" / "public").rglob("*.jpg") if path.is_file()]
    assert len(names) == 1
    assert "v_1." in names[0]


def test_an_address_that_expires_shares_its_picture(make: Make, gallery: Gallery) -> None:
    app = make()
    get(app, expires=10**10)
    assert status(get(app, expires=10**10 + 1)) == "hit; detail=disk"


@pytest.mark.parametrize(
    "header",
    [("Cache-Control", "private"), ("Cache-Control", "no-store"), ("Set-Cookie", "a=b"),
     ("Vary", "Cookie")],
)  # fmt: skip
def test_what_the_origin_forbids_is_served_and_never_kept(
    make: Make, gallery: Gallery, tmp_path: Path, header: tuple[str, str]
) -> None:
    gallery.headers = [header]
    app = make()
    for options in ({}, {"version": "1"}):
        reply = get(app, **options)
        assert reply.status == 200
        assert dict(reply.headers)["Cache-Control"] == "no-store"
        assert status(reply) == "fwd=uri-miss"
    kept = {path for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {path for path in kept if "locks" not in path.parts} == set()


def test_old_news_that_arrive_late_are_not_believed(
    make: Make, gallery: Gallery, tmp_path: Path
) -> None:
    """Two fetches at once, and the one that began first, with the old picture, ends last."""
    app = make()
    fetched, go = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any]) -> None:
        if not fetched.is_set():
            fetched.set()
            assert go.wait(10)

    gallery.after = slow
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(get, app, version="1")
        assert fetched.wait(10)
        gallery.pictures["/a.jpg"] = jpeg(color="red")
        assert is_close(opened(get(app, version="2").body), RED)
        go.set()
        assert is_close(opened(late.result().body), RED)
    for options in ({"version": "1"}, {"version": "2"}, {}):
        assert is_close(opened(get(app, **options).body), RED)
        assert is_close(opened(get(app, width=12, **options).body), RED)


def test_what_became_private_is_forgotten(make: Make, gallery: Gallery, tmp_path: Path) -> None:
    gallery.headers = [("Cache-Control", "no-cache")]
    app = make()
    get(app)
    get(app, version="1")
    gallery.headers = [("Cache-Control", "private")]
    gallery.pictures["/a.jpg"] = jpeg(color="red")
    assert is_close(opened(get(app).body), RED)
    kept = [path for path in (tmp_path / "cache").rglob("*.jpg") if path.is_file()]
    assert kept == []


@pytest.mark.parametrize(
    ("absence", "told"),
    [("404 Not Found", 404), ("403 Forbidden", 403), ("451 Unavailable For Legal Reasons", 451)],
)
def test_what_the_origin_does_not_give_any_more_is_forgotten(
    make: Make, gallery: Gallery, tmp_path: Path, absence: str, told: int
) -> None:
    gallery.headers = [("Cache-Control", "no-cache")]
    app = make()
    get(app)
    get(app, version="1")
    gallery.absence = absence
    del gallery.pictures["/a.jpg"]
    assert get(app).status == get(app, width=70).status == get(app, version="1").status == told
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    names = {path.name for path in kept if "locks" not in path.parts}
    assert names == {".source"}, "which says that there is none"


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"<html>an error page</html>", 415), (b"", 415), (b"BM" + bytes(100), 415),
     (jpeg(600, 400)[:-700], 422), (jpeg()[:100], 422), (b"\xff\xd8\xff" + bytes(50), 422)],
)  # fmt: skip
def test_what_is_no_whole_picture_is_refused_and_not_kept(
    make: Make, gallery: Gallery, tmp_path: Path, body: bytes, code: int
) -> None:
    gallery.pictures["/a.jpg"] = body
    app = make()
    reply = get(app)
    assert reply.status == code
    assert dict(reply.headers)["Cache-Control"] == "no-store"
    assert [path for path in (tmp_path / "cache").rglob("*.jpg") if path.is_file()] == []
    gallery.pictures["/a.jpg"] = jpeg()
    assert get(app, version="mended").status == 200


def test_a_source_over_the_limits_is_refused(make: Make, gallery: Gallery) -> None:
    gallery.pictures["/a.jpg"] = jpeg(300, 300)
    for limit, code in (
        ({"max_source_bytes": 100}, 413),
        ({"max_source_pixels": 89_999}, 422),
        ({"max_source_side": 299}, 422),
        ({}, 200),
    ):
        assert get(make(failure_ttl=0, **limit)).status == code


def test_a_cold_picture_that_many_ask_for_is_made_once(make: Make, gallery: Gallery) -> None:
    app, barrier = make(), threading.Barrier(12)
    gallery.pictures["/a.jpg"] = jpeg(2000, 1500)

    def ask(number: int) -> Response:
        barrier.wait(10)
        return get(app, width=100 + number % 3)

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(ask, range(12)))
    assert {reply.status for reply in replies} == {200}
    assert gallery.asked["/a.jpg"] == 1
    made = [reply for reply in replies if status(reply) == "fwd=uri-miss; stored"]
    assert len(made) == 3
    others = {status(reply) for reply in replies if reply not in made}
    assert others <= {"fwd=uri-miss; stored; collapsed", "hit; detail=disk"}


def test_more_work_than_may_wait_is_refused_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go, render = threading.Event(), threading.Event(), PillowEngine.render

    def held(*args: Any, **more: Any) -> Encoded:
        started.set()
        assert go.wait(10)
        return render(*args, **more)

    monkeypatch.setattr(PillowEngine, "render", held)
    app = make(misses=1)
    with ThreadPoolExecutor(1) as pool:
        admitted = pool.submit(get, app, width=10)
        try:
            assert started.wait(10)
            refused = get(app, width=20)
        finally:
            go.set()
        assert admitted.result().status == 200
    assert refused.status == 503
    assert dict(refused.headers)["Retry-After"] == "1"


def test_server_timing_tells_of_the_fetch_where_there_was_one(make: Make) -> None:
    app = make()
    first, second = (dict(get(app, width=width).headers) for width in (30, 12))
    assert re.findall(r"(\w+);dur=", first["Server-Timing"]) == ["fetch", "render", "encode"]
    assert re.findall(r"(\w+);dur=", second["Server-Timing"]) == ["render", "encode"]


def test_pictures_of_one_source_are_made_together(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded once: that is most of the work."""
    alone: list[object] = []
    render = PillowEngine.render

    def noted(*args: Any, **more: Any) -> Encoded:
        alone.append(args)
        return render(*args, **more)

    monkeypatch.setattr(PillowEngine, "render", noted)
    app = make()
    requests = [
        app._urls.parse(unquote(THUMBS.url("a.jpg", width=width, format="jpg")))
        for width in (30, 20, 10)
    ]
    for expected in ("fwd=uri-miss; stored", "hit; detail=disk"):
        for made, width in zip(app._thumbnailer.make_many(requests), (30, 20, 10), strict=True):
            assert isinstance(made, Rendition)
            assert made.cache_status == expected
            assert opened(made.body).width == width
    assert alone == []


def test_the_log_says_what_the_origin_answered(caplog: pytest.LogCaptureFixture) -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("500 Internal Server Error", [])
        return []

    with caplog.at_level(logging.INFO):
        assert get(ThumbProxy(broken, keys=[KEY])).status == 502
    assert any("status 500" in message for message in caplog.messages)


def test_a_request_for_our_own_fetch_is_a_loop(make: Make) -> None:
    path = unquote(THUMBS.url("a.jpg", width=30))
    reply = make().respond(
        {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_CDN_LOOP": "other, thumbproxy"}
    )
    assert reply is not None
    assert reply.status == 508


# -- folders -------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg())
    return folder


def over_folder(photos: Path, *, immutable: bool = False, **settings: Any) -> ThumbProxy:
    settings = {"cache_dir": str(photos.parent / "cache"), **settings}
    origins = {"": Folder(photos, immutable=immutable)}
    return ThumbProxy(Gallery(), keys=[KEY], origins=origins, **settings)


def test_a_file_that_is_replaced_shows_at_once(photos: Path) -> None:
    app = over_folder(photos)
    for round, color in enumerate(("teal", "red", "teal", "red")):
        (photos / "new.jpg").write_bytes(jpeg(color=color))
        (photos / "new.jpg").replace(photos / "a.jpg")
        expected = TEAL if color == "teal" else RED
        assert is_close(opened(get(app).body), expected), round
        assert status(get(app)) == "hit; detail=disk"


def test_a_file_that_is_touched_keeps_its_pictures(photos: Path) -> None:
    app = over_folder(photos)
    get(app)
    (photos / "a.jpg").touch()
    assert status(get(app)) == "hit; detail=disk"


def test_a_file_with_the_time_and_size_of_the_one_before_shows_at_once(photos: Path) -> None:
    """As backups and synchronisers put them."""
    app = over_folder(photos)
    before, after = photos / "a.jpg", photos / "b.jpg"
    bodies = [jpeg(color="teal"), jpeg(color="red")]
    size = max(map(len, bodies))
    for path, body in zip((before, after), bodies, strict=True):
        path.write_bytes(body + bytes(size - len(body)))
        os.utime(path, (1_700_000_000, 1_700_000_000))
    first = get(app)
    after.replace(before)
    second = get(app)
    assert is_close(opened(second.body), RED)
    assert dict(second.headers)["ETag"] != dict(first.headers)["ETag"]


def test_a_file_that_is_gone_is_gone(photos: Path) -> None:
    app = over_folder(photos)
    get(app)
    (photos / "a.jpg").unlink()
    assert get(app).status == 404


def test_a_folder_is_no_picture(photos: Path) -> None:
    (photos / "sub").mkdir()
    assert get(over_folder(photos), "sub").status == 404


def test_the_disk_keeps_no_copy_of_a_folders_files(photos: Path) -> None:
    get(over_folder(photos))
    kept = (photos.parent / "cache" / "sources").rglob("*")
    assert [path for path in kept if path.is_file()] == []


def test_names_that_are_never_reused_are_public_without_v(photos: Path) -> None:
    app = over_folder(photos, immutable=True)
    assert "immutable" in dict(get(app).headers)["Cache-Control"]
    public = (photos.parent / "cache" / "public").rglob("*.jpg")
    assert len([path for path in public if path.is_file()]) == 1


def test_last_modified_is_the_sources(photos: Path) -> None:
    os.utime(photos / "a.jpg", (1_700_000_000, 1_700_000_000))
    app = over_folder(photos)
    for _ in range(2):
        headers = dict(get(app).headers)
        assert headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert headers["ETag"] == f'"6553f100-{int(headers["Content-Length"]):x}"'


def test_a_source_without_an_origin_is_not_found(photos: Path) -> None:
    app = ThumbProxy(Gallery(), keys=[KEY], origins={"media/": str(photos)})
    assert get(app, "media/a.jpg").status == 200
    assert get(app, "a.jpg").status == 404


def test_a_disk_that_cannot_take_the_news_serves_nothing_old(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old record and its renditions are still there; they must not be believed."""
    app = over_folder(photos)
    get(app)
    (photos / "a.jpg").write_bytes(jpeg(color="red"))

    def full(*args: Any, **more: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thumbproxy.caches.disk.cache.os.write", full)
    for _ in range(2):
        reply = get(app)
        assert is_close(opened(reply.body), RED)
        assert status(reply) == "fwd=uri-miss"
    monkeypatch.undo()
    assert is_close(opened(get(app).body), RED)
    assert status(get(app)) == "hit; detail=disk"


def test_time_is_not_waited_for(photos: Path) -> None:
    class Late(Folder):
        def fetch(self, request: FetchRequest) -> Fetched:
            threading.Event().wait(request.deadline.remaining)
            return super().fetch(request)

    began = time.monotonic()
    app = ThumbProxy(Gallery(), keys=[KEY], origins={"": Late(photos)}, request_timeout=0.1)
    assert get(app).status in (503, 504)
    assert time.monotonic() - began < 5
