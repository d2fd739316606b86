"""Keys are rotated without a broken picture, and one that is taken away is worth nothing more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nginx
import pytest
import servers
from commands import thumbproxy
from origin import jpeg

from thumbproxy import Thumbnails

OLD, NEW = "the-old-key-that-only-tests-use", "the-new-key-that-only-tests-use"
CAT, PINNED = {"width": 8, "format": "jpg"}, {"width": 9, "format": "jpg", "version": "1"}


def url(key: str, options: dict[str, object]) -> str:
    return Thumbnails([key]).url("cat.jpg", **options)


class Site:
    """A folder, a cache, and a configuration file that names the keys."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.cache = folder / "photos", folder / "cache"
        self.file = folder / "thumbproxy.toml"
        self.photos.mkdir()
        (self.photos / "cat.jpg").write_bytes(jpeg())

    def keys(self, *keys: str) -> None:
        self.file.write_text(
            f"keys = {json.dumps(keys)}\norigin = {json.dumps(str(self.photos))}\n"
            f"cache_dir = {json.dumps(str(self.cache))}\n"
            f"nginx_cache_dir = {json.dumps(str(self.file.parent / 'nginx' / 'cache'))}\n"
        )

    def run(self, *arguments: str) -> str:
        done = thumbproxy(*arguments, "--config", str(self.file))
        done.check_returncode()
        return done.stdout

    def served(self) -> Iterator[servers.Server]:
        """A server that has its keys from the file, and reads it anew at a HUP."""
        port = servers.free_port()
        command = [sys.executable, "-m", "thumbproxy", "serve", "--config", str(self.file)]
        command += ["--bind", f"{servers.HOST}:{port}", "--workers", "1"]
        clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
        with servers.running(command, port, env=clean, stderr=subprocess.DEVNULL) as server:
            yield server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def server(site: Site) -> Iterator[servers.Server]:
    site.keys(OLD)
    yield from site.served()


def rotate(site: Site, server: servers.Server, *keys: str) -> None:
    """Write other keys and have the server read them; until no process knows the former."""
    assert server.process
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children")
    before = set(children.read_text().split())
    site.keys(*keys)
    os.kill(parent, signal.SIGHUP)
    waiting = threading.Event()
    while before & (now := set(children.read_text().split())) or not now:
        waiting.wait(0.02)
    servers.wait_for(server.port, server.process)


def test_a_key_is_rotated_in_three_steps_and_no_address_breaks_before_the_last(
    site: Site, server: servers.Server
) -> None:
    def status(key: str, options: dict[str, object]) -> int:
        return server.ask(url(key, options)).status

    def signs() -> str:
        return site.run("sign", "cat.jpg", "w_8", "--format", "jpg").strip()

    assert [status(OLD, CAT), status(OLD, PINNED), status(NEW, CAT)] == [200, 200, 403]
    assert signs() == url(OLD, CAT)

    rotate(site, server, OLD, NEW)  # all servers know the new one, before anybody signs with it
    assert [status(OLD, CAT), status(OLD, PINNED), status(NEW, CAT)] == [200, 200, 200]
    assert "hit" in server.ask(url(OLD, CAT))["Cache-Status"]
    assert signs() == url(OLD, CAT)

    rotate(site, server, NEW, OLD)
    assert "hit" in server.ask(url(OLD, PINNED))["Cache-Status"]
    # Its name is the address, so what has another signature is made anew, once.
    assert "fwd" in server.ask(url(NEW, PINNED))["Cache-Status"]
    assert "hit" in server.ask(url(NEW, PINNED))["Cache-Status"]
    assert signs() == url(NEW, CAT)

    rotate(site, server, NEW)
    # Though its picture is still there, in the cache of this host.
    assert list(site.cache.rglob(Path(url(OLD, PINNED)).name))
    assert [status(OLD, CAT), status(OLD, PINNED)] == [403, 403]
    assert [status(NEW, CAT), status(NEW, PINNED)] == [200, 200]


def test_what_nginx_has_of_a_revoked_key_is_served_until_it_is_purged(
    site: Site, server: servers.Server, tmp_path: Path
) -> None:
    """The name of a file is the capability: nginx knows no keys. The remedy is a purge."""
    (tmp_path / "nginx").mkdir()
    upstream = f"{servers.HOST}:{server.port}"
    with nginx.running(tmp_path / "nginx", upstream, site.cache) as (_, port):
        front = servers.Server(port)
        assert front.ask(url(OLD, PINNED)).status == 200
        assert front.ask(url(OLD, CAT)).status == 200
        rotate(site, server, NEW)
        assert server.ask(url(OLD, PINNED)).status == 403
        reply = front.ask(url(OLD, PINNED))
        assert (reply.status, reply["Cache-Status"]) == (200, "nginx; hit")
        assert front.ask(url(NEW, PINNED)).status == 200

        site.run("purge", "--all")
        assert front.ask(url(OLD, PINNED)).status == 403
        assert front.ask(url(OLD, CAT)).status == 403
        assert front.ask(url(NEW, PINNED)).status == 200
