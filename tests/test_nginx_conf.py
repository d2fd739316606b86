"""conf/nginx.conf: what nginx answers by itself, and what it leaves to thumbproxy.

Behind nginx is a server that tells what it was asked; before it, what lies in the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import nginx
import pytest
from echo import MODIFIED, Echo, EchoServer, Site, serving

from thumbproxy.core.formats import Format
from thumbproxy.http.negotiation import PREFERENCE, accepted
from thumbproxy.http.responses import content_disposition

SIGNATURE = "A-_Sn1043zAIVMTaqlCEjg"
NAMES = [
    "cat.jpg",
    "photos/cat.jpg",
    "photos/a b/c+d.jpg",
    "photos/100%.jpg",
    "photos/%41.jpg",
    "photos/who?.jpg",
    "photos/a?b=c&d.jpg",
    "photos/~x#y;z.jpg",
    "médias/été à Nice.jpg",
    "日本/富士.png",
    'quo"ted.jpg',
    "no-extension",
    "two.dots.jpg",
    "$host/$uri.jpg",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cache = tmp_path_factory.mktemp("cache")
    folder = tmp_path_factory.mktemp("nginx")
    with (
        serving(EchoServer(("127.0.0.1", 0), Echo)) as upstream,
        nginx.running(folder, upstream, cache) as address,
    ):
        yield Site(address, cache)
        log = (folder / "error.log").read_text().splitlines()
    # nginx says there what it finds strange in its configuration or its files.
    assert not [line for line in log if re.search(r"\[(warn|crit|alert|emerg)\]", line)]


def stored_as(source: str, format: str = "webp", options: str = "w_400,v_7f3a") -> str:
    return f"{source}/{options}.{SIGNATURE}.{format}"


def url(source: str, format: str = "webp", options: str = "w_400,v_7f3a") -> str:
    return "/thumb/" + quote(stored_as(source, format, options), safe="/,")


@pytest.mark.parametrize("name", NAMES)
def test_a_hit_is_served_without_asking_thumbproxy(site: Site, name: str) -> None:
    body = f"picture of {name}".encode()
    site.put(f"public/{stored_as(name)}", body)
    reply = site.ask(url(name))
    assert (reply.status, reply.body, reply.asked) == (200, body, None)
    assert reply.headers["Content-Type"] == "image/webp"


@pytest.mark.parametrize("name", NAMES)
def test_a_miss_is_passed_on_with_the_path_as_it_came(site: Site, name: str) -> None:
    path = url(f"missing/{name}") + "?utm=1%20"
    assert site.ask(path).asked == f"GET {path}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/thumb",
        "/thumb/",
        "/a%2Fb%2fc//d/./e/../f?x=%7E&y=a+b",
        "/thumb/photos%2Fcat.jpg/w_1%2Cv_1.x.webp",
        "/thumb/%c3%a9t%C3%A9.jpg/_.x.webp",
        "/thumb//photos/cat.jpg/_.x.webp",
    ],
)
def test_every_other_path_is_passed_on_as_it_came(site: Site, path: str) -> None:
    assert site.ask(path).asked == f"GET {path}"


def test_however_a_client_encodes_a_path_it_finds_the_file(site: Site) -> None:
    site.put(f"public/{stored_as('en coded/cat~1.jpg')}")
    for path in (
        url("en coded/cat~1.jpg"),
        url("en coded/cat~1.jpg").replace(",", "%2C").replace("~", "%7E"),
        url("en coded/cat~1.jpg").replace("/cat", "%2fcat"),
        "/thumb/" + "".join(f"%{byte:02X}" for byte in stored_as("en coded/cat~1.jpg").encode()),
        url("en coded/cat~1.jpg") + "?the=query&is=ignored",
    ):
        reply = site.ask(path)
        assert (reply.status, reply.asked) == (200, None), path


def test_a_folder_named_like_a_picture_is_left_to_thumbproxy(site: Site) -> None:
    """Where there is the picture, there cannot be the folder, so it lies elsewhere."""
    site.put(f"public/{stored_as('k.jpg')}")
    path = url(f"{stored_as('k.jpg')}/x.jpg")
    assert site.ask(path).asked == f"GET {path}"
    assert site.ask(url("k.jpg")).asked is None


def test_a_path_with_a_line_feed_behind_it_is_another(site: Site) -> None:
    site.put(f"public/{stored_as('cat.jpg')}")
    assert site.ask(url("cat.jpg") + "%0a").asked is not None


@pytest.mark.parametrize("format", Format)
def test_each_format_has_its_content_type(site: Site, format: Format) -> None:
    site.put(f"public/{stored_as('types.png', format.extension)}")
    reply = site.ask(url("types.png", format.extension))
    assert (reply.asked, reply.headers["Content-Type"]) == (None, format.content_type)


def test_a_hit_has_the_headers_that_thumbproxy_gives(site: Site) -> None:
    site.put(f"public/{stored_as('headers/cat.jpg')}", b"x" * 300)
    headers = site.ask(url("headers/cat.jpg")).headers
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["Cache-Status"] == "nginx; hit"
    assert headers["Content-Disposition"] == 'inline; filename="cat.webp"'
    assert headers["Content-Length"] == "300"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["ETag"] == f'"{MODIFIED:x}-{300:x}"'
    assert headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Vary" not in headers
    assert headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("name", NAMES)
def test_a_hit_is_saved_under_the_name_that_thumbproxy_gives(site: Site, name: str) -> None:
    """Where that takes RFC 8187's encoding, which nginx cannot do, no name is given."""
    ours = content_disposition(name, Format.WEBP)
    site.put(f"public/{stored_as(name)}")
    theirs = site.ask(url(name)).headers["Content-Disposition"]
    assert theirs == ("inline" if "filename*" in ours else ours)


def test_a_reply_of_thumbproxy_keeps_its_own_headers(site: Site) -> None:
    headers = site.ask(url("missing/cat.jpg")).headers
    assert headers["Cache-Status"] == "thumbproxy; fwd=uri-miss"
    assert "Cache-Control" not in headers
    assert "Vary" not in site.ask(url("missing/cat.jpg", "auto")).headers


ACCEPTS = [
    "",
    "*/*",
    "image/*",
    "image/avif",
    "image/webp",
    "image/jpeg",
    "image/webp,*/*",
    "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "image/webp,image/avif",
    "IMAGE/WEBP",
    "image/png , image/avif , */*",
    "image/avif;q=0",
    "image/avif;q=0,image/webp",
    "image/avif;q=0.5,image/webp;q=0.9",
    "image/avif,image/webp;q=0.9",
    "image/webp ; q=0.1",
    "image/avif-sequence",
    "ximage/avif",
    "image/avif/webp",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "image/avif," + "x/y," * 250,  # too long for thumbproxy, which then takes it for none
]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_auto_gives_what_thumbproxy_would_choose(site: Site, accept: str) -> None:
    for format in ("avif", "webp", "jpg"):
        site.put(f"public/{stored_as('auto.png', 'auto')}.{format}", format.encode())
    reply = site.ask(url("auto.png", "auto"), {"Accept": accept})
    if reply.asked is None:
        chosen = next(iter(accepted(accept, PREFERENCE)), Format.JPEG)
        assert reply.body.decode() == chosen.extension
        assert reply.headers["Content-Type"] == chosen.content_type
        assert reply.headers["Vary"] == "Accept"
        assert reply.headers["Content-Disposition"] == content_disposition("auto.png", chosen)


@pytest.mark.parametrize("accept", [accept for accept in ACCEPTS if ";q" not in accept[:12]])
def test_auto_is_answered_by_nginx_where_no_weighing_is_needed(site: Site, accept: str) -> None:
    for format in ("avif", "webp", "jpg"):
        site.put(f"public/{stored_as('auto.png', 'auto')}.{format}")
    weighed = "image/webp ;" in accept or "image/webp;" in accept or len(accept) > 1000
    asked = site.ask(url("auto.png", "auto"), {"Accept": accept}).asked
    assert (asked is not None) == weighed


def test_auto_asks_thumbproxy_for_a_format_that_is_not_there(site: Site) -> None:
    site.put(f"public/{stored_as('one.png', 'auto')}.jpg")
    path = url("one.png", "auto")
    assert site.ask(path, {"Accept": "image/avif"}).asked == f"GET {path}"
    assert site.ask(path).asked is None


def test_the_file_of_an_auto_url_has_no_url_of_its_own(site: Site) -> None:
    site.put(f"public/{stored_as('own.png', 'auto')}.webp")
    assert site.ask(f"{url('own.png', 'auto')}.webp").asked


@pytest.mark.parametrize(
    "file",
    [
        f"private/{stored_as('secret.jpg')}",
        "private/secret.jpg/.source",
        "public/secret.jpg/.source",
        f"public/secret.jpg/.{SIGNATURE}.webp",
        f"public/.hidden/{stored_as('secret.jpg')}",
        f"public/{stored_as('.secret.jpg')}",
        "public/secret.jpg/readme.webp",
        "public/secret.jpg/w_1.tooshort.webp",
        f"public/secret.jpg/w_1.{SIGNATURE}.svg",
        f"public/secret.jpg/w_1.{SIGNATURE}.webp~",
        f"public/w_1.{SIGNATURE}.webp",
        "sources/ab/abcdef",
        f"sources/ab/w_1.{SIGNATURE}.webp",
    ],
)
def test_nothing_but_a_variant_in_public_is_looked_up(site: Site, file: str) -> None:
    """Whichever way its path is told."""
    site.put(file, b"secret")
    inside = file.partition("/")[2]
    for path in (
        f"/thumb/{inside}",
        f"/thumb/{file}",
        f"/{file}",
        f"/thumb/../{file}",
        f"/thumb/..%2f{file}",
        f"/thumb/%2e%2e/{file}",
        f"/thumb/%2e%2e%2f{file}",
        f"/thumb/x/..%2f..%2f{file}",
        f"/thumb/..%5c{file}",
        f"/thumb/..%252f{file}",
        f"/thumb/%2f{site.cache}/{file}",
        f"/thumb//{inside}",
        f"/thumb/{inside}%0a",
        f"/thumb/./{inside}".replace("/.source", "/%2esource"),
    ):
        reply = site.ask(path)
        assert reply.body != b"secret", path
        # nginx itself refuses what would climb out of its root.
        assert reply.status == 400 or reply.asked == f"GET {path}", path


def test_a_purged_file_is_gone_at_once(site: Site) -> None:
    file = site.put(f"public/{stored_as('purged.jpg')}")
    assert site.ask(url("purged.jpg")).asked is None
    file.unlink()
    assert site.ask(url("purged.jpg")).asked


def test_a_directory_of_that_name_is_no_picture(site: Site) -> None:
    """A source below it was resized; nginx alone would send the client to another address."""
    site.put(f"public/{stored_as('odd.jpg')}/{stored_as('cat.jpg')}")
    for method in ("GET", "HEAD"):
        reply = site.ask(url("odd.jpg"), method=method)
        assert (reply.status, reply.asked) == (200, f"{method} {url('odd.jpg')}")


def test_head_has_the_headers_of_get_and_no_body(site: Site) -> None:
    site.put(f"public/{stored_as('head.jpg')}", b"x" * 300)
    get, head = (site.ask(url("head.jpg"), method=method) for method in ("GET", "HEAD"))
    assert (head.status, head.body, head.asked) == (200, b"", None)
    different = {"Date", "Connection"}
    assert {k: v for k, v in get.headers.items() if k not in different} == {
        k: v for k, v in head.headers.items() if k not in different
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PURGE", "OPTIONS"])
def test_other_methods_are_thumbproxys_to_answer(site: Site, method: str) -> None:
    site.put(f"public/{stored_as('post.jpg')}")
    site.put(f"public/{stored_as('post.jpg', 'auto')}.jpg")
    for path in (url("post.jpg"), url("post.jpg", "auto")):
        assert site.ask(path, method=method, body=b"body").asked == f"{method} {path}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": f'"{MODIFIED:x}-12c"'}, 304),
        ({"If-None-Match": f'"other", W/"{MODIFIED:x}-12c"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 304),
        ({"If-Modified-Since": "Wed, 15 Nov 2023 00:00:00 GMT"}, 304),
        ({"If-Modified-Since": "Mon, 13 Nov 2023 00:00:00 GMT"}, 200),
    ],
)
def test_conditions_are_obeyed(site: Site, headers: dict[str, str], status: int) -> None:
    site.put(f"public/{stored_as('conditions/cat.jpg')}", b"x" * 300)
    reply = site.ask(url("conditions/cat.jpg"), headers)
    assert (reply.status, reply.asked) == (status, None)
    if status == 304:
        assert reply.headers["ETag"] == f'"{MODIFIED:x}-12c"'
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert reply.headers["Content-Disposition"] == 'inline; filename="cat.webp"'


@pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
def test_what_may_fail_is_thumbproxys_to_answer(site: Site, name: str) -> None:
    site.put(f"public/{stored_as('match.jpg')}")
    assert site.ask(url("match.jpg"), {name: "x"}).asked


@pytest.mark.parametrize("wanted", ["bytes=0-9", "bytes=0-1,4-5", "bytes=300-", "nonsense"])
def test_ranges_are_thumbproxys_to_answer(site: Site, wanted: str) -> None:
    """nginx's own 416 would be kept for a year by every cache on the way."""
    site.put(f"public/{stored_as('ranges.jpg')}", b"x" * 300)
    path = url("ranges.jpg")
    assert site.ask(path, {"Range": wanted}).asked == f"GET {path}"


def test_connections_to_thumbproxy_are_kept(site: Site) -> None:
    connections = {site.ask(f"/{n}").headers["X-Connection"] for n in range(20)}
    assert len(connections) <= 8  # each process of nginx keeps its own


def test_what_a_client_says_of_itself_is_replaced(site: Site) -> None:
    told = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher", "Host": "a.example:81"}
    lines = site.ask("/", told | {"X-Forwarded-Host": "evil.example"}).body.decode().splitlines()
    assert {"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"} <= set(lines)
    assert {"X-Forwarded-Host: a.example:81", "Host: a.example:81"} <= set(lines)
    assert "evil.example" not in "\n".join(lines)
    assert "6.6.6.6" not in "\n".join(lines)


def test_a_body_over_the_limit_is_refused_by_nginx(site: Site) -> None:
    size = {"Content-Length": str(11 * 1024 * 1024)}
    assert site.ask("/upload", size, "POST").status == 413
