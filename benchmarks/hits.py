"""Hits per second of thumbproxy under gunicorn, beside a bare application with the same reply.

    python benchmarks/hits.py [--rounds N] [--seconds S] [--width PX]

Both applications run under the same gunicorn (one worker, gthread) on processor 0; wrk asks from
processor 1, over kept connections. The bare application returns the very bytes and headers from
memory, so the ratio is what finding and checking a picture costs. Two more applications stop half
way, to say where the time goes: after the URL is verified, and after the picture is found and read.
Rounds alternate between the servers, and ratios are taken within a round, because machines drift.

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

from PIL import Image

from thumbproxy import Folder, Thumbnails, ThumbProxy

KEY = "a-key-that-only-this-benchmark-uses"
NAME = "photo.jpg"
App = Callable[..., list[bytes]]
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


# -- what gunicorn loads: a factory for each, told where things are by the environment ---------


def ours() -> ThumbProxy:
    return served(Path(os.environ["BENCHMARK_HOME"]))


def bare(step: Callable[[dict[str, Any]], object] = id) -> App:
    """The same reply from memory; `step` is done and forgotten."""
    reply = ours().respond(environ_of(os.environ["BENCHMARK_URL"]))
    assert reply is not None
    body, headers = reply.body, reply.headers

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        step(environ)
        start_response("200 OK", headers)
        return [body]

    return app


def verified() -> App:
    urls = ours()._urls
    return bare(lambda environ: urls.parse(environ["PATH_INFO"]))


def found() -> App:
    proxy = ours()

    def find(environ: dict[str, Any]) -> None:
        request = proxy._urls.parse(environ["PATH_INFO"])
        assert request is not None
        proxy._thumbnailer.get(request, environ)

    return bare(find)


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


# What is done before the reply, more with each.
STAGES = {"nothing": "bare", "verify": "verified", "find": "found", "all": "ours"}


def measure(kind: str, home: Path, rounds: int, seconds: int, width: int) -> float:
    """Prints a row; the median of ours/bare over the rounds."""
    url = url_of(kind, width)
    with ExitStack() as stack:
        ports = [stack.enter_context(gunicorn(stage, home, url)) for stage in STAGES.values()]
        for port in ports:
            asked(port, url, 1)
        rates = [[asked(port, url, seconds) for port in ports] for _ in range(rounds)]
    ratios = sorted(row[-1] / row[0] for row in rates)
    middle = [median(column) for column in zip(*rates, strict=True)]
    spent = [1e6 / after - 1e6 / before for before, after in pairwise(middle)]
    print(f"{kind:<12} {middle[-1]:>8.0f} {middle[0]:>8.0f} {median(ratios):>7.2f}"
          f"   {ratios[0]:.2f} to {ratios[-1]:.2f}"
          f"   {1e6 / middle[0]:>6.0f}" + "".join(f"{micro:>8.0f}" for micro in spent))  # fmt: skip
    return median(ratios)


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
        print("                                          lowest and      microseconds of a request")
        print("hit            ours/s   bare/s   ratio   highest       bare +verify   +find  +reply")
        ratios = [
            measure(kind, home, arguments.rounds, arguments.seconds, arguments.width)
            for kind in WANTED
        ]
    sys.exit(0 if min(ratios) >= 0.6 else "\nhits: a ratio is below 0.6")


def photo() -> bytes:
    """Something with detail, so that its rendition has the size of a real one."""
    out = BytesIO()
    image = Image.effect_noise((800, 600), 50).convert("RGB").resize((3200, 2400))
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


if __name__ == "__main__":
    main()
