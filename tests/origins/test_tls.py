"""TLS: the certificate is checked against the name, and the name is what the server is told."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyOrigin, Script, replies

from thumbproxy.core.errors import OriginFailed, OriginTimeout
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.web.reverse_proxy import Upstream

OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost, in one file."""
    assert OPENSSL, "openssl is not installed; `make setup` does that"
    folder = tmp_path_factory.mktemp("tls")
    key, certificate, both = (folder / name for name in ("key.pem", "cert.pem", "both.pem"))
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-addext", "keyUsage=digitalSignature,keyCertSign",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


class TlsOrigin(FaultyOrigin):
    """A FaultyOrigin that speaks TLS and keeps the names that it was asked for."""

    def __init__(self, routes: Script, certificate: Path) -> None:
        super().__init__(routes)
        self.names: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.sni_callback = lambda _, name, __: self.names.append(name)

    def _serve(self, connection: Any) -> None:
        try:
            super()._serve(self._context.wrap_socket(connection, server_side=True))
        except OSError:  # the client did not like the certificate
            connection.close()


def drips(exchange: Any) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    exchange.drip(b"x" * 1000, every=0.02)


@pytest.fixture
def server(certificate: Path) -> Iterator[TlsOrigin]:
    with TlsOrigin(replies(b"picture", "Content-Type: x/y"), certificate) as server:
        yield server


def test_a_source_is_fetched_by_tls_with_name_and_host(
    server: TlsOrigin, certificate: Path, ask: Any
) -> None:
    origin = HttpOrigin(f"https://localhost:{server.port}", ca_file=str(certificate))
    for _ in range(2):
        assert origin.fetch(ask("cat.jpg")).body == b"picture"
    assert server.names == ["localhost"]
    assert server.requests[0].headers["host"] == f"localhost:{server.port}"


def test_an_unknown_authority_and_a_wrong_name_fail(
    server: TlsOrigin, certificate: Path, ask: Any
) -> None:
    wrong_name = HttpOrigin(f"https://127.0.0.1:{server.port}", ca_file=str(certificate))
    unknown = HttpOrigin(f"https://localhost:{server.port}")
    for origin in (wrong_name, unknown):
        with pytest.raises(OriginFailed, match="did not deliver") as caught:
            origin.fetch(ask("cat.jpg"))
        assert "certificate" in caught.value.log.lower()
    assert server.requests == []


def test_the_deadline_holds_in_tls_too(certificate: Path, ask: Any) -> None:
    with TlsOrigin(drips, certificate) as server:
        origin = HttpOrigin(f"https://localhost:{server.port}", ca_file=str(certificate))
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            origin.fetch(ask("cat.jpg", seconds=0.3))
        assert time.monotonic() - began < 0.8


def test_the_deadline_holds_in_the_handshake(ask: Any) -> None:
    stopped = threading.Event()

    class Silent(FaultyOrigin):
        def _serve(self, connection: Any) -> None:
            stopped.wait(10)
            connection.close()

    with Silent({}) as server:
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            HttpOrigin(f"https://localhost:{server.port}").fetch(ask("cat.jpg", seconds=0.3))
        assert time.monotonic() - began < 0.8
        stopped.set()


def test_an_upstream_may_speak_tls(server: TlsOrigin, certificate: Path) -> None:
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "a",
        "HTTP_HOST": "public.example",
        "wsgi.url_scheme": "http",
    }
    statuses: list[str] = []
    for ca_file in (str(certificate), None):
        upstream: Any = Upstream(f"https://localhost:{server.port}", ca_file=ca_file)
        body = upstream(environ, lambda status, _: statuses.append(status))
        b"".join(body)
        getattr(body, "close", lambda: None)()
    assert statuses == ["200 OK", "502 Bad Gateway"]
    assert server.names == ["localhost", "localhost"]
    assert server.requests[0].headers["host"] == "public.example"
