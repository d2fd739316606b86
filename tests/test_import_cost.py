"""Building URLs costs an application nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "PIL",
    "gunicorn",
    "http.client",
    "numpy",
    "pylibmc",
    "requests",
    "simplejpeg",
    "socket",
    "ssl",
    "urllib3",
    "werkzeug",
)


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-P", "-W", "error", "-c", code]
    return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import thumbproxy",
        "import thumbproxy; thumbproxy.Thumbnails; thumbproxy.Signer; thumbproxy.Options",
        "from thumbproxy import Thumbnails\n"
        "thumbs = Thumbnails(keys=['0123456789abcdef'])\n"
        "thumbs.url('cat.jpg', width=400, format='webp')\n"
        "thumbs.picture('cat.jpg', widths=[320, 640], alt='A cat')",
    ],
)
def test_urls_are_built_without_loading_what_makes_pictures(code: str) -> None:
    assert loaded_by(code).isdisjoint(HEAVY)
