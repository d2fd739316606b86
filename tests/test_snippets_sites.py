"""The sites of the README, put together as it says: Flask and Django, under a real server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
import servers
from origin import opened
from snippets import Reader, Snippet, claim

FLASK = claim("python", "README.md", r"\A# app\.py\n")
PAGE = claim("jinja", "README.md")
SETTINGS = claim("python", "README.md", r"\A# mysite/settings\.py\n")
MODULES = claim("python", "README.md", r"\A# (mysite/wsgi|photos/templatetags/\w+)\.py\n")
TEMPLATE = claim("django", "README.md")

# What a project has that is no business of the README: a model, a view, and two photos, one
# without a picture. The rest of it is what `startproject` and `startapp` write.
SITE = {
    "photos/models.py": """
from django.db import models

class Photo(models.Model):
    title = models.CharField(max_length=80)
    image = models.ImageField(upload_to="photos", blank=True)
    updated = models.DateTimeField(auto_now=True)
""",
    "photos/views.py": """
from django.shortcuts import render
from photos.models import Photo

def page(request):
    return render(request, "page.html", {"photos": Photo.objects.order_by("pk")})
""",
    "mysite/urls.py": """
from django.urls import path
from photos.views import page

urlpatterns = [path("", page)]
""",
    "fill.py": """
import django
django.setup()
from django.core.files.images import ImageFile
from django.core.management import call_command
from photos.models import Photo

call_command("makemigrations", "photos", verbosity=0)
call_command("migrate", verbosity=0)
with open("media/static/photos/cat.jpg", "rb") as file:
    photo = Photo(title='A "cat" & <dog>')
    photo.image.save("été, d'un chat.jpg", ImageFile(file))
Photo.objects.create(title="Nothing")
call_command("check", fail_level="WARNING", verbosity=0)
""",
}

pytestmark = pytest.mark.timeout(180)  # a machine may be busy


class Pictures(HTMLParser):
    """The addresses of a page's pictures, each with its `alt`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        urls = [part.split()[0] for part in given.get("srcset", "").split(", ") if part]
        for url in [*urls, *([given["src"]] if "src" in given else [])]:
            self.found[url] = given.get("alt", "")


def check_pictures(server: servers.Server, alt: str) -> Pictures:
    """Every address of the page is answered with a whole picture of its size, never enlarged."""
    page = server.ask("/")
    assert page.status == 200, page.body.decode()
    pictures = Pictures(page.body.decode())
    assert pictures.tags.count("picture") == 1
    assert len(pictures.found) == 1 + 3 * 2
    assert set(pictures.found.values()) == {"", alt}
    for url in pictures.found:
        reply = server.ask(url, {"Accept": "image/avif,image/webp"})
        assert reply.status == 200, (url, reply.body)
        width = re.search(r"/w_(\d+)", url)
        assert width
        assert reply["Content-Type"].startswith("image/")
        if "avif" not in reply["Content-Type"]:
            assert opened(reply.body).width == min(int(width[1]), 600)
    return pictures


@contextmanager
def gunicorn(reader: Reader, application: str) -> Iterator[servers.Server]:
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "--threads", "4", "--bind", f"127.0.0.1:{port}",
               "--no-control-socket", "--log-level", "warning", application]  # fmt: skip
    with servers.running(command, port, cwd=reader.home, env=reader.environ) as server:
        yield server


def write(reader: Reader, snippets: list[Snippet]) -> None:
    """The files that snippets say they are, in their first lines."""
    for snippet in snippets:
        name, text = snippet.text.removeprefix("# ").split("\n", 1)
        (reader.home / name).parent.mkdir(parents=True, exist_ok=True)
        (reader.home / name).write_text(reader.fitted(text))


def test_flask_shows_the_page_of_the_readme(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    write(reader, FLASK)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text(PAGE[0].text)
    (tmp_path / "static").symlink_to(reader.media / "static")
    with gunicorn(reader, "app:app") as server:
        assert server.ask("/static/photos/cat.jpg").status == 200
        check_pictures(server, "A cat")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A Django project with the README's pieces in their places."""
    reader = Reader(tmp_path_factory.mktemp("django"), DJANGO_SETTINGS_MODULE="mysite.settings")
    reader.run("django-admin startproject mysite . && python manage.py startapp photos")
    settings = reader.home / "mysite" / "settings.py"
    added = reader.fitted(SETTINGS[0].text)
    started = settings.read_text().replace("ALLOWED_HOSTS = []", 'ALLOWED_HOSTS = ["127.0.0.1"]')
    settings.write_text(f"{started}\nINSTALLED_APPS += ['photos']\n{added}")
    for name, text in SITE.items():
        (reader.home / name).write_text(text)
    write(reader, MODULES)
    (reader.home / "photos/templatetags/__init__.py").touch()
    (reader.home / "photos/templates").mkdir()
    (reader.home / "photos/templates/page.html").write_text(TEMPLATE[0].text)
    reader.run("python fill.py")
    return reader


def test_django_shows_the_page_of_the_readme(project: Reader) -> None:
    with gunicorn(project, "mysite.wsgi") as server:
        pictures = check_pictures(server, 'A "cat" & <dog>')
        assert all(url.startswith("/thumb/photos/%C3%A9t%C3%A9") for url in pictures.found)
        assert sum(",v_" in url for url in pictures.found) == 3 * 2  # those of the <picture>
        assert server.ask("/absent").status == 404


def test_django_serves_thumbnails_while_it_is_being_developed(project: Reader) -> None:
    """`runserver` takes the wrapped application, by WSGI_APPLICATION."""
    port = servers.free_port()
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    log = (project.home / "runserver.log").open("wb")
    with (
        log,
        servers.running(command, port, cwd=project.home, env=project.environ,
                        stdout=log, stderr=log) as server,
    ):  # fmt: skip
        check_pictures(server, 'A "cat" & <dog>')
