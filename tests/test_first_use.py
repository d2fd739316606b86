"""What somebody meets who uses it for the first time: faults that name what is wrong, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nginx
import pytest
import servers
from commands import thumbproxy
from origin import Gallery, jpeg
from test_metrics import TOKEN as METRICS_TOKEN
from test_metrics import scrape

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.assembly.build import standalone
from thumbproxy.caches.disk.size import FOLDER
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import OriginFailed, SettingsError
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import FetchRequest
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.warm.journal import Journal, NotAJournal
from thumbproxy.web.admin_endpoints import MetricsPage, not_found

KEY = servers.KEY
TOKEN = "a-token-that-only-the-tests-use"
THUMBS = Thumbnails([KEY])


def faults(make: Callable[[], object]) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        make()
    return refused.value.faults


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []


# -- settings --------------------------------------------------------------------------------


def test_an_unknown_setting_is_told_with_all_other_faults(tmp_path: Path) -> None:
    for more, part in (
        ({"threads": 0}, "threads: 0 is not allowed"),
        ({"origins": {"a/": str(tmp_path / "absent")}}, "origins: 'a/': there is no folder"),
    ):
        found = faults(partial(ThumbProxy, app, keys=[KEY], cachedir="/x", **more))
        assert [fault.partition(":")[0] for fault in found] == ["cachedir", part.partition(":")[0]]
        assert part in found[1]


def test_every_wrong_entry_of_a_setting_is_told_by_its_name() -> None:
    found = faults(
        lambda: Settings(
            keys=("short", "sh", KEY),
            presets={"a b": "w_1", "card": "w_x", "good": "w_1"},
            origins={"a/": {"folder": "/"}, "b/": 5},  # type: ignore[dict-item]
            cdn={"fastly": {"service": "S"}, "akamai": {}},  # type: ignore[dict-item]
        )
    )
    assert len(found) == 4
    text = "\n".join(found)
    for part in (
        "a key of 5 bytes is too short; a key of 2 bytes is too short",
        "presets: 'a b' cannot be a name, which is 1 to 64 letters, digits, _ or -; of 'card', "
        "w: 'x' is not allowed; it takes a whole number from 1 to 65535.",
        "origins: 'a/' has 'folder', which is none of location, immutable, hosts, "
        "encoded, headers; the entry 'b/'",
        "cdn: fastly has no token; 'akamai' is none of fastly",
    ):
        assert part in text
    assert "good" not in text


def test_a_preset_that_no_server_would_make_is_a_fault_at_the_start(tmp_path: Path) -> None:
    presets = {"big": "w_5000", "marked": "wm_logo"}
    found = faults(lambda: Settings(keys=(KEY,), presets=presets))
    assert found == [
        "presets: of 'big', width (w) is 5000; at most 4096 pixels are allowed.",
        "presets: of 'marked', there is no watermark 'logo'.",
    ]
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'keys = ["{KEY}"]\nmax_output_side = "x"\n[presets]\nbig = "w_5000"\n')
    (fault,) = faults(lambda: Settings.load(file))
    assert "max_output_side" in fault, "what it is measured by is not known"


def test_keys_that_are_given_empty_are_none() -> None:
    (fault,) = faults(lambda: Settings.load(None, {"THUMBPROXY_KEYS": ""}))
    assert "none given" in fault


@pytest.mark.parametrize("place", ["ftp://x/", "file:///srv", "s3://bucket/a"])
def test_an_origin_of_another_kind_is_told_what_it_can_be(place: str, tmp_path: Path) -> None:
    file = tmp_path / "thumbproxy.toml"
    file.write_text(f'keys = ["{KEY}"]\norigin = "{place}"\n[origins]\n"a/" = "{place}"\n')
    found = faults(lambda: standalone(Settings.load(file)))
    assert [fault.partition(f"{place!r}")[0] for fault in found] == ["origins: 'a/': ", "origin: "]
    assert all("a folder or an http or https URL" in fault for fault in found)


# -- purging ---------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """With a rendition of a.jpg, photos/sub/b.jpg and photos/sub/c.jpg."""
    for name in ("a.jpg", "photos/sub/b.jpg", "photos/sub/c.jpg"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).write_bytes(jpeg())
    site = ["--origin", str(tmp_path / "media"), "--cache-dir", str(tmp_path / "cache")]
    names = ["a.jpg", "photos/sub/b.jpg", "photos/sub/c.jpg"]
    done = thumbproxy("warm", *names, "--format", "jpg", *site, THUMBPROXY_KEYS=KEY)
    assert done.returncode == 0, done.stderr
    return tmp_path / "cache"


def purge(cache: Path, *arguments: str) -> Any:
    return thumbproxy("purge", *arguments, "--cache-dir", str(cache), THUMBPROXY_KEYS=KEY)


def test_the_command_names_the_directory_and_makes_none(cache: Path, tmp_path: Path) -> None:
    assert "'a.jpg': removed 1 file of" in purge(cache, "a.jpg").stdout
    assert f"from {cache}\n" in purge(cache, "a.jpg").stdout
    absent, other = tmp_path / "absent", tmp_path / "other"
    other.mkdir()
    for place in (absent, other):
        done = purge(place, "--all")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"there is no cache in '{place}'" in done.stderr
    assert not absent.exists()
    assert list(other.iterdir()) == []


def test_the_command_takes_several_names_and_addresses(cache: Path) -> None:
    address = THUMBS.url("photos/sub/c.jpg", width=9, format="jpg")
    names = ["a.jpg", "/thumb/photos/sub/b.jpg", f"https://cdn.example{address}?query"]
    told = [json.loads(line) for line in purge(cache, *names, "--json").stdout.splitlines()]
    assert [(result["scope"], result["files"]) for result in told] == [
        ("a.jpg", 1), ("photos/sub/b.jpg", 1), ("photos/sub/c.jpg", 1)
    ]  # fmt: skip
    for wrong, part in (("/other/a.jpg", "not below /thumb"), ("/thumb/", "that is --all"),
                        ("a//b", "empty")):  # fmt: skip
        done = purge(cache, "a.jpg", wrong)
        assert (done.returncode, done.stdout) == (2, ""), "nothing was begun"
        assert part in done.stderr


def test_a_folder_without_its_slash_is_hinted_at(cache: Path) -> None:
    for _ in range(2):
        done = purge(cache, "photos/sub")
        assert done.returncode == 0
        assert "'photos/sub/' purges what is in it" in done.stderr
    assert purge(cache, "photos/sub/b.jpg").stderr == ""
    assert "removed 1 file" in purge(cache, "photos/sub/").stdout


def test_a_405_says_what_to_set_and_names_purge_where_it_is(tmp_path: Path) -> None:
    def site(token: str) -> Any:
        proxy = ThumbProxy(app, keys=[KEY], cache_dir=str(tmp_path), purge_token=token)
        return servers.wsgi(proxy, validate=False)

    with site("") as server:
        reply = server.ask("/thumb/a.jpg", method="PURGE")
        assert reply.body == b"method-not-allowed: PURGE needs the setting purge_token.\n"
        assert reply["Allow"] == "GET, HEAD"
        assert b"purge_token" not in server.ask("/thumb/a.jpg", method="POST").body
    with site(TOKEN) as server:
        reply = server.ask("/thumb/a.jpg", method="POST")
        assert (reply.status, reply["Allow"]) == (405, "GET, HEAD, PURGE")
        reply = server.ask("/thumb/a.jpg", method="PURGE")
        assert (reply.status, reply.body.partition(b":")[0]) == (401, b"unauthorized")
    with servers.wsgi(MetricsPage(not_found, TOKEN)) as server:
        assert server.ask("/metrics").body.startswith(b"unauthorized: ")


def test_a_purge_of_everything_is_logged_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "thumbproxy"):
        ThumbProxy(app, keys=[KEY], cache_dir=str(tmp_path)).purge("")
    assert "purged everything: 0 files" in caplog.text


# -- the rest --------------------------------------------------------------------------------


def test_the_size_of_the_cache_is_shown_from_the_first_picture_on(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    arguments = ["--origin", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    size = ("thumbproxy_cache_bytes", ())
    with servers.thumbproxy(*arguments, THUMBPROXY_METRICS_TOKEN=METRICS_TOKEN) as server:
        assert server.ask(THUMBS.url("a.jpg", width=9, format="jpg")).status == 200
        first = scrape(server)[size]
        assert first >= FOLDER.bytes
    with servers.thumbproxy(*arguments, THUMBPROXY_METRICS_TOKEN=METRICS_TOKEN) as server:
        assert scrape(server)[size] == first, "and at the start, once it is known"


def test_what_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    for text in (b"a.jpg\nb.jpg", b"\x89PNG\r\n\x1a\n\x00", b"a\tb\tc\td\n"):
        file.write_bytes(text)
        with pytest.raises(NotAJournal, match=r"list.txt is no journal"):
            Journal(str(file))
        assert file.read_bytes() == text
    for text in (b"", b"d", b"failed\ta.j"):
        file.write_bytes(text)
        Journal(str(file)).close()


def test_a_refused_connection_is_a_short_line(tmp_path: Path) -> None:
    port = servers.free_port()
    origin = HttpOrigin(f"http://127.0.0.1:{port}/")
    wanted = FetchRequest(path="a.jpg", validators=Validators(), limits=Limits(), fresh=False,
                          client={}, deadline=Deadline(5))  # fmt: skip
    with pytest.raises(OriginFailed) as failed:
        origin.fetch(wanted)
    expected = f"http://127.0.0.1:{port}/a.jpg: connection refused by 127.0.0.1:{port}"
    assert failed.value.log == expected


def test_explain_tells_the_old_picture_that_a_request_would_get(tmp_path: Path) -> None:
    gallery = Gallery(**{"a.jpg": jpeg(100, 80)})
    gallery.headers = [("Cache-Control", "max-age=0")]
    known, other = (THUMBS.url("a.jpg", width=width, format="jpg") for width in (40, 50))
    cache = ["--cache-dir", str(tmp_path / "cache")]
    with servers.wsgi(gallery, validate=False) as origin:
        site = ["--origin", origin.url, *cache]
        with servers.thumbproxy(*site, THUMBPROXY_STALE_WHILE_REVALIDATE="0") as server:
            assert server.ask(known).status == 200
    for address, part in ((known, "what disk has, stale"), (other, "from the old source, stale")):
        done = thumbproxy("explain", address, "--fetch", *site, THUMBPROXY_KEYS=KEY,
                          THUMBPROXY_STALE_WHILE_REVALIDATE="0")  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert part in done.stdout
        assert "connection refused by" in done.stdout
        assert "  content " in done.stdout


def test_the_page_of_nginx_itself_is_kept_by_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    nobody = f"127.0.0.1:{servers.free_port()}"
    with nginx.running(folder, nobody, tmp_path / "cache") as (_, port):
        reply = servers.Server(port).ask(THUMBS.url("a.jpg", width=9, format="jpg"))
    assert (reply.status, reply["Cache-Control"]) == (502, "no-store")


# -- keys ------------------------------------------------------------------------------------


def test_keys_come_from_the_environment_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THUMBPROXY_KEYS", f" {KEY}, an-older-key-of-the-tests ")
    (tmp_path / "a.jpg").write_bytes(jpeg())
    proxy = ThumbProxy(app, cache_dir=str(tmp_path / "cache"), origins={"": str(tmp_path)})
    older = Thumbnails(["an-older-key-of-the-tests"])
    with servers.wsgi(proxy) as server:
        for thumbs in (THUMBS, Thumbnails(), Thumbnails(keys=[]), older):
            assert server.ask(thumbs.url("a.jpg", width=9, format="jpg")).status == 200
    given = Thumbnails(["a-key-that-was-given-in-code"]).url("a.jpg")
    assert given != Thumbnails().url("a.jpg") == THUMBS.url("a.jpg")


def test_without_any_keys_it_is_told_where_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THUMBPROXY_KEYS", raising=False)
    for make in (Thumbnails, partial(ThumbProxy, app)):
        with pytest.raises(ValueError, match=r"none given.* put it into THUMBPROXY_KEYS"):
            make()
    monkeypatch.setenv("THUMBPROXY_KEYS", "short")
    for make in (Thumbnails, partial(ThumbProxy, app)):
        with pytest.raises(ValueError, match=r"16 bytes"):
            make()
