"""The standalone server: gunicorn with threads, set up for images."""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from thumbproxy.errors import SettingsError
from thumbproxy.ops import SHARED_DIRECTORY, settled
from thumbproxy.purge import follow_purges
from thumbproxy.settings import Settings

log = logging.getLogger(__name__)
_OUR_DIRECTORY = "thumbproxy-metrics-"
# Seconds in which whoever makes one has surely come to hold it.
_SETTLING = 60
# Kinds of files whose values outlive the process that counted them.
_KEPT = ("counter", "histogram", "summary", "gauge_mostrecent")
_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn makes an unnamed file there


def gunicorn_options(settings: Settings) -> dict[str, Any]:
    """gunicorn's settings; conf/gunicorn.conf.py has the same for those who start it themselves."""
    return {
        "bind": settings.bind,
        "workers": settings.workers or os.cpu_count() or 1,
        "threads": settings.threads,
        "worker_class": "gthread",
        # A worker says that it lives by touching a file. On a disk that stalls, that would kill it.
        "worker_tmp_dir": _MEMORY if os.path.isdir(_MEMORY) else None,
        "control_socket_disable": True,
        # Else a client on this machine could set SCRIPT_NAME and PATH_INFO by headers.
        "forwarder_headers": "",
        "timeout": 60,
        # No request takes longer than its deadline, so a stop need not cut one off.
        "graceful_timeout": int(settings.request_timeout) + 5,
        # Longer than nginx keeps idle connections to us: the side that sends must hang up first.
        "keepalive": 75,
        "proc_name": "thumbproxy",
        "child_exit": child_exit,
        "post_worker_init": post_worker_init,
    }


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, app: Callable[..., Any], options: dict[str, Any]) -> None:
        self._app = app
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        return self._app


def run(app: Callable[..., Any], settings: Settings, greeting: str) -> None:
    """Serve `app` until the process is told to stop.

    greeting: what to print when the server listens. Raises SettingsError when it cannot.
    """
    _check_bind(settings.bind)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] [%(process)d] %(message)s")

    def when_ready(server: Any) -> None:
        sys.stdout.write(f"{greeting}\n")
        sys.stdout.flush()

    _Server(app, {**gunicorn_options(settings), "when_ready": when_ready}).run()


def _check_bind(bind: str) -> None:
    """gunicorn would try for five seconds, and then say it in ten lines."""
    if bind.startswith("unix:") or "GUNICORN_FD" in os.environ:  # a socket that we were handed
        return
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise SettingsError(
            [f"bind: cannot listen on {bind}: {reason}. Choose another with --bind."]
        ) from None


def share_metrics() -> None:
    """Have this process's children count together. Raises SettingsError.

    prometheus-client shares what it counts in a directory, if the environment names one when it is
    imported: so this comes before an application is built. A directory that is named already is
    used. Else one is made in memory, because a write to a mapped file waits for a slow disk, and
    kills the process on a full one; it is removed when this process ends.
    """
    named = os.environ.get(SHARED_DIRECTORY, "")
    # gunicorn started us in place of a server that still runs, and will remove what is its own.
    inherited = "GUNICORN_PID" in os.environ and os.path.basename(named).startswith(_OUR_DIRECTORY)
    try:
        if named and not inherited:
            os.makedirs(named, exist_ok=True)
            retire(named)
            return
        place = _MEMORY if os.path.isdir(_MEMORY) else tempfile.gettempdir()
        _sweep(place)
        directory = tempfile.mkdtemp(prefix=_OUR_DIRECTORY, dir=place)
        # Held, also by our children, until the last of us ends: for those who sweep.
        fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)
    except OSError as error:
        raise SettingsError(
            [f"{SHARED_DIRECTORY}: {error.filename} cannot be used: {error.strerror}."]
        ) from None
    os.environ[SHARED_DIRECTORY] = directory
    atexit.register(_remove, directory, os.getpid())


def _sweep(place: str) -> None:
    """Remove what servers left that were killed: directories that nobody holds."""
    for path in Path(place).glob(f"{_OUR_DIRECTORY}*"):
        try:
            if time.time() - path.stat().st_mtime < _SETTLING:
                continue
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # somebody else's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(held)


def _remove(directory: str, maker: int) -> None:
    if os.getpid() == maker:  # workers come by here too
        shutil.rmtree(directory, ignore_errors=True)


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook: a worker that nobody asks anything has to purge what other hosts do."""
    follow_purges()


def child_exit(server: Any, worker: Any) -> None:
    """gunicorn's hook: keep what a worker counted, in a file that does not have its name."""
    directory = os.environ.get(SHARED_DIRECTORY)
    if not directory:
        return
    try:
        retire(directory)
    except Exception:  # or gunicorn itself would end
        log.exception("what worker %s counted could not be put with the rest", worker.pid)


def retire(directory: str) -> None:
    """Put the files of dead processes in a shared directory together, one for each kind.

    prometheus-client reads them all for ever. A scrape that is reading them is not waited for: what
    is left now is done when the next process dies.
    """
    try:
        with settled(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for path in Path(directory).glob("*_*.db"):
                kind, _, pid = path.stem.rpartition("_")
                if pid.isdigit() and not _lives(int(pid)):
                    _put_together(path, kind)
    except BlockingIOError:
        pass


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


def _put_together(path: Path, kind: str) -> None:
    if kind in _KEPT:
        _add(path, path.with_name(f"{kind}_retired.db"), newest=kind.startswith("gauge"))
    elif not kind.startswith("gauge_live"):  # those tell of the living only
        return  # a gauge of another kind is not of ours
    path.unlink()


def _add(path: Path, kept: Path, *, newest: bool) -> None:
    """Add the values of one file to another's; or take over those that are newer."""
    from prometheus_client import mmap_dict  # noqa: PLC0415 - an extra

    size = path.stat().st_size
    if not size:  # its process died while it made it
        return
    with open(kept, "ab") as file:
        # Here a full disk is an error; a write to the mapped file would end this process.
        os.posix_fallocate(file.fileno(), 0, size)
    mapped: Any = mmap_dict.MmapedDict
    total = mapped(str(kept))
    for key, value, at, _ in mapped.read_all_values_from_file(str(path)):
        before, last = total.read_value(key)
        if not newest:
            total.write_value(key, before + value, 0.0)
        elif at > last:
            total.write_value(key, value, at)
    total.close()
