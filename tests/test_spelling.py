"""Names that differ in Unicode's normalization alone: each has its pictures, and whichever of them
is purged, all are, because one file may have been behind all."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from unicodedata import normalize

import pytest
import servers
from hypothesis import example, given
from hypothesis import strategies as st
from origin import jpeg, opened

from thumbproxy import Folder, Thumbnails, ThumbProxy
from thumbproxy.caches.base import Scope
from thumbproxy.caches.purge_log import new_log, new_purge
from thumbproxy.core.spelling import composed, spellings
from thumbproxy.http.cache_tags import tag_of, tags_of

THUMBS = Thumbnails([servers.KEY])
FOLDER, FILE = "m\u00e9dias", "\u00e9t\u00e9.jpg"
FORMS = list(product(("NFC", "NFD"), ("NFC", "NFD")))
NAMES = [f"{normalize(one, FOLDER)}/{normalize(other, FILE)}" for one, other in FORMS]
LONG = "/".join([normalize("NFD", "\u00e9")] * 20)


@pytest.mark.parametrize(
    "text", [*NAMES, f"{NAMES[0].split('/')[0]}/", f"{NAMES[3].split('/')[0]}/"]
)
def test_a_purge_covers_all_spellings(text: str) -> None:
    scope = Scope(text)
    folder = text.endswith("/")
    for name in NAMES:
        assert scope.covers(name)
        assert folder or name in {one.text for one in scope.spellings()}
        assert tag_of(text) in tags_of(name)
        assert new_log([new_purge(scope)]).purged_at(name)
    for other in (
        "medias/ete.jpg",
        f"{NAMES[0]}.jpg",
        f"x/{NAMES[0]}",
        "m\u00e9dia/\u00e9t\u00e9.jpg",
    ):
        below = folder and other.startswith(f"{FOLDER}/")
        assert scope.covers(other) == below
        assert bool(new_log([new_purge(scope)]).purged_at(other)) == below


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example(LONG)
@example("\u0958" * 85)  # gets longer when it is composed
@example("a/\u0301b")
def test_spellings_are_those_that_share_a_form(name: str) -> None:
    for other in {*spellings(name), normalize("NFC", name), normalize("NFD", name)}:
        assert normalize("NFC", other) == normalize("NFC", name)
    assert name in set(spellings(name))
    assert len(list(spellings(name))) <= 8
    assert composed(composed(name)) == composed(name)
    for folder, name_below in (("\u00e9/", name), (normalize("NFD", "\u00e9/"), name)):
        assert composed(folder + name_below) == "\u00e9/" + composed(name_below)


@pytest.fixture
def site(tmp_path: Path) -> tuple[ThumbProxy, Path]:
    """A folder in which all names are one file, as where the file system ignores the difference.
    `immutable`, so that nothing but a purge has a changed file seen."""
    media = tmp_path / "media"
    for name in NAMES:
        (media / name).parent.mkdir(parents=True, exist_ok=True)
    (media / NAMES[0]).write_bytes(jpeg(60, 40))
    for name in NAMES[1:]:
        os.link(media / NAMES[0], media / name)
    origin = Folder(media, immutable=True)
    proxy = ThumbProxy(
        lambda *_: [], keys=[servers.KEY], cache_dir=str(tmp_path / "cache"), origins={"": origin}
    )
    return proxy, media


@pytest.mark.parametrize(
    "purged", [*NAMES, *(f"{normalize(form, FOLDER)}/" for form in ("NFC", "NFD"))]
)
def test_what_was_made_under_any_name_is_gone(site: tuple[ThumbProxy, Path], purged: str) -> None:
    proxy, media = site
    urls = [THUMBS.url(name, width=w, format="jpg") for name in NAMES for w in (9, 30)]
    with servers.wsgi(proxy) as server:
        assert {opened(server.ask(url).body).size for url in urls} == {(9, 6), (30, 20)}
        (media / NAMES[0]).write_bytes(jpeg(60, 60))  # of all of them
        assert {opened(server.ask(url).body).size for url in urls} == {(9, 6), (30, 20)}
        result = proxy.purge(purged)
        assert (result.files, result.complete) == (len(urls), True)
        assert {opened(server.ask(url).body).size for url in urls} == {(9, 9), (30, 30)}


def test_two_files_are_two_pictures(tmp_path: Path) -> None:
    """Where the file system tells them apart, as most do."""
    for number, name in enumerate(NAMES[:2], 1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(10, 10 * number))
    proxy = ThumbProxy(lambda *_: [], keys=[servers.KEY], origins={"": str(tmp_path)})
    with servers.wsgi(proxy) as server:
        sizes = [opened(server.ask(THUMBS.url(name, format="png")).body).size for name in NAMES[:2]]
    assert sizes == [(10, 10), (10, 20)]
