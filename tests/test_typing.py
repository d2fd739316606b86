"""Type checkers know what the package takes: an option that is misspelled is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from thumbproxy.config.settings import FIELDS

ROOT = Path(__file__).parent.parent
USES = ROOT / "tests" / "typed_uses.py"


@pytest.mark.timeout(300)  # of a cold cache; of a warm one it takes 2 s
def test_right_uses_are_accepted_and_wrong_ones_are_errors() -> None:
    """Strictly, so that an error which is expected and does not come is one, too."""
    command = [sys.executable, "-m", "mypy", "--strict", str(USES)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_setting_is_among_the_uses() -> None:
    used = re.findall(r"^        (\w+)=settings\.\1,$", USES.read_text(), re.MULTILINE)
    assert sorted([*used, "origins"]) == sorted(FIELDS)
