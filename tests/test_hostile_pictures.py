"""Hostile pictures, the whole way: a real server in front of a folder of them."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import servers
from hostile import CASES, JPEG, PICTURE, SCRIPT, Case, chain, rgb_profile, with_tag
from pictures import encoded, opened
from PIL import Image
from processes import family, most_memory
from test_herd import until, workers
from test_imaging_damage import ARITHMETIC, FOREIGN, SEEDS, mutated

from thumbproxy import Thumbnails
from thumbproxy.core.errors import BrokenImage, SourceError
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.urls.options import Options

pytestmark = pytest.mark.timeout(300)  # a machine may be busy

THUMBS = Thumbnails([servers.KEY])
ENGINE = PillowEngine(Limits())
TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp",
         "json": "application/json"}  # fmt: skip
CLIENTS = 8
# Seconds, on a machine that has other things to do.
DEADLINE = 60
# A picture of 49 megapixels with its decoder's copies of it, as it is in the worst case.
MOST_MEMORY = 1_200 << 20
MUTATIONS = 10


def strangers() -> dict[str, Case]:
    """What is no picture of ours, whatever its name says."""
    return {f"{name}, named .jpg": Case(lambda body=body: body, (415,))  # type: ignore[misc]
            for name, body in FOREIGN.items()}  # fmt: skip


def chances() -> dict[str, Case]:
    """Good files that were cut short, or changed by chance (always the same)."""
    made = {}
    for name, source in SEEDS.items():
        chance = random.Random(name)
        cuts = [source[: len(source) * part // 7] for part in range(1, 7)]
        for number, body in enumerate([*cuts, *(mutated(name, chance) for _ in range(MUTATIONS))]):
            made[f"{name} {number}"] = Case(lambda body=body: body, (200, 415, 422), promised(body))  # type: ignore[misc]
    return made


def promised(body: bytes) -> tuple[int, int]:
    """The size of the picture that is asked for, if there is one."""
    try:
        return ENGINE.output_size(ENGINE.inspect(body), Options(width=40))
    except SourceError:
        return (0, 0)


ALL = {**CASES, **strangers(), **chances()}


def name_of(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", case).strip("-") + ".jpg"


@dataclass(frozen=True)
class Ordeal:
    """A server that has been asked for all of them.

    replies  each file's, and the seconds until it was there
    before   the workers, as they were when it began
    most     the most memory that each process has had at a time, bytes
    """

    server: servers.Server
    cache: Path
    log: Path
    replies: dict[str, tuple[servers.Reply, float]]
    before: list[int]
    most: dict[int, int]


@pytest.fixture(scope="module")
def ordeal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    top = tmp_path_factory.mktemp("hostile")
    folder, cache, log = top / "pictures", top / "cache", top / "log"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(JPEG)
    arguments = ("--origin", str(folder), "--cache-dir", str(cache))
    settings = {"THUMBPROXY_RENDER_TIMEOUT": str(DEADLINE - 10),
                "THUMBPROXY_REQUEST_TIMEOUT": str(DEADLINE),
                "THUMBPROXY_EXIF_FIELDS": "Make,Model,ExposureTime,ExposureBiasValue"}  # fmt: skip
    with servers.thumbproxy(*arguments, log=log, **settings) as server:
        assert server.ask(THUMBS.url("good.jpg", width=40, format="jpg")).status == 200
        before = until(lambda: len(found := workers(server)) == 2 and found)

        def ask(case: str) -> tuple[servers.Reply, float]:
            made = ALL[case]
            (folder / name_of(case)).write_bytes(made.make())
            path = THUMBS.url(name_of(case), **made.options, format=made.format)
            began = time.monotonic()
            return server.ask(path), time.monotonic() - began

        with watched(server) as most, ThreadPoolExecutor(CLIENTS) as pool:
            replies = dict(zip(ALL, pool.map(ask, ALL), strict=True))
        yield Ordeal(server, cache, log, replies, before, most)


@contextmanager
def watched(server: servers.Server) -> Iterator[dict[int, int]]:
    """The most memory that each process of a server, also of those that come and go, has had."""
    assert server.process
    top, most, over = server.process.pid, dict[int, int](), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for pid in family(top):
                with suppress(OSError):  # it has ended
                    most[pid] = max(most.get(pid, 0), most_memory(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("case", ALL)
def test_each_is_answered_rightly_and_in_time(ordeal: Ordeal, case: str) -> None:
    reply, seconds = ordeal.replies[case]
    assert reply.status in ALL[case].statuses
    assert seconds < DEADLINE
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert SCRIPT not in reply.body
    if reply.status != 200:
        assert reply["Content-Type"].startswith("text/plain")
        assert reply["Cache-Control"] == "no-store"
        return
    assert reply["Content-Type"] == TYPES[ALL[case].format]
    if ALL[case].format == "json":
        told = json.loads(reply.body)["output"]
        assert (told["width"], told["height"]) == ALL[case].size
    else:
        assert opened(reply.body).size == ALL[case].size


def test_nothing_is_kept_of_what_is_no_picture(ordeal: Ordeal) -> None:
    failed = {name_of(case) for case, (reply, _) in ordeal.replies.items() if reply.status != 200}
    kept = [path for path in ordeal.cache.rglob("*") if path.parent.name in failed]
    assert len(failed) > 100
    assert [path for path in kept if path.name != ".source"] == []
    assert list((ordeal.cache / "tmp").iterdir()) == []


def test_nobody_came_to_harm(ordeal: Ordeal) -> None:
    """The workers are those that there were, no process has become too large, none has crashed,
    no error was unexpected, and good pictures are made."""
    assert workers(ordeal.server) == ordeal.before
    assert set(ordeal.before) <= ordeal.most.keys()
    assert max(ordeal.most.values()) < MOST_MEMORY
    log = ordeal.log.read_text()
    for trouble in ("Traceback", "decoder-failed", "engine-failed", "too-slow", "overloaded"):
        assert trouble not in log
    for _ in range(8):
        reply = ordeal.server.ask(THUMBS.url("good.jpg", width=39, format="jpg"))
        assert opened(reply.body).size == (39, 29)


def test_what_was_refused_is_refused_again(ordeal: Ordeal) -> None:
    """As another picture, and by whichever worker is asked."""
    for case in ("SVG, named .jpg", "PNG over the limit", "GIF of 100000 frames", "webp 3"):
        path = THUMBS.url(name_of(case), width=41, format="png")
        for _ in range(4):
            assert ordeal.server.ask(path).status == ordeal.replies[case][0].status != 200


# -- what these files have taught the readers ----------------------------------------------


def test_a_colour_key_counts_in_every_row() -> None:
    """Also where its pixels are looked through in parts."""
    rows = np.zeros((700, 30, 3), np.uint8)
    rows[::7, :15] = (9, 8, 7)
    png = encoded(Image.fromarray(rows), "PNG", transparency=(9, 8, 7))
    made = opened(ENGINE.render(png, Options(), Format.PNG).body)
    assert np.array_equal(np.asarray(made)[..., 3] == 0, (rows == (9, 8, 7)).all(2))


def test_an_arithmetic_jpeg_may_have_fewer_scans() -> None:
    scan = ARITHMETIC[ARITHMETIC.index(b"\xff\xda") : -2]
    assert ENGINE.inspect(ARITHMETIC[:-2] + scan * 15 + ARITHMETIC[-2:])
    with pytest.raises(BrokenImage, match="16 scans"):
        ENGINE.inspect(ARITHMETIC[:-2] + scan * 16 + ARITHMETIC[-2:])


def test_chains_in_a_profile_are_passed_over_as_in_browsers() -> None:
    """The profile's other tags count, and whatever the chains say costs nothing."""
    plain = encoded(PICTURE, icc_profile=rgb_profile())
    chained = encoded(PICTURE, icc_profile=with_tag(rgb_profile(), b"D2B1", chain(300_000)))
    began = time.process_time()
    one, other = (ENGINE.render(source, Options(), Format.PNG).body for source in (plain, chained))
    assert time.process_time() - began < 5, "it would be a quarter of an hour"
    assert one == other
