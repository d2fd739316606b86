"""The demo's sample pictures and its gallery page."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import numpy as np
import pytest
from PIL import Image, ImageOps

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.demo import GalleryApp, gallery, list_pictures, make_samples
from thumbproxy.demo.folder import version_of
from thumbproxy.demo.names import ANIMATION, CHART, HERO, LOGO, SIDEWAYS
from thumbproxy.demo.samples import SAMPLES
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.builder import Thumbnails
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer

KEY = "a key that only this test has"
VOID = {"meta", "link", "source", "img", "br", "wbr"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_samples(folder, long_side=480)
    return folder


@pytest.fixture
def thumbs() -> Thumbnails:
    return Thumbnails([KEY])


def page_of(folder: Path, thumbs: Thumbnails) -> str:
    names, total = list_pictures(folder)
    return gallery(thumbs, folder, names, total=total)


def photo(path: Path, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path)
    return path


def addresses(page: str) -> set[str]:
    """Every path that the page links to or shows."""
    found = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    for candidates in re.findall(r'srcset="([^"]*)"', page):
        found += [candidate.split()[0] for candidate in candidates.split(", ")]
    return {unescape(address) for address in found}


# ── sample pictures ──────────────────────────────────────────────────────────────────────────


def test_the_whole_set_is_written_and_every_picture_is_whole(samples: Path) -> None:
    assert {path.name for path in samples.iterdir()} == set(SAMPLES)
    for path in samples.iterdir():
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 100


def test_the_pictures_are_the_same_in_every_run(samples: Path, tmp_path: Path) -> None:
    for path in make_samples(tmp_path, long_side=480):
        assert path.read_bytes() == (samples / path.name).read_bytes(), path.name


def test_the_set_at_its_full_size_has_less_than_15_mb(tmp_path: Path) -> None:
    paths = make_samples(tmp_path)
    assert sum(path.stat().st_size for path in paths) < 15_000_000
    with Image.open(tmp_path / "mountains.jpg") as image:
        assert image.size == (3000, 2000)


def test_pictures_that_are_there_are_left_as_they_are(tmp_path: Path) -> None:
    for name in SAMPLES:
        (tmp_path / name).write_bytes(b"mine")
    assert make_samples(tmp_path) == [tmp_path / name for name in SAMPLES]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"mine"}


def test_progress_is_told_after_each_picture(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    make_samples(tmp_path / "new", lambda *step: told.append(step), long_side=240)
    assert told == [(name, n, len(SAMPLES)) for n, name in enumerate(SAMPLES, start=1)]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _body: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        make_samples(tmp_path, long_side=240)
    assert list(tmp_path.iterdir()) == []


def test_the_sideways_picture_is_stored_lying_and_its_arrow_points_up_when_turned(
    samples: Path,
) -> None:
    with Image.open(samples / SIDEWAYS) as stored:
        assert stored.getexif()[0x0112] == 6
        assert stored.width > stored.height
        upright = ImageOps.exif_transpose(stored).convert("L")
    assert upright.width < upright.height
    white = np.asarray(upright) > 250
    rows = np.flatnonzero(white[:, white.shape[1] // 2 - 10 : white.shape[1] // 2 + 10].any(1))
    head, shaft = rows[0] + 130, rows[0] + 350  # the head of an arrow is wider than its shaft
    assert np.ptp(np.flatnonzero(white[head])) > 2 * np.ptp(np.flatnonzero(white[shaft]))


def test_the_logo_has_soft_edges(samples: Path) -> None:
    with Image.open(samples / LOGO) as image:
        alpha = np.asarray(image.getchannel("A"))
    assert alpha.min() == 0
    assert alpha.max() == 255
    assert np.unique(alpha).size > 100


def test_the_animation_has_24_different_frames_and_loops(samples: Path) -> None:
    with Image.open(samples / ANIMATION) as image:
        assert image.n_frames == 24  # type: ignore[attr-defined]
        assert image.info["loop"] == 0


def test_the_chart_has_lines_of_one_pixel(samples: Path) -> None:
    with Image.open(samples / CHART) as image:
        row = np.asarray(image.convert("L"))[60].astype(int)
    assert (np.abs(np.diff(row)) > 200).sum() > 90


# ── the list of a folder ─────────────────────────────────────────────────────────────────────


def test_pictures_are_listed_with_subfolders_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.webp", "a/b/c.png", "d.gif", "e.jpeg", ".hidden.jpg", ".git/x.jpg",
                 "note.txt", "a/.cache/y.png", ".mountains.jpg.12.tmp"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_pictures(tmp_path) == (["a/b/c.png", "a/z.webp", "b.JPG", "d.gif", "e.jpeg"], 5)


def test_a_large_folder_is_cut_with_a_note(tmp_path: Path, thumbs: Thumbnails) -> None:
    for number in range(7):
        photo(tmp_path / f"{number}.png")
    names, total = list_pictures(tmp_path, limit=3)
    assert (names, total) == (["0.png", "1.png", "2.png"], 7)
    page = gallery(thumbs, tmp_path, names, total=total)
    assert "4 more" in page
    assert "6.png" not in page


# ── the page ─────────────────────────────────────────────────────────────────────────────────


class Outline(HTMLParser):
    """Notes what is open; fails where a tag closes that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_but_itself(
    samples: Path, thumbs: Thumbnails
) -> None:
    page = page_of(samples, thumbs)
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert "script" not in outline.seen
    assert "http:" not in page
    assert "https:" not in page
    assert all(name in page for name in SAMPLES)


def test_every_address_on_the_page_is_signed_and_can_be_made(
    samples: Path, thumbs: Thumbnails
) -> None:
    codec, engine = UrlCodec(Signer([KEY])), PillowEngine(Limits())
    made = set()
    for address in addresses(page_of(samples, thumbs)):
        request = codec.parse(unquote(address))
        assert request is not None, address
        assert request.options.version == version_of(samples / request.source)
        if request.format in {*engine.outputs, Format.JSON}:
            source = (samples / request.source).read_bytes()
            made.add(engine.render(source, request.options, request.format).format)
    assert made == {*engine.outputs, Format.JSON}


def test_the_animation_is_shown_moving_and_still(samples: Path, thumbs: Thumbnails) -> None:
    codec = UrlCodec(Signer([KEY]))
    requests = [codec.parse(unquote(path)) for path in addresses(page_of(samples, thumbs))]
    shown = {(request.format, request.options.one_frame)
             for request in requests if request and request.source == ANIMATION}  # fmt: skip
    assert {(Format.WEBP, False), (Format.GIF, False), (Format.WEBP, True)} <= shown


def test_the_placeholder_is_that_of_the_info_document(samples: Path, thumbs: Thumbnails) -> None:
    names, _ = list_pictures(samples)
    engine = PillowEngine(Limits())
    page = gallery(thumbs, samples, names, engine=engine)
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    source = (samples / HERO).read_bytes()
    document = json.loads(engine.render(source, Options(width=480), Format.JSON).body)
    assert document["placeholder"]["data_uri"] in page
    assert document["colors"]["dominant"] in page
    assert "data:image/" not in page_of(samples, thumbs)


def test_a_first_picture_without_a_placeholder_leaves_the_page_whole(
    tmp_path: Path, thumbs: Thumbnails
) -> None:
    """It turns out to be cut off only when it is decoded."""
    Image.effect_noise((600, 400), 50).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    page = gallery(thumbs, tmp_path, ["cut.jpg"], engine=PillowEngine(Limits()))
    assert page == gallery(thumbs, tmp_path, ["cut.jpg"])


def test_the_version_changes_with_the_file(tmp_path: Path, thumbs: Thumbnails) -> None:
    path = photo(tmp_path / "a.png")
    before = addresses(page_of(tmp_path, thumbs))
    assert addresses(page_of(tmp_path, thumbs)) == before
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert not before & addresses(page_of(tmp_path, thumbs))


def test_names_are_escaped_everywhere(tmp_path: Path, thumbs: Thumbnails) -> None:
    name = """<b onx="1">&amp; 'é, 2x.png"""
    photo(tmp_path / name)
    photo(tmp_path / '"><script>.png').write_bytes(b"not a picture")
    page = page_of(tmp_path, thumbs)
    outline = Outline()
    outline.feed(page)
    assert "script" not in outline.seen
    assert "onx=&quot;1" in page
    assert 'onx="1' not in page
    codec = UrlCodec(Signer([KEY]))
    requests = [codec.parse(unquote(address)) for address in addresses(page)]
    assert {request.source for request in requests if request} == {name}


def test_space_is_reserved_in_the_ratio_of_the_upright_picture(
    samples: Path, tmp_path: Path, thumbs: Thumbnails
) -> None:
    (tmp_path / "turned.jpg").write_bytes((samples / SIDEWAYS).read_bytes())
    assert 'style="--r:0.7500"' in page_of(tmp_path, thumbs)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("text.jpg", b"not a picture", "not a JPEG, PNG, GIF, WebP or AVIF"),
        ("empty.png", b"", "not a JPEG, PNG, GIF, WebP or AVIF"),
        ("cut.gif", b"GIF89a\x01", "not"),
        ("back\\slash.jpg", b"", "backslash"),
        (os.fsdecode(b"latin\xe9.jpg"), b"", "not valid Unicode"),
    ],
)
def test_a_file_that_cannot_be_shown_is_listed_with_its_reason(
    name: str, body: bytes, reason: str, tmp_path: Path, thumbs: Thumbnails
) -> None:
    (tmp_path / name).write_bytes(body)
    photo(tmp_path / "good.png")
    page = page_of(tmp_path, thumbs)
    assert reason in page.split('class="broken"')[1].split("</section>")[0]
    assert page.index("good.png") < page.index('class="broken"')
    assert str(tmp_path) not in page


def test_a_file_that_vanishes_is_listed_with_its_reason(tmp_path: Path, thumbs: Thumbnails) -> None:
    assert "There is no such file." in gallery(thumbs, tmp_path, ["gone.png"])


@pytest.mark.parametrize("names", [(), ("text.jpg", "empty.png")])
def test_a_folder_without_a_usable_picture_says_what_to_do_and_boasts_of_nothing(
    names: tuple[str, ...], tmp_path: Path, thumbs: Thumbnails
) -> None:
    for name in names:
        (tmp_path / name).touch()
    page = page_of(tmp_path, thumbs)
    assert "No pictures yet" in page
    assert "Put JPEG, PNG, GIF, WebP or AVIF files into the folder" in page
    assert "Every picture on this page" not in page
    assert all(name in page for name in names)


def test_a_picture_that_turns_out_to_be_cut_off_has_its_name_as_its_alternative(
    tmp_path: Path, thumbs: Thumbnails
) -> None:
    """Its header is whole, so only the browser learns that there is nothing to show."""
    Image.effect_noise((600, 400), 50).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    page = page_of(tmp_path, thumbs)
    assert "Not shown" not in page
    assert 'alt="cut.jpg"' in page
    assert "could not be shown" in page.split("</style>")[0]


# ── the application ──────────────────────────────────────────────────────────────────────────


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port(tmp_path: Path, thumbs: Thumbnails) -> Iterator[int]:
    photo(tmp_path / "a.png")
    photo(tmp_path / os.fsdecode(b"latin\xe9.jpg"))
    app = validator(GalleryApp(thumbs, tmp_path))
    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, method: str, path: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_the_page_is_served_with_its_length_and_a_policy_that_allows_only_own_pictures(
    port: int,
) -> None:
    response, body = ask(port, "GET", "/")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["Cache-Control"] == "no-cache"
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src 'self'")
    assert "script-src" not in policy
    assert b"a.png" in body


def test_head_has_the_headers_of_get_and_no_body(port: int) -> None:
    got, _ = ask(port, "GET", "/?from=mail")
    head, body = ask(port, "HEAD", "/")
    assert (head.status, body) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/a.png", 404), ("GET", "/favicon.ico", 404), ("HEAD", "/x", 404), ("POST", "/", 405)],
)
def test_all_else_is_refused_in_plain_text(port: int, method: str, path: str, status: int) -> None:
    response, _ = ask(port, method, path)
    assert response.status == status
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (response.headers["Allow"] == "GET, HEAD") is (status == 405)


def test_the_style_asks_for_nothing_from_elsewhere(samples: Path, thumbs: Thumbnails) -> None:
    style = page_of(samples, thumbs).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert all(urlsplit(address).netloc == "" for address in addresses(page_of(samples, thumbs)))
