"""The servers that tests start leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from processes import family

STARTS = """
import sys
from pathlib import Path
import nginx, servers
folder = Path(sys.argv[1])
(folder / "nginx").mkdir()
with servers.memcached() as memcached, servers.thumbproxy(
    "--origin", str(folder), "--cache-dir", str(folder / "cache"), THUMBPROXY_ISOLATION="threads",
    THUMBPROXY_MEMCACHED=f"127.0.0.1:{memcached.port}", log=folder / "log",
) as site, nginx.running(folder / "nginx", f"127.0.0.1:{site.port}", folder / "cache") as (_, port):
    servers.Server(port).ask("/thumb/")
    print("ready", flush=True)
    sys.stdin.read()
"""


def runs(pid: int) -> bool:
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_servers_end_with_who_started_them_and_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent
    ) as tests:
        assert tests.stdout
        while tests.stdout.readline() != b"ready\n":
            assert tests.poll() is None
        _, *started = family(tests.pid)
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in started}
        assert names >= {"memcached", "nginx"}
        assert len(started) >= 7, "of nginx and of thumbproxy, those that serve as well"
        tests.kill()
    deadline = time.monotonic() + 30
    while left := [pid for pid in started if runs(pid)]:
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.02)
