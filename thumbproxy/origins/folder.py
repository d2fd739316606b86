"""An origin whose sources are files of a folder on this machine."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from thumbproxy.core.errors import OriginFailed, OriginTimeout, SourceNotFound, SourceTooLarge
from thumbproxy.core.media import Validators
from thumbproxy.origins.base import Fetched, FetchRequest

# A path of the request that the file system cannot have.
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
_ATTEMPTS = 2


class Folder:
    """The regular files below `path`.

    Symbolic links are followed as long as what they lead to lies below `path` itself; what lies
    outside is not found. (`path` may itself be a link, and may be switched at run time.)

    immutable  a name in it is never used for another picture again: clients need not ask again

    Example:

        from thumbproxy import Folder, ThumbProxy

        origins = {"": app, "media/": Folder("/srv/media")}
        app = ThumbProxy(app, keys=["your signing key"], origins=origins)
    """

    local = True
    personal = False

    def __init__(self, path: str | os.PathLike[str], *, immutable: bool = False) -> None:
        self.immutable = immutable
        self.path = os.path.abspath(path)
        self._below = self.path.rstrip("/") + "/"

    def __repr__(self) -> str:
        return f"Folder({self.path!r})"

    def check(self, path: str) -> None:
        """Whatever is asked for may be there."""

    def fetch(self, request: FetchRequest) -> Fetched:
        try:
            descriptor = self._locate(request.path)
            try:
                return _read(descriptor, request)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # ValueError: NUL, or text that is not Unicode
            if _is_absence(error) and os.path.isdir(self.path):
                raise SourceNotFound from None
            raise OriginFailed(log=f"{request.path!r} in {self.path}: {error}") from error

    def fingerprint(self, path: str) -> str | None:
        # It tells nothing of what a file holds, so that one stat() without the checks of fetch()
        # is enough on the path of every hit.
        try:
            info = os.stat(self._below + path)
        except (OSError, ValueError) as error:
            # A folder that is not mounted at the moment has not lost its files.
            if _is_absence(error) and os.path.isdir(self.path):
                return ""
            return None
        return _etag(info) if stat.S_ISREG(info.st_mode) else ""

    def _locate(self, path: str) -> int:
        """A descriptor that names the file without having opened it (O_PATH).

        First the file is found and held, then it is looked at where it lies. So nothing that is
        renamed or linked in between can lead outside, and a FIFO or a device is not touched.
        """
        if ".." in path.split("/"):
            raise SourceNotFound
        root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=root)
            inside = _place(root).rstrip("/") + "/"
        finally:
            os.close(root)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceNotFound
            if not _place(descriptor).startswith(inside):
                raise SourceNotFound(log=f"a symbolic link leads out of {self.path}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _read(descriptor: int, request: FetchRequest) -> Fetched:
    for _ in range(_ATTEMPTS):
        if request.deadline.passed:
            raise OriginTimeout
        with Path(f"/proc/self/fd/{descriptor}").open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if before.st_size > request.limits.source_bytes:
                limit = request.limits.source_bytes
                raise SourceTooLarge(log=f"{before.st_size} bytes; max_source_bytes is {limit}")
            etag = _etag(before)
            validators, modified = Validators(etag=etag), int(before.st_mtime)
            if request.validators.etag == etag:
                return Fetched(None, validators, modified)
            body = _read_whole(file.fileno(), before.st_size)
            after = os.fstat(file.fileno())
        # Half of the old picture and half of the new one may decode without a fault.
        if len(body) == before.st_size and _state(before) == _state(after):
            return Fetched(body, validators, modified)
    raise OriginFailed(log=f"{request.path!r} changed while it was read, {_ATTEMPTS} times")


def _read_whole(descriptor: int, size: int) -> bytes:
    """`size` bytes, one more if there are more, fewer if there are fewer."""
    chunks = []
    missing = size + 1
    while missing and (chunk := os.read(descriptor, missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)


def _place(descriptor: int) -> str:
    """Where an open file lies, all links resolved."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _etag(info: os.stat_result) -> str:
    # The time of the last change to the inode besides: another file can be put in the place of one
    # with its time and size kept, as backups are.
    return f'"{info.st_mtime_ns:x}-{info.st_ctime_ns:x}-{info.st_size:x}"'


def _state(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _is_absence(error: Exception) -> bool:
    return not isinstance(error, OSError) or error.errno in _ABSENT
