"""Runs a command in a copy of this checkout, on a bare Debian of some release, and tells how it
ended: scripts/on-debian.py trixie make core. Needs root, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import debian


def main(release: str, *command: str) -> int:
    with tempfile.TemporaryDirectory() as name, debian.machine(Path(name), release) as machine:
        machine.run("apt-get -qq update && apt-get -qq install -y make python3 git")
        debian.clone(machine)
        inside = machine.command(" ".join(command))
        return subprocess.run(inside, check=False).returncode  # noqa: S603 - what was asked for


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
