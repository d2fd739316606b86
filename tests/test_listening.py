"""Where a server cannot listen is told before anything is set up, with an address that is free."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
import servers
from click.testing import CliRunner, Result

from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import SettingsError
from thumbproxy.server.listening import checked_bind

KEY = servers.KEY


def refused(bind: str) -> str:
    with pytest.raises(SettingsError) as fault:
        checked_bind(Settings(keys=(KEY,), bind=bind))
    return str(fault.value)


def run(command: str, folder: Path, *arguments: str) -> Result:
    where = ["--cache-dir", str(folder / "cache"), *arguments]
    return CliRunner().invoke(main, [command, *where], env={"THUMBPROXY_KEYS": KEY})


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_nothing_is_set_up_for_a_port_that_is_taken(command: str, tmp_path: Path) -> None:
    with socket.create_server((servers.HOST, 0)) as other:
        bind = f"{servers.HOST}:{other.getsockname()[1]}"
        origin = ["--origin", str(tmp_path)] if command == "serve" else []
        done = run(command, tmp_path, "--bind", bind, *origin)
    assert done.exit_code == 2
    assert f"bind: cannot listen on {bind}: Address already in use." in done.output
    assert "\n" not in done.output.strip()
    assert list(tmp_path.iterdir()) == [], "no sample picture, no key, no cache"
    told = re.search(r"--bind (\S+)\.", done.output)
    assert told
    assert told[1] != bind
    checked_bind(Settings(keys=(KEY,), bind=told[1]))


def test_what_else_is_wrong_is_told_with_it(tmp_path: Path) -> None:
    with socket.create_server((servers.HOST, 0)) as other:
        bind = f"{servers.HOST}:{other.getsockname()[1]}"
        done = run("serve", tmp_path, "--bind", bind, "--origin", str(tmp_path / "absent"))
    assert "cannot listen on" in done.output
    assert "there is no folder" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_an_address_that_is_none_is_told_first(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path, "--bind", "8080")
    assert done.exit_code == 2
    assert "host:port or unix:/path" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bind", "why"),
    [
        (
            "192.0.2.7:8080",
            "Cannot assign requested address. Choose another with --bind 127.0.0.1:",
        ),
        (
            "no-such-host.invalid:8080",
            "this machine has no such address. Choose another with --bind",
        ),
        ("127.0.0.1:70000", "there is no such port. Choose another with --bind 127.0.0.1:"),
        ("unix:/absent/socket", "there is no folder '/absent'. Make it, or choose another"),
        ("unix:/etc/hostname", "there is something else of that name. Choose another"),
        (f"unix:/tmp/{'a' * 110}", "its path is longer than 107 bytes. Choose another"),
    ],
)
def test_other_reasons(bind: str, why: str) -> None:
    assert f"bind: cannot listen on {bind}: {why}" in refused(bind)


def test_where_it_can_listen(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
        places = [f"{servers.HOST}:{servers.free_port()}", f"localhost:{servers.free_port()}",
                  f"unix:{tmp_path}/new", f"unix:{tmp_path}/left"]  # fmt: skip
        for place in places:
            checked_bind(Settings(keys=(KEY,), bind=place))


def test_sockets_that_are_handed_over_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((servers.HOST, 0)) as other:
        settings = Settings(keys=(KEY,), bind=f"{servers.HOST}:{other.getsockname()[1]}")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        checked_bind(settings)
        monkeypatch.setenv("LISTEN_PID", "1")
        with pytest.raises(SettingsError):
            checked_bind(settings)
