"""A real Django project as an origin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Django's settings are global to a process, so it gets one of its own.
PROGRAM = """
import sys
from wsgiref.validate import validator

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpResponse
from django.urls import path
from django.views.decorators.http import condition

@condition(etag_func=lambda request, name: '"version-1"')
def picture(request, name):
    if name == "missing.jpg":
        raise Http404
    if name == "broken.jpg":
        raise RuntimeError("secret")
    response = HttpResponse(b"picture of " + name.encode(), content_type="image/jpeg")
    if name == "mine.jpg":
        response.set_cookie("session", "1")
    return response

settings.configure(
    SECRET_KEY="x" * 50, ALLOWED_HOSTS=["public.example"], ROOT_URLCONF=__name__,
    SECURE_SSL_REDIRECT=True, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    LOGGING_CONFIG=None,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware",
                "django.middleware.gzip.GZipMiddleware",
                "django.middleware.common.CommonMiddleware"],
)
urlpatterns = [path("media/<path:name>", picture)]
import logging
logging.disable()
app = validator(get_wsgi_application())

from thumbproxy.core.errors import OriginFailed, SourceNotFound
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import FetchRequest
from thumbproxy.origins.wsgi import WsgiOrigin

def fetch(path, origin=WsgiOrigin(app, host="public.example"), client={}, etag=""):
    return origin.fetch(
        FetchRequest(path, Validators(etag), Deadline(5), Limits(), False, client)
    )

def failure(*args, **kwargs):
    try:
        fetch(*args, **kwargs)
    except (OriginFailed, SourceNotFound) as error:
        return type(error)

# It redirects to https first, whether a front proxy told the scheme or not.
first = fetch("media/\\u00e9t\\u00e9 1.jpg")
assert first.body == "picture of \\u00e9t\\u00e9 1.jpg".encode(), first
assert first.validators.etag == '"version-1"', first
assert first.storable
told = {"HTTP_HOST": "public.example", "HTTP_X_FORWARDED_PROTO": "http"}
assert fetch("media/a.jpg", client=told).body == b"picture of a.jpg"
assert fetch("media/a.jpg", client=told, origin=WsgiOrigin(app)).body == b"picture of a.jpg"
assert fetch("media/a.jpg", etag='"version-1"').body is None
assert not fetch("media/mine.jpg").storable
assert failure("media/missing.jpg") is SourceNotFound
assert failure("elsewhere.jpg") is SourceNotFound
assert failure("media/broken.jpg") is OriginFailed
# Without a host that Django accepts there is no picture.
assert failure("media/a.jpg", origin=WsgiOrigin(app)) is OriginFailed
print("done")
"""


def test_a_django_project_with_https_redirects_hosts_and_conditions(tmp_path: Path) -> None:
    program = tmp_path / "project.py"
    program.write_text(PROGRAM)
    root = Path(__file__).parent.parent.parent
    result = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(program)],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
