"""The command `thumbproxy`, run to its end.

Loading it takes longer than most of what it does. So one process has loaded it, and each command
runs in a child of that: with arguments, an environment and outputs of its own, and all that comes
after loading. What depends on how Python starts has to start it: `python -m thumbproxy`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from thumbproxy.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["thumbproxy.cli"])


def thumbproxy(
    *arguments: str, seconds: float = 30, **environ: str
) -> subprocess.CompletedProcess[str]:
    """environ: the settings that it has besides our environment, whose own settings it has not.
    Raises TimeoutExpired for one that has not ended within so many seconds."""
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder)
        process = _FORKS.Process(target=_run, args=(arguments, {**clean, **environ}, told))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, seconds)
        printed, errors = ((told / stream).read_text() for stream in ("stdout", "stderr"))
        return subprocess.CompletedProcess(arguments, process.exitcode, printed, errors)


def _run(arguments: tuple[str, ...], environ: Mapping[str, str], told: Path) -> None:
    os.environ.clear()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        file = os.open(told / stream.name.strip("<>"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
        os.close(file)
    sys.argv[:] = ["thumbproxy", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
