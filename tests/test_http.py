"""Every refusal through a real socket: status, no-store, a sentence for people, nothing kept."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nginx
import pytest
import servers
from origin import jpeg
from PIL import Image

from thumbproxy import Signer, Thumbnails
from thumbproxy.core.formats import Format
from thumbproxy.core.media import Rendition
from thumbproxy.http.cross_origin import CrossOrigin
from thumbproxy.http.responses import CachePolicy, image_response
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

SIGNER = Signer([servers.KEY])
THUMBS = Thumbnails([servers.KEY])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad sources, and the cache beside them."""
    root = tmp_path_factory.mktemp("http")
    photos = root / "photos"
    photos.mkdir()
    (photos / "sub").mkdir()
    good = jpeg(600, 400)
    for name, body in {
        "good.jpg": good,
        "cut.jpg": good[: len(good) // 2],
        "page.jpg": b"<!doctype html><title>no picture</title>",
        "empty.jpg": b"",
        "lies.png": good,
        "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "large.jpg": good + bytes(200_000),
        "wide.jpg": jpeg(1200, 900),
    }.items():
        (photos / name).write_bytes(body)
    # A small file that makes a large PNG: larger than sockets' buffers.
    noise = Image.effect_noise((150, 150), 90).convert("RGB").resize((950, 950))
    noise.save(photos / "noise.jpg", quality=20)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[servers.Server]:
    with servers.thumbproxy(
        "--origin", str(folder / "photos"), "--cache-dir", str(folder / "cache"),
        THUMBPROXY_MAX_SOURCE_BYTES="100000", THUMBPROXY_MAX_SOURCE_PIXELS="1000000",
    ) as running:  # fmt: skip
        yield running


def path_of(source: str, options: str = "w_32", format: str = "jpg", signature: str = "") -> str:
    """A signed path, whatever its parts are."""
    signature = signature or SIGNER.sign(f"{source}/{options}.{format}")
    return "/thumb/" + quote(f"{source}/{options}.{signature}.{format}", safe="/,")


def renditions(folder: Path) -> list[Path]:
    kept = [*(folder / "cache" / "public").rglob("*"), *(folder / "cache" / "private").rglob("*")]
    return [path for path in kept if path.is_file() and path.name != ".source"]


REFUSED = {
    "method": ("POST", path_of("good.jpg"), 405, "method-not-allowed"),
    "delete": ("DELETE", path_of("good.jpg"), 405, "method-not-allowed"),
    "method before grammar": ("POST", "/thumb/nonsense", 405, "method-not-allowed"),
    "grammar": ("GET", "/thumb/nonsense", 404, "not-a-thumbnail-url"),
    "format": ("GET", path_of("good.jpg", format="bmp"), 404, "not-a-thumbnail-url"),
    "bytes that are no text": ("GET", "/thumb/%ff%fe/_.x.jpg", 404, "not-a-thumbnail-url"),
    "signature": ("GET", path_of("good.jpg", signature="A" * 22), 403, "bad-signature"),
    "short signature": ("GET", path_of("good.jpg", signature="A"), 403, "bad-signature"),
    "text signature": ("GET", path_of("good.jpg", signature="é" * 11), 403, "bad-signature"),
    "signature before all": ("GET", path_of("../x", signature="A" * 22), 403, "bad-signature"),
    "canonical": ("GET", path_of("good.jpg", "h_9,w_9"), 400, "bad-options"),
    "unknown option": ("GET", path_of("good.jpg", "zoom_2"), 400, "bad-options"),
    "range": ("GET", path_of("good.jpg", "w_99999"), 400, "bad-options"),
    "limit": ("GET", path_of("good.jpg", "w_4097"), 400, "bad-options"),
    "page": ("GET", path_of("good.jpg", "page_2"), 400, "bad-options"),
    "outside": ("GET", path_of("good.jpg", "crop_9999x9999x5x5"), 400, "bad-options"),
    "dots": ("GET", path_of("a/../good.jpg"), 400, "bad-source"),
    "hidden": ("GET", path_of(".ssh/id"), 400, "bad-source"),
    "backslash": ("GET", path_of("a\\b.jpg"), 400, "bad-source"),
    "control": ("GET", path_of("a\r\nb.jpg"), 400, "bad-source"),
    "itself": ("GET", path_of("a.jpg/_." + "A" * 22 + ".jpg"), 400, "bad-source"),
    "expired": ("GET", path_of("good.jpg", "e_1000000000"), 410, "expired"),
    "absent": ("GET", path_of("absent.jpg"), 404, "source-not-found"),
    "folder": ("GET", path_of("sub"), 404, "source-not-found"),
    "large": ("GET", path_of("large.jpg"), 413, "source-too-large"),
    "no picture": ("GET", path_of("page.jpg"), 415, "unsupported-image"),
    "empty": ("GET", path_of("empty.jpg"), 415, "unsupported-image"),
    "svg": ("GET", path_of("script.svg"), 415, "unsupported-image"),
    "cut off": ("GET", path_of("cut.jpg"), 422, "broken-image"),
    "pixels": ("GET", path_of("wide.jpg"), 422, "broken-image"),
}


@pytest.mark.parametrize(("method", "path", "status", "token"), REFUSED.values(), ids=REFUSED)
def test_refusals(
    server: servers.Server, folder: Path, method: str, path: str, status: int, token: str
) -> None:
    before = renditions(folder)
    reply = server.ask(path, method=method)
    assert (reply.status, reply.body.decode().split(":")[0]) == (status, token)
    assert reply["Cache-Control"] == "no-store"
    assert reply["Content-Type"] == "text/plain; charset=utf-8"
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert reply["Vary"] is None
    sentence = reply.body.decode().split(": ", 1)[1]
    assert sentence.endswith(".\n")
    assert len(sentence) > 20
    for internal in (str(folder), "Traceback", "thumbproxy/", servers.KEY):
        assert internal not in sentence
    assert renditions(folder) == before, "a refusal keeps nothing"


def test_a_type_that_is_a_lie_does_not_matter(server: servers.Server) -> None:
    """What the bytes are decides, not what the name says."""
    assert server.ask(path_of("lies.png")).status == 200


def test_a_refusal_says_what_would_be_right(server: servers.Server) -> None:
    assert b"'w_9,h_9'" in server.ask(path_of("good.jpg", "h_9,w_9")).body


def test_every_status_of_an_auto_url_varies(server: servers.Server) -> None:
    for source, options, signature in (
        ("good.jpg", "w_32", ""), ("good.jpg", "w_32", "A" * 22), ("good.jpg", "x_1", ""),
        ("absent.jpg", "w_32", ""), ("page.jpg", "w_32", ""), ("good.jpg", "e_1", ""),
    ):  # fmt: skip
        reply = server.ask(path_of(source, options, "auto", signature))
        assert reply["Vary"] == "Accept"
    assert server.ask(path_of("good.jpg", format="auto"), method="POST")["Vary"] == "Accept"


def test_auto_is_negotiated(server: servers.Server) -> None:
    path = THUMBS.url("good.jpg", width=40)
    types = {
        accept: server.ask(path, {"Accept": accept})["Content-Type"]
        for accept in (
            "image/avif,image/webp,*/*",
            "image/webp",
            "*/*",
            "image/avif;q=0,image/webp",
        )
    }
    assert list(types.values()) == ["image/avif", "image/webp", "image/jpeg", "image/webp"]


def test_head_is_get_without_a_body(server: servers.Server) -> None:
    for path in (path_of("good.jpg"), path_of("absent.jpg")):
        server.ask(path)
        got, headed = server.ask(path), server.ask(path, method="HEAD")
        assert (headed.status, headed.body) == (got.status, b"")
        differing = set(dict(got.headers).items()) ^ set(dict(headed.headers).items())
        assert {name for name, _ in differing} <= {"Date"}


def test_a_conditional_request_gets_a_304(server: servers.Server) -> None:
    path = path_of("good.jpg")
    full = server.ask(path)
    short = server.ask(path, {"If-None-Match": full["ETag"]})
    assert (short.status, short.body) == (304, b"")
    for name in ("ETag", "Cache-Control"):
        assert short[name] == full[name]


def test_the_query_is_ignored(server: servers.Server) -> None:
    path = path_of("good.jpg")
    assert server.ask(path + "?utm_source=x").body == server.ask(path).body


def test_other_paths_are_not_found_here(server: servers.Server) -> None:
    reply = server.ask("/somewhere")
    assert (reply.status, reply["Cache-Control"]) == (404, "no-store")
    assert server.ask("/healthz").body == b"ok\n"


@pytest.mark.parametrize("request_line", [
    b"GET /thumb/a%00b/_.x.jpg HTTP/1.1", b"GET /thumb/" + b"a" * 5000 + b" HTTP/1.1",
    b"GET /thumb/\xff/_.x.jpg HTTP/1.1", b"\x00\x01\x02", b"GET  HTTP/9.9",
    b"GET http://evil.example/thumb/x HTTP/1.1", b"GET /thumb/..%2f..%2fetc/passwd HTTP/1.1",
])  # fmt: skip
def test_raw_nonsense_does_no_harm(server: servers.Server, request_line: bytes) -> None:
    with socket.create_connection((servers.HOST, server.port), 10) as raw:
        raw.sendall(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw.settimeout(10)
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert not received.startswith(b"HTTP/1.1 2")
    assert server.ask(path_of("good.jpg")).status == 200


def test_an_address_dies_at_its_time(server: servers.Server) -> None:
    path = THUMBS.url("good.jpg", width=33, format="jpg", expires=int(time.time()) + 600)
    reply = server.ask(path)
    assert reply.status == 200
    assert int(reply["Cache-Control"].removeprefix("public, max-age=")) <= 600


def cached_files_open_in(server: servers.Server, folder: Path) -> list[str]:
    """What the server's processes have open below its cache's trees of renditions."""
    assert server.process is not None
    pid = server.process.pid
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for descriptor in (fd for worker in workers for fd in Path(f"/proc/{worker}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed while we look
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/cache/p")]


def test_no_file_stays_open_whatever_a_client_does(server: servers.Server, folder: Path) -> None:
    """Whole, in part, not at all, or given up in the middle."""
    path = path_of("noise.jpg", "_", "png")
    whole = server.ask(path)
    assert len(whole.body) > 500_000
    for _ in range(5):
        assert server.ask(path).body == whole.body
        assert server.ask(path, {"Range": "bytes=9-600000"}).body == whole.body[9:600_001]
        assert server.ask(path, {"Range": "bytes=99999999-"}).status == 416
        assert server.ask(path, {"If-None-Match": whole["ETag"]}).status == 304
        assert server.ask(path, {"If-Match": '"other"'}).status == 412
        assert server.ask(path, method="HEAD").body == b""
        for wanted in (b"", b"Range: bytes=1-\r\n"):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect((servers.HOST, server.port))
                client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path.encode(), wanted))
                assert client.recv(100).startswith(b"HTTP/1.1 20")
    give_up = time.monotonic() + 10
    while cached_files_open_in(server, folder):
        assert time.monotonic() < give_up, cached_files_open_in(server, folder)
        threading.Event().wait(0.02)


NGINX = """
daemon off; pid {home}/pid; error_log stderr; {user}
events {{}}
http {{
    client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
    uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
    access_log off;
    upstream thumbproxy {{ server 127.0.0.1:{upstream}; }}
    server {{
        listen 127.0.0.1:{port};
        merge_slashes off;
        location / {{ proxy_pass http://thumbproxy; }}
        {locations}
    }}
}}
"""
STRANGE = [
    "plain.jpg", "with space.jpg", "100%.jpg", "50%25.jpg", "a+b.jpg", "été à Nice.jpg", "猫.jpg",
    "a&b=c;d.jpg", 'quo"te.jpg', "hash#1.jpg", "who?.jpg", "[x]{y}|z^.jpg", "dollar$1.jpg",
    "a..b/x...jpg", "it's (1)!.jpg",
]  # fmt: skip


class Sender:
    """Replies with what lies in private/, as a cache's hit; `vanishing` is gone when it is sent."""

    def __init__(self, cache: Path, accel: str) -> None:
        self.cache = cache
        self.policy = CachePolicy(accel=accel)
        self.vanishing = ""
        self.asked = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.asked += 1
        source = environ["PATH_INFO"].encode("latin-1").decode().lstrip("/")
        file = self.cache / "private" / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"picture of " + source.encode())
        os.utime(file, (1_790_000_000, 1_790_000_000))  # its ETag is the same in the next second
        rendition = Rendition(
            b"", Format.WEBP, int(file.stat().st_mtime), "hit; detail=disk", file=file.open("rb"),
            size=file.stat().st_size, path=f"private/{source}", age=5, timings=(("x", 0.1),),
        )  # fmt: skip
        if source == self.vanishing:
            self.vanishing = ""
            file.unlink()
        request = ImageRequest(source, Options(), "_.S.webp", Format.WEBP, auto=True)
        response = image_response(request, rendition, environ, self.policy)
        CrossOrigin(["https://shop.example.com"]).tell(response.headers, environ)
        return response(environ, start_response)


@pytest.fixture(scope="module")
def behind_nginx(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Sender, servers.Server, servers.Server]]:
    """The application, itself and through nginx with the locations of docs/serving.md."""
    home, cache = tmp_path_factory.mktemp("nginx"), tmp_path_factory.mktemp("accel")
    page = (Path(__file__).parent.parent / "docs" / "serving.md").read_text()
    block = re.search(r"```nginx\n(location /_thumbproxy.*?)```", page, re.S)
    assert block
    assert nginx.PROGRAM, "nginx is not installed; `make setup` does that"
    sender = Sender(cache, "/_thumbproxy")
    with servers.wsgi(sender) as app, servers.wsgi(Sender(cache, "")) as alone:
        port = servers.free_port()
        (home / "nginx.conf").write_text(NGINX.format(
            home=home, port=port, upstream=app.port,
            user="user root;" if os.geteuid() == 0 else "",
            locations=block[1].replace("/var/cache/thumbproxy/", f"{cache}/"),
        ))  # fmt: skip
        command = [nginx.PROGRAM, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
        with servers.running(command, port, stderr=subprocess.DEVNULL) as front:
            yield sender, alone, front


@pytest.mark.parametrize("name", STRANGE)
def test_nginx_finds_the_file_whatever_it_is_called(
    behind_nginx: tuple[Sender, servers.Server, servers.Server], name: str
) -> None:
    reply = behind_nginx[2].ask("/" + quote(name))
    assert (reply.status, reply.body) == (200, b"picture of " + name.encode())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 200),
        ({"Range": "bytes=0-3"}, 206),
        ({"Range": "bytes=0-3,5-6"}, 200),
        ({"If-None-Match": "*"}, 304),
        ({"If-Modified-Since": "Tue, 01 Jan 2199 00:00:00 GMT"}, 304),
        ({"If-None-Match": '"other"', "If-Modified-Since": "Tue, 01 Jan 2199 00:00:00 GMT"}, 200),
    ],
)
def test_nginx_says_what_we_would_say(
    behind_nginx: tuple[Sender, servers.Server, servers.Server],
    method: str,
    sent: dict[str, str],
    status: int,
) -> None:
    _, alone, front = behind_nginx
    sent = sent | {"Origin": "https://shop.example.com"}
    ours, theirs = (server.ask("/cat.jpg", sent, method) for server in (alone, front))
    assert ours["Access-Control-Allow-Origin"] == sent["Origin"]
    assert theirs.status == ours.status == (200 if (method, status) == ("HEAD", 206) else status)
    assert theirs.body == ours.body
    own = {"Server", "Date", "Connection"}
    assert sorted((name, value) for name, value in theirs.headers.items() if name not in own) == (
        sorted((name, value) for name, value in ours.headers.items() if name not in own)
    )


def test_what_vanishes_before_nginx_has_it_is_asked_for_again(
    behind_nginx: tuple[Sender, servers.Server, servers.Server],
) -> None:
    sender, alone, front = behind_nginx
    before, sender.vanishing = sender.asked, "purged é.jpg"
    reply = front.ask("/" + quote("purged é.jpg"))
    assert (reply.status, sender.asked - before) == (200, 2)
    once = alone.ask("/" + quote("purged é.jpg"))
    assert reply.body == once.body
    for name in ("Cache-Control", "Content-Disposition"):
        assert reply.headers.get_all(name) == [once[name]]


def test_nobody_reads_the_cache_by_nginx_s_location(
    behind_nginx: tuple[Sender, servers.Server, servers.Server],
) -> None:
    sender, _, front = behind_nginx
    (sender.cache / "private" / "secret").write_bytes(b"what nobody signed for")
    assert b"nobody" not in front.ask("/_thumbproxy/private/secret").body
