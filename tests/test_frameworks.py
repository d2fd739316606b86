"""Flask and Django, wrapped by one line: their pages untouched, their pictures resized."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from origin import jpeg, opened

from thumbproxy import Thumbnails

THUMBS = Thumbnails([servers.KEY])

FLASK = """
    from flask import Flask, request, send_from_directory
    from thumbproxy import ThumbProxy

    app = Flask(__name__, static_folder={media!r}, static_url_path="/static")

    @app.get("/")
    def page():
        return "<h1>Flask</h1>", {{"X-Page": "1"}}

    @app.post("/form")
    def form():
        return request.form["name"] + request.cookies.get("c", "")

    app.wsgi_app = ThumbProxy(app.wsgi_app, keys=[{key!r}], cache_dir={cache!r})
"""

DJANGO = """
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import re_path
    from django.views.static import serve
    from thumbproxy import ThumbProxy

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="x", ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.security.SecurityMiddleware",
                    "django.middleware.common.CommonMiddleware"],
    )

    def page(request):
        return HttpResponse("<h1>Django</h1>", headers={{"X-Page": "1"}})

    def form(request):
        return HttpResponse(request.POST["name"] + request.COOKIES.get("c", ""))

    urlpatterns = [
        re_path("^$", page), re_path("^form$", form),
        re_path("^static/(?P<path>.*)$", serve, {{"document_root": {media!r}}}),
    ]
    app = ThumbProxy(get_wsgi_application(), keys=[{key!r}], cache_dir={cache!r})
"""


@pytest.fixture(params=["flask", "django"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[servers.Server]:
    """The application under gunicorn, as people run it."""
    media = tmp_path / "media"
    media.mkdir()
    (media / "été 1.jpg").write_bytes(jpeg(300, 200))
    program = {"flask": FLASK, "django": DJANGO}[request.param].format(
        media=str(media), key=servers.KEY, cache=str(tmp_path / "cache")
    )
    (tmp_path / "site_app.py").write_text(textwrap.dedent(program))
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(tmp_path), "--workers", "2",
               "--threads", "4", "--bind", f"127.0.0.1:{port}", "--no-control-socket",
               "--log-level", "warning", "site_app:app"]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with servers.running(command, port, env=environ) as server:
        yield server


def test_pages_are_untouched_and_pictures_resized(site: servers.Server) -> None:
    page = site.ask("/")
    assert page["X-Page"] == "1"
    assert b"<h1>" in page.body
    assert site.ask("/absent").status == 404

    original = site.ask("/static/%C3%A9t%C3%A9%201.jpg")
    assert opened(original.body).size == (300, 200)

    url = THUMBS.url("static/été 1.jpg", width=90, format="webp")
    first, second = site.ask(url), site.ask(url)
    assert opened(first.body).size == (90, 60)
    assert opened(first.body).format == "WEBP"
    assert first["Cache-Status"] == "thumbproxy; fwd=uri-miss; stored"
    # Flask sends its files with no-cache: it is asked each time, and says 304.
    assert second["Cache-Status"].endswith("; detail=disk")
    assert second.body == first.body
    assert site.ask(THUMBS.url("static/absent.jpg", width=5)).status == 404
    assert site.ask("/thumb/x").status == 404


def test_a_page_is_no_picture(site: servers.Server) -> None:
    assert site.ask(THUMBS.url("absent", width=5)).status == 404
