"""A file that records what a run has done, so that another run can resume."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from types import TracebackType
from typing import Self

_SYNC_SECONDS = 2.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_STATUSES = ("done", "failed")
_FIELDS = 3  # after the status
_DIGEST = re.compile(r"[0-9a-f]{16}")


class JournalInUse(Exception):
    """Another run writes to this journal."""


class NotAJournal(Exception):
    """The file is something else."""


def digest(parts: Iterable[str]) -> int:
    """64 bits that stand for a source with all that is wanted of it.

    Of a million sources, two are taken for one with a probability of 3 in 100 million.
    """
    text = "\n".join(parts).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


class Journal:
    """One line for each finished source: `done` or `failed`, name, reason, digest; tabs between.

    Lines are only added. The digest comes last, so that a line that a kill cut short has none
    and does not count. What failed is tried again by the next run.
    Raises JournalInUse, NotAJournal, OSError; a file that is no journal is left as it is.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 - closed by close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalInUse(f"{path} is in use by another run") from None
        try:
            self._done = self._read()
        except NotAJournal:
            self._file.close()
            raise NotAJournal(
                f"{path} is no journal of thumbproxy warm; choose another file"
            ) from None
        self._synced = time.monotonic()

    def _read(self) -> array[int]:
        """The digests of what is done, sorted: 8 bytes each, for there may be a million."""
        done = array("Q")
        last, ours, others = b"\n", False, False
        self._file.seek(0)
        for last in self._file:
            status, *more = last.decode("utf-8", "replace").rstrip("\n").split("\t")
            ours |= status in _STATUSES and len(more) == _FIELDS
            # What a kill left of a line is its beginning.
            others |= not any(known.startswith(status) for known in _STATUSES)
            if status == "done" and len(more) == _FIELDS and _DIGEST.fullmatch(more[-1]):
                done.append(int(more[-1], 16))
        if others and not ours:
            raise NotAJournal
        if not last.endswith(b"\n"):
            self._file.write(b"\n")
        return array("Q", sorted(done))

    def __contains__(self, mark: int) -> bool:
        place = bisect_left(self._done, mark)
        return place < len(self._done) and self._done[place] == mark

    def add(self, source: str, mark: int | None, reasons: Iterable[str] = ()) -> None:
        """A source that is finished; reasons: of what failed."""
        why = "; ".join(dict.fromkeys(reasons))
        fields = ["failed" if why else "done", source, why, "" if mark is None else f"{mark:016x}"]
        line = "\t".join(_CONTROL.sub(" ", field) for field in fields) + "\n"
        self._file.write(line.encode("utf-8", "surrogateescape"))
        # Handed to the kernel at once, so that it outlives us; to the disk now and then.
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            self._sync()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
