"""Render processes under gunicorn: forked, preloaded, killed and stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pictures import encoded, landscape
from PIL import Image
from servers import HOST, KEY, Server, free_port, freeze, running, thumbproxy

from thumbproxy import Thumbnails
from thumbproxy.assembly.factories import engine_of, runner_of
from thumbproxy.config.settings import Settings
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.rendering.processes import Processes
from thumbproxy.rendering.threads import Threads
from thumbproxy.telemetry.metrics import Metrics

THUMBS = Thumbnails(keys=[KEY])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encoded(landscape(300, 200)))
    return folder


def url(width: int, format: str = "jpg") -> str:
    return THUMBS.url("a.jpg", width=width, format=format)


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def family(pid: int) -> list[int]:
    return [pid, *(one for child in children(pid) for one in family(child))]


def renderers(server: Server) -> list[int]:
    assert server.process
    return [pid for pid in family(server.process.pid) if name(pid) == "thumb-render"]


def wait_until_gone(pids: list[int], seconds: float = 3) -> None:
    deadline = Deadline(seconds)
    while any(name(pid) for pid in pids):
        assert not deadline.passed, "they are still there"
        threading.Event().wait(0.005)


@contextmanager
def preloaded(folder: Path, cache: Path) -> Iterator[Server]:
    port = free_port()
    settings = {"KEYS": KEY, "ORIGIN": str(folder), "CACHE_DIR": str(cache)}
    environ = {name: text for name, text in os.environ.items() if "THUMBPROXY" not in name}
    environ |= {f"THUMBPROXY_{name}": text for name, text in settings.items()}
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--worker-class", "gthread",
        "--threads", "8", "--workers", "2", "--bind", f"{HOST}:{port}", "--no-control-socket",
        "thumbproxy:application()",
    ]  # fmt: skip
    with running(command, port, env=environ) as server:
        yield server


def test_a_preloaded_server_renders_and_loses_nothing_with_a_worker(
    folder: Path, tmp_path: Path
) -> None:
    """Workers that are killed leave no processes; and those that come after them render."""
    with preloaded(folder, tmp_path / "cache") as server:
        assert server.process
        for width in range(50, 58):
            assert server.ask(url(width)).status == 200
        old = renderers(server)
        assert old
        # What the workers were forked from has no render processes, and needs none.
        assert all(name(pid) != "thumb-forks" for pid in children(server.process.pid))
        for worker in children(server.process.pid):
            os.kill(worker, signal.SIGKILL)
        wait_until_gone(old)
        for width in range(60, 64):
            assert server.ask(url(width, "webp")).status == 200
        everyone = family(server.process.pid)
    wait_until_gone(everyone)


def test_a_picture_whose_renders_are_killed_gets_a_503_and_then_its_picture(
    folder: Path, tmp_path: Path
) -> None:
    """As the kernel kills them when memory runs out."""
    # So much work that none is done before it is found.
    (folder / "large.png").write_bytes(encoded(Image.new("RGB", (6000, 5000)), "PNG"))
    large = [THUMBS.url("large.png", width=width, format="jpg") for width in (51, 52)]
    with thumbproxy(
        *("--origin", str(folder), "--cache-dir", str(tmp_path / "cache")),
        THUMBPROXY_WORKERS="1", THUMBPROXY_RENDERS="1", THUMBPROXY_FAILURE_TTL="0",
    ) as server:  # fmt: skip
        while server.ask(url(50)).status == 503:  # until the first process is ready
            pass
        assert server.ask(url(50)).status == 200
        over = threading.Event()

        def kill_all() -> None:
            while not over.is_set():
                # A thread or process may end while it is looked at.
                with suppress(FileNotFoundError, ProcessLookupError):
                    for pid in renderers(server):
                        os.kill(pid, signal.SIGKILL)
                over.wait(0.001)

        killing = threading.Thread(target=kill_all)
        killing.start()
        replies = [server.ask(address) for address in large]
        over.set()
        killing.join()
        for reply in replies:
            assert (reply.status, reply.body.split()[0]) == (503, b"render-killed:")
            assert int(reply["Retry-After"]) > 0
        while server.ask(large[0]).status == 503:
            pass
        assert server.ask(large[0]).status == 200


def test_render_processes_that_hang_cost_a_504_and_hits_go_on(folder: Path, tmp_path: Path) -> None:
    with thumbproxy(
        *("--origin", str(folder), "--cache-dir", str(tmp_path / "cache")),
        THUMBPROXY_WORKERS="1", THUMBPROXY_RENDER_TIMEOUT="0.7", THUMBPROXY_FAILURE_TTL="0",
    ) as server:  # fmt: skip
        while server.ask(url(50)).status == 503:  # until the first process is ready
            pass
        assert server.ask(url(50)).status == 200
        for pid in renderers(server):
            freeze(pid)
        slow: list[int] = []
        thread = threading.Thread(target=lambda: slow.append(server.ask(url(51)).status))
        thread.start()
        while thread.is_alive():
            assert server.ask(url(50)).status == 200
        assert slow[0] in (200, 504)  # another process may have been free
        deadline = Deadline(3)  # for which such a picture is not tried again
        while (status := server.ask(url(52)).status) != 200:
            assert status == 504
            assert not deadline.passed


def test_a_picture_that_needs_too_much_memory_is_named_in_the_log(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a.jpg").write_bytes(encoded(Image.new("RGB", (6000, 5000))))
    with thumbproxy(
        *("--origin", str(folder), "--cache-dir", str(tmp_path / "cache")),
        log=tmp_path / "log", THUMBPROXY_WORKERS="1", THUMBPROXY_RENDER_MEMORY="64MiB",
    ) as server:  # fmt: skip
        reply = server.ask(url(4000, "png"))
    assert (reply.status, reply.body.split()[0]) == (422, b"decoder-failed:")
    (line,) = (line for line in (tmp_path / "log").read_text().splitlines() if "a.jpg" in line)
    assert "[WARNING] decoder-failed" in line
    assert "it needed more than render_memory" in line


def test_a_server_that_is_told_to_stop_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with thumbproxy("--origin", str(folder), "--cache-dir", str(tmp_path / "cache")) as server:
        assert server.process
        assert server.ask(url(50)).status == 200
        everyone = family(server.process.pid)
        assert name(server.process.pid) == "thumb-master"
        assert {name(pid) for pid in children(server.process.pid)} == {"thumb-worker"}
        assert any(name(pid) == "thumb-forks" for pid in everyone)
        os.killpg(server.process.pid, signal.SIGTERM)  # as a terminal or a service does
        assert server.process.wait(10) == 0
        wait_until_gone(everyone)


@pytest.mark.parametrize(
    ("isolation", "kind"), [("auto", Threads), ("threads", Threads), ("processes", Processes)]
)
def test_the_setting_decides(isolation: str, kind: type) -> None:
    settings = Settings(keys=(KEY,), isolation=isolation, renders=3)
    runner = runner_of(engine_of(settings, Limits()), settings, Metrics())
    assert type(runner) is kind
    assert runner.size == 3
    runner.close()
