"""The directory in which the processes of a server share their metrics, and the counts of workers
that have ended."""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from thumbproxy.core.errors import SettingsError
from thumbproxy.core.shortage import reason
from thumbproxy.web.admin_endpoints import SHARED_DIRECTORY, settled

log = logging.getLogger(__name__)

MEMORY = "/dev/shm"  # noqa: S108 - files there have names of their own
_OUR_DIRECTORY = "thumbproxy-metrics-"
# Seconds in which whoever makes one has surely come to hold it.
_SETTLING = 60
# Kinds of files whose values outlive the process that counted them.
_KEPT = ("counter", "histogram", "summary", "gauge_mostrecent")
# Bytes of each kind of file: every series there can be is in it from the start.
_SIZES = {"counter": 65_536, "gauge_livemax": 65_536, "gauge_mostrecent": 65_536,
          "histogram": 131_072}  # fmt: skip


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
            _allocate(named)
            return
        place = MEMORY if os.path.isdir(MEMORY) else tempfile.gettempdir()
        _sweep(place)
        directory = tempfile.mkdtemp(prefix=_OUR_DIRECTORY, dir=place)
        # Held, also by our children, until the last of us ends: for those who sweep.
        fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)
        atexit.register(_remove, directory, os.getpid())
        _allocate(directory)
    except OSError as error:
        where = error.filename or named or MEMORY
        raise SettingsError(
            [f"{SHARED_DIRECTORY}: {where} cannot be used: {reason(error, where)}."]
        ) from None
    os.environ[SHARED_DIRECTORY] = directory


def reserve() -> None:
    """Have room for all that this process will count, before it counts anything.

    prometheus-client maps files with holes in them, and on a full file system a write into a hole
    ends the process: every new worker would. Where there is no room, what this process counts is
    lost, and it serves all the same.
    """
    directory = os.environ.get(SHARED_DIRECTORY)
    if not directory:
        return
    try:
        _allocate(directory)
    except OSError as error:
        from prometheus_client import values  # noqa: PLC0415 - an extra

        vars(values)["MmapedDict"] = _Lost
        log.error("what this process counts is lost: %s: %s", directory, reason(error, directory))


def _allocate(directory: str) -> None:
    """Raises OSError, and leaves nothing then."""
    made: list[str] = []
    try:
        for kind, size in _SIZES.items():
            made.append(f"{directory}/{kind}_{os.getpid()}.db")
            fd = os.open(made[-1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
    except OSError:
        for path in made:
            with suppress(OSError):
                os.unlink(path)
        raise


class _Lost:
    """Stands in for prometheus-client's mapped file: numbers that nobody else sees."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._values: dict[str, tuple[float, float]] = {}

    def read_value(self, key: str) -> tuple[float, float]:
        return self._values.get(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        self._values[key] = value, timestamp

    def close(self) -> None:
        pass


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
