"""An application that answers by Host: what one client says of it is nothing to another."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import echo
import pytest
import servers
from nginx import running
from origin import is_close, jpeg, opened
from test_freshness_service import RED, TEAL, THUMBS, Clock, clock
from test_herd import until

from thumbproxy import ThumbProxy, WsgiOrigin
from thumbproxy.http.responses import Response
from thumbproxy.web.admin_endpoints import not_found

__all__ = ["clock"]
PICTURES = {"a.example": jpeg(color="teal"), "b.example": jpeg(color="red")}
Answer = Callable[[dict[str, Any]], tuple[str, list[tuple[str, str]], bytes]]


class Site:
    """An application; `answer` is what it says to hosts that are not its own."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.hosts = dict.fromkeys(["a.example", "www.a.example"], PICTURES["a.example"])
        self.headers = [("Cache-Control", "max-age=600")]
        self.answer: Answer = lambda environ: ("400 Bad Request", [], b"")
        self.before: Callable[[dict[str, Any]], object] = lambda environ: None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        host = environ.get("HTTP_X_FORWARDED_HOST", environ["HTTP_HOST"])
        self.asked[host] += 1
        self.before(environ)
        odd = environ.get("HTTP_X_FORWARDED_PROTO", "https") != "https"
        if host not in self.hosts or odd or "HTTP_X_FORWARDED_PORT" in environ:
            status, headers, body = self.answer(environ)
        else:
            status, headers, body = "200 OK", self.headers, self.hosts[host]
        start_response(status, headers)
        return [body]


@pytest.fixture
def site() -> Site:
    return Site()


Make = Callable[..., ThumbProxy]


@pytest.fixture
def make(site: Site, clock: Clock, tmp_path: Path, memcached: servers.Server) -> Make:
    def make(machine: str = "machine", *, over: Any = None, **settings: Any) -> ThumbProxy:
        app = ThumbProxy(
            not_found,
            keys=[servers.KEY],
            origins={"": over or site},
            cache_dir=str(tmp_path / machine) if machine else "",
            memcached=[f"127.0.0.1:{memcached.port}"],
            memcached_namespace=str(tmp_path),
            **{"fetch_timeout": 1, **settings},
        )
        app._thumbnailer._records._clock = clock
        return app

    return make


def get(
    app: ThumbProxy, host: str = "a.example", *, told: dict[str, str] | None = None, **options: Any
) -> Response:
    path = unquote(THUMBS.url("a.jpg", **{"width": 30, "format": "jpg", **options}))
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "here", "SERVER_PORT": "80",
        "HTTP_HOST": host, "wsgi.url_scheme": "http", **(told or {}),
    }  # fmt: skip
    reply = app.respond(environ)
    assert reply is not None
    return reply


def shows(reply: Response, color: tuple[int, int, int] = TEAL) -> bool:
    assert reply.status == 200, reply.body
    return is_close(opened(reply.body), color)


def redirect(environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    return "302 Found", [("Location", "https://elsewhere.example/")], b""


def crash(environ: dict[str, Any]) -> Any:
    raise RuntimeError("no such tenant")


ANSWERS: dict[str, tuple[Answer, int]] = {
    "400": (lambda environ: ("400 Bad Request", [], b""), 502),
    "404": (lambda environ: ("404 Not Found", [], b""), 404),
    "410": (lambda environ: ("410 Gone", [], b""), 404),
    "500": (lambda environ: ("500 Internal Server Error", [], b""), 502),
    "a page": (lambda environ: ("200 OK", [], b"<html>who are you?"), 415),
    "half a picture": (lambda environ: ("200 OK", [], PICTURES["b.example"][:200]), 422),
    "too large": (lambda environ: ("200 OK", [("Content-Length", "1" * 12)], b""), 413),
    "elsewhere": (redirect, 502),
    "crash": (crash, 502),
}
SPOILT: dict[str, dict[str, Any]] = {
    "Host": {"host": "evil.example"},
    "no Host": {"host": ""},
    "X-Forwarded-Host": {"told": {"HTTP_X_FORWARDED_HOST": "evil.example"}},
    "X-Forwarded-Proto": {"told": {"HTTP_X_FORWARDED_PROTO": "gopher"}},
    "X-Forwarded-Port": {"told": {"HTTP_X_FORWARDED_PORT": "99999"}},
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("version", [None, "1"])
def test_a_failure_belongs_to_the_host_that_asked(
    make: Make, site: Site, kind: str, version: str | None
) -> None:
    """Before the picture is known and after, on all tiers; and it is remembered for whom it is."""
    site.answer, status = ANSWERS[kind]
    app, neighbour, other = make(), make(), make("another machine")
    for _ in range(3):
        assert get(app, "evil.example", version=version).status == status
    assert site.asked["evil.example"] == 1
    for one in (app, neighbour, other):
        assert shows(get(one, version=version))
        assert get(one, "evil.example", version=version).status == status
        assert shows(get(one, version=version, width=20))
    # Half a picture is a picture until it is made: of two that differ, one is kept at a time.
    assert site.asked["a.example"] == 1 or kind == "half a picture"


@pytest.mark.parametrize("how", SPOILT)
def test_whatever_a_client_says_of_the_host_is_its_own_affair(
    make: Make, site: Site, how: str
) -> None:
    app = make()
    assert get(app, **SPOILT[how]).status == 502
    assert shows(get(app))
    assert get(app, **SPOILT[how]).status == 502
    hit = dict(get(app).headers)
    assert hit["Cache-Status"] == "thumbproxy; hit; detail=disk"
    assert site.asked["a.example"] <= 2


def test_news_in_the_background_are_those_of_the_host_that_asked(
    make: Make, site: Site, clock: Clock
) -> None:
    site.headers = [("Cache-Control", "max-age=60, stale-while-revalidate=600")]
    app = make()
    assert shows(get(app))
    clock.forward(61)
    assert get(app, "evil.example").status == 502
    assert "ttl=-" in dict(get(app).headers)["Cache-Status"]
    until(lambda: dict(get(app).headers)["Age"] == "0")
    assert shows(get(app))
    assert site.asked == {"a.example": 2, "evil.example": 1}


def test_a_failing_application_is_not_the_fault_of_a_host(
    make: Make, site: Site, clock: Clock
) -> None:
    site.headers = [("Cache-Control", "max-age=60, stale-while-revalidate=0, stale-if-error=600")]
    app = make()
    get(app)
    clock.forward(61)
    assert get(app, "evil.example").status == 502
    site.hosts.clear()
    stale = get(app)
    assert shows(stale)
    assert "fwd=stale; detail=origin-failed" in dict(stale.headers)["Cache-Status"]


def test_what_is_gone_for_those_who_had_it_is_gone(
    make: Make, site: Site, clock: Clock, tmp_path: Path
) -> None:
    app = make()
    get(app)
    clock.forward(601 + 86_400)
    site.hosts.clear()
    site.answer = ANSWERS["404"][0]
    assert get(app).status == 404
    assert [path for path in tmp_path.rglob("*.jpg") if path.is_file()] == []


@pytest.mark.parametrize("options", [{}, {"version": "1"}, {"format": "auto"}], ids=str)
def test_hosts_with_pictures_of_their_own_get_these(
    make: Make, site: Site, options: dict[str, Any]
) -> None:
    """From each process and machine, in turn, and at the same time."""
    site.hosts = PICTURES
    apps = [make(), make(), make("another machine")]
    for app in apps * 2:
        assert shows(get(app, "a.example", **options), TEAL)
        assert shows(get(app, "b.example", **options), RED)
        assert shows(get(app, "b.example", **options), RED)
    colors = {"a.example": TEAL, "b.example": RED}
    with ThreadPoolExecutor(12) as pool:
        asked = [(apps[n % 3], ["a.example", "b.example"][n // 3 % 2]) for n in range(48)]
        replies = list(pool.map(lambda one: get(*one, **options), asked))
    for (_, host), reply in zip(asked, replies, strict=True):
        assert shows(reply, colors[host])


def test_an_answer_to_another_that_comes_first_is_not_taken(make: Make, site: Site) -> None:
    """Not even one that was asked for later, which among clients of one host would count."""
    site.hosts = PICTURES
    asked, go = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any]) -> None:
        if environ["HTTP_HOST"] == "a.example":
            asked.set()
            assert go.wait(10)

    site.before = slow
    app = make(fetch_timeout=20)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get, app, "a.example")
        assert asked.wait(10)
        app._thumbnailer._records._clock.forward(1)  # type: ignore[attr-defined]
        assert shows(get(app, "b.example"), RED)
        go.set()
        assert shows(first.result(), TEAL)
    assert shows(get(app, "b.example"), RED)


def test_names_of_one_site_share_its_pictures(make: Make, site: Site, clock: Clock) -> None:
    """Each name is asked about once in a lifetime, and no picture is made twice."""
    app = make()
    first = get(app)
    for host in ("www.a.example", "a.example") * 3:
        reply = get(app, host)
        assert reply.body == first.body
        assert "fwd=uri-miss" not in dict(reply.headers)["Cache-Status"]
    assert site.asked == {"a.example": 1, "www.a.example": 1}
    clock.forward(590)
    assert dict(get(app, "www.a.example").headers)["Age"] == "590", "no fresher for being asked"
    clock.forward(11 + 86_400)
    for host in ("www.a.example", "a.example") * 3:
        assert get(app, host).body == first.body
    assert site.asked == {"a.example": 2, "www.a.example": 2}


def test_many_hosts_leave_nothing_behind(
    make: Make, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbproxy.scheduling.coalescing._LONGEST_MEMORY", 50)
    app = make()
    get(app)
    kept = sorted(path for path in tmp_path.rglob("*"))
    for number in range(100):
        assert get(app, f"{number}.example").status == 502
    assert sorted(path for path in tmp_path.rglob("*")) == kept
    assert len(app._thumbnailer._sources._unkept.value._failures) <= 50
    names = [f"{number}.b.example" for number in range(30)]
    site.hosts |= dict.fromkeys(names, site.hosts["a.example"])
    for name in names:
        assert shows(get(app, name))
    record = app._thumbnailer._records._caches[0].record("a.jpg")
    assert len(record.askers) <= 8  # type: ignore[union-attr]
    assert sorted(path for path in tmp_path.rglob("*")) == kept


@pytest.mark.parametrize("how", SPOILT)
def test_a_host_that_is_named_is_the_one_that_is_asked(make: Make, site: Site, how: str) -> None:
    app = make(over=WsgiOrigin(site, host="https://a.example"))
    assert shows(get(app, **SPOILT[how]))
    assert shows(get(app))
    assert site.asked == {"a.example": 1}


@pytest.mark.parametrize("host", ["", "ftp://a.example", "https://"])
def test_a_host_that_is_none_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        WsgiOrigin(not_found, host=host)


def test_nginx_keeps_copies_for_each_host(tmp_path: Path) -> None:
    folder, gallery = tmp_path / "nginx", echo.Gallery()
    folder.mkdir()
    path = THUMBS.url("a.jpg", width=30, format="jpg")
    with (
        echo.serving(gallery) as upstream,
        running(folder, upstream, tmp_path / "cache") as address,
    ):
        front = echo.Site(address, tmp_path / "cache")
        for body, host in ((b"of a", "a.example"), (b"of b", "b.example")):
            gallery.picture = echo.Picture(body)
            assert front.ask(path, {"Host": host}).body == body
        for body, host in ((b"of a", "a.example"), (b"of b", "b.example")):
            assert front.ask(path, {"Host": host}).body == body
    assert len(gallery.asked) == 2
