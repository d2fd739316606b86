"""Requests pass through as they are, and so do replies: with real servers on both sides."""

from __future__ import annotations

import http.client
import io
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from wsgiref.validate import validator

import pytest
from faulty import Exchange, FaultyOrigin, Script, replies, sends
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from thumbproxy.scheduling.admission import ConcurrencyLimit
from thumbproxy.web.reverse_proxy import Gated, Upstream

OK = b"HTTP/1.1 200 OK\r\n"
ENVIRON = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "a", "wsgi.url_scheme": "http",
}  # fmt: skip
HERE = replies(b"here", "Content-Type: x/y")


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def make_environ(self) -> Any:
        # A number here is what wsgiref.validate does not accept of this server.
        environ = super().make_environ()
        return environ | {"REMOTE_PORT": str(environ["REMOTE_PORT"])}

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def served(app: Any) -> Iterator[int]:
    server: Any = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    server.daemon_threads = False  # so that closing it waits until every request has ended
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self._stack = ExitStack()

    def ask(
        self, method: str, target: str, body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self._stack.callback(connection.close)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, named, encode_chunked=body is not None)
        response = connection.getresponse()
        self._stack.callback(response.close)
        return response

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def through() -> Iterator[Any]:
    """through(upstream's URL): a client of a proxy before it, checked by wsgiref.validate."""
    with ExitStack() as stack:

        def proxy(url: str, validate: bool = True, **options: Any) -> Client:
            app: Any = Upstream(url, **options)
            client = Client(stack.enter_context(served(validator(app) if validate else app)))
            stack.callback(client.close)
            return client

        yield proxy


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Says what arrived, in JSON."""
    body = get_input_stream(environ).read()
    said = {name: value for name, value in environ.items() if isinstance(value, str)}
    said["body"] = body.decode("latin-1")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


@pytest.fixture
def echoing(through: Any) -> Iterator[Client]:
    with served(echo) as port:
        yield through(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_passes_with_its_body(echoing: Client, method: str) -> None:
    said = json.load(echoing.ask(method, "/a", b"h\xc3\xa9llo", Content_Type="text/x"))
    assert (said["REQUEST_METHOD"], said["body"]) == (method, "h\xc3\xa9llo")
    assert (said["CONTENT_TYPE"], said["CONTENT_LENGTH"]) == ("text/x", "6")


def test_a_chunked_body_passes_as_chunks(echoing: Client) -> None:
    chunks = iter([b"one ", b"two"])
    said = json.load(echoing.ask("POST", "/a", chunks, Transfer_Encoding="chunked"))
    assert said["body"] == "one two"
    assert said["HTTP_TRANSFER_ENCODING"] == "chunked"
    assert not said.get("CONTENT_LENGTH")


def test_without_a_body_none_is_announced(echoing: Client) -> None:
    said = json.load(echoing.ask("GET", "/a"))
    assert not said.get("CONTENT_LENGTH")
    assert "HTTP_TRANSFER_ENCODING" not in said
    assert json.load(echoing.ask("POST", "/a", b""))["CONTENT_LENGTH"] == "0"


@pytest.mark.parametrize(
    "target",
    ["/", "/a%2Fb/c%20d", "/caf%C3%A9?x=%C3%A9&y=a+b%26", "/a//b/./c", "/a?", "/a?x=?&y=/",
     "/~a/+b", "/%2E%2E/a", "/a;b=c,d"],
)  # fmt: skip
def test_the_target_arrives_as_it_was_sent(through: Any, target: str) -> None:
    with FaultyOrigin(HERE) as server:
        assert through(server.url).ask("GET", target).read() == b"here"
    assert server.requests[0].target == target.removesuffix("?")


@pytest.mark.parametrize("path", ["/../admin", "/a/../../admin", "/%2e%2E/admin", "/a%2f../x",
                                  "/..", "/a/..%5cadmin", "/./admin"])  # fmt: skip
def test_a_path_cannot_leave_that_of_the_upstream(through: Any, path: str) -> None:
    with FaultyOrigin(HERE) as server:
        response = through(server.url + "/base").ask("GET", path)
        assert (response.status, server.requests) == (400, [])
        response.read()
        assert through(server.url + "/base").ask("GET", "/..a/b..?x=/../").read() == b"here"


def test_without_the_raw_target_it_is_encoded_again() -> None:
    environ = ENVIRON | {
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/caf\xc3\xa9 +%",
        "QUERY_STRING": "a=b",
        "RAW_URI": "/something/else",
    }
    with FaultyOrigin(HERE) as server:
        upstream: Any = Upstream(server.url + "/base")
        body = upstream(environ, lambda *_: None)
        assert b"".join(body) == b"here"
        body.close()
    assert server.requests[0].target == "/base/app/caf%C3%A9%20%2B%25?a=b"


def test_headers_pass_except_those_of_the_connection(through: Any) -> None:
    with FaultyOrigin(HERE) as server:
        through(server.url).ask(
            "GET", "/a", Host="public.example", Accept="x/y", Cookie="a=1", Authorization="b",
            If_None_Match='"1"', Connection="close, X-Hop, Host", X_Hop="1", TE="trailers",
            Keep_Alive="1", Upgrade="h2c", Proxy_Authorization="c", X_Other="2", Expect="nothing",
        ).read()  # fmt: skip
    headers = server.requests[0].headers
    passed = {"host", "accept", "cookie", "authorization", "if-none-match", "x-other"}
    assert passed <= headers.keys()
    assert headers["host"] == "public.example"
    hops = {"x-hop", "te", "keep-alive", "upgrade", "proxy-authorization", "connection", "expect"}
    assert hops.isdisjoint(headers)
    # nor does the library add words of its own
    assert "urllib3" not in headers.get("user-agent", "")


def test_a_client_that_says_nothing_of_itself_has_nothing_said_of_it(through: Any) -> None:
    with FaultyOrigin(HERE) as server:
        client = through(server.url)
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(b"GET /a HTTP/1.0\r\n\r\n")
            while connection.recv(4096):
                pass
    names = server.requests[0].headers.keys()
    assert names == {"host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}


def test_the_upstream_is_told_who_asked_and_how(through: Any) -> None:
    with FaultyOrigin(HERE) as server:
        client = through(server.url)
        client.ask("GET", "/a", Host="public.example").read()
        client.ask(
            "GET", "/a", Host="public.example", X_Forwarded_For="198.51.100.7",
            X_Forwarded_Proto="https", X_Forwarded_Host="evil.example",
            Forwarded="for=198.51.100.7",
        ).read()  # fmt: skip
    first, second = (request.headers for request in server.requests)
    assert first["x-forwarded-for"] == "127.0.0.1"
    assert "forwarded" not in first
    assert second["x-forwarded-for"] == "198.51.100.7, 127.0.0.1"
    assert second["forwarded"] == 'for=198.51.100.7, for=127.0.0.1;host="public.example";proto=http'
    for headers in (first, second):
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-host"] == "public.example"


@pytest.mark.parametrize("status", ["301 Moved Permanently", "404 Not Found", "418 I'm a teapot",
                                    "500 Internal Server Error", "299 Our Own"])  # fmt: skip
def test_every_status_is_the_clients_business(through: Any, status: str) -> None:
    with FaultyOrigin(
        replies(b"here", "Location: /b", "Content-Type: x/y", status=status)
    ) as server:
        response = through(server.url).ask("GET", "/a")
        assert (f"{response.status} {response.reason}", response.read()) == (status, b"here")
        assert response.headers["Location"] == "/b"
    assert len(server.requests) == 1


def test_a_reply_keeps_its_headers_except_those_of_the_connection(through: Any) -> None:
    reply = replies(
        b"\x1f\x8b not really gzip", "Content-Type: text/html", "Content-Encoding: gzip",
        "Set-Cookie: a=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT", "Set-Cookie: b=2",
        "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", 'ETag: "1"',
        "X-Latin: caf\xe9",
    )  # fmt: skip
    with FaultyOrigin(reply) as server:
        response = through(server.url).ask("GET", "/a")
        assert response.read() == b"\x1f\x8b not really gzip"
    headers = response.headers
    assert headers.get_all("Set-Cookie") == [
        "a=1; Expires=Thu, 01 Jan 2032 00:00:00 GMT",
        "b=2",
    ]
    assert (headers["Content-Encoding"], headers["ETag"]) == ("gzip", '"1"')
    assert headers["X-Latin"] == "caf\xe9"
    assert headers["Content-Length"] == "18"
    assert "X-Hop" not in headers
    assert "Keep-Alive" not in headers


def test_head_and_statuses_without_a_body(through: Any) -> None:
    head = sends(OK + b"Content-Type: x/y\r\nContent-Length: 1000\r\n\r\n", keep=True)
    routes = {
        "/head": head,
        "/204": sends(b"HTTP/1.1 204 No Content\r\n\r\n", keep=True),
        "/304": sends(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n', keep=True),
    }
    with FaultyOrigin(routes) as server:
        client = through(server.url)
        response = client.ask("HEAD", "/head")
        assert (response.headers["Content-Length"], response.read()) == ("1000", b"")
        assert [client.ask("GET", f"/{status}").status for status in (204, 304)] == [204, 304]
        assert server.connections == 1  # kept in spite of all


def test_a_reply_streams_as_it_comes(through: Any) -> None:
    """Each piece is sent only after the client has the one before."""
    received = threading.Semaphore(0)

    def chunks(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            exchange.send(b"4\r\ndata\r\n")
            assert received.acquire(timeout=5)
        exchange.send(b"0\r\n\r\n")

    def until_closed(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Type: text/event-stream\r\n\r\n")
        for _ in range(3):
            exchange.send(b"data")
            assert received.acquire(timeout=5)

    with FaultyOrigin({"/chunks": chunks, "/until-closed": until_closed}) as server:
        client = through(server.url)
        for target in ("/chunks", "/until-closed"):
            response = client.ask("GET", target)
            for _ in range(3):
                assert response.read(4) == b"data"
                received.release()
            assert response.read() == b""


def test_a_request_streams_as_it_comes(through: Any) -> None:
    """The upstream has the beginning before the client has sent the end."""
    begun = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        read = environ["wsgi.input"].read
        first = read(65536)
        begun.set()
        rest = read(65536)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [first[:1] + rest[-1:]]

    def body() -> Iterator[bytes]:
        yield b"a" * 98304
        assert begun.wait(5)
        yield b"z" * 32768

    with served(app) as port:
        response = through(f"http://127.0.0.1:{port}").ask(
            "POST", "/", body(), Content_Length=str(131072)
        )
        assert response.read() == b"az"


def test_when_the_client_goes_away_so_do_we() -> None:
    """A WSGI server tells that by close(), before the end of the body."""
    gone = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Type: x/y\r\n\r\n")
        try:
            while True:
                exchange.send(b"x" * 65536)
        except OSError:
            gone.set()

    with FaultyOrigin(endless) as server:
        upstream: Any = Upstream(server.url)
        body = upstream(ENVIRON, lambda *_: None)
        assert next(iter(body))
        body.close()
        assert gone.wait(5)


@pytest.mark.parametrize(
    "script",
    [
        sends(OK + b"Content-Type: x/y\r\nContent-Length: 1000\r\n\r\nshort"),
        sends(OK + b"Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"),
    ],
)
def test_a_reply_that_is_cut_off_is_cut_off_for_the_client(through: Any, script: Script) -> None:
    with FaultyOrigin(script) as server:
        response = through(server.url, validate=False).ask("GET", "/a")
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_a_body_that_is_cut_off_is_the_clients_fault(through: Any) -> None:
    """Whichever server runs us. If it is short, the upstream hears nothing of it; else that there
    is no more to come, at once."""
    cut_off = threading.Event()

    def reads(exchange: Exchange) -> None:
        while exchange.connection.recv(65536):
            pass
        cut_off.set()

    with FaultyOrigin(reads) as server:
        client = through(server.url, validate=False)
        for size in (10, 200_000):
            with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
                head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
                connection.sendall(head + bytes(size))
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(12) == b"HTTP/1.1 400"
        assert cut_off.wait(5)


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "x", "\xb2"])
def test_a_length_that_is_none_is_the_clients_fault(length: str) -> None:
    """Of servers that let it pass."""
    told: list[str] = []
    body = io.BytesIO(b"body")
    environ = {**ENVIRON, "CONTENT_LENGTH": length, "wsgi.input": body}
    upstream: Any = Upstream("http://127.0.0.1:1")
    upstream(environ, lambda status, headers: told.append(status))
    assert told == ["400 Bad Request"]


@contextmanager
def hasty(reply: bytes) -> Iterator[str]:
    """A server that answers POST with `reply` as soon as it has the head, and then reads nothing,
    and closes nothing. Other requests it answers with "here"."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                kept.append(connection)
                begun = connection.recv(4, socket.MSG_WAITALL)
                while b"\r\n\r\n" not in begun:
                    begun += connection.recv(1)
                here = OK + b"Content-Length: 4\r\n\r\nhere"
                connection.sendall(reply if begun.startswith(b"POST") else here)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for connection in [listener, *kept]:
            connection.close()


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"503 Service Unavailable"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_refusal_before_the_end_of_a_body_is_passed_on_at_once(
    through: Any, status: bytes, chunked: bool
) -> None:
    """ "A client that receives a response while it is still sending the associated request SHOULD
    continue sending that request unless it receives an explicit indication to the contrary" (RFC
    9110 section 7.5). And what is sent next does not take the place of the rest."""
    told = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000000"
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if chunked else bytes(65536)
    with hasty(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno") as url:
        client = through(url, validate=False, timeout=20)
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(f"POST /a HTTP/1.1\r\nHost: a\r\n{told}\r\n\r\n".encode())
            began = time.monotonic()
            while not select.select([connection], [], [], 0)[0]:
                connection.sendall(piece)
            assert connection.recv(12) == b"HTTP/1.1 " + status[:3]
            assert time.monotonic() - began < 10
        assert client.ask("GET", "/a").read() == b"here"


def test_an_upstream_that_closes_inside_a_body_has_failed(through: Any) -> None:
    def closes(exchange: Exchange) -> None:
        exchange.connection.recv(1000)

    with FaultyOrigin(closes) as server:
        chunks = (bytes(65536) for _ in range(1000))
        client = through(server.url, validate=False)
        response = client.ask("POST", "/a", chunks, Transfer_Encoding="chunked")
        assert response.status == 502


def test_an_upstream_may_answer_while_it_reads(through: Any) -> None:
    """What is no refusal says nothing about the rest of the request."""
    received: list[int] = []

    def answers(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Type: x/y\r\n\r\n")
        total, end = 0, b""
        while not end.endswith(b"\r\n0\r\n\r\n"):
            piece = exchange.connection.recv(65536)
            total, end = total + len(piece), (end + piece)[-7:]
        exchange.send(b"all")
        received.append(total)

    with FaultyOrigin(answers) as server:
        chunks = (bytes(65536) for _ in range(100))
        client = through(server.url, validate=False)
        response = client.ask("POST", "/a", chunks, Transfer_Encoding="chunked")
        assert response.read() == b"all"
    assert received[0] > 6_000_000


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (sends(), 502),
        (sends(b"nonsense\r\n\r\n"), 502),
        (sends(OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nhere"), 502),
        (Exchange.reset, 502),
        (Exchange.hang, 504),
    ],
)
def test_an_upstream_that_fails_is_a_502_and_one_that_hangs_a_504(
    through: Any, script: Script, status: int
) -> None:
    with FaultyOrigin(script) as server:
        began = time.monotonic()
        response = through(server.url, timeout=0.3).ask("GET", "/a")
        assert response.status == status
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert str(server.port) not in response.read().decode()
        assert time.monotonic() - began < 15, "not the 25 seconds of a request"


def test_a_reply_that_our_server_refuses_is_closed() -> None:
    class Refused(Exception):
        pass

    def start_response(*_: Any) -> Any:
        raise Refused

    gone = threading.Event()

    def until_closed(exchange: Exchange) -> None:
        exchange.send(OK + b"X-Fine: 1\r\n\r\n")
        exchange.connection.recv(1)
        gone.set()

    with FaultyOrigin(until_closed) as server:
        with pytest.raises(Refused):
            Upstream(server.url)(ENVIRON, start_response)
        assert gone.wait(5)


def test_nobody_there_is_a_502(through: Any) -> None:
    with FaultyOrigin({}) as server:
        url = server.url
    response = through(url).ask("GET", "/a")
    assert (response.status, response.read()[-1:]) == (502, b"\n")


def closes_the_second_time() -> Script:
    """Answers one request on each connection, promises more, and closes on the second."""
    seen: set[int] = set()

    def script(exchange: Exchange) -> bool:
        if id(exchange.connection) in seen:
            return False
        seen.add(id(exchange.connection))
        return bool(HERE(exchange))

    return script


def test_a_kept_connection_that_grew_stale_is_replaced_where_that_is_safe(through: Any) -> None:
    with FaultyOrigin(closes_the_second_time()) as server:
        client = through(server.url)
        assert [client.ask("GET", "/a").read() for _ in range(3)] == [b"here"] * 3
    with FaultyOrigin(closes_the_second_time()) as server:
        client = through(server.url)
        assert client.ask("GET", "/a").read() == b"here"
        response = client.ask("POST", "/a", b"once")
        assert (response.status, response.read()[-1:]) == (502, b"\n")
        assert [request.method for request in server.requests] == ["GET", "POST"]


@pytest.mark.parametrize(
    "url", ["", "a.example", "ftp://a", "http://", "http://u:p@a", "http://a?b"]
)
def test_a_url_that_cannot_be_used_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be an upstream"):
        Upstream(url)


def test_a_hanging_application_has_no_more_places_than_the_gate() -> None:
    """And a place is given back when the reply has been sent, or could not be."""
    replies: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        replies.append((status, headers))

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError
        start_response("200 OK", [])
        return [b"body"]

    gated = Gated(app, ConcurrencyLimit(1))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            gated({**ENVIRON, "PATH_INFO": "/fails"}, start_response)
    sent: Any = gated(ENVIRON, start_response)
    assert list(gated(ENVIRON, start_response)) == [b"Too many requests wait already.\n"]
    status, headers = replies[-1]
    assert status.startswith("503 ")
    assert dict(headers)["Retry-After"] == "1"
    assert list(sent) == [b"body"]
    sent.close()
    assert list(gated(ENVIRON, start_response)) == [b"body"]
