"""What is promised to those who face strangers: headers, tokens, signatures, secrets."""

from __future__ import annotations

import http.client
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import nginx
import pytest
import servers
from commands import thumbproxy
from faulty import Exchange, FaultyOrigin, Script, replies, sends
from hypothesis import given
from hypothesis import strategies as st
from origin import Gallery, jpeg
from test_responses import all_errors

from thumbproxy import HttpOrigin, Options, Signer, ThumbProxy
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import CdnSetting, OriginSetting
from thumbproxy.core.errors import BadSource, SettingsError, ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.core.media import Rendition
from thumbproxy.http.responses import CachePolicy, Response, error_response, image_response
from thumbproxy.purging.cdn.cloudflare import Cloudflare
from thumbproxy.purging.cdn.fastly import Fastly
from thumbproxy.urls.codec import ImageRequest, UrlCodec, check_source
from thumbproxy.web.reverse_proxy import Upstream

# Every secret has this word in it, so one look finds them all.
WORD = "xyzzy"
KEYS = (f"{WORD}-key-that-is-the-newest", f"{WORD}-key-that-was-before-it")
PURGE_TOKEN, METRICS_TOKEN = f"{WORD}-purge-token-0123", f"{WORD}-metrics-token-0123"
CDN_TOKEN, ORIGIN_TOKEN = f"{WORD}-cdn-token-0123", f"{WORD}-origin-token-0123"
URLS = UrlCodec(Signer(KEYS))
PROTECTION = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
OK = b"HTTP/1.1 200 OK\r\n"


def path_of(source: str, format: str = "jpg", **options: Any) -> str:
    return URLS.build(source, Options(**options), format)


# -- headers ---------------------------------------------------------------------------------------


def sent(response: Response, method: str = "GET") -> tuple[str, list[tuple[str, str]]]:
    """Status line and headers as a server gets them."""
    told: list[Any] = []
    body = response({"REQUEST_METHOD": method}, lambda *head: told.append(head))
    list(body)
    getattr(body, "close", lambda: None)()
    [(status, headers)] = told
    return status, headers


@given(
    source=st.text(min_size=1, max_size=40),
    format=st.sampled_from(Format),
    version=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    path=st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
)
def test_no_name_of_a_source_becomes_a_header(
    source: str, format: Format, version: str | None, path: str
) -> None:
    """Whatever it is called, all headers are printable ASCII: no line ends early."""
    try:
        check_source(source)
    except BadSource:
        return
    request = ImageRequest(source, Options(version=version), "_.S.jpg", format, auto=True)
    rendition = Rendition(
        b"picture", format, 1_700_000_000, "hit; detail=disk", (("fetch", 0.1),), path=path, age=3
    )
    policy = CachePolicy(accel="/_accel", tagged=("Surrogate-Key", "Cache-Tag"))
    for more in ({}, {"HTTP_RANGE": "bytes=1-2"}, {"HTTP_IF_NONE_MATCH": "*"}):
        environ = {"REQUEST_METHOD": "GET", **more}
        for response in (
            image_response(request, rendition, environ, policy),
            image_response(request, rendition, environ, CachePolicy()),
        ):
            status, headers = sent(response)
            assert status[0] in "23"
            for name, value in headers:
                assert (name + value).isascii()
                assert (name + value).isprintable()
            names = [name.lower() for name, _ in headers]
            assert len(names) == len(set(names))


@pytest.mark.parametrize("bad", ["\r\n", "\n", "\r", "\x00", "\x7f", "\x1b", "\u0100", "\ud800"])
@pytest.mark.parametrize("where", [0, 1], ids=["name", "value"])
def test_a_header_that_would_become_two_is_not_sent(bad: str, where: int) -> None:
    header = ["X-Name", "value"]
    header[where] += bad + "Set-Cookie: a=1"
    file = io.BytesIO(b"picture")
    for response in (
        Response(200, [(header[0], header[1])], b"picture"),
        Response(200, [(header[0], header[1])], b"", file, range(7)),
    ):
        status, headers = sent(response)
        assert status == "500 Internal Server Error"
        assert "Set-Cookie" not in str(headers)
        assert PROTECTION.items() <= dict(headers).items()
    assert file.closed


@pytest.mark.parametrize("error", all_errors(ThumbproxyError))
def test_every_error_can_be_sent_and_is_kept_by_nobody(error: type[ThumbproxyError]) -> None:
    status, headers = sent(error_response(error("Bj\u00f6rk\r\nSet-Cookie: a=1"), auto=True))
    assert status.startswith(f"{error.status} ")
    assert {**PROTECTION, "Cache-Control": "no-store"}.items() <= dict(headers).items()
    assert "Set-Cookie" not in str(headers)


@pytest.mark.parametrize("name", ["photo\u202egpj.exe", "a\u2066b\u2069", "a\u2028b", 'q"\\;.jpg'])
def test_names_to_save_under_say_what_they_are(name: str) -> None:
    request = ImageRequest(name.replace("\\", ""), Options(), "_.S.jpg", Format.JPEG, auto=False)
    rendition = Rendition(b"picture", Format.JPEG, 0, "hit; detail=disk")
    response = image_response(request, rendition, {"REQUEST_METHOD": "GET"}, CachePolicy())
    told = dict(response.headers)["Content-Disposition"]
    assert told.startswith("inline; filename=")
    assert told.count('"') == 2
    assert told.endswith((".jpg", '.jpg"'))
    assert not any(quote(mark) in told for mark in "\u202e\u2066\u2069\u2028")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (OK + b"X-Long: one\r\n two\r\n\ttwo\r\n", 200),
        (OK + b"X-Nul: a\x00b\r\n", 502),
        (OK + b"X-Return: a\rSet-Cookie: b\r\n", 502),
        (OK + b"X-Bell: a\x07b\r\n", 502),
        (OK + b"X Space: a\r\n", 502),
        (b"HTTP/1.1 200 O\x00K\r\n", 502),
        (b"HTTP/1.1 200 O\rSet-Cookie: a=1\r\n", 502),
    ],
)
def test_an_upstream_cannot_split_our_replies(head: bytes, status: int) -> None:
    head += b"Content-Type: text/plain\r\n"
    with (
        FaultyOrigin(sends(head + b"Content-Length: 2\r\n\r\nok")) as server,
        servers.wsgi(Upstream(server.url)) as front,
    ):
        reply = front.ask("/page")
    assert reply.status == status
    assert "Set-Cookie" not in reply.headers
    if status == 502:
        assert PROTECTION.items() <= dict(reply.headers).items()
    else:
        assert reply["X-Long"] == "one two two"


@pytest.mark.parametrize(
    ("method", "target"), [("CONNECT", "127.0.0.1:22"), ("OPTIONS", "*"), ("CONNECT", "/")]
)
def test_an_upstream_is_asked_for_paths_only(method: str, target: str) -> None:
    with FaultyOrigin({}) as server:
        environ = {"REQUEST_METHOD": method, "PATH_INFO": target, "RAW_URI": target}
        told: list[str] = []
        list(Upstream(server.url)(environ, lambda status, headers: told.append(status)))
    assert told == ["400 Bad Request"]
    assert server.requests == []


# -- a whole site, with everything that can fail ---------------------------------------------------


class Site(NamedTuple):
    front: servers.Server
    direct: servers.Server
    log: Path
    seen: list[servers.Reply]

    def ask(self, server: servers.Server, path: str, *more: Any) -> servers.Reply:
        reply = server.ask(path, *more)
        self.seen.append(reply)
        return reply


def tells_on(exchange: Exchange) -> object:
    """An API that repeats the secret that it was given."""
    told = exchange.headers.get("fastly-key", "").encode()
    return replies(b"no such token: " + told, status="403 Forbidden")(exchange)


ROUTES: dict[str, Script] = {
    "/cat.jpg": replies(jpeg(), "Cache-Control: max-age=60"),
    "/secret.jpg": replies(jpeg(), "Cache-Control: private"),
    "/broken.jpg": replies(jpeg()[:300]),
    "/cut.jpg": replies(jpeg(), length=10_000),
    "/text.jpg": replies(b"no picture"),
    "/fails.jpg": replies(b"oops", status="500 Internal Server Error"),
    "/away.jpg": replies(b"", "Location: http://169.254.169.254/", status="302 Found"),
    "/user.jpg": replies(
        b"", f"Location: http://me:{WORD}@127.0.0.1/?Signature={WORD}", status="302 Found"
    ),
    "/hangs.jpg": Exchange.hang,
    "/resets.jpg": Exchange.reset,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tmp = tmp_path_factory.mktemp("site")
    (tmp / "nginx").mkdir()
    with FaultyOrigin(ROUTES) as origin, FaultyOrigin(tells_on) as vendor:
        settings = tmp / "thumbproxy.toml"
        settings.write_text(
            f"keys = {json.dumps(KEYS)}\n"
            f'purge_token = "{PURGE_TOKEN}"\nmetrics_token = "{METRICS_TOKEN}"\n'
            f'origin = "{origin.url}"\nfetch_timeout = 0.5\nlog_format = "json"\n'
            f'access_log = true\nmemcached = ["127.0.0.1:{servers.free_port()}"]\n'
            f'[cdn.fastly]\nservice = "S"\ntoken = "{CDN_TOKEN}"\nendpoint = "{vendor.url}"\n'
        )
        log = tmp / "log"
        cache = tmp / "cache"
        arguments = ["--config", str(settings), "--cache-dir", str(cache)]
        with (
            servers.thumbproxy(*arguments, log=log, THUMBPROXY_KEYS=",".join(KEYS)) as direct,
            nginx.running(tmp / "nginx", f"{servers.HOST}:{direct.port}", cache) as (_, port),
        ):
            yield Site(servers.Server(port), direct, log, [])


SOURCES = [*ROUTES, "/missing.jpg"]


@pytest.mark.parametrize("through", ["direct", "front"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_reply_to_a_picture_is_protected(site: Site, source: str, through: str) -> None:
    server: servers.Server = getattr(site, through)
    for options in ({"width": 8}, {"width": 8, "version": "1"}):
        for format in ("jpg", "auto"):
            # The second time nginx serves what it can by itself.
            for _ in range(2):
                reply = site.ask(server, path_of(source[1:], format, **options))
                check_protected(reply)
                assert ("Accept" in reply.headers.get("Vary", "")) == (format == "auto")
                if reply.status == 200:
                    assert reply["Content-Disposition"].startswith("inline; filename=")
                else:
                    assert reply["Cache-Control"] == "no-store"


@pytest.mark.parametrize("through", ["direct", "front"])
@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/thumb/", "GET", 404),
        ("/thumb/cat.jpg/w_8.AAAAAAAAAAAAAAAAAAAAAA.jpg", "GET", 403),
        (path_of("cat.jpg", width=8), "POST", 405),
        (path_of("cat.jpg", width=8, expires=1), "GET", 410),
        (path_of("cat.jpg", watermark="none"), "GET", 400),
        ("/thumb/cat.jpg", "PURGE", 401),
    ],
)
def test_every_refusal_is_protected_and_kept_by_nobody(
    site: Site, path: str, method: str, status: int, through: str
) -> None:
    reply = site.ask(getattr(site, through), path, {}, method)
    assert reply.status == status
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Cache-Control"] == "no-store"


def check_protected(reply: servers.Reply) -> None:
    for name, value in PROTECTION.items():
        assert reply.headers.get_all(name) == [value]


def raw(server: servers.Server, request: bytes) -> servers.Reply:
    connection = http.client.HTTPConnection(servers.HOST, server.port, timeout=20)
    try:
        connection.connect()
        connection.sock.sendall(request)
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        return servers.Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


HIT = path_of("cat.jpg", width=8, version="1").encode()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"GET " + HIT + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
    ids=["NUL", "line", "header", "host", "trace", "body", "body of a hit", "coding"],
)
def test_what_nginx_refuses_itself_is_protected_too(
    site: Site, request_: bytes, status: int
) -> None:
    reply = raw(site.front, request_)
    assert reply.status == status
    check_protected(reply)
    assert reply["Cache-Control"] == "no-store"


def test_so_is_what_nginx_says_when_nobody_is_there(tmp_path: Path) -> None:
    gone = f"{servers.HOST}:{servers.free_port()}"
    with nginx.running(tmp_path, gone, tmp_path) as (_, port):
        for path in (path_of("cat.jpg"), path_of("cat.jpg", "auto"), "/page"):
            reply = servers.Server(port).ask(path)
            assert reply.status == 502
            check_protected(reply)
            assert reply["Cache-Control"] == "no-store"


def test_an_applications_own_pages_stay_as_they_are(tmp_path: Path) -> None:
    own = [("Content-Type", "text/html"), ("Content-Length", "4"), ("X-Frame-Options", "DENY")]

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(environ["PATH_INFO"][1:] + " Whatever", own)
        return [b"page"]

    with (
        servers.wsgi(app, validate=False) as server,
        nginx.running(tmp_path, f"{servers.HOST}:{server.port}", tmp_path) as (_, port),
    ):
        for status in (200, 404, 500, 503):
            reply = servers.Server(port).ask(f"/{status}")
            assert (reply.status, reply.body) == (status, b"page")
            assert reply["X-Frame-Options"] == "DENY"
            for name in (*PROTECTION, "Cache-Control"):
                assert name not in reply.headers


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "through"),
    [("PURGE", "/thumb/cat.jpg", "direct"), ("PURGE", "/thumb/cat.jpg", "front"),
     ("GET", "/metrics", "direct")],
)  # fmt: skip
def test_without_the_right_token_nothing_is_purged_or_told(
    site: Site, method: str, path: str, through: str
) -> None:
    """PURGE has one token, /metrics another."""
    server: servers.Server = getattr(site, through)
    right, other = METRICS_TOKEN, PURGE_TOKEN
    if method == "PURGE":
        right, other = other, right
    for value in (
        b"", b"Bearer", b"Bearer ", right.encode(), b"Basic " + right.encode(),
        b"Bearer " + other.encode(), b"Bearer " + KEYS[0].encode(),
        b"Bearer " + right.encode() + b"x", b"Bearer " + right[:-1].encode(),
        b"Bearer " + right.upper().encode(), b'Bearer "' + right.encode() + b'"',
        b"Bearer " + right.encode() + b"," + right.encode(),
        b"Bearer \xff\xfe\xe9", "Bearer é".encode(), b"Bearer " + b"x" * 7000,
        b"Bearer=" + right.encode(),
        b"Bearer " + right.encode() + b"\r\nAuthorization: Bearer " + right.encode(),
        b"Bearer no\r\nAuthorization: Bearer " + right.encode(),
        b"\r\nX-Authorization: Bearer " + right.encode(),
        b"\r\nAuthorization_: Bearer " + right.encode(),
        b"\r\nProxy-Authorization: Bearer " + right.encode(),
    ):  # fmt: skip
        request = f"{method} {path}?token={right} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        reply = raw(server, request.encode() + b"Authorization: " + value + b"\r\n\r\n")
        assert reply.status in (400, 401), value
        assert WORD.encode() not in reply.body
        if reply.status == 401:
            assert reply["WWW-Authenticate"] == 'Bearer realm="thumbproxy"'
    bearer = {"Authorization": f"Bearer {right}"}
    # The CDN of this site refuses, which is a purge that is not complete.
    assert server.ask(path, bearer, method).status == (503 if method == "PURGE" else 200)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "//metrics", "/metrics?a=b"])
def test_strangers_find_nothing_of_operators_through_nginx(site: Site, path: str) -> None:
    for headers in ({}, {"Authorization": f"Bearer {METRICS_TOKEN}"}):
        assert site.ask(site.front, path, headers).status == 404


# -- signatures ------------------------------------------------------------------------------------


class Guarded(NamedTuple):
    server: servers.Server
    gallery: Gallery
    cache: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    cache = tmp_path_factory.mktemp("cache")
    gallery = Gallery(**{"médias/été à Nice.jpg": jpeg(), "a;b.jpg": jpeg()})
    app = ThumbProxy(gallery, keys=KEYS, cache_dir=str(cache))
    with servers.wsgi(app, validate=False) as server:
        yield Guarded(server, gallery, cache)


SOURCE, SIGNED = "médias/été à Nice.jpg", path_of("médias/été à Nice.jpg", width=8)
_HEAD, _NAME = SIGNED.rsplit("/", 1)


@pytest.mark.parametrize(
    "path",
    [
        SIGNED.replace("%", "%25"),  # encoded twice
        SIGNED.replace("%20", "+"),
        SIGNED.replace("%C3%A9", "e%CC%81"),  # é of two characters (NFD)
        SIGNED.replace("%C3%A9", "%E9"),  # latin-1
        SIGNED.replace("%C3%A9", "%u00e9"),
        SIGNED.replace("dias/", "dias%C0%AF"),  # overlong UTF-8 for a slash
        SIGNED.replace("dias/", "dias%E0%80%AF"),
        SIGNED.replace("dias/", "dias//"),
        SIGNED.replace("dias/", "dias/./"),
        SIGNED.replace("dias/", "dias/../dias/"),
        SIGNED.replace("dias/", "dias/%2e%2e/dias/"),
        SIGNED.replace("dias/", "dias\\"),
        SIGNED.replace("dias/", "dias%5C"),
        SIGNED.replace("/m", "/%ED%A0%80m"),  # a lone surrogate
        SIGNED.replace("/m", "/%00m"),
        SIGNED.replace("/m", "/%EF%BB%BFm"),  # a byte order mark
        SIGNED.replace("/m", "/M"),
        _HEAD + ";a=b/" + _NAME,
        SIGNED + ";a=b",
        SIGNED + "/",
        SIGNED + "%20",
        SIGNED + "%00",
        SIGNED + "%0A",
        SIGNED + "%3Fa=b",
        SIGNED.replace(".jpg/", ".jpg%3Fa=b/"),
        SIGNED.replace("w_8", "w_08"),
        SIGNED.replace("w_8", "w_9"),
        SIGNED.replace("w_8", "W_8"),
        SIGNED.replace("w_8", "w_%EF%BC%98"),  # a full-width digit
        SIGNED.removesuffix("jpg") + "png",
        SIGNED.removesuffix("jpg") + "JPG",
        SIGNED.removesuffix("jpg") + "auto",
        f"{_HEAD}/{_NAME.replace('.', '..', 1)}",
        f"{_HEAD}/{_NAME[:-5]}%3D.jpg",
        f"{_HEAD}/{_NAME[:-6]}.jpg",
        f"{_HEAD}/w_8..jpg",
        SIGNED.replace("/thumb/", "/thumb//"),
        SIGNED.replace("/thumb/", "/thumb/./"),
        "/thumb/" + "a/" * 2300 + _NAME,
        "/thumb/" + "%41" * 1400 + "/" + _NAME,
    ],
    ids=lambda path: path[-40:],
)
def test_whatever_is_changed_is_refused_before_anything_is_done(
    guarded: Guarded, path: str
) -> None:
    assert path != SIGNED
    status = raw(guarded.server, f"GET {path} HTTP/1.0\r\n\r\n".encode()).status
    assert status in (400, 403, 404)
    assert not guarded.gallery.asked
    assert not list(guarded.cache.rglob("*.jpg*"))


def test_however_the_same_text_is_encoded_it_is_the_same_address(guarded: Guarded) -> None:
    """A CDN or a browser that encodes differently cannot break a signature, nor make another."""
    for path in (
        SIGNED,
        SIGNED.replace("%C3", "%c3"),
        SIGNED.replace("_", "%5F"),
        SIGNED.replace("dias/", "dias%2F"),
        "/thumb/" + "".join(f"%{byte:02x}" for byte in f"{SOURCE}/{_NAME}".encode()),
        SIGNED + "?any=query",
    ):
        assert guarded.server.ask(path).status == 200
    assert sum(guarded.gallery.asked.values()) == 1
    assert guarded.server.ask(path_of("a;b.jpg")).status == 200
    guarded.gallery.asked.clear()
    for file in list(guarded.cache.rglob("*.jpg/*.jpg")):
        file.unlink()
    for folder in sorted(guarded.cache.rglob("*.jpg"), reverse=True):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


# -- secrets ---------------------------------------------------------------------------------------


def test_no_object_shows_its_secrets() -> None:
    cdn = CdnSetting("S", CDN_TOKEN)
    settings = Settings(
        keys=KEYS, purge_token=PURGE_TOKEN, metrics_token=METRICS_TOKEN, cdn={"fastly": cdn}
    )
    origin = HttpOrigin("http://origin.example/", headers={"Authorization": ORIGIN_TOKEN})
    for shown in (
        settings, cdn, OriginSetting("/srv"), Signer(KEYS), URLS, origin,
        Fastly("S", CDN_TOKEN), Fastly("S", CDN_TOKEN)._api, Cloudflare("Z", CDN_TOKEN),
        ThumbProxy(Gallery(), origins={"": origin}, keys=KEYS, purge_token=PURGE_TOKEN),
    ):  # fmt: skip
        assert WORD not in repr(shown)
        assert WORD not in str(shown)


@pytest.mark.parametrize(
    "values",
    [
        {"keys": [WORD]},
        {"keys": f"{WORD}-one-text-is-not-a-list"},
        {"keys": [KEYS[0], WORD]},
        {"purge_token": WORD},
        {"purge_token": f"{WORD} with spaces and more"},
        {"metrics_token": f"{WORD}\u00e9 not ASCII and more"},
        {"cdn": {"fastly": {"service": "S", "token": f"{WORD} has spaces"}}},
        {"cdn": {"fastly": WORD}},
        {"cdn": {"fastly": {"service": "S", "token": CDN_TOKEN, "more": WORD}}},
    ],
    ids=str,
)
def test_faults_of_settings_show_no_secrets(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings(**{"keys": KEYS, **values})
    assert WORD not in str(raised.value)
    assert WORD not in repr(raised.value)


def test_a_password_in_the_url_of_an_upstream_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="password") as raised:
        Upstream(f"http://me:{WORD}@127.0.0.1/")
    assert WORD not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["serve"], {"THUMBPROXY_KEYS": WORD}),
        (["serve"], {"THUMBPROXY_KEY": KEYS[0], "THUMBPROXY_PURGE_TOKEN": WORD}),
        (["serve"], {"THUMBPROXY_KEYS": KEYS[0], "THUMBPROXY_CDN": f"[cdn {WORD}"}),
        (["sign", "a.jpg"], {"THUMBPROXY_KEYS": KEYS[0]}),
        (["explain", "--json", path_of("a.jpg")], {"THUMBPROXY_KEYS": ",".join(KEYS)}),
        (["doctor"], {"THUMBPROXY_KEYS": KEYS[0], "THUMBPROXY_PURGE_TOKEN": PURGE_TOKEN}),
        (["purge", "a.jpg"], {"THUMBPROXY_KEYS": KEYS[0], "THUMBPROXY_CDN": "[fastly]\n"
                             f'service="S"\ntoken="{CDN_TOKEN}"\nendpoint="http://127.0.0.1:9"'}),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, list) else "",
)  # fmt: skip
def test_no_command_shows_secrets(
    arguments: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    settings = {"THUMBPROXY_ORIGIN": str(tmp_path), "THUMBPROXY_CACHE_DIR": str(tmp_path / "cache")}
    done = thumbproxy(*arguments, seconds=50, **{**settings, **environ})
    said = done.stdout + done.stderr
    assert said
    assert WORD not in said
    assert "Traceback" not in said


def test_an_origins_headers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultyOrigin(ROUTES) as server:
        origin = HttpOrigin(server.url, headers={"Authorization": f"Bearer {ORIGIN_TOKEN}"})
        app = ThumbProxy(Gallery(), origins={"": origin}, keys=KEYS, fetch_timeout=0.3)
        with servers.wsgi(app) as front:
            seen = [front.ask(path_of(source[1:], width=8)) for source in SOURCES]
    assert server.requests[0].headers["authorization"].endswith(ORIGIN_TOKEN)
    assert {reply.status for reply in seen} >= {200, 404, 415, 422, 502, 504}
    assert ORIGIN_TOKEN not in caplog.text
    assert ORIGIN_TOKEN not in str([(reply.headers.items(), reply.body) for reply in seen])


def test_a_fault_of_ours_shows_nothing_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise RuntimeError(f"the database says {WORD}")

    with servers.wsgi(ThumbProxy(app, keys=KEYS)) as server:
        reply = server.ask(path_of("cat.jpg"))
    assert reply.status in (500, 502)
    assert WORD.encode() not in reply.body
    assert b"Traceback" not in reply.body
    assert not any(key in caplog.text for key in KEYS)


def test_a_server_in_trouble_shows_no_secrets(site: Site) -> None:
    """After all that was done to it above, and more: in its log, as JSON, and in its replies."""
    for source in SOURCES:
        site.ask(site.direct, path_of(source[1:], width=9))
    bearer = {"Authorization": f"Bearer {PURGE_TOKEN}"}
    purged = site.ask(site.direct, "/thumb/cat.jpg", bearer, "PURGE")
    assert b"no such token: ***" in purged.body
    metrics = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert site.ask(site.direct, "/metrics", metrics).status == 200
    for bad in (b"\x00", b"\r\n folded", b"\x07"):
        for name in (b"Authorization: Bearer ", b"X A: "):
            header = name + PURGE_TOKEN.encode() + bad
            site.seen.append(
                raw(site.direct, b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            )
    log = site.log.read_text()
    assert "origin-failed" in log
    assert "Traceback" not in log
    # What a client puts into its own address is its own affair.
    assert WORD not in log.replace(f"?token={PURGE_TOKEN}", "").replace(
        f"?token={METRICS_TOKEN}", ""
    )
    for reply in site.seen:
        assert WORD.encode() not in reply.body
        assert WORD not in str(reply.headers.items())
