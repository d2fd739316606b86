"""The engines that are compared, each in a process of its own that is asked over pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from . import sharp
from .makers import MAKERS, Task

ROOT = Path(__file__).parents[2]
Command = tuple[str, ...]


class Sample(NamedTuple):
    """One render. Times are seconds, CPU of all threads."""

    body: bytes
    cpu: float
    wall: float


class Rival:
    """An engine. `pid` is the process that renders."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._questions: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout

    def load(self, source: bytes) -> None:
        """Take an encoded picture; what this costs is not measured."""
        self._ask({"source": len(source)}, source)

    def render(self, task: Task) -> Sample:
        # Only sharp has to be told how to encode; the others share our constants.
        extension, options = task.format.extension, sharp.OPTIONS[task.format]
        self._ask({"side": task.side, "format": extension, "options": options})
        line = self._answers.readline()
        if not line:
            raise ChildProcessError("An engine ended before it answered.")
        fields = json.loads(line)
        return Sample(self._answers.read(fields["bytes"]), fields["cpu"], fields["wall"])

    def _ask(self, fields: Mapping[str, Any], body: bytes = b"") -> None:
        self._questions.write(json.dumps(fields).encode() + b"\n" + body)
        self._questions.flush()


def commands(sharp_module: Path | None) -> dict[str, Command]:
    """How to start each engine, by name."""
    child = f"{__package__}.child"
    found: dict[str, Command] = {name: (sys.executable, "-m", child, name) for name in MAKERS}
    if sharp_module:
        found["sharp"] = sharp.command(sharp_module)
    return found


@contextmanager
def running(command: Command) -> Iterator[Rival]:
    environ = {**os.environ, "UV_THREADPOOL_SIZE": "1", "VIPS_CONCURRENCY": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe) as process:
        # Leaving Popen closes the pipes, upon which the child ends, and waits for it.
        yield Rival(process)
