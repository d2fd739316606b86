"""The files for deployment agree with the program and with each other."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import nginx
import pytest
import yaml
from gunicorn.config import KNOWN_SETTINGS

from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.core.limits import Limits
from thumbproxy.server.gunicorn_app import gunicorn_options

ROOT = Path(__file__).parent.parent
KEY = "a key that is only for tests"
GUNICORN_CONF = ROOT / "conf" / "gunicorn.conf.py"
UNIT = ROOT / "conf" / "thumbproxy.service"
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "compose.yaml").read_text())


def gunicorn_conf() -> dict[str, Any]:
    names = {setting.name for setting in KNOWN_SETTINGS}
    module = runpy.run_path(str(GUNICORN_CONF))
    return {name: value for name, value in module.items() if name in names}


def test_gunicorn_conf_says_what_serve_does() -> None:
    theirs, ours = gunicorn_conf(), gunicorn_options(Settings(keys=(KEY,)))
    for name in ours.keys() & theirs.keys() - {"workers"}:
        assert theirs[name] == ours[name], name
    assert theirs["control_socket_disable"]
    assert theirs["worker_tmp_dir"] == "/dev/shm"


def test_gunicorn_waits_longer_than_a_request_may_take() -> None:
    assert gunicorn_conf()["graceful_timeout"] > Limits().request_seconds
    assert gunicorn_conf()["timeout"] > Limits().request_seconds


def unit() -> dict[str, list[str]]:
    """The directives of the systemd unit, each with all of its values."""
    told: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            told.setdefault(name, []).append(value)
    return told


def test_the_unit_starts_our_program_with_options_that_it_has() -> None:
    [command] = unit()["ExecStart"]
    program, name, *arguments = shlex.split(command)
    assert Path(program).name == "thumbproxy"
    options = {word for parameter in main.commands[name].params for word in parameter.opts}
    assert set(arguments[::2]) <= options
    assert dict(zip(arguments[::2], arguments[1::2], strict=True))["--cache-dir"] == (
        f"/var/cache/{unit()['CacheDirectory'][0]}"
    )


def test_the_unit_waits_for_a_stop_and_ends_the_master_first() -> None:
    told = unit()
    most = gunicorn_options(Settings(keys=(KEY,)))["graceful_timeout"]
    assert int(told["TimeoutStopSec"][0]) > most
    assert told["KillMode"] == ["mixed"]
    assert told["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert {told[name][0] for name in ("NoNewPrivileges", "PrivateTmp")} == {"yes"}
    assert told["ProtectSystem"] == ["strict"]


def test_systemd_knows_all_that_the_unit_says(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    checked = tmp_path / UNIT.name
    command = shlex.split(unit()["ExecStart"][0])[0]
    checked.write_text(UNIT.read_text().replace(command, "/bin/true"))
    done = subprocess.run(
        [program, "verify", str(checked)], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (
        0, [],
    )  # fmt: skip


def seconds(directive: str) -> int:
    [value] = re.findall(rf"^\s*{directive} (\d+)s;", nginx.CONF.read_text(), re.MULTILINE)
    return int(value)


def test_nginx_waits_longer_than_a_request_may_take() -> None:
    assert seconds("proxy_read_timeout") > Limits().request_seconds


def test_nginx_hangs_up_before_gunicorn_does() -> None:
    assert seconds("keepalive_timeout") < gunicorn_conf()["keepalive"]
    assert seconds("keepalive_timeout") < gunicorn_options(Settings(keys=(KEY,)))["keepalive"]


@contextmanager
def gunicorn(media: Path, cache: Path) -> Iterator[int]:
    """gunicorn as its configuration's first lines say, on a free port: the port."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN_CONF)]
    command += ["--bind", "127.0.0.1:0", "--workers", "1", "thumbproxy:application()"]
    environment = os.environ | {
        "THUMBPROXY_KEYS": KEY,
        "THUMBPROXY_ORIGIN": str(media),
        "THUMBPROXY_CACHE_DIR": str(cache),
    }
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if listening := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            pytest.fail("".join(said))
        yield int(listening[1])
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_gunicorn_serves_with_its_configuration(tmp_path: Path) -> None:
    """And the image's health check says so."""
    (tmp_path / "media").mkdir()
    check = json.loads(re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[0])
    with gunicorn(tmp_path / "media", tmp_path / "cache") as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        command = [sys.executable, "-I", *check[1:-1], check[-1].replace("8080", str(port))]
        assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in kept, source


def debian_packages(text: str) -> set[str]:
    """What is compiled against: the -dev packages."""
    return set(re.findall(r"\b[a-z0-9-]+-dev\b", text))


def test_the_image_is_compiled_against_what_the_set_up_installs() -> None:
    setup = debian_packages((ROOT / "scripts" / "setup.sh").read_text())
    assert debian_packages(DOCKERFILE) == setup - {"libmemcached-dev"}


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert users[-1:] == ["10001"]


def test_compose_needs_a_key_and_says_how_to_make_one() -> None:
    for node in ("node-1", "node-2"):
        needs = COMPOSE["services"][node]["environment"]["THUMBPROXY_KEYS"]
        assert needs.startswith("${THUMBPROXY_KEYS:?")
        assert "thumbproxy keygen" in needs


@pytest.mark.parametrize("text", [DOCKERFILE, (ROOT / "conf" / "compose.yaml").read_text()])
def test_every_variable_is_a_setting(text: str) -> None:
    for name in re.findall(r"THUMBPROXY_([A-Z_]+)", text):
        assert name.lower() in Settings.__dataclass_fields__


def test_what_compose_mounts_and_waits_for_is_there() -> None:
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (
                source in volumes
                or source.startswith("${MEDIA")
                or (ROOT / "conf" / source).exists()
            )
    assert (ROOT / "conf" / services["node-1"]["build"] / "Dockerfile").exists()


def test_compose_puts_both_nodes_behind_nginx() -> None:
    """Its sed finds the line that it changes, and changes no other."""
    script = COMPOSE["services"]["nginx"]["command"][-1]
    words = shlex.split(script)
    assert words[0] == "sed"
    changed = subprocess.run(
        ["sed", words[1], str(nginx.CONF)], capture_output=True, text=True, check=True
    ).stdout
    before, after = nginx.CONF.read_text().splitlines(), changed.splitlines()
    [difference] = [new for old, new in zip(before, after, strict=True) if old != new]
    assert difference.strip().startswith("server node-1:8080; server node-2:8080;")
    assert {"node-1", "node-2"} <= COMPOSE["services"].keys()
