"""Every way to install it that is documented, each extra alone, and none: in clean virtual
environments, from the wheel, all commands do what they can, and name what is lacking for the rest.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
from origin import jpeg

from thumbproxy import Thumbnails

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
KEY = servers.KEY
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Walks the help of all commands, and then does what it is told, in one process: JSON in, JSON out.
DRIVER = """
import json, sys
from click import Group
from click.testing import CliRunner
from thumbproxy.cli import main

def helps(command, path):
    yield [*path, "--help"]
    for name, sub in getattr(command, "commands", {}).items():
        yield from helps(sub, [*path, name])

def run(arguments, environ={}):
    done = CliRunner().invoke(main, arguments, env=environ)
    assert done.exc_info is None or done.exc_info[0] is SystemExit, (arguments, done.exc_info)
    return [done.exit_code, done.output]

told = json.load(sys.stdin)
done = [run(arguments, environ) for arguments, _, environ in told]
json.dump([[run(arguments) for arguments in helps(main, [])], done], sys.stdout)
"""


def documented() -> set[str]:
    """The extras of every `pip install` in the documentation, as they stand."""
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    return set(re.findall(r"pip\s+install[^`]*?'(?:thumbproxy|\.)\[([a-z,]+)\]'", text))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our wheel, and the wheels of all that any extra needs, as they are pinned."""
    house = tmp_path_factory.mktemp("house")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(house)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = house.iterdir()
    download = [BIN / "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", house,
                "--constraint", ROOT / "constraints.txt"]  # fmt: skip
    for compiled in Path(sys.prefix, "wheels").glob("*"):
        download += ["--find-links", compiled]
    others = ",".join(EXTRAS.keys() - {"pillow"})
    for what in ([f"{wheel}[{others}]"], ["--no-deps", "pillow"]):
        subprocess.run([*download, *what], check=True, timeout=300)
    return house


@dataclass
class Environment:
    folder: Path
    house: Path

    def install(self, requirement: str) -> None:
        options = ["--quiet", "--offline", "--no-config", "--no-index", "--find-links", self.house]
        command = [BIN / "uv", "pip", "install", *options, "--python", self.folder, requirement]
        subprocess.run(command, check=True, timeout=100)

    @property
    def environ(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
        compiled = str(self.house.parent / "compiled")
        return {**others, "THUMBPROXY_KEYS": KEY, "PYTHONPYCACHEPREFIX": compiled}

    def ask(self, *command: Any, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *map(str, command[1:])], input=given,
            env=self.environ, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip


@pytest.fixture
def clean(house: Path) -> Environment:
    """A virtual environment with nothing in it, always in the same place: what Python has compiled
    counts for the next."""
    made = Environment(house.parent / "clean", house)
    command = [BIN / "uv", "venv", "--quiet", "--clear", "--no-config", "--python", sys.executable]
    subprocess.run([*command, made.folder], check=True)
    return made


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a picture, and a cache."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.jpg").write_bytes(jpeg())
    (tmp_path / "cache" / "private").mkdir(parents=True)
    return tmp_path


@pytest.fixture(scope="module")
def fleet() -> Iterator[str]:
    """The address of a server that has every thumbnail."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "image/jpeg"), ("Content-Length", "2")])
        return [b"ok"] if environ["REQUEST_METHOD"] == "GET" else []

    with servers.wsgi(app) as server:
        yield server.url


def brought(extras: Collection[str]) -> set[str]:
    """The extras themselves, and those that they mean."""
    found = set(extras)
    for extra in extras:
        for requirement in EXTRAS[extra]:
            if inner := re.fullmatch(r"thumbproxy\[(.+)\]", requirement):
                found |= brought(inner[1].split(","))
    return found


COMBINATIONS = sorted({"", *EXTRAS, *documented()})


class Task(NamedTuple):
    """A command, and the extras that it needs."""

    arguments: list[str]
    needs: Collection[str] = ()
    environ: Mapping[str, str] = {}

    def check(self, status: int, text: str, has: Collection[str]) -> None:
        """It is done, or refused for all that it lacks, in a line for each reason."""
        missing = set(self.needs) - set(has)
        assert status == (2 if missing else 0), text
        told = re.findall(r"pip install 'thumbproxy\[(.+?)\]'", text)
        assert {name for names in told for name in names.split(",")} == missing, text
        if missing and self.arguments[0] != "doctor":
            assert text.count("\n") == len(told), text


def tasks(site: Path, fleet: str, has: set[str]) -> Iterator[Task]:
    cache = ["--cache-dir", str(site / "cache")]
    where = ["--origin", str(site / "media"), *cache]
    yield Task(["keygen"])
    yield Task(["sign", "a.jpg", "w_9"])
    yield Task(["warm", "a.jpg", "--base-url", fleet])
    yield Task(["warm", "a.jpg", "--widths", "9", *where], ["pillow"])
    yield Task(["warm", "a.jpg", "--widths", "8", *where], ["pillow", "metrics"],
               {"THUMBPROXY_METRICS_TOKEN": "a-token-that-only-the-tests-use"})  # fmt: skip
    yield Task(["explain", Thumbnails([KEY]).url("a.jpg", width=9), *where], ["pillow"])
    # What would begin to serve, and what would ask servers that are not there.
    serving = ["pillow", "server"]
    if not has.issuperset(serving):
        yield Task(["serve", *where], serving)
        yield Task(["demo", "--cache-dir", str(site / "demo")], serving)
    if "pillow" not in has:  # gunicorn, `doctor` only notes
        yield Task(["doctor", *where], serving)
    if "memcached" not in has:
        yield Task(["purge", "--all", "--memcached", "127.0.0.1:9", *cache], ["memcached"],
                   {"THUMBPROXY_MEMCACHED_CLIENT": "pylibmc"})  # fmt: skip
    if "cloudfront" not in has:
        yield Task(["purge", "a.jpg", *cache], ["cloudfront"],
                   {"THUMBPROXY_CDN": '[cloudfront]\ndistribution = "E1"'})  # fmt: skip
    yield Task(["purge", "--all", *cache])
    for command in (["stats"], ["trim"], ["clear", "--yes"]):
        yield Task(["cache", *command, *cache])


@pytest.mark.parametrize("extras", COMBINATIONS, ids=lambda extras: extras or "none")
def test_all_commands_do_what_they_can(
    extras: str, clean: Environment, site: Path, fleet: str
) -> None:
    clean.install(f"thumbproxy[{extras}]" if extras else "thumbproxy")
    has = brought(extras.split(",") if extras else [])
    if "simd" in has:  # the other engine
        has.add("pillow")
    code = "import thumbproxy; print(thumbproxy.Thumbnails().url('a.jpg', width=9, format='jpg'))"
    made = clean.ask("python", "-W", "error", "-c", code)
    assert made.stdout.strip() == Thumbnails([KEY]).url("a.jpg", width=9, format="jpg"), made.stderr

    todo = list(tasks(site, fleet, has))
    driven = clean.ask("python", "-c", DRIVER, given=json.dumps(todo))
    assert driven.returncode == 0, driven.stderr
    helps, done = json.loads(driven.stdout)
    assert len(helps) > 10
    assert all(status == 0 and "Usage: " in text for status, text in helps), helps
    for task, (status, text) in zip(todo, done, strict=True):
        task.check(status, text, has)
    assert not (site / "demo").exists(), "nothing was begun"
    if {"pillow", "server"} <= has:
        serve(clean, site)


def serve(environment: Environment, site: Path) -> None:
    """To the first picture, which is then in memcached, too: that needs no extra."""
    port = servers.free_port()
    with servers.memcached() as shared:
        command = [str(environment.folder / "bin" / "thumbproxy"), "serve", "--workers", "1",
                   "--origin", str(site / "media"), "--bind", f"127.0.0.1:{port}", "--cache-dir",
                   str(site / "served"), "--memcached", f"127.0.0.1:{shared.port}"]  # fmt: skip
        with servers.running(
            command, port, env=environment.environ, stderr=subprocess.DEVNULL
        ) as server:
            reply = server.ask(Thumbnails([KEY]).url("a.jpg", width=20, format="webp"))
            assert (reply.status, reply["Content-Type"]) == (200, "image/webp"), reply.body
        # The log of purges, a record, and the picture.
        assert items(shared.port) == 3


def items(port: int) -> int:
    """How many values a memcached has."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"stats\r\nquit\r\n")
        found = re.search(rb"STAT curr_items (\d+)", connection.makefile("rb").read())
    assert found
    return int(found[1])


def test_what_is_told_to_install_is_what_is_lacking(clean: Environment, site: Path) -> None:
    clean.install("thumbproxy")
    refused = clean.ask("thumbproxy", "serve", "--origin", site / "media")
    assert refused.returncode == 2
    found = re.fullmatch(r"Error: .* pip install '(.+)'\n", refused.stderr)
    assert found, refused.stderr
    clean.install(found[1])
    serve(clean, site)


def test_the_middleware_names_its_extra(clean: Environment, site: Path) -> None:
    clean.install("thumbproxy")
    code = f"from thumbproxy import ThumbProxy; ThumbProxy(print, cache_dir={str(site)!r})"
    refused = clean.ask("python", "-c", code)
    assert refused.stderr.splitlines()[-1].endswith(
        "SettingsError: Pillow is not installed; pip install 'thumbproxy[pillow]'"
    )
