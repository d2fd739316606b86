"""The most memory that one render takes, in a process that renders nothing else.

It is how far the resident memory rises above that of the process with the source loaded and a tiny
picture rendered, so that libraries and code are not counted.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from thumbproxy.core.formats import Format

from .makers import Task
from .rivals import Command, Rival, running


def peak(command: Command, source: bytes, side: int) -> int:
    """Bytes, for a JPEG of `source` by an engine that is started for it."""
    task = Task(side, Format.JPEG)
    with running(command) as rival:
        rival.load(_tiny())
        rival.render(task)
        rival.load(source)
        # 5 sets the peak back to what is resident now (Linux, proc(5)).
        Path(f"/proc/{rival.pid}/clear_refs").write_text("5")
        before = _kib(rival, "VmRSS")
        rival.render(task)
        return 1024 * (_kib(rival, "VmHWM") - before)


def _kib(rival: Rival, field: str) -> int:
    status = Path(f"/proc/{rival.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.M)
    assert found, status
    return int(found[1])


def _tiny() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()
