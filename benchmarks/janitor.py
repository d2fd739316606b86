"""The janitor over a cache of a million files: time, memory, and what hits feel of it.

    python benchmarks/janitor.py [--files N] [--dir FOLDER]

Makes a cache of sources with three renditions each: with their records N files, and a directory for
each source in both trees. Files are sparse, of 4 to 30 KB: the janitor looks at names, sizes and
times, never into pictures. `thumbproxy serve` (one worker) then counts them and trims to 90 %, by
its own janitor, because a picture is made and nobody knows yet what is there; then `thumbproxy
cache trim` trims to 50 %. Meanwhile one client asks for one picture that is kept, over one
connection; before that, the same with nothing else going on.

Needs gunicorn, room for N inodes and a half, and root for nothing.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from PIL import Image

from thumbproxy import Thumbnails
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.quota import Usage
from thumbproxy.caches.disk.size import Space

KEY = "a-key-that-only-this-benchmark-uses"
THUMBS = Thumbnails([KEY])
VARIANTS = 3
IDLE_SECONDS = 5.0


def fill(cache: Path, files: int) -> None:
    """Sparse files, last used within the last 100 days."""
    layout, numbers = Layout(str(cache)), random.Random(7)
    layout.make()
    now = time.time()
    for i in range(files // (VARIANTS + 1)):
        source = f"photos/{i % 97}/{i}.jpg"
        used = now - numbers.random() * 100 * 86_400
        private, public = f"{layout.private}/{source}", f"{layout.public}/{source}"
        os.makedirs(private)
        os.makedirs(public)
        sparse(f"{private}/.source", 700, used, now + 3600)
        for width in range(VARIANTS):
            tree = private if width == 0 else public
            size = numbers.randrange(4_000, 30_000)
            sparse(f"{tree}/w_{width}.{'S' * 22}.webp", size, used, 1_700_000_000)


def sparse(path: str, size: int, used: float, modified: float) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.ftruncate(fd, size)
    os.utime(fd, (used, modified))
    os.close(fd)


@contextmanager
def serving(home: Path, bound: Space) -> Iterator[tuple[int, int]]:
    """The server's port, and its worker's process id."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    environ |= {
        "THUMBPROXY_KEYS": KEY,
        "THUMBPROXY_WORKERS": "1",
        "THUMBPROXY_CACHE_MAX_BYTES": str(bound.bytes),
        "THUMBPROXY_CACHE_MAX_FILES": str(bound.files),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "thumbproxy", "serve", "--bind", f"127.0.0.1:{port}",
         "--origin", str(home / "photos"), "--cache-dir", str(home / "cache")],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        wait_until(lambda: accepts(port) and children.read_text() != "")
        yield port, int(children.read_text().split()[0])
    finally:
        server.terminate()
        server.wait()


def accepts(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], seconds: float = 3600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


class Client(threading.Thread):
    """Asks for one picture again and again; `times` are milliseconds."""

    def __init__(self, port: int, url: str) -> None:
        super().__init__()
        self.times: list[float] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._url = url
        self._over = threading.Event()

    def ask(self, url: str) -> str:
        self._connection.request("GET", url)
        reply = self._connection.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
        return reply.headers["Cache-Status"]

    def run(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            assert "hit" in self.ask(self._url)
            self.times.append((time.perf_counter() - began) * 1000)
            time.sleep(0.001)

    def finish(self) -> str:
        self._over.set()
        self.join()
        self._connection.close()
        self.times.sort()
        slowest = self.times[int(len(self.times) * 0.99)]
        return f"p50 {median(self.times):.2f} ms, p99 {slowest:.2f} ms, {len(self.times)} hits"


def peak(pid: int) -> int:
    """MiB of memory that a process has had at most."""
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) // 1024


def measure(home: Path, files: int) -> None:
    cache = home / "cache"
    began = time.monotonic()
    fill(cache, files)
    total = Space(*_there(cache))
    print(f"{total.files} files and directories made in {time.monotonic() - began:.0f} s")
    usage = Usage(Layout(str(cache)))
    kept, other = (THUMBS.url("photo.jpg", width=w, version="v1") for w in (300, 301))
    with serving(home, Space(0, total.files)) as (port, worker):
        first = Client(port, kept)
        # The first write finds that nobody knows what is there, and wakes the janitor; so hits
        # are measured on what was there before, under a count that is made to look known.
        with usage._changed() as tally:
            tally.counted_at = int(time.time())
        first.ask(kept)
        first.ask(kept)
        first.start()
        time.sleep(IDLE_SECONDS)
        print(f"idle: {first.finish()}, {peak(worker)} MiB")

        usage_path = Path(usage.path)
        usage_path.unlink()
        client = Client(port, kept)
        began = time.monotonic()
        client.ask(other)
        client.start()
        wait_until(lambda: usage.read().counts > 0)
        counted = time.monotonic() - began
        wait_until(lambda: usage.read().kept.files <= total.files * 0.9 + 100)
        took = time.monotonic() - began
        print(f"server, to 90 %: {took:.1f} s ({counted:.1f} s of it counting), "
              f"{client.finish()}, {peak(worker)} MiB")  # fmt: skip

        client = Client(port, kept)
        client.start()
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "thumbproxy", "cache", "trim", "--to", "50%",
             "--cache-dir", str(cache)],
            env={**os.environ, "THUMBPROXY_CACHE_MAX_FILES": str(total.files),
                 "THUMBPROXY_CACHE_MAX_BYTES": "0"},
            check=True,
        )  # fmt: skip
        took = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"command, to 50 %: {took:.1f} s, {client.finish()}, {memory} MiB")
    left = Space(*_there(cache))
    print(f"left: {left.files} files and directories, {left.files / total.files:.1%}")


def _there(cache: Path) -> tuple[int, int]:
    files = sum(
        len(names) + len(folders)
        for tree in ("public", "private", "sources")
        for _, folders, names in os.walk(cache / tree)
    )
    return 0, files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--dir", help="where the cache is made; a temporary folder by default")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="thumbproxy-janitor-", dir=arguments.dir))
    try:
        (home / "photos").mkdir()
        Image.effect_noise((800, 600), 80).save(home / "photos" / "photo.jpg")
        measure(home, arguments.files)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
