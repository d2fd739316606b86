"""The soak benchmark, for some seconds: under its load and its first fault, all is as promised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_short_soak_finds_nothing_wrong() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--renders", "80", "--minutes", "0.1",
               "--clients", "4", "--interval", "2"]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    said = dict(re.findall(r"^(?:ok |BAD) ([^:\n]+): (.*)$", run.stdout, re.MULTILINE))
    assert said, run.stdout + run.stderr
    for what in ("wrong pictures", "replies cut off", "failures that no fault explains"):
        verdicts = re.findall(rf"^(ok |BAD) {what}: (.*)$", run.stdout, re.MULTILINE)
        assert verdicts == [("ok ", "0")] * 2, run.stdout
