"""What an origin is asked for: escaped delimiters and bytes that are not UTF-8, and headers of its
own, through nginx and gunicorn, into the cache, and out of it by a purge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import nginx
import pytest
import servers
from commands import thumbproxy
from echo import Site, serving
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from origin import jpeg

from thumbproxy import HttpOrigin, RemoteOrigin, Thumbnails, ThumbProxy, remote_source
from thumbproxy import __version__ as version
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import BadSource, SettingsError, SourceNotFound
from thumbproxy.core.escapes import normalized_target
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import FetchRequest
from thumbproxy.warm.names import Entry, Names

FIREBASE = "o/images%2Fcat.jpg?alt=media&token=7f%2F3a"
TARGETS = [
    FIREBASE,
    "o/a%3Fb.jpg",
    "o/a%23b.jpg?x",
    "o/100%25.jpg",
    "o/%2541.jpg",
    "caf%E9/%FF%00.jpg",
    "%C3%A9t%C3%A9%2F%E5%AF%8C.jpg",
    "a+b%2Bc.jpg",
    "a;b,c=d:e@f!$&'()*~_-.jpg?/?&%20",
    "a%5Cb%3Bc%2Cd.jpg",
]
THUMBS = Thumbnails([servers.KEY])
TOKEN = "a-token-for-purges-of-tests"
SECRET = "Bearer only-the-origin-may-see-this"
targets = st.lists(
    st.sampled_from("abAZ09-._~!$&'()*+,;=:@/") | st.binary(min_size=1, max_size=1), min_size=1
).map(lambda parts: "x" + "".join(it if isinstance(it, str) else f"%{it[0]:02X}" for it in parts))


class Raw(BaseHTTPRequestHandler):
    """Has a picture everywhere, and writes down what it was asked for, as it came."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers))
        place = server.moved.get(self.path)
        self.send_response(302 if place else 200)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", "0" if place else str(len(server.picture)))
        self.end_headers()
        if not place:
            self.wfile.write(server.picture)

    def log_message(self, format: str, *args: object) -> None:
        pass


class RawServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Raw)
        self.picture = jpeg()
        self.asked: list[tuple[str, Any]] = []
        self.moved: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    server = RawServer()
    with serving(server):
        yield server


def asked_for(origin: Any, path: str) -> None:
    origin.fetch(FetchRequest(path, Validators(), Deadline(20), Limits(), fresh=False, client={}))


# -- one source for each target, one target for each source ------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])) | targets)
@example("%2f%41%zz%")
def test_there_is_one_spelling_and_it_means_the_same(text: str) -> None:
    normal = normalized_target(text)
    assert normalized_target(normal) == normal
    assert unquote_to_bytes(normal) == unquote_to_bytes(text)
    for delimiter in "/?#%&=+":  # an escaped one is not the same as one that is not
        escaped = f"%{ord(delimiter):02X}"
        assert normal.count(escaped) >= text.upper().count(escaped) - text.upper().count("%25")


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_is_what_is_requested(raw: RawServer, target: str) -> None:
    origin = HttpOrigin(f"{raw.url}/v0", encoded=True)
    origin.check(target)
    asked_for(origin, target)
    assert raw.asked[-1][0] == f"/v0/{target}"
    host = f"http/127.0.0.1:{raw.server_port}"
    remote = RemoteOrigin([raw.url], encoded=True, allow_networks=("127.0.0.0/8",))
    source = remote_source(f"{raw.url}/v0/{target}", "", encoded=True)
    assert source == f"{host}/v0/{target}"
    asked_for(remote, source)
    assert raw.asked[-1][0] == f"/v0/{target}"


def test_any_target_is_requested_as_it_stands(raw: RawServer) -> None:
    origin = HttpOrigin(raw.url, encoded=True)

    @hypothesis_settings(max_examples=40)
    @given(targets)
    def each(text: str) -> None:
        target = normalized_target(text)
        try:
            origin.check(target)
            asked_for(origin, target)
        except BadSource:
            climbs = {".", ".."} & {
                *unquote(target, errors="replace").replace("\\", "/").split("/")
            }
            assert climbs
            return
        assert raw.asked[-1][0] == f"/{target}"

    each()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("o/images%2fcat.jpg", "o/images%2Fcat.jpg"),
        ("%41.jpg", "A.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("été.jpg", "%C3%A9t%C3%A9.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("a#b.jpg", "a%23b.jpg"),
        ('a"b.jpg?c=|', "a%22b.jpg?c=%7C"),
    ],
)
def test_another_spelling_is_refused_with_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(BadSource, match="encoded") as refused:
        HttpOrigin("http://origin.example", encoded=True).check(wrong)
    assert repr(right) in refused.value.reason
    HttpOrigin("http://origin.example", encoded=True).check(right)


@pytest.mark.parametrize(
    "climbing", ["a%2F..%2Fb.jpg", "a%2F.%2Fb", "a/b%5C..%5Cc", "%2F..", "a%2F.."]
)
def test_no_source_leads_out_of_the_folder(raw: RawServer, climbing: str) -> None:
    before = len(raw.asked)
    for call in (HttpOrigin(raw.url, encoded=True).check,
                 lambda path: asked_for(HttpOrigin(raw.url, encoded=True), path)):  # fmt: skip
        with pytest.raises(BadSource, match="lead out"):
            call(climbing)
    with pytest.raises(SourceNotFound):
        asked_for(HttpOrigin(raw.url), climbing.replace("%2F", "/").replace("%5C", "\\"))
    assert len(raw.asked) == before


def test_without_the_setting_a_percent_is_a_character_like_others(raw: RawServer) -> None:
    asked_for(HttpOrigin(raw.url), "100%/a%2Fb.jpg?c=%2F")
    assert raw.asked[-1][0] == "/100%25/a%252Fb.jpg?c=%2F"


@pytest.mark.parametrize("path", ["a%2Fb.jpg", "a%3fb.jpg", "caf%E9.jpg"])
def test_a_url_that_only_an_encoded_origin_can_have_is_told_so(path: str) -> None:
    url = f"https://images.example.com/{path}"
    with pytest.raises(BadSource, match="`encoded` can have it"):
        remote_source(url)
    source = remote_source(url, encoded=True)
    assert source == f"remote/https/images.example.com/{normalized_target(path)}"


def test_lists_to_warm_name_such_sources_too() -> None:
    names = Names(
        locations={"https://a.example/v0": "fire/", "https://b.example": "b/"}, encoded={"fire/"}
    )
    assert names.url(f"https://a.example/v0/{FIREBASE}", "x") == Entry(
        f"fire/{FIREBASE}", where="x"
    )
    assert names.url("https://b.example/a%20b?c=%20", "x") == Entry("b/a b?c=%20", where="x")


# -- through everything ------------------------------------------------------------------------


@contextmanager
def site(tmp_path: Path, raw: RawServer, **environ: str) -> Iterator[tuple[Site, list[str], Path]]:
    """nginx before `serve`, whose origin wants a header: the site, arguments, and the log."""
    folder, cache, log = tmp_path / "nginx", tmp_path / "cache", tmp_path / "log"
    folder.mkdir()
    config = tmp_path / "thumbproxy.toml"
    config.write_text(
        f'purge_token = "{TOKEN}"\n'
        f'[origins."fire/"]\nlocation = "{raw.url}/v0/"\nencoded = true\n'
        'headers = { Authorization = { env = "ORIGIN_KEY" }, User-Agent = "shop/1" }\n'
    )
    arguments = ["--config", str(config), "--cache-dir", str(cache)]
    told = {"ORIGIN_KEY": SECRET, **environ}
    with (
        servers.thumbproxy(*arguments, "--workers", "1", log=log, **told) as server,
        nginx.running(folder, f"127.0.0.1:{server.port}", cache) as address,
    ):
        yield Site(address, cache), arguments, log


def test_it_works_through_nginx_into_the_cache_and_out_of_it(
    tmp_path: Path, raw: RawServer
) -> None:
    environ = {"THUMBPROXY_KEYS": servers.KEY, "ORIGIN_KEY": SECRET}
    with site(tmp_path, raw) as (front, arguments, log):
        for number, target in enumerate(["caf%E9.jpg", FIREBASE, "o/a%3Fb%23c%2525.jpg"]):
            source = f"fire/{target}"
            path = THUMBS.url(source, width=20, version="1", format="webp")
            assert "%25" in path
            before = len(raw.asked)
            assert [front.ask(path).status for _ in range(2)] == [200, 200]
            [(asked, headers)] = raw.asked[before:]
            assert asked == f"/v0/{target}"
            assert headers["Authorization"] == SECRET
            assert headers["User-Agent"] == "shop/1"
            assert front.ask(path).headers.get_all("Cache-Status") == ["nginx; hit"]
            kept = tmp_path / "cache" / "public" / source
            assert len(list(kept.iterdir())) == 1
            # By its name, by its address, by its folder.
            purged = ["/thumb/" + quote(source), path, "/thumb/fire/"][number]
            done = front.ask(purged, {"Authorization": f"Bearer {TOKEN}"}, "PURGE")
            assert json.loads(done.body)["files"] == 2  # the picture and its original
            assert not kept.exists() or not list(kept.iterdir())
        told = thumbproxy("explain", "--json", "--fetch", path, *arguments, **environ)
        assert json.loads(told.stdout)["origin"]["path"] == target
        assert SECRET not in told.stdout + told.stderr
        other = front.ask(THUMBS.url("fire/a%2fb.jpg", width=20))
        assert (other.status, b"a%2Fb.jpg" in other.body) == (400, True)
    assert SECRET not in log.read_text()


def test_middleware_has_it_as_well(raw: RawServer) -> None:
    entry = {"location": raw.url, "encoded": True, "headers": {"X-Key": SECRET}}
    origins = Settings(keys=[servers.KEY], origins={"fire/": entry}).origins
    proxy = ThumbProxy(lambda *_: [], keys=[servers.KEY], origins=origins)
    with servers.wsgi(proxy) as server:
        assert server.ask(THUMBS.url(f"fire/{FIREBASE}", width=20)).status == 200
    assert (raw.asked[-1][0], raw.asked[-1][1]["X-Key"]) == (f"/{FIREBASE}", SECRET)


# -- headers -----------------------------------------------------------------------------------


def test_who_asks_is_told_unless_another_name_is_given(raw: RawServer) -> None:
    asked_for(HttpOrigin(raw.url), "a.jpg")
    assert raw.asked[-1][1].get_all("User-Agent") == [f"thumbproxy/{version}"]
    asked_for(HttpOrigin(raw.url, headers={"user-agent": "shop/1", "ACCEPT": "image/*"}), "a.jpg")
    assert raw.asked[-1][1].get_all("User-Agent") == ["shop/1"]
    assert raw.asked[-1][1].get_all("Accept") == ["image/*"]


@pytest.mark.parametrize("kind", ["http", "remote"])
def test_headers_end_where_a_redirect_leaves_the_server(raw: RawServer, kind: str) -> None:
    """For good: whoever is asked next must not send us back with a secret to a place of theirs."""
    other = RawServer()
    with serving(other):
        raw.moved = {"/here": "/there", "/away": f"{other.url}/next"}
        other.moved = {"/next": f"{raw.url}/back"}
        networks = {"allow_networks": ("127.0.0.0/8",)}
        if kind == "http":
            origin: Any = HttpOrigin(
                raw.url, headers={"X-Key": SECRET}, allow_ports=(other.server_port,), **networks
            )
            below = ""
        else:
            origin = RemoteOrigin([raw.url, other.url], headers={"X-Key": SECRET}, **networks)
            below = f"http/127.0.0.1:{raw.server_port}/"
        asked_for(origin, f"{below}here")
        assert [headers["X-Key"] for _, headers in raw.asked[-2:]] == [SECRET] * 2
        asked_for(origin, f"{below}away")
    raw.moved = {}
    assert [headers["X-Key"] for _, headers in raw.asked[-2:]] == [SECRET, None]
    assert raw.asked[-1][0] == "/back"
    assert [headers["X-Key"] for _, headers in other.asked] == [None]


@pytest.mark.parametrize(
    "name",
    ["Host", "range", "If-None-Match", "ACCEPT-ENCODING", "Connection", "Transfer-Encoding",
     "CDN-Loop", "Content-Length"],
)  # fmt: skip
def test_headers_that_are_ours_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="set by thumbproxy itself"):
        Settings(
            keys=[servers.KEY], origins={"a/": {"location": "http://a", "headers": {name: "x"}}}
        )
    with pytest.raises(ValueError, match="set by thumbproxy itself"):
        HttpOrigin("http://a", headers={name: "x"})


def test_all_faults_are_told_at_once_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {
        "Bad Name": SECRET, "X-A": f"{SECRET}\n", "X-B": 5, "Host": SECRET, "x-c": "1", "X-C": "2",
        "X-D": {"env": "THUMBPROXY_X"}, "X-E": {"env": "A B"}, "X-F": {"environ": SECRET},
    }  # fmt: skip
    with pytest.raises(SettingsError) as refused:
        Settings(keys=[servers.KEY], origins={
            "a/": {"location": "http://a", "headers": headers},
            "b/": {"location": "/srv", "encoded": True, "headers": {"X": SECRET}},
            "c/": {"hosts": ["nonsense/"], "headers": [SECRET]},
        })  # fmt: skip
    told = "\n".join(refused.value.faults)
    for name in (*headers, "b/", "nonsense/", "the headers of 'c/'"):
        assert f"{name}" in told
    assert "only-the-origin" not in told
    monkeypatch.delenv("NOT_THERE", raising=False)
    monkeypatch.setenv("BROKEN", f"{SECRET}\n")
    settings = Settings(keys=[servers.KEY], origins={"a/": {
        "location": "http://a",
        "headers": {"X-A": {"env": "NOT_THERE"}, "X-B": {"env": "BROKEN"}, "X-D": SECRET},
    }})  # fmt: skip
    with pytest.raises(SettingsError) as missing:
        ThumbProxy(lambda *_: [], keys=[servers.KEY], origins=settings.origins)
    assert [name in str(missing.value) for name in ("NOT_THERE", "'X-B'")] == [True, True]
    for shown in (str(missing.value), repr(settings), repr(settings.origins["a/"])):
        assert "only-the-origin" not in shown
