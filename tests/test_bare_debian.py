"""What README.md and installing.md tell a newcomer to type, on a bare Debian 12, line by line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from html import unescape
from pathlib import Path
from threading import Event

import debian
import pytest
import servers
from origin import jpeg, opened
from snippets import COMMAND, claim

ROOT = Path(__file__).parent.parent
# Pillow-SIMD, which installing.md is about, comes into an environment of its own.
BLOCKS = claim("sh", "README.md") + claim("sh", "docs/installing.md")
# For those who do not let `make` install them.
PACKAGES = claim(COMMAND, "docs/installing.md", "^apt-get ")
# It runs this very test, and everything else, wherever the checks are run: from a fresh clone.
NOT_TYPED = "make test"
KEY = "…"
# Compiling is tried here, not what is compiled: without optimization it takes half the time.
COMPILER = '#!/bin/sh\nexec cc "$@" -O0 -g0\n'


def lines() -> list[str]:
    """The lines of all shell blocks, in order, without comments."""
    split = "".join(block.text for block in BLOCKS).replace("\\\n", "").splitlines()
    return [line for text in split if (line := re.sub(r"(^|\s)# .*", "", text).strip())]


@pytest.mark.timeout(600)
def test_every_line_of_the_pages_for_newcomers_works_in_its_order(tmp_path: Path) -> None:
    todo = [line for line in lines() if line != NOT_TYPED]
    assert len(todo) == len(lines()) - 1
    with debian.machine(tmp_path) as machine:
        debian.clone(machine)
        compiler = machine.inside / "root/compiler"
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)
        machine.environ["CC"] = "/root/compiler"
        (machine.inside / "srv/media/photos").mkdir(parents=True)
        (machine.inside / "srv/media/photos/cat.jpg").write_bytes(jpeg(800, 600))
        while todo:
            line = todo.pop(0)
            if line.startswith("make demo"):
                demo(machine, line)
            elif line.startswith("export THUMBPROXY_KEYS="):
                # Two terminals: the second has a line for the key, and one that asks.
                server, (others, ask) = [line, todo.pop(0)], (todo.pop(0), todo.pop(0))
                assert KEY in others
                serve(machine, server, [others, ask])
            else:
                machine.run(line)
        for install in PACKAGES:
            machine.run(install.text)


def demo(machine: debian.Machine, line: str) -> None:
    """Until a picture of its gallery is there; then it is interrupted."""
    port = servers.free_port()
    arguments = debian.quoted(("ARGS", f"--bind 127.0.0.1:{port}"))
    made = subprocess.Popen(machine.command(arguments + line), start_new_session=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        assert made.stdout
        said = []
        for told in made.stdout:
            said.append(told)
            if "Booting worker" in told:
                break
        assert any("The gallery of" in told for told in said), "".join(said)
        page = fetched(f"http://127.0.0.1:{port}/").decode()
        [first, *_] = re.findall(r'src="(/thumb/[^"]+)"', page)
        assert opened(fetched(f"http://127.0.0.1:{port}{unescape(first)}")).width > 1
    finally:
        os.killpg(made.pid, signal.SIGINT)
        rest, _ = made.communicate(timeout=60)
    assert "Traceback" not in rest


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as reply:
        body: bytes = reply.read()
        return body


def serve(machine: debian.Machine, server: list[str], client: list[str]) -> None:
    """In a network of its own, where nobody else has the port that the lines name."""
    ask = "\n".join(client).replace(KEY, '"$(head -n1 /tmp/printed)"')
    machine.run(
        f"({'; '.join(server)}) > /tmp/printed 2> /tmp/log & served=$!\n"
        "until grep -q 'Booting worker' /tmp/log; do kill -0 $served; sleep 0.1; done\n"
        f"{ask}\nkill $served",
        alone=True,
    )
    [picture] = (machine.inside / "root/thumbproxy").glob("w_400,h_300,fit_cover.*.webp")
    assert opened(picture.read_bytes()).size == (400, 300)


def test_a_machine_leaves_nothing_when_its_maker_is_killed(tmp_path: Path) -> None:
    code = (
        "import debian, sys, time, pathlib\n"
        "with debian.machine(pathlib.Path(sys.argv[1])) as machine:\n"
        "    machine.run('echo here > /root/file')\n"
        "    print(machine.pid, flush=True)\n"
        "    machine.run('exec sleep 1000')\n"
    )
    maker = subprocess.Popen(["python3", "-c", code, str(tmp_path)], stdout=subprocess.PIPE,
                             text=True, cwd=Path(__file__).parent)  # fmt: skip
    assert maker.stdout
    pid = int(maker.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    maker.kill()
    maker.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it goes on"
        Event().wait(0.05)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
