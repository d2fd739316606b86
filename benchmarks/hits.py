"""Hits per second of thumbproxy under gunicorn, beside a bare application with the same reply.

    python benchmarks/hits.py [--rounds N] [--seconds S] [--width PX]

Both applications run under the same gunicorn (one worker, gthread) on processor 0; wrk asks from
processor 1, over kept connections. The bare application returns the very bytes and headers from
memory, so the ratio is what finding and checking a picture costs. Rounds alternate between the
servers, and the ratio is taken within each round, because machines drift.

Needs wrk (Debian's package of that name), gunicorn and two processors.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

from PIL import Image

from thumbproxy import Folder, Thumbnails, ThumbProxy

KEY = "a-key-that-only-this-benchmark-uses"
NAME = "photo.jpg"
THUMBS = Thumbnails([KEY])
WANTED = {
    "immutable": {"version": "v1"},  # in public/: open, fstat, read, close
    "revalidated": {},  # in private/: the same, and stat of the record and of the file
}


def served(home: Path) -> ThumbProxy:
    def nothing_else(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []

    origins = {"": Folder(home / "photos")}
    return ThumbProxy(nothing_else, keys=[KEY], cache_dir=str(home / "cache"), origins=origins)


def environ_of(url: str) -> dict[str, str]:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": unquote(url), "HTTP_ACCEPT": "image/webp"}


def url_of(kind: str, width: int) -> str:
    return THUMBS.url(NAME, width=width, format="webp", **WANTED[kind])


# -- what gunicorn loads: `ours()` and `bare()`, told where things are by the environment ------


def ours() -> ThumbProxy:
    return served(Path(os.environ["BENCHMARK_HOME"]))


def bare() -> Callable[..., list[bytes]]:
    reply = ours().respond(environ_of(os.environ["BENCHMARK_URL"]))
    assert reply is not None
    body, headers = reply.body, reply.headers

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", headers)
        return [body]

    return app


# -- measuring ---------------------------------------------------------------------------------


@contextmanager
def gunicorn(factory: str, home: Path, url: str) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["taskset", "-c", "0", sys.executable, "-m", "gunicorn", "--workers", "1",
               "--worker-class", "gthread", "--threads", "4", "--no-control-socket",
               "--worker-tmp-dir", "/dev/shm", "--log-level", "warning", "--keep-alive", "75",
               "--chdir", str(Path(__file__).parent), "--bind", f"127.0.0.1:{port}",
               f"hits:{factory}()"]  # fmt: skip
    environ = {**os.environ, "BENCHMARK_HOME": str(home), "BENCHMARK_URL": url}
    process = subprocess.Popen(command, env=environ)
    try:
        for _ in range(400):
            time.sleep(0.025)
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port
    finally:
        process.terminate()
        process.wait()


def asked(port: int, url: str, seconds: int) -> float:
    """Requests per second; every reply must have been a 200."""
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c8", f"-d{seconds}s",
               "-H", "Accept: image/webp", f"http://127.0.0.1:{port}{url}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"hits: the server did not answer as it should:\n{said}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def measure(kind: str, home: Path, rounds: int, seconds: int, width: int) -> float:
    url = url_of(kind, width)
    with gunicorn("ours", home, url) as our_port, gunicorn("bare", home, url) as bare_port:
        for port in (our_port, bare_port):
            asked(port, url, 1)
        pairs = [
            (asked(our_port, url, seconds), asked(bare_port, url, seconds)) for _ in range(rounds)
        ]
    rates = [median(side) for side in zip(*pairs, strict=True)]
    ratios = sorted(a / b for a, b in pairs)
    print(f"{kind:<12} {rates[0]:>9.0f} {rates[1]:>9.0f} {median(ratios):>7.2f}"
          f"   {ratios[0]:.2f} to {ratios[-1]:.2f}")  # fmt: skip
    return median(ratios)


def where_the_time_goes(home: Path, width: int) -> None:
    """Microseconds of each step of a hit, in this process, without a socket."""
    app = served(home)
    print("\nmicroseconds of one hit, without gunicorn:")
    for kind in WANTED:
        times = {name: microseconds(step) for name, step in steps_of(app, kind, width).items()}
        print(f"{kind:<12} " + ", ".join(f"{name} {time:.1f}" for name, time in times.items()))


def steps_of(app: ThumbProxy, kind: str, width: int) -> dict[str, Callable[[], object]]:
    environ = environ_of(url_of(kind, width))
    request = app._urls.parse(environ["PATH_INFO"])
    assert request is not None
    assert app._thumbnailer.get(request, environ).cache_status.startswith("hit")
    return {
        "verify and parse": lambda: app._urls.parse(environ["PATH_INFO"]),
        "look up and read": lambda: app._thumbnailer.get(request, environ),
        "all of it": lambda: app.respond(environ),
    }


def microseconds(step: Callable[[], object]) -> float:
    return min(timeit.repeat(step, number=2000, repeat=7)) / 2000 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--width", type=int, default=320)
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("hits: wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "photos").mkdir()
        (home / "photos" / NAME).write_bytes(photo())
        app = served(home)
        for kind in WANTED:
            reply = app.respond(environ_of(url_of(kind, arguments.width)))
            assert reply is not None
            assert reply.status == 200
        print(f"{len(reply.body)} bytes, {len(reply.headers)} headers; "
              f"{arguments.rounds} rounds of {arguments.seconds} s each\n")  # fmt: skip
        print("hit             ours/s    bare/s   ratio   (lowest to highest)")
        ratios = [
            measure(kind, home, arguments.rounds, arguments.seconds, arguments.width)
            for kind in WANTED
        ]
        where_the_time_goes(home, arguments.width)
    sys.exit(0 if min(ratios) >= 0.6 else "\nhits: a ratio is below 0.6")


def photo() -> bytes:
    """Something with detail, so that its rendition has the size of a real one."""
    out = BytesIO()
    image = Image.effect_noise((800, 600), 50).convert("RGB").resize((3200, 2400))
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


if __name__ == "__main__":
    main()
