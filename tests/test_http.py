"""Every refusal through a real socket: status, no-store, a sentence for people, nothing kept."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import servers
from origin import jpeg

from thumbproxy import Signer, Thumbnails

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
    for name in ("ETag", "Last-Modified", "Cache-Control", "Content-Disposition"):
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
