"""How long a picture is believed, what is served when its origin fails, and what is remembered."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import servers
from faulty import Exchange, FaultyOrigin, Script, replies, sends
from origin import is_close, jpeg, opened
from pictures import encoded, landscape
from test_herd import Herd, Slow, Work, serving, until, work
from werkzeug.http import http_date

from thumbproxy import Folder, Thumbnails, ThumbProxy
from thumbproxy.http.responses import Response
from thumbproxy.scheduling.coalescing import Background
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.web.admin_endpoints import not_found

THUMBS = Thumbnails([servers.KEY])
TEAL, RED = (0, 128, 128), (255, 0, 0)
OLD, NEW = jpeg(color="teal"), jpeg(color="red")
WHOLE = encoded(landscape(600, 400), "JPEG")
DAY = 86_400
# Served stale only if the origin fails.
ON_ERROR = "max-age=60, stale-while-revalidate=0, stale-if-error=600"


class Clock:
    """A clock that only a test moves on. It begins in the past, so that it never gets ahead."""

    def __init__(self) -> None:
        self.now = time.time() - 1000 * DAY

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class Moody:
    """An HTTP origin with one picture, and whatever mood a test puts it in."""

    def __init__(self) -> None:
        self.mood: Script = serves(OLD)
        self._server = FaultyOrigin(self._answer)

    def __enter__(self) -> Moody:
        self._server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.__exit__(*error)

    def _answer(self, exchange: Exchange) -> None:
        # Never kept alive: a kept connection that is reset may be asked on once more.
        self.mood(exchange)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def asked(self) -> int:
        return len(self._server.requests)

    @property
    def last(self) -> Exchange:
        return self._server.requests[-1]


def serves(body: bytes, *headers: str, etag: str = "") -> Script:
    """A picture with its ETag, or 304."""
    etag = etag or f'"{sha256(body).hexdigest()[:16]}"'

    def script(exchange: Exchange) -> object:
        if exchange.headers.get("if-none-match") == etag:
            return replies(b"", f"ETag: {etag}", *headers, status="304 Not Modified")(exchange)
        return replies(body, f"ETag: {etag}", *headers)(exchange)

    return script


def controls(directives: str, body: bytes = OLD) -> Script:
    return serves(body, f"Cache-Control: {directives}")


FAILURES: dict[str, tuple[Script, str]] = {
    "down": (Exchange.reset, "origin-failed"),
    "500": (replies(b"oops", status="500 Internal Server Error"), "origin-failed"),
    "503": (replies(b"", "Retry-After: 60", status="503 Service Unavailable"), "origin-failed"),
    "400": (replies(b"", status="400 Bad Request"), "origin-failed"),
    "408": (replies(b"", status="408 Request Timeout"), "origin-busy"),
    "429": (replies(b"", "Retry-After: 2", status="429 Too Many Requests"), "origin-busy"),
    "hangs": (Exchange.hang, "origin-timeout"),
    "drips": (lambda exchange: exchange.drip(b"HTTP/1.1 200 OK\r\n" * 9, 0.03), "origin-timeout"),
    "error page": (replies(b"<html>sorry</html>", "Content-Type: image/jpeg"), "unsupported-image"),
    "empty": (replies(b""), "unsupported-image"),
    "cut short": (replies(NEW[:-100], length=len(NEW)), "origin-failed"),
    "too large": (replies(NEW, length=10**9), "source-too-large"),
    "cut without a word": (
        sends(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + WHOLE[: len(WHOLE) * 2 // 3]),
        "broken-image",
    ),
    "half a chunk": (
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n\xff\xd8"),
        "origin-failed",
    ),
    "nonsense": (sends(b"\x16\x03\x01 nonsense\r\n\r\n"), "origin-failed"),
    "two lengths": (
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        "origin-failed",
    ),
    "304 to nothing": (replies(b"", status="304 Not Modified"), "origin-failed"),
}
STATUS = {"origin-failed": 502, "origin-busy": 503, "origin-timeout": 504, "unsupported-image": 415,
          "source-too-large": 413, "broken-image": 422}  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def origin() -> Iterator[Moody]:
    with Moody() as origin:
        yield origin


Make = Callable[..., ThumbProxy]


@pytest.fixture
def make(origin: Moody, clock: Clock, tmp_path: Path, memcached: servers.Server) -> Make:
    """Makes what one process of a host is, with its own view of the clock."""

    def make(
        host: str = "host", *, shared: bool = False, over: Any = None, **settings: float
    ) -> ThumbProxy:
        app = ThumbProxy(
            not_found,
            keys=[servers.KEY],
            origins={"": over or origin.url},
            cache_dir=str(tmp_path / host) if host else "",
            memcached=[f"127.0.0.1:{memcached.port}"] if shared else [],
            memcached_namespace=str(tmp_path),
            fetch_timeout=0.25,
            request_timeout=3,
            **settings,
        )
        thumbnailer = app._thumbnailer
        thumbnailer._records._clock = clock
        return app

    return make


def get(app: ThumbProxy, source: str = "a.jpg", **options: Any) -> Response:
    options = {"width": 30, "format": "jpg", **options}
    path = unquote(THUMBS.url(source, **options))
    reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path})
    assert reply is not None
    return reply


def status(reply: Response) -> str:
    return dict(reply.headers)["Cache-Status"].removeprefix("thumbproxy; ")


def shows(reply: Response | servers.Reply, color: tuple[int, int, int]) -> bool:
    assert reply.status == 200, reply.body
    return is_close(opened(reply.body), color)


def token(reply: Response | servers.Reply) -> str:
    return reply.body.decode().partition(":")[0]


# -- lifetimes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["Cache-Control: max-age=60"], 60),
        (["Cache-Control: max-age=10, s-maxage=60"], 60),
        (["Cache-Control: max-age=100", "Age: 40"], 60),
        ([f"Expires: {http_date(time.time() + 900)}", f"Date: {http_date(time.time() + 840)}"], 60),
        (["Cache-Control: max-age=10", "CDN-Cache-Control: max-age=60"], 60),
        ([], 3600),
        (["Cache-Control: public"], 3600),
    ],
)
def test_a_source_is_asked_about_when_its_lifetime_is_over(
    make: Make, origin: Moody, clock: Clock, headers: list[str], seconds: int
) -> None:
    origin.mood = serves(OLD, *headers)
    app = make(stale_while_revalidate=0)
    get(app)
    clock.forward(seconds - 1)
    origin.mood = serves(NEW, *headers)
    assert shows(get(app), TEAL)
    assert origin.asked == 1
    clock.forward(2)
    assert shows(get(app), RED)
    assert "if-none-match" in origin.last.headers
    assert origin.asked == 2


def test_304_makes_it_fresh_for_another_lifetime(make: Make, origin: Moody, clock: Clock) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=0")
    app = make()
    get(app)
    for number in range(3):
        clock.forward(61)
        assert status(get(app)) == "fwd=stale; fwd-status=304; detail=disk"
        clock.forward(58)
        assert status(get(app)) == "hit; detail=disk"
        assert origin.asked == 2 + number


def test_a_new_version_leaves_nothing_of_the_old_one_anywhere(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=0")
    app = make(shared=True)
    for options in ({}, {"width": 20}, {"version": "1"}, {"format": "webp"}):
        assert shows(get(app, **options), TEAL)
    clock.forward(61)
    origin.mood = controls("max-age=60", NEW)
    assert shows(get(app), RED)
    pictures = [path for path in tmp_path.rglob("*.jpg") if path.is_file()]
    assert len(pictures) == 1, "the one that was just made"
    assert len([path for path in (tmp_path / "host" / "sources").rglob("*") if path.is_file()]) == 1
    other = make("another host", shared=True)
    assert status(get(other)) == "hit; detail=memcached"
    for app in (other, make(shared=True)):
        for options in ({}, {"width": 20}, {"version": "1"}, {"format": "webp"}):
            assert shows(get(app, **options), RED)
    assert origin.asked == 4, "but for the first, the host's own copy of the source"


# -- stale while it is asked for -----------------------------------------------------------


def test_a_stale_picture_is_served_at_once_while_it_is_asked_for(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=30")
    app = make()
    get(app)
    clock.forward(80)
    go, news = threading.Event(), controls("max-age=60", NEW)

    def slow(exchange: Exchange) -> object:
        go.wait(10)
        return news(exchange)

    origin.mood = slow
    for _ in range(5):
        reply = get(app)
        assert status(reply) == "hit; ttl=-20; detail=disk"
        assert dict(reply.headers)["Age"] == "80"
        assert shows(reply, TEAL)
    go.set()
    until(lambda: shows(get(app), RED))
    assert origin.asked == 2
    assert "if-none-match" in origin.last.headers


def test_news_that_come_at_once_do_not_take_the_stale_picture_away(
    make: Make, origin: Moody, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(_: Background, key: object, work: Callable[[], None]) -> bool:
        work()
        return True

    monkeypatch.setattr(Background, "do", at_once)
    origin.mood = controls("max-age=60, stale-while-revalidate=30")
    app = make()
    get(app)
    clock.forward(80)
    origin.mood = controls("max-age=60", NEW)
    reply = get(app)
    assert status(reply) == "hit; ttl=-20; detail=disk"
    assert shows(reply, TEAL)
    assert shows(get(app), RED)
    assert origin.asked == 2


def test_past_its_window_a_stale_picture_waits_for_news(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=30")
    app = make()
    get(app)
    clock.forward(91)
    origin.mood = controls("max-age=60", NEW)
    assert shows(get(app), RED)


def test_the_news_of_another_host_are_taken_over(make: Make, origin: Moody, clock: Clock) -> None:
    """A host whose disk has a stale picture needs no question of its own."""
    origin.mood = controls("max-age=60, stale-while-revalidate=600")
    one, two = make("one", shared=True), make("two", shared=True)
    get(one)
    get(two)
    clock.forward(61)
    origin.mood = controls("max-age=600", NEW)
    get(one)
    until(lambda: shows(get(one), RED))
    asked = origin.asked
    assert "ttl=-" in status(get(two))
    until(lambda: shows(get(two), RED))
    assert origin.asked <= asked + 1, "for the bytes, if it made the picture itself"


@pytest.mark.parametrize(
    "directive", ["must-revalidate", "no-cache", "s-maxage=60", "proxy-revalidate"]
)
def test_where_the_origin_forbids_it_nothing_stale_is_served(
    make: Make, origin: Moody, clock: Clock, directive: str
) -> None:
    windows = f"max-age=60, {directive}, stale-while-revalidate=600, stale-if-error=600"
    origin.mood = controls(windows)
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = FAILURES["500"][0]
    assert get(app).status == 502
    clock.forward(6)
    origin.mood = controls(windows, NEW)
    assert shows(get(app), RED)


# -- stale if the origin fails -------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FAILURES.keys() - {"304 to nothing"}))
def test_while_its_origin_fails_the_old_picture_is_served(
    make: Make, origin: Moody, clock: Clock, name: str
) -> None:
    failure, detail = FAILURES[name]
    origin.mood = controls(ON_ERROR)
    app, neighbour = make(), make()
    get(app)
    clock.forward(61)
    origin.mood = failure
    first = get(app)
    assert (status(first), shows(first, TEAL)) == (f"fwd=stale; detail={detail}", True)
    for again in (get(app), get(neighbour), get(neighbour, width=20)):
        assert shows(again, TEAL)
    assert status(get(neighbour)) == f"hit; ttl=-1; detail={detail}"
    assert origin.asked == 2, "it is not asked again for five seconds, by anybody"
    clock.forward(5.1)
    assert shows(get(neighbour), TEAL)
    assert origin.asked == 3
    clock.forward(600)
    gone = get(app)
    assert (gone.status, token(gone)) == (STATUS[detail], detail)
    get(app)
    assert origin.asked == 4
    clock.forward(5.1)
    origin.mood = controls(ON_ERROR, NEW)
    assert shows(get(app), RED)


def test_a_refresh_that_fails_is_no_reason_to_show_it_for_longer(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=600, stale-if-error=0")
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = FAILURES["500"][0]
    assert shows(get(app), TEAL)
    until(lambda: get(app).status == 502)
    clock.forward(6)
    assert get(app).status == 502, "and not stale again each time that the failure is forgotten"
    assert origin.asked == 3


def pictures(folder: Path) -> list[Path]:
    """All that is kept of them: renditions, and the bytes of sources."""
    renditions = [path for path in folder.rglob("*.jpg") if path.is_file()]
    return [*renditions, *(path for path in folder.rglob("sources/*/*") if path.is_file())]


# What its origin does not give any more, and what clients are told.
WITHDRAWN = {
    "404 Not Found": (404, "source-not-found"),
    "410 Gone": (404, "source-not-found"),
    "451 Unavailable For Legal Reasons": (451, "source-blocked"),
    "401 Unauthorized": (403, "source-refused"),
    "403 Forbidden": (403, "source-refused"),
}


@pytest.mark.parametrize("said", WITHDRAWN)
def test_a_picture_that_is_withdrawn_is_gone_at_once_and_everywhere(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path, said: str
) -> None:
    """In all sizes, for nginx too (public/), and on hosts that share what they know."""
    origin.mood = controls(ON_ERROR)
    app, neighbour = make(shared=True), make("another host", shared=True)
    for options in ({}, {"width": 20}, {"version": "1"}):
        get(app, **options)
        get(neighbour, **options)
    clock.forward(61)
    origin.mood = replies(b"gone", status=said)
    for one in (app, make(shared=True), neighbour, make("a third", shared=True)):
        for options in ({}, {"width": 20}, {"width": 21}, {"version": "1"}, {"version": "2"}):
            reply = get(one, **options)
            assert (reply.status, token(reply)) == WITHDRAWN[said]
            assert ("Cache-Control", "no-store") in reply.headers
    assert pictures(tmp_path) == []
    clock.forward(6)
    origin.mood = controls(ON_ERROR, NEW)
    for one in (app, neighbour):
        assert shows(get(one), RED), "and it comes back when its origin gives it again"


@pytest.mark.parametrize("said", ["404 Not Found", "403 Forbidden", "451 No"])
def test_a_question_in_the_background_that_finds_it_withdrawn_ends_it(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path, said: str
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=600, stale-if-error=600")
    app = make()
    get(app)
    get(app, version="1")
    clock.forward(61)
    origin.mood = replies(b"gone", status=said)
    assert shows(get(app), TEAL), "this one was answered before anybody knew"
    until(lambda: get(app).status == WITHDRAWN.get(said, (451,))[0])
    assert pictures(tmp_path) == []


@pytest.mark.parametrize("said", ["404 Not Found", "403 Forbidden", "451 No"])
def test_what_is_found_withdrawn_while_it_is_fresh_is_not_served_on(
    make: Make, origin: Moody, tmp_path: Path, said: str
) -> None:
    """By a new `v_`, or for want of the source's bytes."""
    for asks in ({"version": "2"}, {"width": 20}):
        origin.mood = controls("max-age=600")
        app = make(f"host {asks}")
        get(app)
        get(app, version="1")
        for path in (tmp_path / f"host {asks}").rglob("sources/*/*"):
            path.unlink()
        origin.mood = replies(b"gone", status=said)
        for options in (asks, {}):
            assert get(app, **options).status == WITHDRAWN.get(said, (451,))[0]
        assert pictures(tmp_path / f"host {asks}") == []


def test_a_withdrawn_picture_whose_record_was_lost_is_gone_from_public_as_well(
    make: Make, origin: Moody, tmp_path: Path
) -> None:
    app = make()
    get(app, version="1")
    (tmp_path / "host" / "private" / "a.jpg" / ".source").write_bytes(bytes(400))
    origin.mood = replies(b"", status="451 No")
    assert get(app).status == 451
    assert list((tmp_path / "host").rglob("public/**/*.jpg/*.jpg")) == []


def test_a_host_that_has_not_heard_of_it_does_not_bring_it_back(
    make: Make, origin: Moody, clock: Clock
) -> None:
    """Its record is still fresh, and would be shared again when memcached has forgotten."""
    origin.mood = controls("max-age=600")
    app, neighbour = make(shared=True), make("another host", shared=True)
    get(app)
    get(neighbour)
    origin.mood = replies(b"", status="451 No")
    assert get(app, version="2").status == 451
    assert get(neighbour, width=20).status == 451
    assert get(neighbour).status == 451


@pytest.mark.parametrize("said", ["408 Request Timeout", "425 Too Early", "429 Too Many Requests"])
def test_an_origin_that_asks_for_patience_gets_it(
    make: Make, origin: Moody, clock: Clock, said: str
) -> None:
    """What is there is served meanwhile, within stale_if_error; else clients learn how long."""
    origin.mood = controls(ON_ERROR)
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = replies(b"", "Retry-After: 100", status=said)
    assert status(get(app)) == "fwd=stale; detail=origin-busy"
    cold = get(app, "another.jpg")
    assert (cold.status, token(cold)) == (503, "origin-busy")
    assert ("Retry-After", "100") in cold.headers
    clock.forward(99)
    assert shows(get(app), TEAL)
    assert shows(get(app, width=20), TEAL)
    assert get(app, "another.jpg").status == 503
    assert origin.asked == 3
    clock.forward(2)
    origin.mood = controls(ON_ERROR, NEW)
    assert shows(get(app), RED)
    assert shows(get(app, "another.jpg"), RED)


def test_a_new_v_is_never_the_old_picture_while_the_origin_is_down(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=600, stale-if-error=600")
    app = make()
    assert shows(get(app, version="1"), TEAL)
    origin.mood = FAILURES["down"][0]
    for seconds in (0, 0, 0.1, 61, 0, 0.1, 600):
        clock.forward(seconds)
        for one in (app, make()):
            for options in ({}, {"width": 20}, {"expires": 10**10}):
                assert get(one, version="2", **options).status == 502
    assert origin.asked == 1 + 3, "once every five seconds"
    assert shows(get(app, version="1"), TEAL)
    clock.forward(6)
    origin.mood = controls("max-age=60", NEW)
    for options in ({}, {"width": 20}, {"expires": 10**10}):
        assert shows(get(app, version="2", **options), RED)


def test_two_versions_of_an_address_share_what_is_known_of_a_failing_origin(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = FAILURES["500"][0]
    app = make()
    for version in ("1", "2", "1", None, "2"):
        assert get(app, version=version).status == 502
    assert origin.asked == 1


# -- what has failed -----------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", [*sorted(FAILURES.keys() - {"cut without a word"}), "404"])
def test_a_failure_is_remembered_for_seconds_by_everybody(
    make: Make, origin: Moody, clock: Clock, name: str, *, shared: bool
) -> None:
    if name == "404":
        failure, code = replies(b"no", status="404 Not Found"), 404
    else:
        failure, code = FAILURES[name][0], STATUS[FAILURES[name][1]]
    origin.mood = failure
    hosts = [make(shared=shared), make(shared=shared)]
    if shared:
        hosts.append(make("another host", shared=True))
    answers = {get(app, width=width).body for app in hosts for width in (30, 20)}
    assert len(answers) == 1
    assert get(hosts[-1]).status == code
    assert dict(get(hosts[-1]).headers)["Cache-Control"] == "no-store"
    assert origin.asked == 1
    clock.forward(4.9)
    assert get(hosts[-1]).status == code
    assert origin.asked == 1
    clock.forward(0.2)
    origin.mood = serves(NEW)
    for app in hosts:
        assert shows(get(app), RED)
    assert origin.asked == 2


def test_an_origin_that_fails_after_a_404_is_spared_too(
    make: Make, origin: Moody, clock: Clock
) -> None:
    app = make(shared=True)
    origin.mood = replies(b"", status="404 Not Found")
    assert get(app).status == 404
    clock.forward(6)
    origin.mood = FAILURES["500"][0]
    for version in (None, "1", None, "2"):
        assert get(app, version=version).status == 502
    assert origin.asked == 2
    clock.forward(6)
    origin.mood = serves(NEW)
    assert shows(get(app), RED)


def test_a_background_question_that_fails_is_counted_as_that(
    make: Make, origin: Moody, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[str] = []
    monkeypatch.setattr(Metrics, "refreshed", lambda self, outcome: outcomes.append(outcome))
    origin.mood = controls("max-age=60, stale-while-revalidate=600, stale-if-error=600")
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = FAILURES["500"][0]
    assert shows(get(app), TEAL)
    until(lambda: bool(outcomes))
    assert outcomes == ["failed"]


def test_at_the_very_end_of_its_lifetime_it_is_stale(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls(ON_ERROR)
    app = make()
    get(app)
    clock.forward(60)
    origin.mood = FAILURES["500"][0]
    assert status(get(app)) == "fwd=stale; detail=origin-failed"
    assert status(get(app)) == "hit; ttl=-1; detail=origin-failed"


def test_what_may_not_be_kept_any_more_is_remembered_as_gone(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path
) -> None:
    """Else the janitor takes it, and a late answer from before brings the picture back."""
    origin.mood = controls("max-age=60, stale-while-revalidate=0")
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = controls("private", NEW)
    assert shows(get(app), RED)
    (record,) = tmp_path.rglob(".source")
    assert record.stat().st_mtime == pytest.approx(clock.now, abs=1)


def test_the_times_for_what_is_not_there_and_what_failed_are_settings(
    make: Make, origin: Moody, clock: Clock
) -> None:
    app = make(not_found_ttl=20, failure_ttl=1)
    origin.mood = replies(b"", status="404 Not Found")
    get(app)
    clock.forward(19)
    get(app)
    assert origin.asked == 1
    origin.mood = FAILURES["500"][0]
    clock.forward(2)
    assert get(app).status == 502
    clock.forward(1.1)
    get(app)
    assert origin.asked == 3


def test_without_any_cache_a_failing_origin_is_spared_too(make: Make, origin: Moody) -> None:
    origin.mood = FAILURES["500"][0]
    app = make("")
    for width in range(10, 20):
        assert get(app, width=width).status == 502
    assert origin.asked == 1


def test_what_is_missing_in_a_folder_is_there_when_it_appears(make: Make, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    apps = [make(over=Folder(photos)), make(over=Folder(photos))]
    assert [get(app).status for app in apps] == [404, 404]
    (photos / "a.jpg").write_bytes(b"half an upload")
    assert [get(app).status for app in apps] == [415, 415]
    (photos / "a.jpg").write_bytes(OLD)
    assert all(shows(get(app), TEAL) for app in apps)
    (photos / "a.jpg").unlink()
    assert [get(app).status for app in apps] == [404, 404]
    (photos / "a.jpg").write_bytes(NEW)
    assert all(shows(get(app), RED) for app in apps)


# -- origins that lie ----------------------------------------------------------------------


def test_another_picture_under_the_same_etag_is_another_picture(
    make: Make, origin: Moody, clock: Clock
) -> None:
    """An origin that does not know its own 304: what it sends counts."""
    app = make(stale_while_revalidate=0)
    origin.mood = replies(OLD, 'ETag: "same"', "Cache-Control: max-age=60")
    first = get(app)
    origin.mood = replies(NEW, 'ETag: "same"', "Cache-Control: max-age=60")
    clock.forward(61)
    second = get(app)
    assert shows(second, RED)
    assert dict(first.headers)["ETag"] != dict(second.headers)["ETag"]


def test_304_with_another_etag_is_about_the_copy_that_was_asked_for(
    make: Make, origin: Moody, clock: Clock
) -> None:
    app = make(stale_while_revalidate=0)
    origin.mood = replies(OLD, 'ETag: "one"', "Cache-Control: max-age=60")
    get(app)
    origin.mood = replies(b"", 'ETag: "two"', "Cache-Control: max-age=60", status="304 -")
    clock.forward(61)
    assert shows(get(app), TEAL)
    clock.forward(61)
    assert shows(get(app), TEAL)
    assert origin.last.headers["if-none-match"] == '"one"'


def test_weak_etags_are_asked_with_as_they_are(make: Make, origin: Moody, clock: Clock) -> None:
    app = make(stale_while_revalidate=0)
    origin.mood = serves(OLD, "Cache-Control: max-age=60", etag='W/"weak"')
    get(app)
    clock.forward(61)
    assert status(get(app)) == "fwd=stale; fwd-status=304; detail=disk"
    assert origin.last.headers["if-none-match"] == 'W/"weak"'


def test_a_date_in_the_future_is_not_passed_on(make: Make, origin: Moody, clock: Clock) -> None:
    app = make(stale_while_revalidate=0)
    future = f"Last-Modified: {http_date(time.time() + 10 * 365 * DAY)}"
    origin.mood = replies(OLD, future, "Cache-Control: max-age=60")
    first = get(app)
    origin.mood = replies(NEW, future, "Cache-Control: max-age=60")
    clock.forward(61)
    second = get(app)
    assert shows(second, RED)
    assert dict(second.headers)["ETag"] != dict(first.headers)["ETag"]
    for reply in (first, second):
        modified = dict(reply.headers)["Last-Modified"]
        assert modified <= http_date(clock.now) or modified[-8:] == "GMT"
        assert http_date(clock.now)[7:16] == modified[7:16]


def test_what_came_cut_off_is_asked_for_again_and_whole(
    make: Make, origin: Moody, clock: Clock
) -> None:
    """Even if the origin then says that nothing has changed."""
    etag, cut = '"the-same"', WHOLE[: len(WHOLE) * 2 // 3]
    origin.mood = sends(
        f"HTTP/1.1 200 OK\r\nETag: {etag}\r\nCache-Control: max-age=600\r\n\r\n".encode() + cut
    )
    app = make()
    assert [get(app).status, get(app, width=20).status] == [422, 422]
    assert origin.asked == 1, "not for each size"
    origin.mood = serves(WHOLE, "Cache-Control: max-age=600", etag=etag)
    clock.forward(5.1)
    assert opened(get(app).body).size == (30, 20)
    assert opened(get(app, width=20).body).size[0] == 20
    assert origin.asked == 2


def test_half_of_two_pictures_is_no_picture(make: Make, origin: Moody) -> None:
    """Replaced while it was sent, with a length that fits."""
    one, two = (encoded(landscape(300, 200).rotate(turn), "PNG") for turn in (0, 180))
    size = min(len(one), len(two))
    origin.mood = replies(one[: size // 2] + two[size // 2 :])
    app = make()
    assert get(app).status == 422
    assert get(app).status == 422


def test_a_picture_that_changes_under_a_herd_is_one_or_the_other(make: Make, origin: Moody) -> None:
    """And all agree in the end, whichever reply was the last."""
    bodies = iter([OLD, NEW] * 20)
    lock = threading.Lock()

    def fickle(exchange: Exchange) -> object:
        with lock:
            body = next(bodies)
        return replies(body, "Cache-Control: no-cache")(exchange)

    origin.mood = fickle
    apps = [make(), make()]
    with ThreadPoolExecutor(16) as pool:
        herd = [pool.submit(get, apps[number % 2], width=20 + number // 4) for number in range(16)]
        for number, future in enumerate(herd):
            reply = future.result()
            assert shows(reply, TEAL) or shows(reply, RED)
            assert opened(reply.body).width == 20 + number // 4
    origin.mood = serves(NEW)
    for width in range(20, 24):
        assert all(shows(get(app, width=width), RED) for app in apps)


# -- clocks that jump ----------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_a_clock_that_was_ahead_does_not_freeze_a_source(
    make: Make, origin: Moody, clock: Clock, *, shared: bool
) -> None:
    origin.mood = controls("max-age=600, stale-if-error=600, stale-while-revalidate=600")
    app = make(shared=shared)
    clock.forward(2000 * DAY)
    get(app)
    get(app, "failing.jpg")
    clock.forward(-2000 * DAY)
    origin.mood = controls("max-age=600", NEW)
    assert shows(get(app), RED)
    assert status(get(app)) == "hit; detail=disk", "and it is believed from now on"
    asked = origin.asked
    assert shows(get(make(shared=shared)), RED)
    assert origin.asked == asked


def test_a_failure_of_a_clock_that_was_ahead_is_forgotten(
    make: Make, origin: Moody, clock: Clock
) -> None:
    app = make()
    clock.forward(2000 * DAY)
    for origin.mood in (FAILURES["500"][0], replies(b"", status="404 Not Found")):
        assert get(app).status in (404, 502)
        clock.forward(10)
    clock.forward(-2000 * DAY)
    origin.mood = serves(OLD)
    assert shows(get(app), TEAL)
    assert status(get(app)) == "hit; detail=disk"


def test_a_failing_origin_is_spared_though_the_record_is_from_the_future(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls(ON_ERROR)
    app = make()
    clock.forward(2000 * DAY)
    get(app)
    clock.forward(-2000 * DAY)
    origin.mood = FAILURES["500"][0]
    for _ in range(10):
        assert shows(get(app), TEAL)
    assert origin.asked == 2


def test_marks_of_purges_from_the_future_do_not_freeze_a_source(
    make: Make, origin: Moody, tmp_path: Path, clock: Clock
) -> None:
    app = make()
    get(app)
    mark = tmp_path / "host" / "private" / ".purged"
    mark.touch()
    os.utime(mark, (time.time() + 1000 * DAY,) * 2)
    clock.forward(DAY * 10)
    get(app)
    until(lambda: status(get(app)) == "hit; detail=disk")


@pytest.mark.parametrize("known", [False, True])
def test_no_failure_is_remembered_for_longer_than_is_allowed(
    make: Make, origin: Moody, clock: Clock, tmp_path: Path, *, known: bool
) -> None:
    """Whatever the record says: its writer's clock may have been wrong."""
    origin.mood = controls(ON_ERROR)
    app = make()
    if known:
        get(app)
        clock.forward(61)
    origin.mood = FAILURES["500"][0]
    assert get(app).status == (200 if known else 502)
    path = tmp_path / "host" / "private" / "a.jpg" / ".source"
    record = json.loads(path.read_bytes())
    record["failure"]["retry_at"] += 1000 * DAY
    replacement = path.with_name(".new")
    replacement.write_text(json.dumps(record))
    replacement.rename(path)
    origin.mood = controls("max-age=60", NEW)
    assert shows(get(app), RED)


# -- all workers of a server ---------------------------------------------------------------


def aged(cache: Path, source: str, seconds: float) -> None:
    """Make what is known of a source so many seconds older."""
    path = cache / "private" / source / ".source"
    record = json.loads(path.read_bytes())
    for field in ("fetched_at", "fresh_until", "stale_until", "error_until"):
        record[field] -= seconds
    older = path.with_name(".older")
    older.write_text(json.dumps(record))
    older.rename(path)


@pytest.fixture(scope="module")
def gallery() -> Slow:
    gallery = Slow(0.05)
    gallery.headers = [("Cache-Control", "max-age=600, stale-while-revalidate=600")]
    return gallery


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fresh") / "cache"


@pytest.fixture(scope="module")
def site(gallery: Slow, cache: Path) -> Iterator[servers.Server]:
    with (
        servers.wsgi(gallery, validate=False) as origin,
        serving(origin, cache, not_found_ttl=1) as server,
    ):
        yield server


def test_of_all_workers_one_asks_while_the_stale_picture_is_served(
    site: servers.Server, gallery: Slow, cache: Path
) -> None:
    gallery.pictures["/old.jpg"] = OLD
    path = THUMBS.url("old.jpg", width=30, format="jpg")
    first = site.ask(path)
    aged(cache, "old.jpg", 700)
    gallery.pictures["/old.jpg"] = NEW
    gallery.hold_first("/old.jpg")
    replies = Herd([site], [path] * 150).replies()
    assert len(replies) == 150
    assert {(reply.status, reply.body) for reply in replies} == {(200, first.body)}
    assert {reply["Cache-Status"][:21] for reply in replies} == {"thumbproxy; hit; ttl="}
    assert gallery.asked["/old.jpg"] == 2
    gallery.go.set()
    until(lambda: shows(site.ask(path), RED))
    assert gallery.asked["/old.jpg"] == 2
    assert gallery.conditional["/old.jpg"] == 1
    gallery.go.clear()


def test_of_all_workers_one_asks_an_origin_that_fails(
    site: servers.Server, gallery: Slow, cache: Path
) -> None:
    gallery.pictures["/bad.jpg"] = OLD
    path = THUMBS.url("bad.jpg", width=30, format="jpg")
    first = site.ask(path)
    aged(cache, "bad.jpg", 1300)
    gallery.pictures["/bad.jpg"] = b"<html>oops</html>"
    replies = Herd([site], [path] * 150).replies()
    assert {(reply.status, reply.body) for reply in replies} == {(200, first.body)}
    assert gallery.asked["/bad.jpg"] == 2
    new = THUMBS.url("bad.jpg", width=30, format="jpg", version="new")
    refused = Herd([site], [new] * 100).replies()
    assert {token(reply) for reply in refused} == {"unsupported-image"}
    assert gallery.asked["/bad.jpg"] <= 3


def test_an_origin_that_hangs_is_asked_by_one_and_all_are_answered_when_that_gives_up(
    tmp_path: Path,
) -> None:
    with (
        FaultyOrigin(Exchange.hang) as hanging,
        serving(
            servers.Server(hanging.port), tmp_path / "cache", fetch_timeout=1, request_timeout=40
        ) as server,
    ):
        path = THUMBS.url("a.jpg", width=30, format="jpg")
        for _ in range(2):
            began = time.monotonic()
            replies = Herd([server], [path] * 120).replies()
            assert time.monotonic() - began < 15, "nobody waits for half of its own time"
            assert {token(reply) for reply in replies} == {"origin-timeout"}
            assert len(replies) == 120
        assert len(hanging.requests) == 1


def test_of_all_workers_one_learns_that_there_is_no_picture(
    site: servers.Server, gallery: Slow
) -> None:
    before = work(site)
    replies = Herd([site], [THUMBS.url("none.jpg", width=30)] * 150).replies()
    assert {reply.status for reply in replies} == {404}
    assert work(site).since(before) <= Work(2, 0)
    gallery.pictures["/none.jpg"] = OLD
    until(lambda: site.ask(THUMBS.url("none.jpg", width=30)).status == 200)
