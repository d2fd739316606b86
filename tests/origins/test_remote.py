"""Absolute URLs as sources: of hosts that are named, and of no others, wherever they lead."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from faulty import FaultyOrigin, replies

from thumbproxy.core.errors import BadSource, OriginFailed, SourceNotFound
from thumbproxy.origins.remote import RemoteOrigin
from thumbproxy.urls.codec import check_source, remote_source
from thumbproxy.urls.hosts import AllowedHosts, Server, plain_host, remote_server

HERE = ("127.0.0.0/8",)


def found(location: str) -> Any:
    return replies(b"elsewhere", f"Location: {location}", status="302 Found")


def at(server: FaultyOrigin, path: str = "cat.jpg") -> str:
    return f"{server.url.replace('://', '/')}/{path}"


NAMED = AllowedHosts(
    ["images.example.com", "*.cdn.example.net", "http://old.example.org", "*.Bücher.example",
     "http://legacy.example.org:8080", "93.184.216.34", "[2606:2800:220:1::1]:8443"]
)  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "https/images.example.com/a/b.jpg",
        "https/IMAGES.example.com/a.jpg",
        "https/images.example.com./a.jpg",
        "https/images.example.com:443/a.jpg",
        "https/a.cdn.example.net/a.jpg",
        "https/a.b.c.cdn.example.net/a.jpg",
        "http/old.example.org/a.jpg",
        "https/old.example.org/a.jpg",
        "http/legacy.example.org:8080/a.jpg",
        "https/93.184.216.34/a.jpg",
        "https/[2606:2800:220:1:0:0:0:1]:8443/a.jpg",
        "https/www.bücher.example/a.jpg",
        "https/www.xn--bcher-kva.example/a.jpg",
        "https/images.example.com/a.jpg?b=/c",
        "https/\uff49mages.example\u3002com/a.jpg",
    ],
)
def test_a_host_that_is_named_is_allowed_however_it_is_spelled(path: str) -> None:
    assert remote_server(path)[0] in NAMED
    RemoteOrigin(["images.example.com", "*.example.com"]).check("https/images.example.com/a.jpg")


@pytest.mark.parametrize(
    "path",
    [
        "http/images.example.com/a.jpg",
        "https/images.example.com:80/a.jpg",
        "https/images.example.com:8443/a.jpg",
        "https/example.com/a.jpg",
        "https/evil-images.example.com/a.jpg",
        "https/images.example.com.evil.example/a.jpg",
        "https/cdn.example.net/a.jpg",
        "https/evilcdn.example.net/a.jpg",
        "http/a.cdn.example.net/a.jpg",
        "http/old.example.org:8080/a.jpg",
        "http/legacy.example.org/a.jpg",
        "https/legacy.example.org:8080/a.jpg",
        "https/localhost/a.jpg",
        "https/127.0.0.1/a.jpg",
        "https/[::1]/a.jpg",
        "https/93.184.216.35/a.jpg",
    ],
)
def test_a_host_that_is_not_named_is_refused_with_what_names_it(path: str) -> None:
    assert remote_server(path)[0] not in NAMED
    with pytest.raises(BadSource, match="`hosts`"):
        RemoteOrigin(["other.example"]).check(path)


@pytest.mark.parametrize(
    "path",
    [
        "cat.jpg",
        "https",
        "https/images.example.com",
        "images.example.com/a.jpg",
        "ftp/images.example.com/a.jpg",
        "HTTPS/images.example.com/a.jpg",
        "https/us@images.example.com/a.jpg",
        "https/images.example.com@evil.example/a.jpg",
        "https/images.example.com?@evil.example/a.jpg",
        "https/images.example.com#x/a.jpg",
        "https/images.example.com:/a.jpg",
        "https/images.example.com:0/a.jpg",
        "https/images.example.com:65536/a.jpg",
        "https/images..example.com/a.jpg",
        "https/images%2eexample.com/a.jpg",
        "https/images example.com/a.jpg",
        "https/" + "a" * 64 + ".example/a.jpg",
        "https/2130706433/a.jpg",
        "https/0x7f.1/a.jpg",
        "https/127.1/a.jpg",
        "https/0177.0.0.1/a.jpg",
        "https/[::1%lo]/a.jpg",
        "https/[::1/a.jpg",
        "https/\u2460\u2461\u2466.1/a.jpg",
    ],
)
def test_what_names_no_host_is_refused_with_an_example(path: str) -> None:
    with pytest.raises(BadSource, match=r"like https/images\.example\.com"):
        remote_server(path)


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "*.*.example.com", "a.*.example.com", "ftp://a.example", "a.example/b",
     "https://a.example/", "us@a.example", "a.example:0", "a.example:99999", "a.example:x", "a b",
     "*.10.0.0.1", "*.0.1", "127.1", "0x7f.1", "[::1", "https://", "a..example", "[fe80::1%eth0]"],
)  # fmt: skip
def test_what_is_no_entry_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match=r"host|below|port"):
        RemoteOrigin([entry])
    with pytest.raises(ValueError, match="without hosts"):
        RemoteOrigin([])


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://images.example.com/a/b.jpg", "remote/https/images.example.com/a/b.jpg"),
        ("HTTPS://Images.Example.COM:443/A.jpg", "remote/https/images.example.com/A.jpg"),
        ("http://a.example:8080/a%20b.jpg?c=%2F1#x", "remote/http/a.example:8080/a b.jpg?c=%2F1"),
        ("https://bücher.example/%C3%A9t%C3%A9.jpg", "remote/https/xn--bcher-kva.example/été.jpg"),
        ("https://straße.example/100%.jpg", "remote/https/xn--strae-oqa.example/100%.jpg"),
        ("https://[2001:DB8:0::1]:444/a.jpg", "remote/https/[2001:db8::1]:444/a.jpg"),
    ],
)
def test_a_url_becomes_the_source_that_leads_back_to_it(url: str, source: str) -> None:
    assert remote_source(url) == source
    check_source(source)
    server, path = remote_server(source.removeprefix("remote/"))
    assert remote_source(f"{server.url}/{path.replace('100%', '100%25')}") == source
    assert remote_source(url, "a/b") == source.replace("remote/", "a/b/", 1)
    assert remote_source(url, "") == source.removeprefix("remote/")


@pytest.mark.parametrize(
    "url",
    ["/a.jpg", "a.jpg", "", "ftp://a.example/b.jpg", "https:///b.jpg", "https://us:pw@a.example/b",
     "https://a.example/b%2Fc.jpg", "https://a.example/b%3Fc.jpg", "https://a.example/%ff.jpg",
     "https://a.example:x/b", "https://127.1/b.jpg", "https://[::1/b.jpg", "https://a b/c.jpg",
     # what no URL of a thumbnail is made of either
     "https://a.example/b//c.jpg", "https://a.example//b.jpg", "https://a.example/b/",
     "https://a.example", "https://a.example/b/.c.jpg", "https://a.example/b%5Cc.jpg",
     "https://a.example/b.jpg?of=http://c", f"https://a.example/{'b' * 256}"],
)  # fmt: skip
def test_a_url_that_no_source_can_stand_for_is_refused(url: str) -> None:
    with pytest.raises(BadSource, match="cannot be a source"):
        remote_source(url)


def test_a_host_has_one_spelling() -> None:
    assert plain_host("[::FFFF:0:1]") == "[::ffff:0:1]"
    assert Server("http", "a.example", 80).url == "http://a.example"
    assert Server("https", "[::1]", 80).url == "https://[::1]:80"


def test_the_query_is_sent_and_nothing_of_the_host_can_become_a_path(ask: Any) -> None:
    with FaultyOrigin(replies(b"picture")) as server:
        origin = RemoteOrigin([server.url], allow_networks=HERE)
        for path in ("a b/c.jpg?d=e f", "100%.jpg"):
            assert origin.fetch(ask(at(server, path))).body == b"picture"
        with pytest.raises(SourceNotFound):
            origin.fetch(ask(at(server, "a/../b.jpg")))
    assert [request.target for request in server.requests] == [
        "/a%20b/c.jpg?d=e%20f",
        "/100%25.jpg",
    ]
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_a_host_that_is_named_may_not_be_of_this_network_unless_that_is_allowed(ask: Any) -> None:
    """Who names a host trusts what it serves, not whoever decides on its addresses."""
    with FaultyOrigin(replies(b"secret")) as server:
        named = [server.url, f"http://localhost:{server.port}"]
        for source in (at(server), at(server).replace("127.0.0.1", "localhost")):
            with pytest.raises(OriginFailed) as caught:
                RemoteOrigin(named).fetch(ask(source))
            assert "neither public nor in allow_networks" in caught.value.log
        assert server.reached() == 0
        origin = RemoteOrigin(named, allow_networks=("127.0.0.0/8", "::1/128"))
        assert origin.fetch(ask(at(server))).body == b"secret"


def test_redirects_lead_to_hosts_that_are_named_and_to_no_others(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[Any] = []
    look_up = socket.getaddrinfo

    def noted(host: Any, *args: Any, **more: Any) -> Any:
        resolved.append(host)
        return look_up(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    with FaultyOrigin({"/cat.jpg": replies(b"picture")}) as other:
        locations = {
            "/named": f"{other.url}/cat.jpg",
            "/spelled": f"http://127.1:{other.port}/cat.jpg",
            "/public": "https://www.example.com/cat.jpg",
            "/port": f"http://127.0.0.1:{other.port - 1}/cat.jpg",
            "/tls": f"https://127.0.0.1:{other.port}/cat.jpg",
        }
        routes = {path: found(location) for path, location in locations.items()}
        with FaultyOrigin(routes) as server:
            origin = RemoteOrigin([server.url, other.url], allow_networks=HERE)
            assert origin.fetch(ask(at(server, "named"))).body == b"picture"
            for path in ("spelled", "public", "port", "tls"):
                with pytest.raises(OriginFailed) as caught:
                    origin.fetch(ask(at(server, path)))
                assert "not among the hosts" in caught.value.log
        assert other.reached() == 1
    assert set(resolved) == {"127.0.0.1"}


def test_its_repr_names_its_hosts() -> None:
    assert repr(RemoteOrigin(["a.example"])) == "RemoteOrigin(['a.example'])"
