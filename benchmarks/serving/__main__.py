"""Hits of thumbproxy beside bare gunicorn, nginx and thumbor, in one table from one run.

    python -m benchmarks.serving [--rounds N] [--seconds S] [--thumbor PYTHON]
    python -m benchmarks.serving --stages     where the time of a hit under gunicorn goes
    python -m benchmarks.serving --syscalls   what a hit asks of the kernel

`make serving ARGS=...` is the same, after the set-up. See measuring.py for how it is measured and
comparison.py for what is compared and promised.

Needs wrk, nginx, memcached and strace, which are Debian packages, and two processors. thumbor is
measured if PYTHON is an interpreter that has it:
`python3 -m venv DIR && DIR/bin/pip install thumbor`, then `--thumbor DIR/bin/python`.
The exit status is 1 when a ratio, or the number of system calls, is not as promised.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from . import comparison, stages, syscalls
from .photo import NAME, photo
from .servers import found


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7, help="through all servers in turn")
    parser.add_argument("--seconds", type=int, default=2, help="of each server in a round")
    parser.add_argument("--thumbor", default="", metavar="PYTHON", help="that has thumbor")
    parser.add_argument("--stages", action="store_true", help="where the time of a hit goes")
    parser.add_argument("--syscalls", action="store_true", help="what a hit asks of the kernel")
    arguments = parser.parse_args()
    for program in ("wrk", "nginx", "memcached", "strace"):
        found(program)
    os.sched_setaffinity(0, {0})  # the servers inherit it
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "photos").mkdir()
        (home / "photos" / NAME).write_bytes(photo())
        if arguments.stages:
            good = stages.report(home, arguments.rounds, arguments.seconds)
        elif arguments.syscalls:
            good = syscalls.report(home, arguments.seconds)
        else:
            good = comparison.report(home, arguments.rounds, arguments.seconds, arguments.thumbor)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
