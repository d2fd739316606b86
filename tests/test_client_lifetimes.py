"""For how long clients may keep a picture: what its origin says, on each way of a reply."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nginx
import pytest
import servers
from echo import Site
from faulty import replies
from test_freshness_service import (
    FAILURES,
    NEW,
    OLD,
    RED,
    TEAL,
    THUMBS,
    Clock,
    Make,
    Moody,
    clock,
    controls,
    get,
    make,
    origin,
    serves,
    shows,
    status,
)
from test_herd import serving, until

from thumbproxy import Folder, HttpOrigin, ThumbProxy, WsgiOrigin
from thumbproxy.http.responses import Response

__all__ = ["clock", "make", "origin"]
OURS = "public, max-age=2592000, stale-while-revalidate=86400, stale-if-error=604800"
FOR_EVER = "public, max-age=31536000, immutable"


def said(reply: Response) -> str:
    return dict(reply.headers)["Cache-Control"]


def left(reply: Response) -> int:
    """Seconds for which a client may use the reply (RFC 9111 section 4.2)."""
    headers = dict(reply.headers)
    found = re.search(r"max-age=([0-9]+)", headers["Cache-Control"])
    return 0 if found is None else int(found[1]) - int(headers.get("Age", 0))


ORIGINS = {
    (): OURS,
    ("Cache-Control: public",): OURS,
    ("CDN-Cache-Control: max-age=60",): OURS,
    ("Cache-Control: no-cache",): "no-cache",
    ("Cache-Control: max-age=0",): "no-cache",
    ("Cache-Control: must-revalidate",): "no-cache",
    ("Cache-Control: public, max-age=0, must-revalidate",): "no-cache",
    ("Cache-Control: max-age=60",): "public, max-age=60",
    ("Cache-Control: max-age=60", "Age: 20"): "public, max-age=40",
    ("Cache-Control: max-age=31536000",): "public, max-age=31536000",
    ("Cache-Control: s-maxage=1",): "public, max-age=1, s-maxage=1",
    ("Cache-Control: max-age=60, s-maxage=90",): "public, max-age=60, s-maxage=90",
    ("Cache-Control: max-age=60, stale-while-revalidate=5, stale-if-error=9, proxy-revalidate",):
        "public, max-age=60, proxy-revalidate, stale-while-revalidate=5, stale-if-error=9",
    ("Expires: 0",): "no-cache",
    ("Expires: Thu, 18 Aug 2050 02:01:18 UTC",): "no-cache",
    ("Cache-Control: no-store",): "no-store",
    ("Cache-Control: private, max-age=60",): "no-store",
    ("Cache-Control: max-age=60", "Set-Cookie: a=b"): "no-store",
    ("Cache-Control: no-cache", "CDN-Cache-Control: max-age=60"): "no-cache",
    ("Cache-Control: max-age=9", "CDN-Cache-Control: max-age=60"): "public, max-age=9",
    ("Cache-Control: no-store", "CDN-Cache-Control: max-age=60"): "no-store",
    ("Cache-Control: max-age=9", "CDN-Cache-Control: no-store"): "no-store",
}  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), ORIGINS.items(), ids=str)
def test_what_the_origin_says_clients_are_told_by_every_tier(
    make: Make, origin: Moody, headers: tuple[str, ...], expected: str
) -> None:
    """When it is made, from disk, by another process and another host, in all formats."""
    origin.mood = serves(OLD, *headers)
    app = make(shared=True)
    hosts = [app, app, make(shared=True), make("another host", shared=True), make("")]
    assert [said(get(host)) for host in hosts] == [expected] * 5
    answers = [get(app, format=format) for format in ("auto", "json", "png", "auto", "json")]
    assert [said(answer) for answer in answers] == [expected] * 5


def test_a_304_to_a_client_says_the_same(make: Make, origin: Moody) -> None:
    origin.mood = controls("max-age=60")
    app = make()
    etag = dict(get(app).headers)["ETag"]
    path = THUMBS.url("a.jpg", width=30, format="jpg")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_IF_NONE_MATCH": etag}
    reply = app.respond(environ)
    assert reply is not None
    assert (reply.status, said(reply)) == (304, "public, max-age=60")


def test_what_may_be_kept_by_us_alone_is_kept(make: Make, origin: Moody) -> None:
    """And a client that has it from before gets no 304, which would make its copy good again."""
    origin.mood = serves(OLD, "Cache-Control: no-store", "CDN-Cache-Control: max-age=60")
    app = make()
    first, second = get(app), get(app)
    assert (status(second), origin.asked) == ("hit; detail=disk", 1)
    path = THUMBS.url("a.jpg", width=30, format="jpg")
    etag = dict(first.headers)["ETag"]
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_IF_NONE_MATCH": etag}
    reply = app.respond(environ)
    assert reply is not None
    assert reply.status == 200


def test_what_is_left_runs_out(make: Make, origin: Moody, clock: Clock) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=600")
    app = make()
    assert left(get(app)) == 60
    clock.forward(20)
    assert left(get(app)) == 40
    assert left(get(app, width=20)) == 40, "one that is made later is of the same source"
    clock.forward(39)
    assert left(get(make())) == 1
    clock.forward(11)
    stale = get(app)
    assert "ttl=-10" in status(stale)
    assert left(stale) <= 0
    until(lambda: left(get(app)) == 60)


def test_a_stale_picture_of_a_failing_origin_is_stale_for_clients(
    make: Make, origin: Moody, clock: Clock
) -> None:
    origin.mood = controls("max-age=60, stale-while-revalidate=0, stale-if-error=600")
    app = make()
    get(app)
    clock.forward(61)
    origin.mood = FAILURES["500"][0]
    for _ in range(2):
        reply = get(app)
        assert shows(reply, TEAL)
        assert left(reply) <= 0


@pytest.mark.parametrize(
    ("before", "confirmed", "expected"),
    [
        ("max-age=60", "max-age=9", "public, max-age=9"),
        ("max-age=60", "no-cache", "no-cache"),
        ("no-cache", "max-age=60", "public, max-age=60"),
        ("max-age=60", "public", OURS.replace("=86400", "=0")),
        ("public", "max-age=60", "public, max-age=60"),
        (
            "max-age=60, stale-while-revalidate=0",
            None,
            "public, max-age=60, stale-while-revalidate=0",
        ),
        ("no-cache", None, "no-cache"),
        ("max-age=60", "no-store", "no-store"),
    ],
)
def test_a_304_says_it_anew(
    make: Make, origin: Moody, clock: Clock, before: str, confirmed: str | None, expected: str
) -> None:
    origin.mood = controls(before)
    app = make(shared=True, stale_while_revalidate=0)
    get(app)
    clock.forward(3601)
    lines = [] if confirmed is None else [f"Cache-Control: {confirmed}"]
    origin.mood = replies(b"", *lines, status="304 Not Modified")
    assert said(get(app)) == expected
    if expected != "no-store":
        for host in ("host", "another host"):
            assert said(get(make(host, shared=True, stale_while_revalidate=0))) == expected


@pytest.mark.parametrize("directives", ["no-cache", "max-age=9", "no-store"])
def test_the_setting_turns_it_off_but_not_for_what_is_not_to_be_kept(
    make: Make, origin: Moody, directives: str
) -> None:
    origin.mood = controls(directives)
    app = make(client_lifetime="max_age", max_age=77, stale_while_revalidate=5, stale_if_error=7)
    usual = "public, max-age=77, stale-while-revalidate=5, stale-if-error=7"
    expected = "no-store" if directives == "no-store" else usual
    assert [said(get(app)) for _ in range(2)] == [expected] * 2
    origin.mood = serves(OLD, "Cache-Control: no-store", "CDN-Cache-Control: max-age=60")
    assert [said(get(app, "b.jpg")) for _ in range(2)] == ["no-store"] * 2


def test_what_never_changes_is_good_for_ever(make: Make, origin: Moody) -> None:
    origin.mood = controls("no-cache")
    app = make()
    assert [said(get(app, version="1")) for _ in range(2)] == [FOR_EVER] * 2
    end = int(time.time()) + 10**8
    for _ in range(2):
        assert said(get(app, version="1", expires=end)) == "public, max-age=31536000"
    never = make("never", over=HttpOrigin(origin.url, immutable=True))
    assert [said(get(never)) for _ in range(2)] == [FOR_EVER] * 2


def test_an_address_that_expires_has_the_shorter_of_the_two(make: Make, origin: Moody) -> None:
    app, now = make(), int(time.time())
    for directives, seconds, longest in (
        ("max-age=60", 600, 60), ("max-age=600", 60, 60), ("no-cache", 600, 0), ("public", 60, 60),
    ):  # fmt: skip
        origin.mood = controls(directives)
        for _ in range(2):
            reply = get(app, f"{directives}.jpg", expires=now + seconds)
            assert longest - 40 < left(reply) <= longest or left(reply) == longest == 0
            assert "no-cache" in said(reply) or longest


def test_a_folder_says_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(OLD)
    app = make(over=Folder(tmp_path / "photos"))
    assert [said(get(app)) for _ in range(2)] == [OURS] * 2


def test_an_application_is_an_origin_like_others(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Cache-Control", "max-age=60")])
        return [OLD]

    proxy = ThumbProxy(
        app,
        keys=[servers.KEY],
        origins={"": WsgiOrigin(app, host="site.example")},
        cache_dir=str(tmp_path),
    )
    assert [said(get(proxy)) for _ in range(2)] == ["public, max-age=60"] * 2


def test_a_source_of_unknown_age_may_not_be_kept(make: Make, origin: Moody, clock: Clock) -> None:
    """Its record is from the future: a clock has jumped."""
    origin.mood = controls("max-age=60, stale-if-error=600")
    app = make()
    clock.forward(2000 * 86_400)
    get(app)
    clock.forward(-2000 * 86_400)
    origin.mood = FAILURES["500"][0]
    assert said(get(app)) == "no-cache"


def test_a_record_of_an_older_release_is_asked_about_at_once(
    make: Make, origin: Moody, tmp_path: Path
) -> None:
    origin.mood = controls("no-cache")
    app = make()
    get(app)
    [path] = tmp_path.rglob(".source")
    values = json.loads(path.read_bytes())
    older = path.with_name(".older")
    older.write_text(
        json.dumps({k: v for k, v in values.items() if k not in ("clients", "fields")})
    )
    older.rename(path)
    origin.mood = controls("no-cache", NEW)
    reply = get(app)
    assert (shows(reply, RED), said(reply)) == (True, "no-cache")


@pytest.fixture
def front(origin: Moody, tmp_path: Path) -> Iterator[Site]:
    """nginx before a real thumbproxy."""
    cache, folder = tmp_path / "cache", tmp_path / "nginx"
    folder.mkdir()
    with (
        serving(servers.Server(int(origin.url.rpartition(":")[2])), cache, workers=1) as server,
        nginx.running(folder, f"127.0.0.1:{server.port}", cache) as address,
    ):
        yield Site(address, cache)


def test_nginx_keeps_nothing_that_has_its_lifetime_from_an_origin(
    front: Site, origin: Moody
) -> None:
    """It would send the same lifetime again and again, and cannot count the age of its copies."""
    copies: dict[str, bool] = {}
    for name, directives in (("60", "max-age=60"), ("0", "no-cache"), ("none", "public")):
        origin.mood = controls(directives)
        path = THUMBS.url(f"{name}.jpg", width=30, format="jpg")
        replies = [front.ask(path) for _ in range(3)]
        assert {reply.status for reply in replies} == {200}
        assert {reply.headers["X-Accel-Expires"] for reply in replies} == {None}
        last = replies[-1].headers
        copies[name] = "nginx; hit" in (last.get_all("Cache-Status") or [])
        assert copies[name] or last["Age"] is not None
        assert last["Cache-Control"] == {
            "60": "public, max-age=60", "0": "no-cache", "none": OURS,
        }[name]  # fmt: skip
    assert copies == {"60": False, "0": False, "none": True}
