"""Redirects are followed to where they may lead, and to nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from faulty import FaultyOrigin, replies

from thumbproxy.errors import OriginFailed
from thumbproxy.limits import Deadline, Limits
from thumbproxy.origins import guard
from thumbproxy.origins.http import HttpOrigin


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


# Spellings of loopback, all of which lead a careless client to the server behind {port}.
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
]


@pytest.mark.parametrize("location", INSIDE)
def test_a_redirect_to_a_private_address_makes_no_connection(ask: Any, location: str) -> None:
    with FaultyOrigin({"/cat.jpg": replies(b"secret")}, host="0.0.0.0") as inside:
        text = location.format(port=inside.port).encode().decode("latin-1")
        with FaultyOrigin({"/cat.jpg": found(text)}) as server, pytest.raises(OriginFailed):
            HttpOrigin(server.url).fetch(ask("cat.jpg", seconds=1))
        assert inside.connections == 0


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
                server.url, headers={"Authorization": "secret"}, allow_networks=("127.0.0.2/32",)
            )
            assert origin.fetch(ask("cat.jpg")).body == b"picture"
        assert server.requests[0].headers["authorization"] == "secret"
        assert "authorization" not in store.requests[0].headers
        assert store.requests[0].headers["host"] == f"127.0.0.2:{store.port}"


def test_all_answers_of_a_name_are_checked_and_only_those_are_connected_to(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads outside for the check, and inside for the connection, is of no use."""
    look_up = guard._look_up
    asked = []

    def two_faced(host: str, port: int, flags: int = 0) -> list[guard.Answer]:
        if host != "two-faced.example":
            return look_up(host, port, flags)
        if flags:
            raise socket.gaierror
        asked.append(host)
        inside = look_up("127.0.0.1", port, socket.AI_NUMERICHOST)
        return [*look_up("8.8.8.8", port, socket.AI_NUMERICHOST), *inside]

    monkeypatch.setattr(guard, "_look_up", two_faced)
    with FaultyOrigin({"/cat.jpg": replies(b"secret")}, host="127.0.0.1") as inside:
        location = f"http://two-faced.example:{inside.port}/cat.jpg"
        with FaultyOrigin({"/cat.jpg": found(location)}) as server, pytest.raises(OriginFailed):
            HttpOrigin(server.url).fetch(ask("cat.jpg", seconds=1))
        assert (asked, inside.connections) == (["two-faced.example"], 0)


def test_the_deadline_holds_against_a_resolver_that_does_not_answer(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def silent(host: str, port: int, flags: int = 0) -> list[guard.Answer]:
        if not flags:
            ended.wait()
        raise socket.gaierror

    monkeypatch.setattr(guard, "_look_up", silent)
    deadline = Deadline(0.2)
    try:
        with pytest.raises(TimeoutError):
            guard.resolve("slow.example", 80, deadline)
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

        def two(host: str, port: int, flags: int = 0) -> list[guard.Answer]:
            return [(socket.AF_INET, address) for address in addresses]

        monkeypatch.setattr(guard, "_look_up", two)
        assert HttpOrigin(server.url).fetch(ask("cat.jpg", seconds=1)).body == b"picture"
