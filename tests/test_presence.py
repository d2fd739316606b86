"""Whether a client is still there, as the connection of a request tells it."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from thumbproxy.core import uwsgi
from thumbproxy.service.client_presence import client_stays

Pair = tuple[socket.socket, socket.socket]


def unix() -> Pair:
    return socket.socketpair()


def tcp() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


def patient() -> Pair:
    """Python's sockets with a timeout wait for it, whatever they are told."""
    client, served = tcp()
    served.settimeout(30)
    return client, served


def secret() -> Pair:
    """With TLS, of which no more than the beginning is here."""
    client, served = tcp()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return client, context.wrap_socket(served, server_side=True, do_handshake_on_connect=False)


@pytest.fixture(params=[unix, tcp, patient, secret])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A client, and its connection at the server."""
    make: Callable[[], Pair] = request.param
    client, served = make()
    with client, served:
        yield client, served


def test_a_client_is_there_until_it_hangs_up(pair: Pair) -> None:
    client, served = pair
    timeout = served.gettimeout()
    began = time.monotonic()
    stays = client_stays({"gunicorn.socket": served})
    assert stays()
    client.sendall(b"GET / HTTP/1.1")
    assert stays(), "it has asked for more already"
    client.close()
    assert not stays(), "it has gone, though not all is read that it has sent"
    assert time.monotonic() - began < 20, "looking does not wait"
    assert served.gettimeout() == timeout


def test_a_client_that_resets_the_connection_has_gone() -> None:
    client, served = tcp()
    with served:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert not client_stays({"gunicorn.socket": served})()


def test_a_connection_that_the_server_has_closed_has_no_client() -> None:
    client, served = tcp()
    with client:
        stays = client_stays({"gunicorn.socket": served})
        served.close()
        assert not stays()


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": None}, {"gunicorn.socket": object()}])
def test_of_a_client_that_cannot_be_looked_at_we_think_well(environ: dict[str, object]) -> None:
    assert client_stays(environ)()


def test_a_number_of_uwsgi_is_that_of_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    client, served = tcp()
    module = ModuleType("uwsgi")
    module.connection_fd = served.fileno  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    stays = client_stays({"uwsgi.version": b"2"})
    with client:
        assert stays()
        another, number = tcp(), served.detach()
        with another[0], another[1]:
            os.dup2(another[1].fileno(), number)
            assert not stays(), "there is a connection of this number, but not ours"
        os.close(number)
        assert not stays()


def test_uwsgi_without_threads_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("uwsgi")
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    for threads in (1, 0):
        assert not caplog.messages
        module.has_threads = threads  # type: ignore[attr-defined]
        with caplog.at_level(logging.WARNING):
            uwsgi.check_threads()
    (line,) = caplog.messages
    assert "--enable-threads" in line
