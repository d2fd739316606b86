"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import servers
from commands import thumbproxy

from thumbproxy import Signer, __version__
from thumbproxy.urls.codec import UrlCodec

KEY = servers.KEY


def started(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a Python of its own."""
    return subprocess.run(
        [sys.executable, "-m", "thumbproxy", *arguments],
        env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_sign_prints_a_url_that_verifies() -> None:
    done = thumbproxy("sign", "médias/a b.jpg", "q_80,h_0300,w_400", "--format", "webp",
                      "--base-url", "https://cdn.example.com", THUMBPROXY_KEYS=KEY)  # fmt: skip
    assert done.returncode == 0, done.stderr
    url = done.stdout.strip()
    assert url.startswith("https://cdn.example.com/thumb/m%C3%A9dias/a%20b.jpg/w_400,h_300,q_80.")
    path = unquote(url.removeprefix("https://cdn.example.com"))
    assert UrlCodec(Signer([KEY])).parse(path) is not None


def test_a_preset_is_options_by_name_and_what_is_given_overrides_it(tmp_path: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'keys = ["{KEY}"]\n[presets]\ncard = "h_300,w_400,fit_cover"\n')

    def signed(*arguments: str) -> str:
        return thumbproxy("sign", "--config", str(config), "a.jpg", *arguments).stdout

    assert signed("--preset", "card") == signed("w_400,h_300,fit_cover")
    assert signed("--preset", "card", "w_200,gray") == signed("w_200,h_300,fit_cover,gray")
    refused = thumbproxy("sign", "--config", str(config), "a.jpg", "--preset", "hero")
    assert refused.returncode == 2
    assert "no preset 'hero'. Presets are: card." in refused.stderr


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ('"w_x"', "of 'card', w: 'x' is not allowed"),
        ('"width_5"', "it is written 'w'"),
        ("5", "'card' is not a text"),
        ("{ w = 5 }", "'card' is not a text"),
    ],
)
def test_presets_are_checked_when_anything_starts(entry: str, part: str, tmp_path: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'keys = ["{KEY}"]\n[presets]\ncard = {entry}\n')
    done = thumbproxy("sign", "--config", str(config), "a.jpg")
    assert done.returncode == 2
    assert "presets in" in done.stderr
    assert part in done.stderr


def test_keygen_prints_a_key_that_is_taken() -> None:
    first, second = (thumbproxy("keygen").stdout.strip() for _ in range(2))
    assert first != second
    assert thumbproxy("sign", "a.jpg", THUMBPROXY_KEYS=first).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "part"),
    [
        (["sign", "a.jpg"], {}, "thumbproxy keygen"),
        (["sign", "a.jpg"], {"THUMBPROXY_KEYS": "short"}, "16 bytes"),
        (["sign", "../a.jpg"], {"THUMBPROXY_KEYS": KEY}, "dot"),
        (["sign", "a.jpg", "w_x"], {"THUMBPROXY_KEYS": KEY}, "whole number"),
        (["sign", "a.jpg", "--format", "bmp"], {"THUMBPROXY_KEYS": KEY}, "no format 'bmp'"),
        (["sign", "https://a.example/b.jpg"], {"THUMBPROXY_KEYS": KEY},
         "it would be 'remote/https/a.example/b.jpg'"),
        (["sign", "ftp://a.example/b.jpg"], {"THUMBPROXY_KEYS": KEY}, "is a URL"),
        (["serve"], {"THUMBPROXY_KEYS": KEY}, "--origin FOLDER"),
        (["serve"], {}, "--origin FOLDER"),
        (["serve", "--origin", "/absent"], {}, "thumbproxy keygen"),
        (["serve", "--origin", "/absent"], {}, "no folder '/absent'"),
        (["serve", "--threads", "x", "--origin", "/", "--cache-dir", "/dev/null/x"], {},
         "cache_dir: '/dev/null/x' cannot be used: Not a directory"),
        (["serve", "--origin", "/absent"], {"THUMBPROXY_KEYS": KEY}, "no folder '/absent'"),
        (["serve", "--origin", "/", "--threads", "0"], {"THUMBPROXY_KEYS": KEY}, "from 1 to 1024"),
        (["serve", "--origin", "/", "--cache-dir", "/dev/null"], {"THUMBPROXY_KEYS": KEY},
         "Choose a folder"),
        (["serve", "--config", "/absent.toml"], {}, "/absent.toml"),
        (["nonsense"], {}, "No such command"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(arguments: list[str], environ: dict[str, str], part: str) -> None:
    done = thumbproxy(*arguments, **environ)
    assert done.returncode != 0
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_in_use_is_told_at_once(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        folder = "--origin" if command == "serve" else "--photos"
        done = thumbproxy(command, folder, str(tmp_path), "--bind", bind, "--cache-dir",
                          str(tmp_path / "cache"), THUMBPROXY_KEYS=KEY)  # fmt: skip
    assert done.returncode != 0
    assert f"cannot listen on {bind}: Address already in use" in done.stderr
    assert done.stdout == "", "no address is given that is somebody else's"


def test_a_demo_that_cannot_write_says_so() -> None:
    done = thumbproxy("demo", "--cache-dir", "/dev/null/demo")
    assert done.returncode != 0
    assert "/dev/null/demo cannot be used: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version() -> None:
    """Of all commands: test_extras.py."""
    assert __version__ in started("--version").stdout
    told = thumbproxy("--help").stdout
    for command in ("serve", "demo", "sign", "keygen", "warm", "explain"):
        assert command in told


def test_what_is_not_installed_is_named_by_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.py").write_text(
        "raise ModuleNotFoundError('No module named gunicorn', name='gunicorn')"
    )
    assert started("keygen", PYTHONPATH=str(tmp_path)).returncode == 0
    done = started("serve", "--origin", "/", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "Error: gunicorn is not installed; pip install 'thumbproxy[server]'\n"
