"""What every origin promises, whatever it is made of: the same folder of files as a folder, as a
WSGI application called in this process, behind an HTTP server, and behind a remote one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask, Response, abort, request
from werkzeug.security import safe_join

from thumbproxy.core.errors import OriginTimeout, SourceNotFound, SourceTooLarge
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import Fetched, FetchRequest, Origin
from thumbproxy.origins.folder import Folder
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.origins.remote import RemoteOrigin
from thumbproxy.origins.wsgi import WsgiOrigin

MODIFIED = 1_600_000_000
BODY = bytes(range(256)) * 400
NAMES = [
    "cat.jpg",
    "a/b/cat.jpg",
    "été à Nice.jpg",
    "with space.jpg",
    "100%.jpg",
    "50%41.jpg",
    "a+b.jpg",
    "~tilde.jpg",
    "hash#tag.jpg",
    "a&b=c;d,e'f(g)!.jpg",
    "semi;colon:at@.jpg",
    "猫.jpg",
    "no-extension",
    'quote"<>|^`{}[].jpg',
]


def file_server(folder: Path, asked: list[str]) -> Any:
    """An application that gives the files, and notes in `asked` what it was asked for."""
    app = Flask("files", static_folder=None)

    @app.get("/<path:name>")
    def send(name: str) -> Any:
        asked.append(name)
        path = Path(safe_join(str(folder), name) or "nowhere")
        if not path.is_file():
            abort(404)
        response = Response(path.read_bytes(), mimetype="image/jpeg")
        response.last_modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        response.cache_control.max_age = 600
        response.add_etag()
        return response.make_conditional(request)

    return app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BODY)
        os.utime(path, (MODIFIED, MODIFIED))
    return tmp_path


@pytest.fixture
def asked() -> list[str]:
    return []


class One(RemoteOrigin):
    """A remote origin of one server, which so has the same sources as the others."""

    def __init__(self, url: str) -> None:
        super().__init__([url], allow_networks=("127.0.0.0/8",))
        self._at = url.replace("://", "/")

    def fetch(self, request: FetchRequest) -> Fetched:
        return super().fetch(replace(request, path=f"{self._at}/{request.path}"))


@pytest.fixture(params=["folder", "wsgi", "http", "remote"])
def origin(
    request: pytest.FixtureRequest, folder: Path, asked: list[str], serve: Callable[[Any], str]
) -> Origin:
    if request.param == "folder":
        return Folder(folder)
    if request.param == "wsgi":
        return WsgiOrigin(validator(file_server(folder, asked)))
    url = serve(file_server(folder, asked))
    return HttpOrigin(url) if request.param == "http" else One(url)


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_fetched_whole_whatever_its_name(origin: Origin, ask: Any, name: str) -> None:
    fetched = origin.fetch(ask(name))
    assert fetched.body == BODY
    assert fetched.modified == MODIFIED
    assert fetched.storable
    assert fetched.validators != Validators()


def test_a_copy_with_equal_validators_is_confirmed_without_a_body(origin: Origin, ask: Any) -> None:
    first = origin.fetch(ask("cat.jpg"))
    again = origin.fetch(ask("cat.jpg", validators=first.validators))
    assert replace(first, body=None) == again


def test_another_file_under_the_name_is_fetched(origin: Origin, ask: Any, folder: Path) -> None:
    first = origin.fetch(ask("cat.jpg"))
    (folder / "cat.jpg").write_bytes(b"another")
    again = origin.fetch(ask("cat.jpg", validators=first.validators))
    assert again.body == b"another"
    assert again.validators != first.validators


@pytest.mark.parametrize(
    "name", ["dog.jpg", "cat.jpg/x.jpg", "a/b/c/d.jpg", "../cat.jpg", "a/../cat.jpg"]
)
def test_what_is_not_there_is_not_found(origin: Origin, ask: Any, name: str) -> None:
    with pytest.raises(SourceNotFound):
        origin.fetch(ask(name))


def test_a_source_over_the_limit_is_refused_and_one_at_it_is_not(origin: Origin, ask: Any) -> None:
    assert origin.fetch(ask("cat.jpg", limits=Limits(source_bytes=len(BODY)))).body == BODY
    with pytest.raises(SourceTooLarge) as caught:
        origin.fetch(ask("cat.jpg", limits=Limits(source_bytes=len(BODY) - 1)))
    assert "max_source_bytes" in caught.value.log, "whoever reads the log knows what to raise"
    assert str(len(BODY) - 1) in caught.value.log


def test_without_time_there_is_no_fetch(origin: Origin, ask: Any, asked: list[str]) -> None:
    with pytest.raises(OriginTimeout):
        origin.fetch(ask("cat.jpg", seconds=0))
    assert asked == []


def test_the_fingerprint_is_the_etag_that_a_fetch_gives(origin: Origin, ask: Any) -> None:
    """Where a system call tells it; the others say that they cannot know."""
    known = isinstance(origin, Folder)
    etag = origin.fetch(ask("cat.jpg")).validators.etag
    assert origin.fingerprint("cat.jpg") == (etag if known else None)
    assert origin.fingerprint("dog.jpg") == ("" if known else None)


def test_it_is_an_origin(origin: Origin) -> None:
    assert isinstance(origin, Origin)
    assert not origin.immutable
    assert origin.local == isinstance(origin, Folder)
