"""What nginx keeps of thumbproxy's replies, and for how long; and files that come and go under it.

Time is not waited for: nginx writes into each copy until when it is good, and tests change that.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nginx
import pytest
import servers
from echo import Echo, EchoServer, Gallery, Picture, Reply, Site, serving
from origin import jpeg

from thumbproxy import Thumbnails
from thumbproxy.caches.base import Removed, Scope
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.purging.nginx import NginxCache

SIGNATURE = "A-_Sn1043zAIVMTaqlCEjg"
THUMBS = Thumbnails([servers.KEY])
# How a copy begins: version, until when it is good, two windows, last modified, when it was got.
HEADER = struct.Struct("@Q5q")


def url(source: str = "photos/cat.jpg", options: str = "w_400", format: str = "webp") -> str:
    return f"/thumb/{source}/{options}.{SIGNATURE}.{format}"


@dataclass
class Front:
    """nginx, what it keeps, and the gallery behind it."""

    site: Site
    gallery: Gallery
    folder: Path

    @property
    def copies(self) -> list[Path]:
        return [path for path in self.folder.glob("cache/*/*/*") if path.is_file()]

    @property
    def log(self) -> str:
        return (self.folder / "error.log").read_text()

    def age(self) -> None:
        """As if the time were over for which nginx need not ask."""
        for path in self.copies:
            with path.open("r+b") as file:
                values = list(HEADER.unpack(file.read(HEADER.size)))
                values[1] = values[5] - 3600
                file.seek(0)
                file.write(HEADER.pack(*values))

    def ask(self, path: str = "", **headers: str) -> Reply:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.site.ask(path or url(), names)

    def together(self, ask: Callable[[], Reply], clients: int) -> list[Reply]:
        with ThreadPoolExecutor(clients) as pool:
            return [future.result() for future in [pool.submit(ask) for _ in range(clients)]]


def said(reply: Reply) -> str:
    """What nginx adds to thumbproxy's Cache-Status; "" for nothing."""
    return ", ".join((reply.headers.get_all("Cache-Status") or [])[1:])


# Clients of tests are slow at times; those who wait for a copy must not give up before it is there.
PATIENT = {"proxy_cache_lock_timeout 200ms;": "proxy_cache_lock_timeout 20s;"}


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    gallery = Gallery()
    with (
        serving(gallery) as upstream,
        nginx.running(folder, upstream, tmp_path / "cache", PATIENT) as address,
    ):
        front = Front(Site(address, tmp_path / "cache"), gallery, folder)
        front.ask("/ready")
        gallery.asked.clear()
        yield front


def test_a_reply_is_kept_and_used(front: Front) -> None:
    first, second, third = (front.ask() for _ in range(3))
    assert [said(reply) for reply in (first, second, third)] == [
        "nginx; fwd=uri-miss", "nginx; hit", "nginx; hit",
    ]  # fmt: skip
    assert second.headers.get_all("Cache-Status") == ["thumbproxy; hit; detail=disk", "nginx; hit"]
    assert second.body == first.body
    for name in ("ETag", "Cache-Control", "Content-Type", "Content-Length"):
        assert second.headers[name] == first.headers[name]
    assert len(front.gallery.asked) == 1


def test_nginx_asks_after_ten_seconds_whatever_clients_may_do(front: Front) -> None:
    assert "max-age=2592000" in front.ask().headers["Cache-Control"]
    [copy] = front.copies
    _, good_until, _, _, _, got = HEADER.unpack(copy.read_bytes()[: HEADER.size])
    assert good_until - got == 10


def test_a_copy_that_is_still_good_costs_a_304(front: Front) -> None:
    etag = front.ask().headers["ETag"]
    front.age()
    reply = front.ask()
    assert (reply.status, reply.body, said(reply)) == (
        200, b"picture", "nginx; fwd=stale; fwd-status=304",
    )  # fmt: skip
    _, _, asked = front.gallery.asked[-1]
    assert asked["If-None-Match"] == etag
    assert said(front.ask()) == "nginx; hit"
    assert len(front.gallery.asked) == 2


def test_a_changed_picture_takes_the_place_of_its_copy(front: Front) -> None:
    front.ask()
    front.gallery.picture = Picture(b"another one")
    assert front.ask().body == b"picture"
    front.age()
    assert [front.ask().body for _ in range(2)] == [b"another one"] * 2
    assert len(front.gallery.asked) == 2


@pytest.mark.parametrize("status", [0, 500, 502, 503, 504])
def test_a_copy_is_served_while_thumbproxy_is_down(front: Front, status: int) -> None:
    front.ask()
    front.age()
    front.gallery.picture = Picture(status=status, cache_control="no-store")
    reply = front.ask()
    assert (reply.status, reply.body, said(reply)) == (
        200, b"picture", "nginx; fwd=stale; detail=error",
    )  # fmt: skip
    front.gallery.picture = Picture(b"up again")
    assert front.ask().body == b"up again"


@pytest.mark.parametrize("status", [403, 404, 410, 422])
def test_a_picture_that_has_gone_is_gone_for_all(front: Front, status: int) -> None:
    """However many ask at once: none of them gets the old one."""
    front.ask()
    front.age()
    front.gallery.picture = Picture(status=status, cache_control="no-store")
    assert {reply.status for reply in front.together(front.ask, 20)} == {status}
    front.gallery.picture = Picture(b"back")
    assert front.ask().body == b"back"


@pytest.mark.parametrize(
    "picture",
    [
        Picture(cache_control="no-store"),
        Picture(cache_control="private, max-age=60"),
        Picture(cache_control=""),
        Picture(cache_control="public, max-age=31536000, immutable"),
        Picture(cache_control="public, max-age=0"),
        Picture(cache_control="public, max-age=9, stale-while-revalidate=86400"),
        Picture(more={"Set-Cookie": "a=b"}),
        Picture(cache_control="no-cache"),
        Picture(cache_control="public, max-age=600", more={"X-Accel-Expires": "0", "Age": "500"}),
        Picture(status=404),
        Picture(status=500),
        Picture(status=503),
    ],
    ids=str,
)
def test_what_is_not_for_everyone_and_later_is_not_kept(front: Front, picture: Picture) -> None:
    front.gallery.picture = picture
    for _ in range(2):
        assert front.ask().status == picture.status
    assert len(front.gallery.asked) == 2
    assert front.copies == []


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        (url(options="w_400,v_1"), {}, "GET"),
        (url(options="v_1"), {}, "GET"),
        (url(options="w_400,e_99999999999"), {}, "GET"),
        (url(options="e_99999999999"), {}, "GET"),
        (url(), {"Range": "bytes=0-1"}, "GET"),
        (url(format="auto"), {"Accept": "image/avif;q=0.9,image/webp"}, "GET"),
        (url(), {}, "POST"),
        (url(), {}, "PURGE"),
        ("/other", {}, "GET"),
    ],
)
def test_what_thumbproxy_must_see_it_sees(
    front: Front, path: str, headers: dict[str, str], method: str
) -> None:
    """Unchanged, its conditions and its range included."""
    sent = {**headers, "If-None-Match": '"x"', "If-Range": '"y"'}
    front.ask(path.replace("auto", "webp"))
    asked = len(front.gallery.asked)
    for _ in range(2):
        assert said(front.site.ask(path, sent, method)) == ""
    assert [(seen, where) for seen, where, _ in front.gallery.asked[asked:]] == [(method, path)] * 2
    _, _, seen = front.gallery.asked[-1]
    assert {name: seen[name] for name in sent} == sent


def test_a_head_is_answered_from_the_copy(front: Front) -> None:
    """And makes one."""
    head = front.site.ask(url(), method="HEAD")
    get = front.ask()
    again = front.site.ask(url(), method="HEAD")
    assert [method for method, _, _ in front.gallery.asked] == ["GET"]
    assert (head.body, get.body, again.body) == (b"", b"picture", b"")
    ours = {"ETag", "Content-Length", "Content-Type", "Cache-Control"}
    for name in ours:
        assert head.headers[name] == get.headers[name] == again.headers[name]


def test_a_client_that_has_the_picture_gets_a_304_from_the_copy(front: Front) -> None:
    full = front.ask()
    short = front.ask(If_None_Match=full.headers["ETag"])
    assert (short.status, short.body, said(short)) == (304, b"", "nginx; hit")
    for name in ("ETag", "Cache-Control"):
        assert short.headers[name] == full.headers[name]
    assert front.ask(If_None_Match='"other"').status == 200
    assert len(front.gallery.asked) == 1


def test_what_was_said_of_the_first_reply_is_not_said_of_the_copy(front: Front) -> None:
    front.gallery.picture = Picture(more={"Age": "7", "Server-Timing": "render;dur=3"})
    first = front.ask().headers
    assert (first["Age"], first["Server-Timing"]) == ("7", "render;dur=3")
    for _ in range(2):
        copy = front.ask().headers
        assert (copy["Age"], copy["Server-Timing"]) == (None, None)
        front.age()
    thumbproxys = front.ask(url(options="v_1")).headers
    assert (thumbproxys.get_all("Age"), thumbproxys["Server-Timing"]) == (["7"], "render;dur=3")


ACCEPTS = {
    "image/avif,image/webp,*/*": "both",
    "image/webp,image/avif": "both",
    "image/avif,*/*": "avif",
    "image/webp": "webp",
    "*/*": "neither",
    "": "neither",
}


def test_auto_is_kept_for_those_who_take_the_same(front: Front) -> None:
    """A picture that cannot be AVIF may be WebP for one of two who take AVIF, and not for both."""
    path = url(format="auto")
    front.gallery.picture.more = {"Vary": "Accept"}
    for accept, kind in ACCEPTS.items():
        front.gallery.picture.body = kind.encode()
        for _ in range(2):
            reply = front.ask(path, Accept=accept)
            assert (reply.body.decode(), reply.headers["Vary"]) == (kind, "Accept")
    assert len(front.gallery.asked) == len(front.copies) == len(set(ACCEPTS.values()))


def test_what_names_its_format_is_kept_once_for_all(front: Front) -> None:
    for accept in ACCEPTS:
        front.ask(Accept=accept)
    assert len(front.gallery.asked) == 1


def test_a_hundred_clients_are_one_request(front: Front) -> None:
    assert {reply.body for reply in front.together(front.ask, 100)} == {b"picture"}
    assert len(front.gallery.asked) == 1


def purged(front: Front, scope: str) -> Removed:
    return NginxCache(str(front.folder / "cache")).purge(Scope(scope))


def test_a_purge_reaches_the_copies_of_what_it_covers(front: Front) -> None:
    sources = ["photos/cat.jpg", "photos/cat.jpg2", "photos/deep/dog%20%C3%A9.jpg", "cat.jpg"]
    paths = [url(source, format=format) for source in sources for format in ("webp", "auto")]

    def kept() -> list[str]:
        front.gallery.picture = Picture(b"made after the purge")
        return [path for path in paths if front.ask(path).body == b"picture"]

    for scope, gone in {
        "photos/cat.jpg": paths[:2],
        "photos/": paths[:6],
        "photos/deep/dog é.jpg": paths[4:6],
        "photo/": [],
        "": paths,
    }.items():
        purged(front, "")
        front.gallery.picture = Picture()
        for path in paths:
            front.ask(path)
        sizes = sum(path.stat().st_size for path in front.copies) if not scope else 0
        removed = purged(front, scope)
        assert removed.files == len(gone)
        assert removed.bytes == sizes or scope
        assert kept() == [path for path in paths if path not in gone], scope


def test_a_purged_picture_is_not_served_while_thumbproxy_is_down(front: Front) -> None:
    front.ask()
    purged(front, "photos/cat.jpg")
    front.gallery.picture = Picture(status=503, cache_control="no-store")
    assert front.ask().status == 503


def test_a_reply_on_its_way_at_the_purge_is_asked_about_in_time(front: Front) -> None:
    """nginx keeps it; but only for as long as any copy."""
    front.gallery.open.clear()
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(front.ask)
        while not front.gallery.asked:
            threading.Event().wait(0.001)
        assert purged(front, "") == Removed()
        front.gallery.open.set()
        assert reply.result().body == b"picture"
    front.gallery.picture = Picture(b"made after the purge")
    front.age()
    assert front.ask().body == b"made after the purge"


def test_a_purge_beside_readers_breaks_no_reply(front: Front) -> None:
    bodies = {bytes([number]) * 100_000 for number in range(10)}
    paths = [url(f"photos/{number}.jpg") for number in range(5)]
    over = threading.Event()

    def read() -> list[Reply]:
        replies: list[Reply] = []
        while not over.is_set() or not replies:
            replies += [front.ask(path) for path in paths]
        return replies

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for body in bodies:
                front.gallery.picture = Picture(body)
                asked = len(front.gallery.asked)
                while len(front.gallery.asked) < asked + 20:  # readers see what changes
                    purged(front, "photos/")
        finally:
            over.set()
        replies = [reply for reader in readers for reply in reader.result()]
    assert {reply.status for reply in replies} == {200}
    assert {reply.body for reply in replies} <= bodies | {b"picture"}
    assert not any(word in front.log for word in ("[crit]", "[alert]", "[emerg]"))


def test_a_purge_touches_nothing_but_copies_of_thumbnails(tmp_path: Path) -> None:
    name = "0123456789abcdef0123456789abcdef"
    others = {
        "a/bc/README": b"\nKEY: thumbproxy /photos/cat.jpg/w_1.webp\n",
        f"a/bc/{name}.0000000012": b"\nKEY: thumbproxy /photos/cat.jpg/w_1.webp\n",
        f"a/bc/{name}": b"\nKEY: http://example.com/photos/cat.jpg/w_1.webp\n",
        f"a/bd/{name}": b"",
        f"a/be/{name}": b"x" * 10_000 + b"\nKEY: thumbproxy /photos/cat.jpg/w_1.webp\n",
    }
    for path, body in others.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body)
    os.mkfifo(tmp_path / "a" / name.replace("0", "f"))
    copy = tmp_path / "a" / name
    copy.write_bytes(b"...\nKEY: thumbproxy avif+webp/photos/cat.jpg/w_1.webp\nHTTP/1.1 200 OK")
    assert NginxCache(str(tmp_path)).purge(Scope("photos/")).files == 1
    assert not copy.exists()
    assert all((tmp_path / path).read_bytes() == body for path, body in others.items())


def test_one_copy_that_cannot_be_looked_at_keeps_no_other_from_being_removed(
    tmp_path: Path,
) -> None:
    head = b"...\nKEY: thumbproxy /photos/cat.jpg/w_1.webp\n"
    copies = [tmp_path / (digit * 32) for digit in "0123456789abcdef"]
    for copy in copies:
        copy.write_bytes(head)
    copies[7].unlink()
    copies[7].symlink_to(copies[8])
    with pytest.raises(PurgeFailed, match=copies[7].name):
        NginxCache(str(tmp_path)).purge(Scope("photos/"))
    assert os.listdir(tmp_path) == [copies[7].name]


def test_a_purge_that_cannot_look_says_so(tmp_path: Path) -> None:
    with pytest.raises(PurgeFailed, match="absent"):
        NginxCache(str(tmp_path / "absent")).purge(Scope(""))
    (tmp_path / "file").touch()
    with pytest.raises(PurgeFailed, match="file"):
        NginxCache(str(tmp_path / "file")).purge(Scope(""))


def workers(folder: Path) -> set[str]:
    pid = (folder / "nginx.pid").read_text().strip()
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_files_come_and_go_and_every_reply_is_whole(tmp_path: Path) -> None:
    """Removed as the janitor does, and renamed into place as thumbproxy does, while nginx serves
    them; and nginx reads its configuration again meanwhile."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    body = os.urandom(200_000)
    path = url(options="w_400,v_7f3a")
    with (
        serving(EchoServer(("127.0.0.1", 0), Echo)) as upstream,
        nginx.running(folder, upstream, tmp_path) as address,
        ThreadPoolExecutor(3) as pool,
    ):
        site = Site(address, tmp_path)
        site.ask("/")
        before = workers(folder)
        file, new = site.put(f"public{path.removeprefix('/thumb')}", body), tmp_path / "new"
        readers = [
            pool.submit(lambda how: [site.ask(path, method=how) for _ in range(600)], method)
            for method in ("GET", "GET", "HEAD")
        ]
        turns = 0
        while not all(reader.done() for reader in readers):
            file.unlink()
            new.write_bytes(body)
            new.rename(file)
            turns += 1
            if turns % 500 == 0:
                os.kill(int((folder / "nginx.pid").read_text()), signal.SIGHUP)
        replies = [reply for reader in readers for reply in reader.result()]
        assert workers(folder) != before
    assert {reply.status for reply in replies} == {200}
    assert {reply.body for reply in replies if reply.asked is None} <= {body, b""}
    assert {reply.asked for reply in replies} >= {None, f"GET {path}"}


# Each with what a GET without any of them said: ETag and Last-Modified.
CONDITIONS = [
    {},
    {"If-None-Match": "{etag}"},
    {"If-None-Match": 'W/{etag}, "other"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"other"'},
    {"If-None-Match": '"other"', "If-Modified-Since": "{date}"},
    {"If-Modified-Since": "{date}"},
    {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-Modified-Since": "nonsense"},
    {"If-Range": "{etag}"},
    {"Range": "bytes=0-9"},
    {"Range": "bytes=10-"},
    {"Range": "bytes=-10"},
    {"Range": "bytes=99999999-"},
    {"Range": "bytes=0-1,4-5"},
    {"Range": "nonsense"},
    {"Range": "bytes=0-9", "If-Range": "{etag}"},
    {"Range": "bytes=0-9", "If-Range": '"other"'},
    {"Range": "bytes=0-9", "If-None-Match": "{etag}"},
    {"If-Match": "{etag}"},
    {"If-Match": '"other"'},
    {"If-Match": "*"},
    {"If-Unmodified-Since": "{date}"},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
]
ALIKE = [
    "ETag", "Last-Modified", "Cache-Control", "Content-Type", "Content-Length", "Content-Range",
    "Vary", "Content-Disposition", "X-Content-Type-Options", "Content-Security-Policy",
    "Accept-Ranges", "Cross-Origin-Resource-Policy",
]  # fmt: skip
NOT_MODIFIED = ["ETag", "Cache-Control", "Vary", "Content-Type", "Content-Length"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site, Path]]:
    """A real thumbproxy, nginx in front of it, and nginx's folder."""
    folder, cache = tmp_path_factory.mktemp("nginx"), tmp_path_factory.mktemp("cache")
    photos = tmp_path_factory.mktemp("photos")
    (photos / "cat.jpg").write_bytes(jpeg(640, 480))
    arguments = ["--origin", str(photos), "--cache-dir", str(cache)]
    with (
        servers.thumbproxy(*arguments, "--workers", "1") as server,
        nginx.running(folder, f"127.0.0.1:{server.port}", cache) as address,
    ):
        yield Site((servers.HOST, server.port), cache), Site(address, cache), folder


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("format", ["webp", "auto"])
@pytest.mark.parametrize("version", ["1", None], ids=["immutable", "kept"])
@pytest.mark.parametrize("conditions", CONDITIONS, ids=str)
def test_nginx_and_python_answer_alike(
    both: tuple[Site, Site, Path],
    conditions: dict[str, str],
    version: str | None,
    format: str,
    method: str,
) -> None:
    python, front, _ = both
    path = THUMBS.url("cat.jpg", width=300, version=version, format=format)
    front.ask(path)
    full = front.ask(path)
    assert "nginx; hit" in (full.headers.get_all("Cache-Status") or [])
    etag, date = full.headers["ETag"], full.headers["Last-Modified"]
    sent = {name: text.format(etag=etag, date=date) for name, text in conditions.items()}
    ours, theirs = python.ask(path, sent, method), front.ask(path, sent, method)
    assert theirs.status == ours.status
    assert theirs.body == ours.body
    # Of the other headers nginx's 304 has more than it must (RFC 9110, section 15.4.5).
    names = NOT_MODIFIED if ours.status == 304 else ALIKE
    assert {name: theirs.headers[name] for name in names} == {
        name: ours.headers[name] for name in names
    }


def test_nginx_goes_on_when_thumbproxy_ends(tmp_path: Path) -> None:
    """With what it had; and thumbproxy's 304 keeps that good as long as it runs."""
    folder, photos, cache = (tmp_path / name for name in ("nginx", "photos", "cache"))
    for made in (folder, photos):
        made.mkdir()
    (photos / "cat.jpg").write_bytes(jpeg(64, 48))
    path = THUMBS.url("cat.jpg", width=30, format="webp")
    port = servers.free_port()
    with nginx.running(folder, f"127.0.0.1:{port}", cache) as address:
        front = Front(Site(address, cache), Gallery.__new__(Gallery), folder)
        arguments = ["--origin", str(photos), "--cache-dir", str(cache)]
        with servers.thumbproxy(*arguments, port=port):
            first = front.ask(path)
            front.age()
            assert said(front.ask(path)) == "nginx; fwd=stale; fwd-status=304"
        front.age()
        last = front.ask(path)
        assert (last.status, last.body, said(last)) == (
            200, first.body, "nginx; fwd=stale; detail=error",
        )  # fmt: skip
        purged(front, "cat.jpg")
        assert front.ask(path).status == 502
