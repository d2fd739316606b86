"""Who waits for what in a real server: misses, renders, and hits that wait for neither.

A render is held by stopping the process that makes it, so that nothing here depends on how long
one takes.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import servers
from control import Control, control
from faulty import Exchange, FaultyOrigin, replies
from origin import jpeg, opened
from pictures import encoded
from PIL import Image
from processes import renderers
from test_herd import TOKEN, Herd, Slow, serving, until

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])
THREADS, MISSES, RENDERS = 12, 8, 4
HIT = THUMBS.url("hit.jpg", width=30, format="jpg")
# Pixels that renders may hold: that of the one large picture here, or of many small ones.
BUDGET = 1_000_000
_NUMBERS = itertools.count()
_SERIES = re.compile(r"^(thumbproxy_\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def gallery() -> Slow:
    made = Slow(0)
    made.pictures["/hit.jpg"] = jpeg(60, 40)
    return made


@pytest.fixture(scope="module")
def origin(gallery: Slow) -> Iterator[servers.Server]:
    with servers.wsgi(gallery, validate=False) as server:
        yield server
        gallery.go.set()


@pytest.fixture(scope="module")
def site(
    origin: servers.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """One process with few slots for all tests, each with sources of its own."""
    cache = tmp_path_factory.mktemp("admission") / "cache"
    slots = {"workers": 1, "threads": THREADS, "misses": MISSES, "renders": RENDERS}
    times = {"request_timeout": 50, "fetch_timeout": 40, "render_timeout": 45}
    with serving(origin, cache, **slots, **times, render_pixels=BUDGET) as server:
        assert server.ask(HIT).status == 200
        until(lambda: len(renderers_of(server)) == RENDERS)
        yield server


def renderers_of(server: servers.Server) -> list[int]:
    assert server.process
    return renderers(server.process.pid)


@contextmanager
def held(server: servers.Server) -> Iterator[None]:
    """Renders begin and do not end."""
    stopped = until(lambda: len(found := renderers_of(server)) == RENDERS and found)
    for pid in stopped:
        servers.freeze(pid)
    try:
        yield
    finally:
        go_on(stopped)


def go_on(stopped: Iterable[int]) -> None:
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def holding_back(gallery: Slow, *paths: str) -> Iterator[None]:
    """The origin answers the first request for each path at the end."""
    for path in paths:
        gallery.hold_first(path)
    try:
        yield
    finally:
        gallery.go.set()
        until(lambda: set(paths) <= gallery.held.keys())
        gallery.go.clear()


def metric(server: servers.Server, name: str, **labels: str) -> int:
    """The sum of the series of this name with these labels."""
    page = server.ask("/metrics", {"Authorization": f"Bearer {TOKEN}"}).body.decode()
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    return sum(
        int(float(value))
        for found, told, value in _SERIES.findall(page)
        if found == f"thumbproxy_{name}" and wanted <= set(told[1:-1].split(","))
    )


def begun(server: servers.Server) -> int:
    """How many renders have got a slot so far."""
    return metric(server, "queue_duration_seconds_count")


def made(server: servers.Server) -> int:
    return metric(server, "render_duration_seconds_count")


def abandoned(server: servers.Server) -> int:
    return metric(server, "requests_total", result="abandoned", status="499")


def is_full(server: servers.Server) -> bool:
    """Whether no more misses are let in."""
    name = f"no-such-{next(_NUMBERS)}.jpg"  # what is known to be missing is no miss
    return server.ask(THUMBS.url(name, width=9, format="jpg")).status == 503


def check_hits(server: servers.Server) -> None:
    """Hits are answered, also many at once."""
    for reply in Herd([server], [HIT] * 40).replies():
        assert reply.status == 200
        assert reply["Cache-Status"] == "thumbproxy; hit; detail=disk"


def last_in(server: servers.Server, url: str) -> Herd:
    """A client that has got the only place there is."""
    while True:
        client = Herd([server], [url])
        until(lambda: is_full(server) or not client.waiting)  # noqa: B023 - within this round
        if client.waiting:
            return client
        assert client.replies()[0].status == 503, "who looks whether it is full takes a place, too"


class Client:
    """One that can hang up while it waits."""

    def __init__(self, server: servers.Server, path: str) -> None:
        self._connection = socket.create_connection((servers.HOST, server.port), 60)
        self._connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def hang_up(self) -> None:
        self._connection.close()


def pictures(gallery: Slow, name: str, count: int) -> list[str]:
    """The URLs of so many pictures that nobody has asked for."""
    names = [f"{name}-{number}.jpg" for number in range(count)]
    for source in names:
        gallery.pictures[f"/{source}"] = jpeg(60, 40)
    return [THUMBS.url(source, width=30, format="jpg") for source in names]


def check_whole(answers: list[servers.Reply], size: tuple[int, int] = (30, 20)) -> None:
    for reply in answers:
        assert reply.status == 200, reply.body
        assert opened(reply.body).size == size


# -- more misses than there is room for ----------------------------------------------------


def check_excess(server: servers.Server, urls: list[str]) -> Herd:
    """Those who get in wait, all others are refused meanwhile, and hits are answered."""
    herd = Herd([server], urls)
    until(lambda: herd.waiting == MISSES)
    assert is_full(server)
    check_hits(server)
    assert herd.waiting == MISSES
    return herd


def check_answered(herd: Herd) -> None:
    answers = herd.replies()
    refused = [reply for reply in answers if reply.status == 503]
    check_whole([reply for reply in answers if reply.status != 503])
    assert len(answers) - len(refused) == MISSES
    for reply in refused:
        assert reply["Retry-After"] == "1"
        assert reply["Cache-Control"] == "no-store"


def test_hits_do_not_wait_for_a_slow_origin(site: servers.Server, gallery: Slow) -> None:
    """With misses at ten times the room for them, the excess is told so at once."""
    urls = pictures(gallery, "slow", MISSES * 10)
    paths = [f"/slow-{number}.jpg" for number in range(MISSES * 10)]
    for path in paths:
        gallery.hold_first(path)
    herd = check_excess(site, urls)
    gallery.go.set()
    check_answered(herd)
    gallery.go.clear()


def test_hits_do_not_wait_for_slow_renders(site: servers.Server, gallery: Slow) -> None:
    before = begun(site)
    with held(site):
        herd = check_excess(site, pictures(gallery, "heavy", MISSES * 10))
        until(lambda: begun(site) - before == RENDERS)
    check_answered(herd)
    assert begun(site) - before == MISSES


def test_hits_do_not_wait_for_a_crowd_around_one_cold_picture(
    site: servers.Server, gallery: Slow
) -> None:
    """Of more clients than there are threads; it is fetched and made once."""
    (url,) = pictures(gallery, "crowd", 1)
    before = made(site)
    with holding_back(gallery, "/crowd-0.jpg"):
        herd = check_excess(site, [url] * THREADS * 4)
    check_answered(herd)
    assert gallery.asked["/crowd-0.jpg"] == 1
    assert made(site) - before == 1


# -- clients that go -----------------------------------------------------------------------


def test_nothing_is_decoded_for_clients_that_have_hung_up(
    site: servers.Server, gallery: Slow
) -> None:
    urls = pictures(gallery, "gone", RENDERS + 3)
    before, left, slots = made(site), abandoned(site), begun(site)
    with held(site):
        herd = Herd([site], urls[:RENDERS])
        until(lambda: begun(site) - slots == RENDERS)
        waiting = [Client(site, url) for url in urls[RENDERS:]]
        until(lambda: all(gallery.asked[f"/gone-{n}.jpg"] for n in range(len(urls))))
        for client in waiting:
            client.hang_up()
        until(lambda: abandoned(site) - left == len(waiting))
        assert herd.waiting == RENDERS, "they have left while the renders were under way"
    check_whole(herd.replies())
    assert made(site) - before == RENDERS
    (late,) = Herd([site], urls[-1:]).replies()
    assert late["Cache-Status"].startswith("thumbproxy; fwd=uri-miss; stored")


def test_an_origin_is_not_asked_for_clients_that_have_hung_up(
    site: servers.Server, gallery: Slow
) -> None:
    """Of two sizes of a source, the second waits for the first's fetch, and is given up."""
    gallery.pictures["/unasked.jpg"] = jpeg(60, 40)
    before, left = made(site), abandoned(site)
    with holding_back(gallery, "/unasked.jpg"):
        first = Herd([site], [THUMBS.url("unasked.jpg", width=30, format="jpg")])
        until(lambda: "/unasked.jpg" in gallery.held)
        client = Client(site, THUMBS.url("unasked.jpg", width=31, format="jpg"))
        client.hang_up()
    check_whole(first.replies())
    until(lambda: abandoned(site) - left == 1)
    assert gallery.asked["/unasked.jpg"] == 1
    assert made(site) - before == 1


def test_who_follows_one_that_has_hung_up_gets_the_picture(
    site: servers.Server, gallery: Slow
) -> None:
    (url,) = pictures(gallery, "left", 1)
    others = pictures(gallery, "beside", MISSES - 2)
    before, shared = made(site), metric(site, "coalesced_total", where="process")
    paths = [f"/beside-{number}.jpg" for number in range(len(others))]
    with holding_back(gallery, "/left-0.jpg", *paths):
        leader = Client(site, url)
        until(lambda: "/left-0.jpg" in gallery.held)
        beside = Herd([site], others)
        until(lambda: gallery.held.keys() >= set(paths))
        follower = last_in(site, url)
        leader.hang_up()
    check_whole([*follower.replies(), *beside.replies()])
    assert gallery.asked["/left-0.jpg"] == 1
    assert made(site) - before == 1 + len(others)
    assert metric(site, "coalesced_total", where="process") - shared == 1


# -- pixels --------------------------------------------------------------------------------


def test_one_large_picture_is_made_at_a_time(site: servers.Server, gallery: Slow) -> None:
    """There are slots for more, but no room; small ones go side by side."""
    large = encoded(Image.new("RGB", (1100, 1000), "teal"), "PNG")
    for number in range(3):
        gallery.pictures[f"/large-{number}.png"] = large
    urls = [THUMBS.url(f"large-{n}.png", width=30, format="jpg") for n in range(3)]
    before = begun(site)
    with held(site):
        herd = Herd([site], urls)
        until(lambda: begun(site) == before + 1)
        until(lambda: all(gallery.asked[f"/large-{n}.png"] for n in range(3)))
        threading.Event().wait(0.2)  # time enough for what must not happen
        assert begun(site) == before + 1
    check_whole(herd.replies(), (30, 27))
    assert begun(site) == before + 3


def test_small_pictures_share_the_room_and_none_overtakes_a_large_one(
    site: servers.Server, gallery: Slow
) -> None:
    gallery.pictures["/big.png"] = encoded(Image.new("RGB", (1100, 1000), "teal"), "PNG")
    small = pictures(gallery, "small", RENDERS)
    before = begun(site)
    with held(site):
        first = Herd([site], small[: RENDERS - 1])
        until(lambda: begun(site) == before + RENDERS - 1)
        big = Herd([site], [THUMBS.url("big.png", width=30, format="jpg")])
        until(lambda: gallery.asked["/big.png"])
        threading.Event().wait(0.2)
        last = Herd([site], small[RENDERS - 1 :])
        until(lambda: gallery.asked[f"/small-{RENDERS - 1}.jpg"])
        threading.Event().wait(0.2)
        assert begun(site) == before + RENDERS - 1
    check_whole([*first.replies(), *last.replies()])
    check_whole(big.replies(), (30, 27))


# -- deadlines -----------------------------------------------------------------------------

REQUEST, FETCH = 6.0, 5.5


def silent(exchange: Exchange) -> None:
    exchange.hang()


def dripping(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + bytes(900), 0.05)


def half(exchange: Exchange) -> None:
    body = jpeg()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:99])
    exchange.hang()


@pytest.fixture(scope="module")
def opened_late() -> threading.Event:
    """When it is set, the origin answers for `late.jpg`."""
    return threading.Event()


@pytest.fixture(scope="module")
def hasty(
    tmp_path_factory: pytest.TempPathFactory, opened_late: threading.Event
) -> Iterator[servers.Server]:
    """A server with short deadlines, whose origin and decoders hang."""

    def waiting(exchange: Exchange) -> object:
        assert opened_late.wait(30)
        return replies(jpeg())(exchange)

    pages = {"/silent.jpg": silent, "/dripping.jpg": dripping, "/half.jpg": half,
             "/late.jpg": waiting}  # fmt: skip
    # So large that whoever stops those who decode them is not too late.
    large = jpeg(4000, 3000)
    good = {f"/good-{number}.jpg": replies(large) for number in range(13)}
    with FaultyOrigin({**pages, **good}) as origin:
        cache = tmp_path_factory.mktemp("hasty") / "cache"
        settings: dict[str, Any] = {
            "workers": 1, "threads": 32, "misses": 24, "renders": RENDERS,
            "request_timeout": REQUEST, "fetch_timeout": FETCH, "failure_ttl": 1,
        }  # fmt: skip
        with serving(servers.Server(origin.port), cache, **settings) as server:
            until(lambda: server.ask("/healthz").status == 200)
            yield server


@pytest.fixture(scope="module")
def late(hasty: servers.Server) -> tuple[dict[str, tuple[int, float]], Control]:
    """Status and seconds of requests for all that hangs, made all at once; decoders hang, too."""
    names = ["silent", "dripping", "half", *(f"good-{number}" for number in range(12))]
    answered: dict[str, tuple[int, float]] = {}
    start = threading.Barrier(len(names))

    def ask(name: str, width: int) -> None:
        start.wait(10)
        began = time.monotonic()
        reply = hasty.ask(THUMBS.url(f"{name}.jpg", width=width, format="jpg"))
        answered[name] = reply.status, time.monotonic() - began

    over = threading.Event()
    stopping = threading.Thread(target=stop_all, args=(hasty, over))
    clients = [threading.Thread(target=ask, args=(name, 30)) for name in names]
    with control(hasty) as measured:
        for thread in (stopping, *clients):
            thread.start()
        for client in clients:
            client.join()
    over.set()
    stopping.join()
    return answered, measured


def stop_all(server: servers.Server, over: threading.Event) -> None:
    """Whoever is to make a picture is stopped, for as long as that is so."""
    stopped: set[int] = set()
    while not over.wait(0.005):
        for pid in set(renderers_of(server)) - stopped:
            stopped.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
    go_on(stopped & set(renderers_of(server)))


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("silent", {504}),
        ("dripping", {504}),
        ("half", {504}),
        *((f"good-{number}", {200, 503, 504}) for number in range(12)),
    ],
)
def test_every_request_ends_in_time(
    late: tuple[dict[str, tuple[int, float]], Control], name: str, statuses: set[int]
) -> None:
    answered, measured = late
    status, seconds = answered[name]
    assert status in statuses
    assert seconds < measured.allows(REQUEST + 0.5), "as late as anything is on a busy machine"


def test_pictures_are_made_after_all_that(
    hasty: servers.Server, late: tuple[dict[str, tuple[int, float]], Control]
) -> None:
    answered, _ = late
    hung = [name for name, (status, _) in answered.items() if status != 200]
    assert any(name.startswith("good") for name in hung), "decoders hung"
    url = THUMBS.url("good-12.jpg", width=29, format="jpg")  # what has hung is left alone
    until(lambda: hasty.ask(url).status == 200)


def test_who_follows_one_that_is_out_of_time_gets_the_picture(
    hasty: servers.Server, late: object, opened_late: threading.Event
) -> None:
    """It had come later, and has some time left, in which it makes the picture itself. The render
    begins when less than its own time is left to the leader, whose deadline so comes first."""
    url = THUMBS.url("late.jpg", width=28, format="jpg")
    before, began = begun(hasty), time.monotonic()
    with held(hasty):
        leader = Herd([hasty], [url])
        until(lambda: time.monotonic() - began > REQUEST * 2 / 3)
        follower = Herd([hasty], [url])
        opened_late.set()
        until(lambda: begun(hasty) == before + 1)
        assert [reply.status for reply in leader.replies()] == [504]
    check_whole(follower.replies(), (28, 19))
