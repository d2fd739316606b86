"""The whole thing, with real servers: restarts, lost caches, strange names, nginx, upstreams."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import nginx
import pytest
import servers
from origin import Gallery, is_close, jpeg, opened

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])
NAMES = [
    "plain.jpg", "with space.jpg", "100%.jpg", "50%25.jpg", "a+b.jpg", "tilde~1.jpg", "a,b;c.jpg",
    "été à Nice.jpg", "e\u0301te\u0301.jpg", "猫.jpg", "🐈.jpg", "a&b=c.jpg", 'quo"te.jpg',
    "it's (1)!.jpg",
    "colon:at@.jpg", "hash#1.jpg", "no-extension", "a.b.c.jpg", "[x]{y}|z^.jpg", "<b>.jpg",
    "deep/er/médias/x y.jpg", "w_4.jpg", "-.jpg", "_", "sub/ lead and trail .jpg", "dollar$1.jpg",
]  # fmt: skip
QUESTION = "who?.jpg"
# What nginx and Python must say alike of one picture.
SAME = [
    "ETag", "Last-Modified", "Content-Type", "Content-Length", "Vary", "Cache-Control",
    "X-Content-Type-Options", "Content-Security-Policy",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate([*NAMES, QUESTION]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(40 + number, 30))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "nginx"
    folder.mkdir()
    return folder


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


def front(address: tuple[str, int]) -> servers.Server:
    return servers.Server(address[1])


def test_pictures_outlive_restarts_and_a_lost_disk(
    photos: Path, cache: Path, memcached: servers.Server
) -> None:
    arguments = ("--origin", str(photos), "--cache-dir", str(cache),
                 "--memcached", f"127.0.0.1:{memcached.port}")  # fmt: skip
    environ = {"THUMBPROXY_MEMCACHED_NAMESPACE": str(cache)}
    paths = [
        THUMBS.url("plain.jpg", width=20, format=format, version=version)
        for format in ("jpg", "webp", "avif", "png", "gif")
        for version in (None, "v1")
    ]
    seen = []
    for expected in ("fwd=uri-miss; stored", "hit; detail=disk"):
        with servers.thumbproxy(*arguments, **environ) as server:
            seen += [[(expected, server.ask(path)) for path in paths]]
            seen += [[("hit; detail=disk", server.ask(path)) for path in paths]]
    with servers.thumbproxy(*arguments, **environ) as server:
        emptied(cache)
        seen += [[("hit; detail=memcached", server.ask(path)) for path in paths]]
        seen += [[("hit; detail=disk", server.ask(path)) for path in paths]]
    for time_round in seen:
        for (expected, reply), (_, first) in zip(time_round, seen[0], strict=True):
            assert reply.status == 200
            assert reply["Cache-Status"] == f"thumbproxy; {expected}"
            assert (reply["ETag"], reply.body) == (first["ETag"], first.body)


@pytest.mark.parametrize("through", ["gunicorn", "nginx"])
def test_every_name_of_a_file_works(photos: Path, cache: Path, web: Path, through: str) -> None:
    with servers.thumbproxy("--origin", str(photos), "--cache-dir", str(cache)) as server:
        if through == "gunicorn":
            check_names(server, [*NAMES, QUESTION])
            return
        with nginx.running(web, f"127.0.0.1:{server.port}", cache) as address:
            check_names(front(address), [*NAMES, QUESTION])
            check_names(front(address), [*NAMES, QUESTION])


def check_names(server: servers.Server, names: list[str]) -> None:
    for number, name in enumerate(names):
        for version in (None, "v1"):
            reply = server.ask(THUMBS.url(name, width=100, format="png", version=version))
            assert (reply.status, name) == (200, name)
            assert opened(reply.body).size == (40 + number, 30), name


def test_every_name_works_with_an_http_origin(photos: Path, cache: Path) -> None:
    """A `?` begins the query there; every other name is the same file's."""
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory"]
    port = servers.free_port()
    with (
        servers.running([*command, str(photos), str(port)], port, stderr=subprocess.DEVNULL),
        servers.thumbproxy(
            "--origin", f"http://127.0.0.1:{port}", "--cache-dir", str(cache)
        ) as server,
    ):
        check_names(server, NAMES)
        asked = server.ask(THUMBS.url("plain.jpg?size=large", width=100, format="png"))
        assert opened(asked.body).size == (40, 30)
        assert server.ask(THUMBS.url("absent.jpg", width=5)).status == 404


def test_what_browsers_and_cdns_encode_again_stays_signed(photos: Path, cache: Path) -> None:
    with servers.thumbproxy("--origin", str(photos), "--cache-dir", str(cache)) as server:
        path = THUMBS.url("tilde~1.jpg", width=20, height=20, format="jpg")
        again = path.replace("~", "%7E").replace(",", "%2C").replace("_", "%5F")
        assert again != path
        assert server.ask(again).status == 200


def test_nginx_serves_what_is_immutable_without_us(photos: Path, cache: Path, web: Path) -> None:
    accept = {"Accept": "image/avif,image/webp,*/*"}
    pinned = [
        THUMBS.url(name, width=20, format=format, version="v1")
        for name in ("plain.jpg", "été à Nice.jpg")
        for format in ("jpg", "webp", "auto")
    ]
    loose, unseen = (THUMBS.url("plain.jpg", width=width, format="jpg") for width in (20, 21))
    with servers.thumbproxy("--origin", str(photos), "--cache-dir", str(cache)) as server:
        upstream = f"127.0.0.1:{server.port}"
        with nginx.running(web, upstream, cache) as address:
            assert server.process is not None
            ours = {path: server.ask(path, accept) for path in [*pinned, loose]}
            hits = {path: front(address).ask(path, accept) for path in pinned}
            assert front(address).ask(loose)["Cache-Status"].startswith("thumbproxy")
            server.process.terminate()
            server.process.wait(30)
            alone = {path: front(address).ask(path, accept) for path in pinned}
            assert front(address).ask(loose).body == ours[loose].body, "nginx has a copy"
            assert front(address).ask(unseen).status == 502
            assert (
                front(address).ask(pinned[0], {"If-None-Match": ours[pinned[0]]["ETag"]}).status
                == 304
            )
            wrong = re.sub(r"\.[\w-]{22}\.", f".{'A' * 22}.", pinned[0])
            assert front(address).ask(wrong).status == 502, "only we can say no"
    for path in pinned:
        for reply in (hits[path], alone[path]):
            assert reply.status == 200
            assert reply["Cache-Status"] == "nginx; hit"
            assert reply.body == ours[path].body
            for name in SAME:
                assert reply[name] == ours[path][name], (name, path)


def test_an_upstream_gets_everything_else(photos: Path, cache: Path) -> None:
    gallery = Gallery(**{"plain.jpg": jpeg(60, 40, "red"), "page.html": b"<h1>page</h1>"})
    with (
        servers.wsgi(gallery) as upstream,
        servers.thumbproxy("--upstream", upstream.url, "--cache-dir", str(cache)) as server,
    ):
        assert server.ask("/page.html").body == b"<h1>page</h1>"
        assert server.ask("/nothing").status == 404
        reply = server.ask(THUMBS.url("plain.jpg", width=30, format="jpg"),
                           {"Cookie": "secret=1", "Authorization": "Bearer secret"})  # fmt: skip
        assert is_close(opened(reply.body), (255, 0, 0))
    fetch = next(environ for environ in gallery.environs if environ["PATH_INFO"] == "/plain.jpg")
    assert not [value for value in fetch.values() if "secret" in str(value)]
    assert fetch["HTTP_ACCEPT_ENCODING"] == "identity"


def test_two_origins_by_prefix(photos: Path, cache: Path, tmp_path: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    other = tmp_path / "other"
    other.mkdir()
    (other / "plain.jpg").write_bytes(jpeg(99, 9))
    config.write_text(
        f'cache_dir = "{cache}"\n[origins]\n"" = "{photos}"\n'
        f'"other/" = {{ location = "{other}", immutable = true }}\n'
    )
    with servers.thumbproxy("--config", str(config)) as server:
        sizes = [opened(server.ask(THUMBS.url(source, format="png")).body).size
                 for source in ("plain.jpg", "other/plain.jpg")]  # fmt: skip
    assert sizes == [(40, 30), (99, 9)]
    assert list((cache / "public" / "other").rglob("*.png"))


@pytest.fixture
def demo(photos: Path, tmp_path: Path) -> Iterator[servers.Server]:
    port = servers.free_port()
    command = [sys.executable, "-m", "thumbproxy", "demo", "--photos", str(photos),
               "--bind", f"127.0.0.1:{port}"]  # fmt: skip
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "home")}
    with servers.running(
        command, port, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        yield server


def test_the_demo_shows_a_folder(demo: servers.Server) -> None:
    page = demo.ask("/")
    assert page.status == 200
    html = page.body.decode()
    sources = re.findall(r'src="([^"]+)"', html)
    assert len(sources) >= len(NAMES)
    for source in sources:
        if source.startswith("/"):
            assert demo.ask(unescape(source)).status == 200
    assert demo.process is not None
    assert demo.process.stdout is not None
    assert demo.url.encode() in demo.process.stdout.readline()
