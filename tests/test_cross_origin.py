"""Pages of other origins: what CORS and Cross-Origin-Resource-Policy say of each reply, with every
status and kind, from Python and from nginx alike; and what preflights are answered."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import nginx
import pytest
import servers
from echo import Site
from origin import jpeg
from servers import Server

from thumbproxy import Signer, Thumbnails, ThumbProxy
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import SettingsError

SHOP, OTHER = "https://shop.example.com", "http://other.example:8000"
THUMBS = Thumbnails([servers.KEY])
ORIGINS = [None, SHOP, OTHER, "https://evil.example", "null"]
NAMES = (
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Cross-Origin-Resource-Policy",
    "Timing-Allow-Origin",
    "Vary",
)
FITS = {
    "none": {},
    "all": {"default  off;": 'default "*";'},
    "listed": {
        "default  off;": f'default other; "{SHOP}" "{SHOP}"; "{OTHER}" "{OTHER}";',
        "default  cross-origin;": "default same-site;",
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "all": {"cors_origins": "*"},
    "listed": {"cors_origins": [SHOP, OTHER], "cross_origin_resource_policy": "same-site"},
}


def app(environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
    """A site of its own: one picture that it keeps from caches, and a page."""
    if environ["PATH_INFO"] == "/private.jpg":
        start_response("200 OK", [("Content-Type", "image/jpeg"), ("Cache-Control", "private")])
        return [jpeg()]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Allow", "whatever")])
    return [environ["REQUEST_METHOD"].encode()]


class Sites(NamedTuple):
    python: Server
    front: Site


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sites]]:
    photos = tmp_path_factory.mktemp("photos")
    (photos / "cat.jpg").write_bytes(jpeg())
    (photos / "text.jpg").write_text("no picture")
    with ExitStack() as stack:
        made = {}
        for name, settings in SETTINGS.items():
            folder, cache = (tmp_path_factory.mktemp(kind) for kind in ("nginx", "cache"))
            proxy = ThumbProxy(
                app, keys=[servers.KEY], cache_dir=str(cache),
                origins={"photos/": str(photos), "": app}, **settings,
            )  # fmt: skip
            python = stack.enter_context(servers.wsgi(proxy))
            upstream = f"127.0.0.1:{python.port}"
            address = stack.enter_context(nginx.running(folder, upstream, cache, FITS[name]))
            made[name] = Sites(python, Site(address, cache))
        yield made


def signed(text: str) -> str:
    stem, _, format = text.rpartition(".")
    return f"/thumb/{stem}.{Signer([servers.KEY]).sign(text)}.{format}"


CAT = "photos/cat.jpg"
PINNED = THUMBS.url(CAT, width=20, version="1", format="webp")
# What is asked for, and its status: every kind of reply that there is.
REPLIES: dict[str, tuple[int, str, str, dict[str, str]]] = {
    "pinned": (200, "GET", PINNED, {}),
    "head": (200, "HEAD", PINNED, {}),
    "kept": (200, "GET", THUMBS.url(CAT, width=20, format="webp"), {}),
    "auto": (200, "GET", THUMBS.url(CAT, width=20), {}),
    "pinned auto": (200, "GET", THUMBS.url(CAT, width=20, version="1"), {}),
    "json": (200, "GET", THUMBS.url(CAT, format="json"), {}),
    "pinned json": (200, "GET", THUMBS.url(CAT, format="json", version="1"), {}),
    "part": (206, "GET", PINNED, {"Range": "bytes=0-3"}),
    "not modified": (304, "GET", PINNED, {"If-None-Match": "*"}),
    "kept, not modified": (304, "GET", THUMBS.url(CAT, width=20), {"If-None-Match": "*"}),
    "bad options": (400, "GET", signed(f"{CAT}/w_0.webp"), {}),
    "bad signature": (403, "GET", PINNED.replace(".webp", ".jpg"), {}),
    "no such source": (404, "GET", THUMBS.url("photos/dog.jpg", width=20), {}),
    "no thumbnail": (404, "GET", "/thumb/anything", {}),
    "no method": (405, "POST", PINNED, {}),
    "expired": (410, "GET", signed(f"{CAT}/e_1.webp"), {}),
    "another one": (412, "GET", PINNED, {"If-Match": '"x"'}),
    "no picture": (415, "GET", THUMBS.url("photos/text.jpg", width=20), {}),
    "out of range": (416, "GET", PINNED, {"Range": "bytes=9999999-"}),
    "loop": (508, "GET", THUMBS.url(CAT, width=21), {"CDN-Loop": "thumbproxy"}),
}


def told(headers: http.client.HTTPMessage) -> dict[str, str | None]:
    assert all(len(headers.get_all(name) or []) <= 1 for name in NAMES)
    return {name: headers[name] for name in NAMES}


def expected(site: str, origin: str | None, *, auto: bool) -> dict[str, str | None]:
    granted = {"none": None, "all": "*", "listed": origin if origin in (SHOP, OTHER) else None}
    vary = ["Accept"] * auto + ["Origin"] * (site == "listed")
    return {
        "Access-Control-Allow-Origin": granted[site],
        "Timing-Allow-Origin": granted[site],
        "Cross-Origin-Resource-Policy": "same-site" if site == "listed" else "cross-origin",
        "Vary": ", ".join(vary) or None,
    }


@pytest.mark.parametrize("site", SETTINGS)
@pytest.mark.parametrize("kind", REPLIES)
def test_every_reply_says_so_whoever_answers(sites: dict[str, Sites], kind: str, site: str) -> None:
    """nginx's own hits and copies too; a copy that one origin had made is not for that one."""
    status, method, path, more = REPLIES[kind]
    for origin in ORIGINS:
        headers = {**more, "Accept": "image/webp", **({"Origin": origin} if origin else {})}
        python = sites[site].python.ask(path, headers, method)
        front = sites[site].front.ask(path, headers, method)
        assert (python.status, front.status) == (status, status)
        said = told(python.headers)
        assert told(front.headers) == said, (site, origin)
        exposed = (said.pop("Access-Control-Expose-Headers") or "").split(", ")
        assert said == expected(site, origin, auto=path.endswith(".auto")), (site, origin)
        assert ("ETag" in exposed) == (site != "none")


def test_nginx_had_copies_and_files(sites: dict[str, Sites]) -> None:
    """Or what is above would show nothing of nginx's own answers."""
    for path in (REPLIES["kept"][2], PINNED):
        last = [sites["listed"].front.ask(path, {"Origin": SHOP}) for _ in range(2)][-1]
        assert "nginx; hit" in (last.headers.get_all("Cache-Status") or [])
        assert last.headers["Access-Control-Allow-Origin"] == SHOP


def test_what_its_origin_keeps_from_others_is_not_offered_to_all(sites: dict[str, Sites]) -> None:
    path = THUMBS.url("private.jpg", width=20, format="webp")
    for site, policy in (("none", None), ("all", None), ("listed", "same-site")):
        for server in sites[site]:
            reply = server.ask(path)
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Cross-Origin-Resource-Policy"] == policy


def test_what_nginx_says_by_itself_can_be_read(tmp_path: Path) -> None:
    """Nobody is behind it."""
    port = servers.free_port()
    with nginx.running(tmp_path, f"127.0.0.1:{port}", tmp_path / "c", FITS["listed"]) as address:
        reply = Site(address, tmp_path).ask(PINNED, {"Origin": SHOP})
    assert reply.status == 502
    assert reply.headers["Access-Control-Allow-Origin"] == SHOP
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-site"


PREFLIGHT = {
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "range,if-none-match",
}


@pytest.mark.parametrize("server", ["python", "front"])
@pytest.mark.parametrize("path", [PINNED, THUMBS.url(CAT), "/thumb/anything/at/all"])
def test_a_preflight_is_answered(sites: dict[str, Sites], server: str, path: str) -> None:
    for site, origin, granted in (
        ("all", "https://evil.example", "*"),
        ("listed", SHOP, SHOP),
        ("listed", "https://evil.example", None),
    ):
        reply = getattr(sites[site], server).ask(path, {**PREFLIGHT, "Origin": origin}, "OPTIONS")
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["Access-Control-Allow-Origin"] == granted
        assert reply.headers["Vary"] == ("Origin" if site == "listed" else None)
        assert reply.headers["Allow"] == "GET, HEAD, OPTIONS"
        if granted:
            assert reply.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
            allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
            assert {"range", "if-none-match"} <= set(allowed)
            assert reply.headers["Access-Control-Max-Age"] == "86400"


def test_options_is_refused_where_no_other_origin_may_read(sites: dict[str, Sites]) -> None:
    reply = sites["none"].python.ask(PINNED, {**PREFLIGHT, "Origin": SHOP}, "OPTIONS")
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("site", SETTINGS)
def test_the_application_speaks_for_itself(sites: dict[str, Sites], site: str) -> None:
    for server in sites[site]:
        for method in ("GET", "OPTIONS"):
            reply = server.ask("/page", {**PREFLIGHT, "Origin": SHOP}, method)
            assert (reply.status, reply.body.decode()) == (200, method)
            assert set(told(reply.headers).values()) == {None}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("*", ("*",)),
        (["*"], ("*",)),
        ([], ()),
        ([SHOP, SHOP], (SHOP,)),
        (["HTTPS://Shop.Example.com:443"], (SHOP,)),
        (["http://a:80", "http://a:443", "https://a:8443"], ("http://a", "http://a:443",
                                                             "https://a:8443")),
        (["https://müller.example"], ("https://xn--mller-kva.example",)),
        (["http://[::1]:3000"], ("http://[::1]:3000",)),
        (["capacitor://localhost"], ("capacitor://localhost",)),
    ],
)  # fmt: skip
def test_origins_are_brought_to_the_spelling_of_browsers(given: Any, taken: tuple[str]) -> None:
    assert Settings(keys=[servers.KEY], cors_origins=given).cors_origins == taken


@pytest.mark.parametrize(
    "wrong",
    [
        "null", "shop.example.com", "https://shop.example.com/", "https://a/b", "https://a?b",
        "https://u@a", "//a", "https://", "https://*.example.com", "https://a:0", "https://a:99999",
        "https://a b", "https://a\n", 1,
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(wrong: Any) -> None:
    with pytest.raises(SettingsError, match="cors_origins: "):
        Settings(keys=[servers.KEY], cors_origins=[SHOP, wrong])


def test_all_faults_of_the_list_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"'null'.*; 'nonsense'"):
        Settings(keys=[servers.KEY], cors_origins=["null", SHOP, "nonsense"])
    with pytest.raises(SettingsError, match="leave out the others"):
        Settings(keys=[servers.KEY], cors_origins=["*", SHOP])
    with pytest.raises(SettingsError, match="cross_origin_resource_policy"):
        Settings(keys=[servers.KEY], cross_origin_resource_policy="everybody")


def test_a_variable_has_them_as_text() -> None:
    environ = {"THUMBPROXY_KEYS": servers.KEY, "THUMBPROXY_CORS_ORIGINS": f"{SHOP}, {OTHER}"}
    assert Settings.load(environ=environ).cors_origins == (SHOP, OTHER)
    with pytest.raises(SettingsError, match="no origin"):
        Settings.load(environ={**environ, "THUMBPROXY_CORS_ORIGINS": "nonsense"})
