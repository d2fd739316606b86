"""The log: a line is a line, whoever asked for what; and nobody waits for it to be read."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import servers
from origin import jpeg

from thumbproxy import Thumbnails
from thumbproxy.telemetry.access_log import AccessLog, escaped
from thumbproxy.telemetry.logs import JsonLines, TextLines, Writer
from thumbproxy.web.middleware import Refusals

THUMBS = Thumbnails([servers.KEY])
HIT = THUMBS.url("cat.jpg", width=60, format="jpg", version="v1")
SECRET = "a-token-that-only-the-tests-use"
CONF = Path(__file__).parent.parent / "conf" / "gunicorn.conf.py"
ALWAYS = {"time", "level", "logger", "message", "pid"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return with_photos(tmp_path)


def with_photos(place: Path) -> Path:
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_bytes(jpeg(640, 480))
    return place


@contextmanager
def serving(place: Path, format: str, log: Path | None = None) -> Iterator[servers.Server]:
    arguments = ("--origin", str(place / "photos"), "--cache-dir", str(place / "cache"))
    environ = {
        "THUMBPROXY_LOG_FORMAT": format,
        "THUMBPROXY_ACCESS_LOG": "true",
        "THUMBPROXY_PURGE_TOKEN": SECRET,
        "THUMBPROXY_WORKERS": "1",
    }
    with servers.thumbproxy(*arguments, log=log or place / "log", **environ) as server:
        yield server


def ask_all(server: servers.Server) -> None:
    """A miss, a hit, a HEAD, and what is refused, not there, or not ours: seven requests."""
    for method in ("GET", "GET", "HEAD"):
        server.ask(f"{HIT}?word={SECRET}", {"X-Request-ID": "a.b-1", "Cookie": SECRET}, method)
    server.ask(HIT.replace("w_60", "w_61"))
    server.ask(THUMBS.url("dog.jpg", width=60))
    server.ask(HIT, {"Authorization": f"Bearer {SECRET}"}, "POST")
    server.ask("/elsewhere")


EXPECTED = [
    ("GET", HIT, 200, "miss", None),
    ("GET", HIT, 200, "hit_disk", None),
    ("HEAD", HIT, 200, "hit_disk", None),
    ("GET", HIT.replace("w_60", "w_61"), 403, "refused", "bad-signature"),
    ("GET", THUMBS.url("dog.jpg", width=60), 404, "failed", "source-not-found"),
    ("POST", HIT, 405, "refused", "method-not-allowed"),
    ("GET", "/elsewhere", 404, None, None),
]


FORGERIES = ["/thumb/a%0A[2026-01-01]%20forged", "/thumb/%0D%0Aforged", "/thumb/%1b[2Jforged",
             "/forged%FF%FE", "/thumb/%E2%80%A8forged", "/%00forged", "/%22forged%22:",
             "/thumb/" + "forged" * 500]  # fmt: skip
FORGING = {"User-Agent": "forged\tby \xff\x85me", "X-Request-ID": 'forged" \xa0 {'}


@pytest.fixture(scope="module", params=["json", "text"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The whole log of a server that was asked all of that."""
    place = with_photos(tmp_path_factory.mktemp("log"))
    with serving(place, request.param) as server:
        ask_all(server)
        server.ask("/healthz")
        for path in FORGERIES:
            server.ask(path, FORGING)
    return (place / "log").read_text("ascii")


def test_each_request_has_one_line(log: str) -> None:
    lines = [line for line in log.splitlines() if "forged" not in line]
    if log.startswith("{"):
        told = [json.loads(line) for line in lines]
        told = [line for line in told if line["logger"] == "thumbproxy.access"]
        seen = [
            (t["method"], t["path"], t["status"], t.get("result"), t.get("reason")) for t in told
        ]
        assert seen == EXPECTED
        assert (told[0]["id"], told[0]["client"]) == ("a.b-1", "127.0.0.1")
        assert told[0]["bytes"] > 100
        assert 0 < told[0]["render"] < told[0]["seconds"]
        for line in told:
            assert round(line["seconds"], 4) == line["seconds"]
        return
    told = [line for line in lines if " seconds=" in line]
    for line, (method, path, status, result, reason) in zip(told, EXPECTED, strict=True):
        assert f" {method} {path} {status} bytes=" in line
        assert (f"result={result}" in line) == bool(result)
        assert (f"reason={reason}" in line) == bool(reason)


def test_in_json_each_line_is_an_object(log: str) -> None:
    if log.startswith("{"):
        lines = [json.loads(line) for line in log.splitlines()]
        assert all(set(line) >= ALWAYS for line in lines)
        assert {line["logger"] for line in lines} >= {"gunicorn.error", "thumbproxy.access"}


def test_no_secret_is_in_the_log(log: str) -> None:
    assert SECRET not in log
    assert servers.KEY not in log


def test_no_client_forges_a_line(log: str) -> None:
    lines = [line for line in log.splitlines() if "forged" in line]
    assert len(lines) == len(FORGERIES)
    for line in lines:
        assert line.isprintable()
        assert " 404" in line
        if log.startswith("{"):
            assert "id" not in json.loads(line)


def test_gunicorn_with_our_configuration_logs_in_json_also_after_a_reload(place: Path) -> None:
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "--bind",
               f"{servers.HOST}:{port}", "thumbproxy:application()"]  # fmt: skip
    environ = {
        **{name: value for name, value in os.environ.items() if "THUMBPROXY" not in name},
        "THUMBPROXY_KEYS": servers.KEY,
        "THUMBPROXY_ORIGIN": str(place / "photos"),
        "THUMBPROXY_LOG_FORMAT": "json",
        "THUMBPROXY_ACCESS_LOG": "true",
        "WEB_CONCURRENCY": "1",
    }
    with (
        (place / "log").open("wb") as log,
        servers.running(command, port, env=environ, stderr=log) as server,
    ):
        assert server.process
        assert server.ask(HIT).status == 200
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while (place / "log").read_text().count("Booting worker") < 2:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        assert server.ask(HIT).status == 200
    lines = [json.loads(line) for line in (place / "log").read_text().splitlines()]
    assert all(set(line) >= ALWAYS for line in lines)
    assert len([line for line in lines if line.get("path") == HIT]) == 2


def test_a_log_that_nobody_reads_keeps_nobody_waiting(place: Path) -> None:
    """A full pipe; then one that is closed."""
    reading, writing = os.pipe()
    with serving(place, "text", Path(f"/proc/self/fd/{writing}")) as server:
        os.close(writing)
        connection = HTTPConnection(servers.HOST, server.port, timeout=5)
        try:
            ask_often(connection, 150)
            os.close(reading)
            ask_often(connection, 20)
        finally:
            connection.close()


def ask_often(connection: HTTPConnection, times: int) -> None:
    path = f"/thumb/{'x' * 2000}"  # a pipe has 64 KiB
    for _ in range(times):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 404
        response.read()


def test_a_log_on_a_full_disk_costs_lines_alone(place: Path) -> None:
    with serving(place, "json", Path("/dev/full")) as server:
        assert server.ask(HIT).status == 200
        ask_all(server)
        assert server.ask(HIT).status == 200


def test_what_is_dropped_is_counted() -> None:
    reading, writing = os.pipe()
    writer = Writer(writing)
    writer.setFormatter(TextLines())
    lines = 12_000
    for number in range(lines):
        writer.handle(record("x" * 100 + str(number)))
    received = b""
    deadline = time.monotonic() + 10
    while b"were dropped" not in received:
        assert time.monotonic() < deadline
        received += os.read(reading, 1 << 20)
    for descriptor in (reading, writing):
        os.close(descriptor)
    told = received.decode().splitlines()
    (dropped,) = [int(line.split()[-11]) for line in told if "were dropped" in line]
    assert len(told) - 1 + dropped == lines


def test_a_pipe_that_somebody_made_non_blocking_cuts_no_line() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = Writer(writing)
    lines = [f"{number} {'x' * 999}" for number in range(300)]  # four times what a pipe takes
    for line in lines:
        writer.handle(record(line))
    received = b""
    while received.count(b"\n") < len(lines):
        assert select.select([reading], [], [], 10)[0]
        received += os.read(reading, 1 << 16)
    for descriptor in (reading, writing):
        os.close(descriptor)
    assert received.decode().splitlines() == lines


def test_a_forked_process_writes_its_own_lines_once() -> None:
    reading, writing = os.pipe()
    writer = Writer(writing)
    writer.handle(record("parent"))
    child = os.fork()
    if child == 0:
        writer.handle(record("child"))
        writer.flush()
        os._exit(0)
    os.waitpid(child, 0)
    writer.flush()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert sorted(pipe.read().split()) == [b"child", b"parent"]


def record(message: str, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "here", "levelname": "INFO", "msg": message, "process": 7, **more}
    )


def failure() -> Any:
    try:
        raise ValueError("no\nway\x1b[2J")
    except ValueError:
        return sys.exc_info()


def test_a_traceback_is_one_line_of_json_and_indented_text() -> None:
    failed = record("it failed", exc_info=failure())
    line = JsonLines().format(failed)
    assert "\n" not in line
    told = json.loads(line)
    assert "Traceback" in told["exception"]
    assert told["message"] == "it failed"
    text = TextLines().format(record("it failed", exc_info=failure()))
    assert "\x1b" not in text
    first, *others = text.split("\n")
    assert first.endswith("it failed")
    assert others
    assert all(other.startswith("    ") for other in others)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "month", "told"),
    [
        ("UTC0", 1, "2026-01-15T12:00:00+00:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1, "2026-01-15T13:00:00+01:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 7, "2026-07-15T14:00:00+02:00"),
        ("NST3:30", 1, "2026-01-15T08:30:00-03:30"),
    ],
)
def test_each_line_says_when_and_in_which_zone(
    zone: Callable[[str], None], name: str, month: int, told: str
) -> None:
    """As RFC 3339 has it."""
    zone(name)
    line = record("it happened")
    line.created = datetime(2026, month, 15, 12, tzinfo=UTC).timestamp()
    assert TextLines().format(line).startswith(f"[{told}] [")
    assert json.loads(JsonLines().format(line))["time"].startswith(f"2026-{month:02d}-15T12:00:00.")


def test_a_wrong_call_of_the_log_fails_nobody() -> None:
    reading, writing = os.pipe()
    writer = Writer(writing)
    writer.handle(record("%d", args=("no number",)))
    writer.flush()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert b"could not be written" in pipe.read()


def test_what_a_client_sent_is_shown_as_visible_ascii() -> None:
    assert escaped("a b\r\n\x7f\xe9") == "a%20b%0D%0A%7F%E9"
    assert len(escaped("x" * 5000)) < 2100


def test_of_refused_requests_the_first_has_a_line_and_the_rest_their_number_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals(1)

    def wait_for(lines: int) -> None:
        deadline = time.monotonic() + 20
        while len(caplog.messages) < lines:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)

    for _ in range(10):
        refusals.tell("/thumb/a", "3 wait already (`misses`)")
    assert len(caplog.messages) == 1
    wait_for(2)
    refusals.tell("/thumb/b", "3 wait already (`misses`)")
    wait_for(3)
    threading.Event().wait(max(0, refusals._quiet_until - time.monotonic()) + 0.01)
    refusals.tell("/thumb/c", "3 wait already (`misses`)")
    assert caplog.messages == [
        "overloaded '/thumb/a': 3 wait already (`misses`)",
        "overloaded: 9 more requests were refused: 3 wait already (`misses`)",
        "overloaded: 1 more request was refused: 3 wait already (`misses`)",
        "overloaded '/thumb/c': 3 wait already (`misses`)",
    ]


def test_an_application_that_fails_has_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    def failing(environ: Any, start_response: Any) -> Any:
        raise RuntimeError

    caplog.set_level(logging.INFO)
    with pytest.raises(RuntimeError):
        AccessLog(failing, json=False)({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}, print)
    assert "GET /x 500" in caplog.text
