"""A full file system where processes count together: they go on, and count no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from origin import Gallery, jpeg
from test_faults import Mounted, fill, mounted  # noqa: F401 - a fixture
from test_herd import TOKEN, ask, serving, until, workers

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])


@pytest.fixture
def origin() -> Iterator[servers.Server]:
    with servers.wsgi(Gallery(**{"a.jpg": jpeg(120, 80)}), validate=False) as server:
        yield server


def test_a_worker_that_finds_no_room_to_count_serves_all_the_same(
    origin: servers.Server,
    mounted: Mounted,  # noqa: F811
    tmp_path: Path,
) -> None:
    room = mounted("size=3m")
    with serving(origin, tmp_path / "cache", beside=room, workers=1) as site:
        new = iter(range(10, 100))

        def served() -> bool:
            reply = ask(site, THUMBS.url("a.jpg", width=next(new), format="jpg"))
            return reply is not None and reply.status == 200

        assert served()
        sizes = {path.name: path.stat() for path in room.rglob("*.db")}
        assert sizes
        for name, status in sizes.items():
            assert status.st_blocks * 512 >= status.st_size, f"{name} has a hole"
        filler = fill(room)
        (worker,) = workers(site)
        os.kill(worker, signal.SIGKILL)
        until(served)
        (newer,) = workers(site)
        assert all(served() for _ in range(5))
        assert workers(site) == [newer]
        page = site.ask("/metrics", {"Authorization": f"Bearer {TOKEN}"})
        assert page.status == 200
        filler.unlink()
