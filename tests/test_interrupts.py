"""Ctrl-C and TERM, whenever they come while something starts: a line at most, the right status, and
nothing that goes on or is half made."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest
import servers
from origin import jpeg, opened

BIN = Path(sys.executable).parent
# What is said while it starts.
STARTING = (
    "Starting gunicorn",
    "Listening at",
    "Using worker",
    "Booting worker",
    "sample picture",
    "processors: ",
    "was sent SIGQUIT",  # a worker that had not begun when it was to end
)


@contextmanager
def started(folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """In a process group of its own, as a shell starts it."""
    where = ["--bind", f"127.0.0.1:{servers.free_port()}", "--cache-dir", str(folder / "cache")]
    with subprocess.Popen(
        [BIN / "thumbproxy", *command, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env={**os.environ, "THUMBPROXY_KEYS": servers.KEY},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def check(process: subprocess.Popen[str], sent: signal.Signals) -> None:
    """How it ended."""
    _, said = process.communicate(timeout=50)
    if "Traceback" in said and not re.search(r'thumbproxy/__main__\.py", line \d+, in main', said):
        return  # Python itself was still starting, and nothing of ours had run
    if not said and process.returncode == -sent:
        return  # not even that: the system ends a program that has no handler yet
    lines = [line for line in said.splitlines() if not any(word in line for word in STARTING)]
    assert "Traceback" not in said, said
    if sent == signal.SIGINT:
        assert process.returncode == 130, said
        assert len(lines) <= 1, said
    else:
        assert process.returncode in (0, -sent), said
        assert not lines or process.returncode == 0, said
    deadline = time.monotonic() + 30
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            assert time.monotonic() < deadline, "some of its processes go on"
            Event().wait(0.02)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("sent", "moments"), [(signal.SIGINT, 8), (signal.SIGTERM, 3)])
def test_it_may_come_at_any_moment(sent: signal.Signals, moments: int, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    serve = ("serve", "--origin", str(tmp_path), "--workers", "2")
    demo = ("demo", "--photos", str(tmp_path))
    began = time.monotonic()
    with started(tmp_path, *serve) as process:
        assert process.stdout
        assert "makes thumbnails" in process.stdout.readline()
        whole = time.monotonic() - began
        # A terminal tells the whole group, and `kill` one process.
        os.killpg(process.pid, sent)
        check(process, sent)
    for number in range(moments):
        with started(tmp_path, *(demo if number % 2 else serve)) as process:
            Event().wait(random.uniform(0, whole * 1.2))
            if number % 4 < 2:
                os.killpg(process.pid, sent)
            else:
                process.send_signal(sent)
            check(process, sent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["sample picture 1", "Booting worker"])
def test_while_pictures_are_painted_and_while_workers_boot(moment: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    photos = () if "sample" in moment else ("--photos", str(tmp_path))
    with started(tmp_path, "demo", *photos) as process:
        assert process.stderr
        while moment not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        check(process, signal.SIGINT)
    for picture in (tmp_path / "cache" / "photos").glob("[a-z]*"):
        assert opened(picture.read_bytes()).width > 1, "whole, or not there"


def test_the_commands_that_tidy_up_are_interrupted_in_a_line(tmp_path: Path) -> None:
    """A question that waits for its answer."""
    (tmp_path / "cache" / "private").mkdir(parents=True)
    with subprocess.Popen(
        [BIN / "thumbproxy", "cache", "clear", "--cache-dir", tmp_path / "cache"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.read(6) == "Remove"
        process.send_signal(signal.SIGINT)
        check(process, signal.SIGINT)
