"""The middleware under the WSGI servers that people use, each as it is installed and started.

A server is started once, for all tests, which have pictures of their own. When they are done, it is
told to stop, and nothing of it may be left.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import servers
from origin import jpeg, opened
from pictures import encoded
from PIL import Image
from processes import session
from snippets import claim
from test_herd import until
from urllib3 import HTTPConnectionPool

from thumbproxy import Thumbnails

TESTS = Path(__file__).parent
THUMBS = Thumbnails([servers.KEY])
MISSES = 6
PROGRAMS = Path(sys.executable).parent

# What docs/serving.md shows.
[UWSGI] = claim("ini", "docs/serving.md", "uwsgi")
[GEVENT_FIRST] = claim("python", "docs/serving.md", "gevent")
GUNICORN = "gunicorn --bind 127.0.0.1:PORT --no-control-socket wsgi_site:app"
COMMANDS = {
    "waitress": "waitress-serve --listen=127.0.0.1:PORT --threads=8 "
    "--channel-request-lookahead=1 wsgi_site:app",
    "cheroot": "cheroot --bind 127.0.0.1:PORT --threads 8 wsgi_site:app",
    "werkzeug": f"python {TESTS}/wsgi_server.py werkzeug PORT",
    "wsgiref": f"python {TESTS}/wsgi_server.py wsgiref PORT",
    "uwsgi": f"uwsgi --ini uwsgi.ini --venv {sys.prefix}",
    "uwsgi-plain": f"uwsgi --http-socket 127.0.0.1:PORT --module wsgi_site:app --venv {sys.prefix} "
    "--need-app --die-on-term",
    "sync": f"{GUNICORN} --workers 2 --worker-class sync",
    "gthread": f"{GUNICORN} --threads 8",
    "gevent": f"{GUNICORN} --worker-class gevent",
    "gevent_pywsgi": f"{GUNICORN} --worker-class gevent_pywsgi",
    "preload-sync": f"{GUNICORN} --workers 2 --worker-class sync --preload",
    "preload-gthread": f"{GUNICORN} --workers 2 --threads 8 --preload",
    "preload-gevent": f"{GUNICORN} --worker-class gevent --preload",
    "preload-gevent-first": f"{GUNICORN} --worker-class gevent --preload",
}
# Each worker of gunicorn tells that it works: told to stop before, it may not hear of it.
READY = """
import os

def post_worker_init(worker):
    with open(f"{os.environ['SITE']}/ready", "a") as ready:
        ready.write(f"{os.getpid()}\\n")

"""
# They answer one request at a time, or one in each process.
ONE_BY_ONE = {"wsgiref", "uwsgi-plain"}
# They do not show whether a client is still there.
BLIND = {"cheroot", "wsgiref"}
# Seconds after which a server that was told to stop has stopped, on a busy machine.
TO_STOP = 10


@dataclass(frozen=True)
class Site(servers.Server):
    """A server, and the folder of its site."""

    name: str = ""
    folder: Path = Path()

    def asked(self, name: str) -> int:
        return (self.folder / "asked").read_text().split().count(f"/{name}")

    def kept(self, name: str) -> list[Path]:
        """The renditions of a picture."""
        return list((self.folder / "cache").glob(f"private/{name}/[!.]*"))

    def release(self, name: str) -> None:
        """Have the application send a picture that it holds."""
        (self.folder / "released" / name).touch()


CELLS = [f"{name}-{isolation}" for name in COMMANDS for isolation in ("threads", "processes")]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    small = jpeg(90, 60)
    names = "cold herd-held full-held gone-held reset-held slow-held old hit"
    for name in names.split():
        (folder / f"{name}.jpg").write_bytes(small)
    noise = Image.frombytes("RGB", (500, 400), os.urandom(500 * 400 * 3))
    (folder / "large.png").write_bytes(encoded(noise, "PNG"))
    noise = noise.resize((800, 600))
    (folder / "heavy.jpg").write_bytes(encoded(noise))
    return folder


@pytest.fixture(scope="module", params=CELLS)
def site(
    request: pytest.FixtureRequest, media: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """At the end it is told to stop, and then nothing of it may be left."""
    name, _, isolation = request.param.rpartition("-")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "media").symlink_to(media)
    (folder / "released").mkdir()
    (folder / "asked").touch()
    (folder / "ready").touch()
    port = servers.free_port()
    first = GEVENT_FIRST.text if name.endswith("-first") else ""
    (folder / "gunicorn.conf.py").write_text(READY + first)
    shown = UWSGI.text.replace("8080", str(port)).replace("mysite:", "wsgi_site:")
    (folder / "uwsgi.ini").write_text(shown)
    environ = {
        **os.environ,
        "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
        "SITE": str(folder),
        "ISOLATION": isolation,
        "MISSES": str(MISSES),
    }
    program, *arguments = COMMANDS[name].replace("PORT", str(port)).split()
    command = [str(PROGRAMS / program), *arguments]
    with (
        open(folder / "log", "wb") as log,
        servers.running(command, port, cwd=folder, env=environ, stdout=log, stderr=log) as server,
    ):
        assert server.process
        if program == "gunicorn":
            workers = 2 if "--workers" in arguments else 1
            until(lambda: (folder / "ready").read_text().count("\n") == workers)
        yield Site(port, server.process, name, folder)
        leader = server.process.pid
        assert server.process.poll() is None, "it has ended by itself"
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(TO_STOP)
        until(lambda: not session(leader), TO_STOP)
    assert "Traceback" not in (folder / "log").read_text()


def url(name: str, width: int = 30) -> str:
    return THUMBS.url(name, width=width, format="jpg")


def check_small(reply: servers.Reply) -> None:
    assert reply.status == 200, reply.body
    assert opened(reply.body).size == (30, 20)


def test_a_cold_picture_is_made_and_then_a_hit(site: Site) -> None:
    first, second = site.ask(url("cold.jpg")), site.ask(url("cold.jpg"))
    check_small(first)
    assert first["Cache-Status"] == "thumbproxy; fwd=uri-miss; stored"
    assert second["Cache-Status"] == "thumbproxy; hit; detail=disk"
    assert second.body == first.body
    assert site.asked("cold.jpg") == 1

    head = site.ask(url("cold.jpg"), method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Length"] == str(len(first.body))
    unchanged = site.ask(url("cold.jpg"), {"If-None-Match": first["ETag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged["ETag"] == first["ETag"]
    part = site.ask(url("cold.jpg"), {"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, first.body[10:20])
    assert site.ask(url("cold.jpg"), {"Range": "bytes=999999-"}).status == 416


def test_a_large_picture_comes_whole_and_in_parts(site: Site) -> None:
    path = THUMBS.url("large.png", width=400, format="png")
    made, whole = site.ask(path), site.ask(path)
    assert len(whole.body) > 256 * 1024, "it would be read, not sent from its file"
    assert opened(whole.body).size == (400, 320)
    assert whole.body == made.body
    for first, last in ((0, 9), (100_000, 399_999), (len(whole.body) - 7, len(whole.body) - 1)):
        part = site.ask(path, {"Range": f"bytes={first}-{last}"})
        assert (part.status, part.body) == (206, whole.body[first : last + 1])
    head = site.ask(path, method="HEAD")
    assert (head.body, head["Content-Length"]) == (b"", str(len(whole.body)))


def test_a_client_that_hangs_up_while_it_is_sent_a_large_picture(site: Site) -> None:
    path = THUMBS.url("large.png", width=401, format="png")
    assert site.ask(path).status == 200
    for _ in range(3):
        with socket.create_connection((servers.HOST, site.port), 10) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(10)
    check_left(site)


def test_errors_are_told(site: Site) -> None:
    for path, status in (
        (url("absent.jpg"), 404),
        (url("hit.jpg").replace("w_30", "w_31"), 403),
        ("/thumb/x", 404),
        ("/absent", 404),
    ):
        assert site.ask(path).status == status
    posted = site.ask(url("hit.jpg"), method="POST")
    assert (posted.status, posted["Allow"]) == (405, "GET, HEAD")


def test_what_is_no_thumbnail_is_the_application_s(site: Site) -> None:
    connection = http.client.HTTPConnection(servers.HOST, site.port, timeout=30)
    connection.request("POST", "/page", b"a form")
    with connection.getresponse() as response:
        assert (response.status, response.headers["X-Page"]) == (200, "1")
        assert response.read() == b"sent a form by POST"
    connection.close()


def test_http_1_0_and_kept_connections(site: Site) -> None:
    check_small(site.ask(url("hit.jpg")))
    with socket.create_connection((servers.HOST, site.port), 30) as client:
        client.sendall(f"GET {url('hit.jpg')} HTTP/1.0\r\n\r\n".encode())
        client.settimeout(30)
        reply = http.client.HTTPResponse(client)
        reply.begin()
        assert opened(reply.read()).size == (30, 20)
    with HTTPConnectionPool(servers.HOST, site.port, timeout=30) as kept:
        for _ in range(3):  # on one connection, unless the server closes it
            assert opened(kept.request("GET", url("hit.jpg")).data).size == (30, 20)


def test_a_crowd_around_one_cold_picture(site: Site) -> None:
    """It is fetched and made once, in whichever processes they are."""
    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(site.ask, url("herd-held.jpg")) for _ in range(5)]
        until(lambda: site.asked("herd-held.jpg"))
        site.release("herd-held.jpg")
        replies = [each.result() for each in asking]
    for reply in replies:
        check_small(reply)
    assert site.asked("herd-held.jpg") == 1
    stored = [reply for reply in replies if reply["Cache-Status"].endswith("uri-miss; stored")]
    assert len(stored) == 1


def test_hits_do_not_wait_for_a_slow_origin(site: Site) -> None:
    check_small(site.ask(url("hit.jpg")))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(site.ask, url("slow-held.jpg"))
        until(lambda: site.asked("slow-held.jpg"))
        if site.name not in ONE_BY_ONE:
            for _ in range(4):
                assert site.ask(url("hit.jpg"))["Cache-Status"] == "thumbproxy; hit; detail=disk"
            assert not slow.done()
        site.release("slow-held.jpg")
        check_small(slow.result())


def test_hits_do_not_wait_for_a_render(site: Site) -> None:
    """Where one thread has them all; other servers leave that to the kernel."""
    if "gevent" not in site.name:
        return
    check_small(site.ask(url("hit.jpg")))
    with ThreadPoolExecutor(1) as pool:
        path = THUMBS.url("heavy.jpg", width=800, format="webp", lossless=True)
        slow, hits = pool.submit(site.ask, path), 0
        until(lambda: site.asked("heavy.jpg"))
        while not slow.done() and site.ask(url("hit.jpg")).status == 200:
            hits += 1
        assert slow.result().status == 200
    assert hits > 10


def test_more_misses_than_there_is_room_for(site: Site) -> None:
    with ThreadPoolExecutor(30) as pool:
        asking = [pool.submit(site.ask, url("full-held.jpg")) for _ in range(30)]
        until(lambda: site.asked("full-held.jpg"))
        if site.name not in ONE_BY_ONE and "sync" not in site.name:
            until(lambda: any(each.done() for each in asking))
        site.release("full-held.jpg")
        replies = [each.result() for each in asking]
    for reply in replies:
        if reply.status == 503:
            assert reply["Retry-After"] == "1"
        else:
            check_small(reply)
    check_small(site.ask(url("full-held.jpg")))


@pytest.mark.parametrize("how", ["gone", "reset"])
def test_a_client_that_hangs_up_in_a_miss_leaves_nothing(site: Site, how: str) -> None:
    """Where the server shows that it has gone, the picture is not even made."""
    name = f"{how}-held.jpg"
    client = socket.create_connection((servers.HOST, site.port), 10)
    client.sendall(f"GET {url(name)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    until(lambda: site.asked(name))
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    if site.name == "waitress":  # its other thread has to see it first
        until(lambda: not hung_up(site.port))
    site.release(name)
    if site.name not in BLIND:
        until(lambda: site.asked(name) and not hung_up(site.port))
        check_left(site)
        assert not site.kept(name)
    else:
        until(lambda: site.kept(name))
        check_left(site)
    check_small(site.ask(url(name)))


def test_an_old_picture_is_asked_about_in_the_background(site: Site) -> None:
    check_small(site.ask(url("old.jpg")))
    record = site.folder / "cache" / "private" / "old.jpg" / ".source"
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, "fresh_until": time.time() - 9}))
    reply = site.ask(url("old.jpg"))
    check_small(reply)
    assert "; hit; ttl=-" in reply["Cache-Status"]
    until(lambda: site.asked("old.jpg") == 2)


def test_the_documentation_names_the_servers_that_are_tested() -> None:
    page = (TESTS.parent / "docs" / "serving.md").read_text()
    section = page[page.index("## WSGI servers") : page.index("### gevent")]
    rows = re.findall(r"^\| (`.*?) \|.*\| (yes|no) \|$", section, re.MULTILINE)
    told = {name: seen for names, seen in rows for name in re.findall("`([a-z_]+)`", names)}
    tested = {name.removeprefix("preload-").split("-")[0] for name in COMMANDS}
    assert told == {name: "no" if name in BLIND else "yes" for name in tested}


def hung_up(port: int) -> int:
    """Connections to a port that their clients have left, and the server has not."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    states = [fields[3] for line in lines if (fields := line.split())[1].endswith(f":{port:04X}")]
    return states.count("08")  # CLOSE_WAIT


def check_left(site: Site) -> None:
    until(lambda: not hung_up(site.port))
    until(lambda: not list((site.folder / "cache" / "tmp").iterdir()))
