"""Explaining: what is told is what a server does, and telling it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import servers
from commands import thumbproxy
from hypothesis import given
from hypothesis import strategies as st
from origin import Gallery, jpeg

from thumbproxy import Options, Signer
from thumbproxy.caches.base import Failure, FailureRecord, SourceRecord
from thumbproxy.cli.explain import explainer
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import OriginSetting
from thumbproxy.core.errors import (
    BrokenImage,
    OriginBusy,
    OriginFailed,
    OriginTimeout,
    SourceBlocked,
    SourceNotFound,
    SourceRefused,
    ThumbproxyError,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Validators
from thumbproxy.explain.address import Reader
from thumbproxy.explain.prediction import Situation, asked, predict
from thumbproxy.explain.text import lines
from thumbproxy.urls.codec import UrlCodec

KEY = servers.KEY
OLD_KEY = "the-key-of-last-year-is-an-old-one"
NOW = 1_800_000_000.0
URLS = UrlCodec(Signer([KEY]))


def url(source: str, options: Options | None = None, format: str = "jpg") -> str:
    return URLS.build(source, options or Options(width=40), format)


def reader(*keys: str) -> Reader:
    return Reader(keys or (KEY,), prefix="/thumb", limits=Limits(), clock=lambda: NOW)


# -- addresses -------------------------------------------------------------------------------


def signed(stem: str, format: str = "jpg", key: str = KEY) -> str:
    return f"/thumb/{stem}.{Signer([key]).sign(f'{stem}.{format}')}.{format}"


@pytest.mark.parametrize("form", ["{}", "https://cdn.example{}", "{}?query=1", "{}#fragment"])
def test_an_address_may_be_whole_or_a_path(form: str) -> None:
    address = reader().read(form.format(url("a b/é.jpg")))
    assert address.request is not None
    assert (address.request.source, address.fault) == ("a b/é.jpg", None)


def test_it_is_told_by_which_key_it_is_signed() -> None:
    for key, number in ((KEY, 0), (OLD_KEY, 1), ("another-key-of-someone", None)):
        address = reader(KEY, OLD_KEY).read(signed("a.jpg/w_40", key=key))
        assert address.key == number
        assert (address.fault is None) == (number is not None)


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        (quote(url("a b.jpg")), "encoded twice"),
        (signed("100%25.jpg/w_40"), "not percent-encoded"),
        ("/thumb/a/b?c=1.png" + url("a/b?c=1.png")[len("/thumb/a/b%3Fc=1.png"):], "%3F"),
        (url("a b.jpg").replace("%20", "+"), "written as +"),
        (quote(unicodedata.normalize("NFD", signed("é.jpg/w_40"))), "signed as NFC"),
        (quote(signed("é.jpg/w_40").encode().decode("latin-1")), "Latin-1"),
        (url("a.jpg") + ").", "copied along"),
        (url("a/b.jpg").replace("a/b", "a//b"), "two slashes"),
        ("/thumb" + url("a.jpg"), "prefix is in it twice"),
        ("/shop" + url("a.jpg"), "Wrong prefix: it has /shop/thumb/"),
        (url("a.jpg").replace("/thumb/", "/img/"), "Wrong prefix: it has /img/"),
        (signed("a.jpg/w_40,h_30").replace("w_40,h_30", "h_30,w_40"), "signed: that was w_40,h_30"),
        (url("a.jpg").removesuffix("jpg") + "webp", "signed for .jpg"),
        (signed("thumb/a.jpg/w_40").replace("/thumb/thumb/", "/thumb/"), "signed as a part"),
        (url("a.jpg").replace("/thumb/", "/thumb/media/"), "without the folder media/"),
        (signed("a.jpg/w_40", key="correct-horse-battery-staple-0001"), "example key"),
        (signed("a.jpg/w_40")[:-6] + ".jpg", "22 characters, this one has 20"),
        (signed("a.jpg/w_40", key=OLD_KEY), "another key"),
        (signed("a.jpg/w_40", key=OLD_KEY) + "?v=1", "another key"),
        ("/thumb/a.jpg", "SOURCE/OPTIONS.SIGNATURE.FORMAT"),
        ("/elsewhere", "SOURCE/OPTIONS.SIGNATURE.FORMAT"),
    ],
)  # fmt: skip
def test_what_happened_to_an_address_is_guessed(changed: str, hint: str) -> None:
    address = reader().read(changed)
    assert address.request is None
    assert address.fault is not None
    assert hint in " ".join(address.hints)


@given(st.text() | st.text(alphabet="/thumb.%2F?#[:@&a,_w\udc80é"))
def test_any_text_is_explained(text: str) -> None:
    for form in (text, f"/thumb/{text}", f"https://{text}", f"/thumb/a.jpg/{text}.webp"):
        address = reader().read(form)
        assert address.fault is not None
        assert address.hints


def test_one_signed_but_not_canonical_is_told_its_canonical_spelling() -> None:
    address = reader().read(signed("a.jpg/h_30,w_40.0"))
    assert address.key == 0
    assert address.fault is not None
    assert "'w_40,h_30'" in address.fault.reason
    assert address.canonical == "/thumb/a.jpg/w_40,h_30.SIGNATURE.jpg"
    assert address.hints == ()


def test_one_that_has_expired_is_explained_as_well() -> None:
    for expires, fault in ((NOW - 1, "Expired"), (NOW + 1, "NoneType")):
        address = reader().read(url("a.jpg", Options(width=40, expires=int(expires))))
        assert address.request is not None
        assert type(address.fault).__name__ == fault


# -- what a request would get ----------------------------------------------------------------

RECORD = SourceRecord(
    version="0" * 64, generation="g", format=Format.JPEG, size=1, width=1, height=1, frames=1,
    has_alpha=False, validators=Validators('"f"'), modified=1, fetched_at=NOW - 100,
    fresh_until=NOW + 1, stale_until=NOW + 10, error_until=NOW + 20, v="1",
)  # fmt: skip
FAILURE = Failure("origin-failed", "It failed.", NOW + 5)
SITUATION = Situation(NOW, RECORD, "disk", False, None, None, True)


def later(seconds: float, **more: Any) -> Situation:
    return SITUATION._replace(now=NOW + seconds, **more)


@pytest.mark.parametrize(
    ("situation", "sentence", "served"),
    [
        (SITUATION, "a hit from disk", True),
        (SITUATION._replace(tier="memcached"), "a hit from memcached", True),
        (SITUATION._replace(tier=""), "made from the source, which is at hand", True),
        (SITUATION._replace(tier="", original=False), "fetched again", True),
        (SITUATION._replace(record=None, tier=""), "fetched from the origin", True),
        (SITUATION._replace(public=True, record=None), "without asking anybody", True),
        (SITUATION._replace(version="2"), "v_2 is new here", True),
        (later(5), "disk has, stale, while the origin is asked", True),
        (later(15), "on condition that it has changed; if that fails, what disk has, stale", True),
        (later(25), "on condition that it has changed", True),
        (SITUATION._replace(fingerprint='"f"', now=NOW + 99), "a hit from disk", True),
        (SITUATION._replace(fingerprint='"g"'), "the file has changed", True),
        (SITUATION._replace(fingerprint=""), "no such file", False),
    ],
)
def test_the_prospect(situation: Situation, sentence: str, served: bool) -> None:
    told = predict(situation)
    assert sentence in told.sentence
    assert told.served is served


def test_failures_that_are_remembered_are_told() -> None:
    failing = FailureRecord(FAILURE, Validators(), 0, NOW)
    told = predict(SITUATION._replace(record=failing, tier=""))
    assert (told.served, "again in 5 s" in told.sentence) == (False, True)
    again = predict(later(6, record=failing, tier=""))
    assert (again.served, again.asks) == (False, True), "as far as is known, it fails"
    assert asked(later(6, record=failing, tier=""), None).served
    record = replace(RECORD, failure=FAILURE, fresh_until=0.0)
    assert "because the origin failed" in predict(SITUATION._replace(record=record)).sentence
    assert not predict(SITUATION._replace(record=replace(record, error_until=0.0))).served


@pytest.mark.parametrize(
    ("situation", "error", "sentence", "served"),
    [
        (SITUATION, OriginFailed(), "a hit from disk", True),
        (later(5), OriginFailed(), "while the origin is asked in the background", True),
        (later(15), OriginFailed(), "what disk has, stale, because the origin fails", True),
        (later(15, tier=""), OriginTimeout(), "one made from the old source, stale", True),
        (later(15, tier="", original=False), OriginFailed(), "502 origin-failed", False),
        (later(25), OriginFailed(), "502 origin-failed", False),
        (later(15, version="2"), OriginFailed(), "502 origin-failed", False),
        (later(15), SourceNotFound(), "404 source-not-found", False),
        (later(15), SourceBlocked(), "451 source-blocked", False),
        (later(15), SourceRefused(), "403 source-refused", False),
        (later(15), OriginBusy(), "what disk has, stale, because the origin fails", True),
        (later(15), BrokenImage(), "what disk has, stale, because the origin fails", True),
        (later(15), None, "on condition that it has changed", True),
    ],
)
def test_what_a_request_would_get_of_an_origin_that_was_just_asked(
    situation: Situation, error: ThumbproxyError | None, sentence: str, served: bool
) -> None:
    told = asked(situation, error)
    assert sentence in told.sentence
    assert told.served is served


# -- beside a real server --------------------------------------------------------------------


def told(address: str, *site: str, **environ: str) -> dict[str, Any]:
    done = thumbproxy("explain", "--json", address, *site,
                      **{"THUMBPROXY_KEYS": KEY, **environ})  # fmt: skip
    assert done.stderr == ""
    facts: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if facts["served"] else 1)
    return facts


def test_what_is_told_is_what_the_server_does(tmp_path: Path) -> None:
    gallery = Gallery(**{"a.jpg": jpeg(100, 80)})
    # Not validated: Werkzeug's server forgets to close when the client hangs up, as for 404.
    with servers.wsgi(gallery, validate=False) as origin:
        site = ["--origin", origin.url, "--cache-dir", str(tmp_path / "cache")]
        with servers.thumbproxy(*site) as server:
            for address in (url("a.jpg"), url("a.jpg", format="auto"),
                            url("a.jpg", Options(width=40, version="1"))):  # fmt: skip
                assert not told(address, *site)["now"].startswith("a hit")
                accept = {"Accept": "image/avif,image/webp,*/*"}
                size = len(server.ask(address, accept).body)
                facts = told(address, *site)
                assert facts["now"].startswith("a hit from disk")
                assert facts["kept"]["disk"]["bytes"] == size
                assert "hit; detail=disk" in server.ask(address, accept)["Cache-Status"]
                file = Path(facts["reply"]["cache_dir"], facts["reply"]["file"])
                assert file.stat().st_size == size
            asked = gallery.asked["/a.jpg"]
            absent = url("absent.jpg")
            assert server.ask(absent).status == 404
            facts = told(absent, *site)
            assert facts["now"].startswith("the failure of before, source-not-found")
            assert gallery.asked["/a.jpg"] == asked, "the origin is asked by --fetch alone"


def test_a_picture_that_anyone_may_be_served_needs_no_record(tmp_path: Path) -> None:
    """After its record is gone, nginx and Python still serve the first choice of a browser."""
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(jpeg(100, 80))
    site = ["--origin", str(photos), "--cache-dir", str(cache)]
    address = url("a.jpg", Options(width=40, version="1"), format="auto")
    accept = {"Accept": "image/avif,image/webp,*/*"}
    with servers.thumbproxy(*site) as server:
        assert server.ask(address, accept).status == 200
        (cache / "private/a.jpg/.source").unlink()
        assert told(address, *site)["now"] == "a hit from disk, without asking anybody"
        assert server.ask(address, accept)["Cache-Status"] == "thumbproxy; hit; detail=disk"


def test_fetch_asks_the_origin_and_keeps_nothing(tmp_path: Path) -> None:
    gallery = Gallery(**{"a.jpg": jpeg(100, 80)})
    cache = tmp_path / "cache"
    # Not validated: Werkzeug's server forgets to close when the client hangs up, as for 404.
    with servers.wsgi(gallery, validate=False) as origin:
        site = ["--origin", origin.url, "--cache-dir", str(cache), "--fetch"]
        fetched = told(url("a.jpg"), *site)["fetched"]
        assert (fetched["width"], fetched["changed"]) == (100, True)
        assert not told(url("absent.jpg"), *site)["served"]
        gallery.pictures["/broken.jpg"] = b"no picture"
        facts = told(url("broken.jpg"), *site)
        assert facts["now"].startswith("415 unsupported-image")
    assert not cache.exists()


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    return {
        str(path): (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        for path in [folder, *folder.rglob("*")]
        if (status := path.lstat())
    }


def test_nothing_on_disk_is_changed(tmp_path: Path) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(jpeg(100, 80))
    site = ["--origin", str(photos), "--cache-dir", str(cache)]
    assert thumbproxy("warm", "a.jpg", "--options", "w_40", *site,
                      THUMBPROXY_KEYS=KEY).returncode == 0  # fmt: skip
    (cache / "tmp" / "stray").write_text("of a process that was killed")
    for entry in cache.rglob("*.auto.*"):  # as if long unused, so that a hit would note its use
        os.utime(entry, ns=(1, entry.stat().st_mtime_ns))
    before = snapshot(cache)
    for address in (url("a.jpg", format="auto"), url("a.jpg"), url("b.jpg")):
        for more in ([], ["--fetch"]):
            told(address, *site, *more)
    assert snapshot(cache) == before


def test_a_folder_s_files_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(100, 80))
    site = ["--origin", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert told(url("a.jpg"), *site)["served"]
    assert told(url("b.jpg"), *site)["now"] == "404: its folder has no such file"


def test_what_memcached_has_is_told(memcached: servers.Server) -> None:
    gallery = Gallery(**{"a.jpg": jpeg(100, 80)})
    with servers.wsgi(gallery) as origin:
        site = ["--origin", origin.url, "--memcached", f"127.0.0.1:{memcached.port}"]
        namespace, nowhere = "explain", ""

        def now() -> dict[str, Any]:
            return told(url("a.jpg"), *site, THUMBPROXY_MEMCACHED_NAMESPACE=namespace,
                        THUMBPROXY_CACHE_DIR=nowhere)  # fmt: skip

        assert now()["kept"] == {}
        with servers.thumbproxy(
            *site, THUMBPROXY_MEMCACHED_NAMESPACE=namespace, THUMBPROXY_CACHE_DIR=nowhere
        ) as server:
            size = len(server.ask(url("a.jpg")).body)
        facts = now()
        assert facts["now"] == "a hit from memcached"
        assert facts["kept"]["memcached"]["bytes"] == size


def test_no_key_is_ever_shown(tmp_path: Path) -> None:
    for address in (url("a.jpg"), signed("a.jpg/w_40", key=OLD_KEY), "/thumb/nonsense"):
        for form in ([], ["--json"]):
            done = thumbproxy("explain", address, *form, "--origin", str(tmp_path), "--cache-dir",
                              str(tmp_path / "cache"), THUMBPROXY_KEYS=KEY)  # fmt: skip
            assert KEY not in done.stdout + done.stderr


def test_a_source_without_an_origin_is_told(tmp_path: Path) -> None:
    settings = Settings(
        keys=(KEY,), cache_dir=str(tmp_path), origins={"media/": OriginSetting(str(tmp_path))}
    )
    facts = explainer(settings).explain(url("other/a.jpg"))
    assert facts["now"] == "404: no origin is mounted for this source"
    facts = explainer(settings).explain(url("media/x/a.jpg"))
    assert facts["origin"]["mounted_at"] == "media/"
    assert facts["origin"]["path"] == "x/a.jpg"


def test_what_this_server_cannot_make_is_told(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "a.jpg")
    settings = Settings(keys=(KEY,), cache_dir=str(tmp_path / "cache"), origin=str(tmp_path))
    facts = explainer(settings).explain(url("a.jpg", Options(watermark="none")))
    assert facts["now"].startswith("400 bad-options")
    assert not facts["served"]


def test_the_lines_are_for_people(tmp_path: Path) -> None:
    settings = Settings(keys=(KEY,), cache_dir=str(tmp_path), origin=str(tmp_path))
    expires = int(time.time()) + 7300
    facts = explainer(settings).explain(
        url("a.jpg", Options(width=40, grayscale=True, expires=expires))
    )
    text = "\n".join(lines(facts, time.time()))
    assert "width of the box, px: 40" in text
    assert "gray" in text
    assert "without colour" in text
    assert "(in 2 h)" in text
    assert "holds, with the newest key" in text
    assert text.endswith("now: 404: its folder has no such file")


def test_what_an_address_holds_does_not_steer_the_terminal(tmp_path: Path) -> None:
    settings = Settings(keys=(KEY,), cache_dir=str(tmp_path), origin=str(tmp_path))
    facts = explainer(settings).explain("/thumb/%1b[2J%07a.jpg/w_40.x.jpg")
    text = "\n".join(lines(facts, time.time()))
    assert "?[2J?a.jpg" in text
    assert text.replace("\n", "").isprintable()
