"""Redirects are followed to where they may lead, and to nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyOrigin, replies

from thumbproxy.core import connecting
from thumbproxy.core.errors import OriginFailed, SourceNotFound
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.origins.http import HttpOrigin

EVERYWHERE = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def found(location: str, status: str = "302 Found") -> Any:
    return replies(b"elsewhere", f"Location: {location}", status=status)


@pytest.mark.parametrize(
    "status",
    ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"],
)
def test_a_redirect_on_the_same_server_is_followed(ask: Any, status: str) -> None:
    with FaultyOrigin({"/a/cat.jpg": found("../b/c%20d.jpg?x=1#y", status)}) as server:
        server._routes = {**server._routes, "/b/c%20d.jpg": replies(b"picture")}  # type: ignore[dict-item]
        assert HttpOrigin(server.url).fetch(ask("a/cat.jpg")).body == b"picture"
    assert server.requests[-1].target == "/b/c%20d.jpg?x=1"


def test_a_location_in_raw_utf8_is_understood(ask: Any) -> None:
    routes = {"/a": found("/é".encode().decode("latin-1")), "/%C3%A9": replies(b"picture")}
    with FaultyOrigin(routes) as server:
        assert HttpOrigin(server.url).fetch(ask("a")).body == b"picture"


def test_as_many_hops_are_followed_as_allowed(ask: Any) -> None:
    routes = {"/a": found("/b"), "/b": found("/c"), "/c": found("/d"), "/d": replies(b"picture")}
    with FaultyOrigin(routes) as server:
        origin = HttpOrigin(server.url)
        assert origin.fetch(ask("a", limits=Limits(redirects=3))).body == b"picture"
        with pytest.raises(OriginFailed):
            origin.fetch(ask("a", limits=Limits(redirects=2)))


# Ways to this machine, all of which lead a careless client to the server behind {port}.
INSIDE = [
    "http://127.0.0.1:{port}/cat.jpg",
    "http://localhost:{port}/cat.jpg",
    "http://127.1:{port}/cat.jpg",
    "http://2130706433:{port}/cat.jpg",
    "http://0x7f000001:{port}/cat.jpg",
    "http://0177.0.0.1:{port}/cat.jpg",
    "http://0.0.0.0:{port}/cat.jpg",
    "http://0:{port}/cat.jpg",
    "http://127.0.0.2:{port}/cat.jpg",
    "http://[::1]:{port}/cat.jpg",
    "http://[::ffff:127.0.0.1]:{port}/cat.jpg",
    "http://[::ffff:7f00:1]:{port}/cat.jpg",
    "http://[::127.0.0.1]:{port}/cat.jpg",
    "//127.0.0.1:{port}/cat.jpg",
    "http://127.0.0.1.:{port}/cat.jpg",
    "http://\uff11\uff12\uff17.0.0.1:{port}/cat.jpg",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/cat.jpg",
    "http://127\u30020\u30020\u30021:{port}/cat.jpg",
    "http://0x7f.1:{port}/cat.jpg",
    "http://0x7F.0x0.0x0.0x1:{port}/cat.jpg",
    "http://127.0.1:{port}/cat.jpg",
    "http://017700000001:{port}/cat.jpg",
    "http://00000177.00.0.01:{port}/cat.jpg",
    "http://127.0.0.1%2e:{port}/cat.jpg",
    "http://%31%32%37.0.0.1:{port}/cat.jpg",
    "http://[0:0:0:0:0:0:0:1]:{port}/cat.jpg",
    "http://[::1%25lo]:{port}/cat.jpg",
    "http://[::ffff:0:127.0.0.1]:{port}/cat.jpg",
    "http://[64:ff9b::127.0.0.1]:{port}/cat.jpg",
    "http://[2002:7f00:1::]:{port}/cat.jpg",
    "http://LOCALHOST:{port}/cat.jpg",
    "http://localhost.:{port}/cat.jpg",
    f"http://{socket.gethostname()}:{{port}}/cat.jpg",
    "HTTP://127.0.0.1:{port}/cat.jpg",
    "http:\\\\127.0.0.1:{port}\\cat.jpg",
    "http:///127.0.0.1:{port}/cat.jpg",
    "http://8.8.8.8@127.0.0.1:{port}/cat.jpg",
    "http://8.8.8.8#@127.0.0.1:{port}/cat.jpg",
    "http://8.8.8.8\\@127.0.0.1:{port}/cat.jpg",
    "http://127.0.0.1:{port}\t/cat.jpg",
    "http://127.0.0.1:0{port}/cat.jpg",
]


@pytest.mark.parametrize("location", INSIDE)
def test_a_redirect_to_a_private_address_makes_no_connection(ask: Any, location: str) -> None:
    with FaultyOrigin({"/cat.jpg": replies(b"secret")}, host=EVERYWHERE) as inside:
        text = location.format(port=inside.port).encode().decode("latin-1")
        # 8.8.8.8 stands for the outside, where nothing is to be sent: port 9 is not allowed.
        text = text.replace("8.8.8.8#", "8.8.8.8:9#")
        with (
            FaultyOrigin({"/cat.jpg": found(text)}) as server,
            pytest.raises((OriginFailed, SourceNotFound)),
        ):
            HttpOrigin(server.url, allow_ports=(inside.port,)).fetch(ask("cat.jpg", seconds=1))
        assert inside.reached() == 0


def test_a_port_that_is_not_allowed_is_refused_before_its_host_is_resolved(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[Any] = []
    look_up = socket.getaddrinfo

    def noted(host: Any, *args: Any, **more: Any) -> Any:
        resolved.append(host)
        return look_up(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    for location in ("http://a.example:11211/x", "https://a.example:80800/x", "//a.example:22/x",
                     "ftp://a.example/x"):  # fmt: skip
        with FaultyOrigin({"/cat.jpg": found(location)}) as server:
            with pytest.raises(OriginFailed):
                HttpOrigin(server.url).fetch(ask("cat.jpg", seconds=1))
            assert resolved == ["127.0.0.1"]
            resolved.clear()


def test_the_environment_has_no_say_in_whom_we_ask_and_what_we_tell(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with FaultyOrigin(replies(b"theirs")) as proxy, FaultyOrigin(replies(b"picture")) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in (".netrc", "_netrc"):
            (tmp_path / name).write_text("default login us password secret\n")
            (tmp_path / name).chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        assert HttpOrigin(server.url).fetch(ask("cat.jpg")).body == b"picture"
        assert proxy.reached() == 0
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/cat.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://127.0.0.1:11211/_stats",
        "http://user:password@127.0.0.1:{port}/cat.jpg",
        "http://evil.invalid\\@127.0.0.1:{port}/cat.jpg",
        "http://[::1/cat.jpg",
        "http://127.0.0.1:99999/cat.jpg",
        "http://a..b/cat.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest/meta-data",
        "http://[fe80::1%25lo]/cat.jpg",
    ],
)
def test_a_redirect_to_what_is_no_web_server_fails(ask: Any, location: str) -> None:
    with FaultyOrigin({}) as server:
        server._routes = {"/a": found(location.format(port=server.port))}
        with pytest.raises(OriginFailed):
            HttpOrigin(server.url).fetch(ask("a", seconds=1))
        assert len(server.requests) == 1


def test_an_allowed_network_may_be_redirected_to_without_our_headers(ask: Any) -> None:
    with FaultyOrigin({"/cat.jpg": replies(b"picture")}, host="127.0.0.2") as store:
        with FaultyOrigin({"/cat.jpg": found(f"{store.url}/cat.jpg")}) as server:
            origin = HttpOrigin(
                server.url,
                headers={"Authorization": "secret"},
                allow_networks=("127.0.0.2/32",),
                allow_ports=(store.port,),
            )
            assert origin.fetch(ask("cat.jpg")).body == b"picture"
        assert server.requests[0].headers["authorization"] == "secret"
        assert "authorization" not in store.requests[0].headers
        assert store.requests[0].headers["host"] == f"127.0.0.2:{store.port}"


def test_all_answers_of_a_name_are_checked_and_only_those_are_connected_to(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads outside for the check, and inside for the connection, is of no use; nor is
    one that has addresses of both kinds."""
    look_up = socket.getaddrinfo
    asked: list[str] = []

    def two_faced(host: str, port: int, *args: Any, **more: Any) -> Any:
        if not str(host).endswith("faced.example"):
            return look_up(host, port, *args, **more)
        if more.get("flags"):
            raise socket.gaierror
        asked.append(host)
        inside = look_up("127.0.0.1", port, *args, **more)
        outside = look_up("8.8.8.8", port, *args, **more)
        first, later = (outside + inside, inside) if host[0] == "t" else (inside, outside)
        return first if asked.count(host) == 1 else later

    monkeypatch.setattr(socket, "getaddrinfo", two_faced)
    with FaultyOrigin({"/cat.jpg": replies(b"secret")}, host="127.0.0.1") as inside:
        for host in ("two-faced.example", "first-faced.example"):
            location = f"http://{host}:{inside.port}/cat.jpg"
            with FaultyOrigin({"/cat.jpg": found(location)}) as server:
                origin = HttpOrigin(server.url, allow_ports=(inside.port,))
                with pytest.raises(OriginFailed):
                    origin.fetch(ask("cat.jpg", seconds=1))
        assert asked == ["two-faced.example", "first-faced.example"]
        assert inside.reached() == 0


def test_the_deadline_holds_against_a_resolver_that_does_not_answer(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def silent(host: str, port: int, flags: int = 0) -> list[connecting.Answer]:
        if not flags:
            ended.wait()
        raise socket.gaierror

    monkeypatch.setattr(connecting, "_look_up", silent)
    deadline = Deadline(0.2)
    try:
        with pytest.raises(TimeoutError):
            connecting.resolve("slow.example", 80, deadline)
        assert deadline.passed
    finally:
        ended.set()


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """The address of a server whose queue is full, so that connecting to it hangs."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a queue of length 0 holds one or two
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()


def test_the_second_address_has_its_turn_when_the_first_is_silent(
    ask: Any, monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int]
) -> None:
    with FaultyOrigin({"/cat.jpg": replies(b"picture")}) as server:
        addresses = [silent, (server.host, server.port)]

        def two(host: str, port: int, flags: int = 0) -> list[connecting.Answer]:
            return [(socket.AF_INET, address) for address in addresses]

        monkeypatch.setattr(connecting, "_look_up", two)
        assert HttpOrigin(server.url).fetch(ask("cat.jpg", seconds=1)).body == b"picture"
