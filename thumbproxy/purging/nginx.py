"""Purges nginx's own copies (`proxy_cache` in conf/nginx.conf).

nginx takes a file of its cache that is missing for a miss, so removing the file is enough; the
source is read from the key that nginx writes into each file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from thumbproxy.caches.base import Removed, Scope
from thumbproxy.core.errors import PurgeFailed

# nginx names a copy by the MD5 of its key. What is still being written has a suffix.
_COPY = re.compile("[0-9a-f]{32}")
# `proxy_cache_key` of conf/nginx.conf: what nginx sends of the source stands between the slashes.
_KEY = re.compile(rb"\nKEY: thumbproxy [^/\n]*/([^\n]+)/[^/\n]+\n")
# A binary header of some 340 bytes, then the key: the longest path that is served, decoded.
_HEAD_BYTES = 8192
# Directories that `levels=` may make below each other.
_DEEPEST = 3


class NginxCache:
    """The directory of a `proxy_cache_path`, which nginx alone fills.

    Only the user of nginx's workers can read it (and root): purging takes one of the two.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def purge(self, scope: Scope) -> Removed:
        """Remove nginx's copies of what `scope` covers; last, after all tiers that nginx asks.

        A reply that is on its way to nginx meanwhile may be kept there after this; like all its
        copies, nginx asks whether it is still good when `proxy_cache_valid` is over. Each file is
        opened, so this takes about 20 ms per thousand copies.

        Raises PurgeFailed when some of it cannot be read or changed; the rest is purged then.
        """
        removed, faults = Removed(), list[OSError]()
        for path in _copies(self._directory, _DEEPEST, faults):
            try:
                removed = removed.plus(_remove(path, scope))
            except OSError as error:
                faults.append(error)
        if faults:
            raise PurgeFailed(f"nginx_cache_dir: {faults[0]}") from faults[0]
        return removed


def _copies(directory: str, depth: int, faults: list[OSError]) -> Iterator[str]:
    """What has the name of a copy, below `directory`. nginx may add and remove some meanwhile."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if _COPY.fullmatch(entry.name):
                    yield entry.path
                elif depth and entry.is_dir(follow_symlinks=False):
                    yield from _copies(entry.path, depth - 1, faults)
    except OSError as error:
        faults.append(error)


def _remove(path: str, scope: Scope) -> Removed:
    """Remove the copy if it is of a covered source; one that has gone by itself is no matter."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            source = _source(os.read(fd, _HEAD_BYTES)) if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)
        if source is None or not scope.covers(source):
            return Removed()
        os.unlink(path)
    except FileNotFoundError:
        return Removed()
    return Removed(1, status.st_size)


def _source(head: bytes) -> str | None:
    """The source of a copy, from its first bytes; None for a file that is not of thumbproxy."""
    key = _KEY.search(head)
    return key[1].decode("utf-8", "replace") if key else None
