"""A WSGI application as an origin: called as PEP 3333 has it, and told nothing of the client."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from thumbproxy.core.errors import OriginFailed, OriginTimeout, SourceNotFound, SourceTooLarge
from thumbproxy.core.limits import Limits
from thumbproxy.origins.wsgi import WsgiOrigin

JPEG = [("Content-Type", "image/jpeg")]
CLIENT = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "/app",
    "PATH_INFO": "/thumb/cat.jpg/_.x.jpg",
    "QUERY_STRING": "secret=1",
    "SERVER_NAME": "server",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "CONTENT_LENGTH": "5",
    "CONTENT_TYPE": "text/plain",
    "REMOTE_ADDR": "203.0.113.9",
    "REMOTE_USER": "alice",
    "HTTP_HOST": "public.example:8000",
    "HTTP_COOKIE": "session=1",
    "HTTP_AUTHORIZATION": "Basic x",
    "HTTP_X_FORWARDED_FOR": "203.0.113.9",
    "HTTP_IF_NONE_MATCH": '"client"',
    "HTTP_RANGE": "bytes=0-1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(b"client"),
    "wsgi.errors": io.StringIO(),
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


class Recorded:
    """An app that keeps the environs it was called with, and answers as it is told by path."""

    def __init__(self, **replies: tuple[str, list[tuple[str, str]], bytes]) -> None:
        self.environs: list[dict[str, Any]] = []
        self._replies = replies

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.environs.append(environ)
        default = ("200 OK", JPEG, b"picture")
        name = environ["PATH_INFO"].strip("/").replace("/", "_")
        status, headers, body = self._replies.get(name, default)
        start_response(status, list(headers))
        return [body]


def redirect(location: str) -> tuple[str, list[tuple[str, str]], bytes]:
    return "302 Found", [("Location", location), ("Content-Type", "text/plain")], b"elsewhere"


def test_the_environ_is_complete_and_holds_nothing_of_the_client(ask: Any) -> None:
    app = Recorded()
    WsgiOrigin(validator(app)).fetch(ask("été.jpg?a=1", client=CLIENT, etag='"1"', fresh=True))
    environ = app.environs[0]
    assert environ.pop("wsgi.input").read(1) == b""
    assert environ.pop("wsgi.errors") is not None
    assert environ.pop("HTTP_USER_AGENT").startswith("thumbproxy/")
    assert environ == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/\xc3\xa9t\xc3\xa9.jpg",
        "QUERY_STRING": "a=1",
        "SERVER_NAME": "server",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "public.example:8000",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "identity",
        "HTTP_CDN_LOOP": "thumbproxy",
        "HTTP_IF_NONE_MATCH": '"1"',
        "HTTP_CACHE_CONTROL": "max-age=0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def test_the_host_can_be_configured_and_there_need_be_no_client(ask: Any) -> None:
    app = Recorded()
    client = {**CLIENT, "HTTP_X_FORWARDED_HOST": "evil.example"}
    WsgiOrigin(validator(app), host="media.example").fetch(ask("cat.jpg", client=client))
    WsgiOrigin(validator(app), host="media.example").fetch(ask("cat.jpg"))
    assert [environ["HTTP_HOST"] for environ in app.environs] == ["media.example"] * 2
    assert "HTTP_X_FORWARDED_HOST" not in app.environs[0]


@pytest.mark.parametrize("host", ["a?b", "a/b", "a#b", "u@h", "[", "a b", "", "a\\b", "%00"])
def test_no_host_of_a_client_changes_the_path_that_is_asked_for(ask: Any, host: str) -> None:
    app = Recorded()
    client = {**CLIENT, "HTTP_HOST": host}
    assert WsgiOrigin(app).fetch(ask("photos/cat.jpg", client=client)).body == b"picture"
    assert app.environs[0]["PATH_INFO"] == "/photos/cat.jpg"
    assert app.environs[0]["QUERY_STRING"] == ""


@pytest.mark.parametrize(
    "location",
    ["/app/new/cat.jpg?a=1", "new/cat.jpg?a=1", "http://public.example:8000/app/new/cat.jpg?a=1",
     "//PUBLIC.example:8000/app/new/cat.jpg?a=1#x"],
)  # fmt: skip
def test_a_redirect_within_the_app_is_followed(ask: Any, location: str) -> None:
    app = Recorded(old=redirect(location))
    assert WsgiOrigin(validator(app)).fetch(ask("old", client=CLIENT)).body == b"picture"
    environ = app.environs[1]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/new/cat.jpg")
    assert environ["QUERY_STRING"] == "a=1"
    assert environ["HTTP_HOST"] == "public.example:8000"


def test_a_redirect_to_https_is_followed_with_that_scheme(ask: Any) -> None:
    app = Recorded(old=redirect("https://public.example/app/new"))
    client = {**CLIENT, "HTTP_X_FORWARDED_PROTO": "http", "HTTP_X_FORWARDED_PORT": "80"}
    assert WsgiOrigin(validator(app)).fetch(ask("old", client=client)).body == b"picture"
    environ = app.environs[1]
    assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "https"
    assert environ["SERVER_PORT"] == environ["HTTP_X_FORWARDED_PORT"] == "443"


@pytest.mark.parametrize(
    "location",
    ["http://other.example/app/new", "http://public.example:9000/app/new", "/new", "/application",
     "ftp://public.example/app/new", "https://u@public.example/app/new", "http://[/app/new",
     "https://other.example/app/new", "/app/../new", "/app/old"],
)  # fmt: skip
def test_a_redirect_out_of_the_app_or_in_circles_fails(ask: Any, location: str) -> None:
    app = Recorded(old=redirect(location))
    with pytest.raises(OriginFailed):
        WsgiOrigin(validator(app)).fetch(ask("old", client=CLIENT))


class Closing:
    """An iterable that counts how often it was closed."""

    def __init__(self, *chunks: Any) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("status", "headers", "chunks", "expected"),
    [
        ("200 OK", [], [b"pic", b"", b"ture"], None),
        ("200 OK", [], [b"pic", ValueError("broken")], OriginFailed),
        ("200 OK", [], [ValueError("broken")], OriginFailed),
        ("200 OK", [], ["text"], OriginFailed),
        ("200 OK", [("Content-Length", "9")], [b"picture"], OriginFailed),
        ("200 OK", [("Content-Length", "3")], [b"picture"], OriginFailed),
        ("200 OK", [("Content-Length", "x")], [b"picture"], OriginFailed),
        ("200 OK", [("Content-Length", "999")], [b"picture"], SourceTooLarge),
        ("200 OK", [], [b"x" * 60, b"x" * 60], SourceTooLarge),
        ("200 OK", [("Content-Encoding", "gzip")], [b"picture"], OriginFailed),
        ("404 Not Found", [], [b"no"], SourceNotFound),
        ("500 Internal Server Error", [], [b"no"], OriginFailed),
        ("206 Partial Content", [], [b"pic"], OriginFailed),
        ("304 Not Modified", [], [], OriginFailed),
        ("OK", [], [b"picture"], OriginFailed),
    ],
)
def test_the_iterable_is_closed_once_whatever_happens(
    ask: Any, status: str, headers: Any, chunks: Any, expected: type[Exception] | None
) -> None:
    body = Closing(*chunks)

    def app(environ: Any, start_response: Any) -> Closing:
        start_response(status, JPEG + headers)
        return body

    request = ask("cat.jpg", limits=Limits(source_bytes=100))
    if expected is None:
        assert WsgiOrigin(validator(app)).fetch(request).body == b"picture"
    else:
        with pytest.raises(expected):
            WsgiOrigin(app).fetch(request)
    assert body.closed == 1


def test_an_app_that_raises_or_answers_nothing_fails(ask: Any) -> None:
    def raises(environ: Any, start_response: Any) -> Any:
        raise KeyError("secret")

    def silent(environ: Any, start_response: Any) -> Any:
        return []

    def twice(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", JPEG)
        start_response("200 OK", JPEG)
        return [b"picture"]

    def nothing(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", JPEG)

    for app in (raises, silent, twice, nothing):
        with pytest.raises(OriginFailed) as caught:
            WsgiOrigin(app).fetch(ask("cat.jpg"))
        assert "secret" not in caught.value.reason


def test_write_and_a_late_status_and_exc_info_are_understood(ask: Any) -> None:
    def writes(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", JPEG)
        write(b"pi")
        write(b"ct")
        return [b"ure"]

    def late(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", JPEG)
        yield b"pict"
        yield b"ure"

    def corrected(environ: Any, start_response: Any) -> Any:
        start_response("500 Internal Server Error", JPEG)
        try:
            raise ValueError
        except ValueError as error:
            start_response("200 OK", JPEG, (ValueError, error, error.__traceback__))
        return [b"picture"]

    for app in (writes, late, corrected):
        assert WsgiOrigin(validator(app)).fetch(ask("cat.jpg")).body == b"picture"


def test_an_error_after_the_body_began_is_raised_to_the_app(ask: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", JPEG)
        yield b"pict"
        error = ValueError("too late")
        start_response("500 Oops", [], (ValueError, error, None))
        yield b"an error page"

    with pytest.raises(OriginFailed) as caught:
        WsgiOrigin(app).fetch(ask("cat.jpg"))
    assert "too late" in caught.value.log


def test_what_is_written_without_end_is_too_large_even_if_the_app_swallows_that(ask: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", JPEG)
        for _ in range(20):
            try:
                write(b"x" * 60)
            except Exception:
                break
        return []

    with pytest.raises(SourceTooLarge) as caught:
        WsgiOrigin(app).fetch(ask("cat.jpg", limits=Limits(source_bytes=100)))
    assert "max_source_bytes, which is 100" in caught.value.log


def test_the_deadline_is_looked_at_between_chunks(ask: Any) -> None:
    def drips(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", JPEG)
        while True:
            yield b"x"

    def writes(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", JPEG)
        while True:
            write(b"x")

    for app in (drips, writes):
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            WsgiOrigin(app).fetch(ask("cat.jpg", seconds=0.1))
        assert time.monotonic() - began < 0.3
