"""Nobody waits against the order of locks, whatever happens in between."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
import servers
from origin import Gallery, is_close, jpeg, opened

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.core import lock_order
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.http.responses import Response

THUMBS = Thumbnails([servers.KEY])
COLORS = {"red": (255, 0, 0), "teal": (0, 128, 128)}
# A request that waits in vain goes on after half of this, later than anybody here has patience.
REQUEST_SECONDS, PATIENCE = 90, 30


def test_waiting_against_the_order_is_an_error() -> None:
    with (
        in_order(Rank.SLOT),
        pytest.raises(AssertionError, match="waiting for QUESTION while holding SLOT"),
        in_order(Rank.QUESTION),
    ):
        pass
    with in_order(Rank.QUESTION), in_order(Rank.SLOT), in_order(Rank.RECORD):
        pass


def test_two_of_a_kind_are_never_waited_for() -> None:
    with in_order(Rank.SLOT), pytest.raises(AssertionError), in_order(Rank.SLOT):
        pass


def test_what_is_taken_only_if_it_is_free_may_be_taken_at_any_time() -> None:
    with in_order(Rank.SLOT):
        with (
            in_order(Rank.QUESTION, waits=False),
            pytest.raises(AssertionError),
            in_order(Rank.QUESTION),
        ):
            pass
        with in_order(Rank.RECORD):
            pass


def test_threads_hold_things_of_their_own() -> None:
    def wait() -> None:
        with in_order(Rank.REQUEST):
            pass

    with in_order(Rank.COUNT), ThreadPoolExecutor(1) as pool:
        pool.submit(wait).result()


@pytest.mark.parametrize("options", [[], ["-X", "dev"]])
def test_waits_are_checked_in_development_mode(options: list[str]) -> None:
    program = (
        "from thumbproxy.core.lock_order import Rank, in_order\n"
        "with in_order(Rank.SLOT), in_order(Rank.REQUEST): pass\n"
    )
    ran = subprocess.run(
        [sys.executable, *options, "-c", program], check=False, stderr=subprocess.PIPE
    )
    assert (ran.returncode != 0) == bool(options)
    assert (b"waiting for REQUEST while holding SLOT" in ran.stderr) == bool(options)


# -- schedules -----------------------------------------------------------------------------


class Site:
    """A picture that changes and is purged while sizes of it are asked for."""

    def __init__(self, directory: Path, renders: int) -> None:
        self.gallery = Gallery(**{"a.jpg": jpeg(color="teal")})
        self.gallery.headers = [("Cache-Control", "max-age=0")]
        self.directory = directory
        self.app = ThumbProxy(
            self.gallery,
            keys=[servers.KEY],
            cache_dir=str(directory),
            renders=renders,
            request_timeout=REQUEST_SECONDS,
            fetch_timeout=REQUEST_SECONDS,
            render_timeout=REQUEST_SECONDS,
        )
        self.color = "teal"
        self._changing = threading.Lock()

    def ask(self, width: int) -> Response:
        path = unquote(THUMBS.url("a.jpg", width=width, height=9, fit="stretch", format="jpg"))
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_HOST": "localhost",
                   "SERVER_NAME": "localhost", "SERVER_PORT": "80"}  # fmt: skip
        reply = self.app.respond(environ)
        assert reply is not None
        return reply

    def change(self) -> None:
        with self._changing:
            self.color = "red" if self.color == "teal" else "teal"
            self.gallery.pictures["/a.jpg"] = jpeg(color=self.color)

    def purge(self) -> None:
        self.app.purge("a.jpg")

    def purge_all(self) -> None:
        self.app.purge("")

    def lose_originals(self) -> None:
        shutil.rmtree(self.directory / "sources", ignore_errors=True)


def check(reply: Response, width: int) -> None:
    assert reply.status == 200, reply.body
    picture = opened(reply.body)
    assert picture.size == (width, 9)
    assert any(is_close(picture, color) for color in COLORS.values())


@pytest.fixture
def pauses() -> Iterator[random.Random]:
    """Pauses of random length before each wait."""
    source = random.Random()

    def pause(rank: Rank) -> None:
        if source.random() < 0.5:
            threading.Event().wait(source.random() * 0.006)

    lock_order.check(pause)
    yield source
    lock_order.check()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("renders", [1, 2])
def test_changes_and_purges_beside_requests_make_nobody_wait_in_vain(
    tmp_path: Path, pauses: random.Random, renders: int
) -> None:
    """100 rounds, each with requests for sizes that nobody has made, a change of the picture, and a
    loss of its original, in random order. All get a picture, and what is asked for
    afterwards is of the new one."""
    site = Site(tmp_path / "cache", renders)
    with ThreadPoolExecutor(8) as threads:
        for seed in range(100):
            play(site, threads, random.Random(seed), pauses, seed)


def play(
    site: Site, threads: ThreadPoolExecutor, order: random.Random, pauses: random.Random, seed: int
) -> None:
    pauses.seed(seed)
    widths = [10 + (seed * 8 + n) % 40 for n in range(5)]
    start = threading.Barrier(8)

    def begun(act: Callable[[], Response | None], pause: float) -> Response | None:
        start.wait(PATIENCE)
        threading.Event().wait(pause)
        return act()

    acts: list[tuple[int, Callable[[], Response | None]]] = [
        (width, lambda width=width: site.ask(width))  # type: ignore[misc]
        for width in widths
    ]
    lose = order.choice([site.lose_originals, site.purge, site.purge_all])
    acts += [(0, site.change), (0, lose), (0, order.choice([site.lose_originals, site.change]))]
    order.shuffle(acts)
    futures: list[tuple[int, Future[Response | None]]] = [
        (width, threads.submit(begun, act, order.random() * 0.02)) for width, act in acts
    ]
    for width, future in futures:
        reply = future.result(PATIENCE)
        if reply is not None:
            check(reply, width)
    last = site.ask(widths[0])
    check(last, widths[0])
    assert is_close(opened(last.body), COLORS[site.color]), f"round {seed}"
