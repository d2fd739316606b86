"""gunicorn's configuration for tests of its workers: each tells in a file `ready` that it works.

A worker that is told to stop before, while it starts, may not hear of it.
"""

from __future__ import annotations

import os
from pathlib import Path


def post_worker_init(worker: object) -> None:
    with open(Path(os.environ["SITE"]) / "ready", "a") as ready:
        ready.write(f"{os.getpid()}\n")
