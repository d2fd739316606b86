"""Purges of one host: its own, which it reports to the others, and those of the others."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Protocol

from thumbproxy.caches.base import Removed, Scope, attempted
from thumbproxy.caches.purge_log import RETENTION, SKEW, Purge, PurgeLog, new_purge, read_log
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.limits import Deadline
from thumbproxy.core.lock_order import Rank, in_order
from thumbproxy.scheduling.coalescing import Hold

log = logging.getLogger("thumbproxy.caches")

_LOCK_SECONDS = 2.0
_EVERYTHING = Scope("")


class Tier(Protocol):
    """What can be purged on this host."""

    def purge(self, scope: Scope) -> Removed: ...


# A lease among the processes of this host: its name, and for how long it is waited for.
Lock = Callable[[str, Deadline], AbstractContextManager[Hold]]


class Log(Protocol):
    """Where hosts tell each other of purges: memcached."""

    def purges(self) -> PurgeLog | None: ...
    def tell(self, purges: Sequence[Purge]) -> PurgeLog | None: ...


class Journal:
    """The purges that this host has heard of, in a file of its cache directory.

    Its modification time is when the log of all hosts was last read.
    """

    def __init__(self, folder: str, lock: Lock) -> None:
        """folder: where locks lie. lock: of the disk cache, by name, for so long at most."""
        self._path = f"{folder}/purges"
        self._lock = lock

    def read(self) -> PurgeLog:
        """Empty where there is none, or a damaged one."""
        try:
            with open(self._path, "rb") as file:
                return read_log(file.read()) or PurgeLog("")
        except FileNotFoundError:
            return PurgeLog("")

    def note(self, purges: Sequence[Purge], *, dropped: float = 0.0) -> None:
        """dropped: unix seconds; whatever was told before is done as well."""

        def noted(known: PurgeLog) -> PurgeLog:
            merged = known.with_purges(purges)
            latest = max(merged.dropped, dropped)
            return PurgeLog("", merged.purges.values(), dropped=latest)

        self._change(noted)

    def forget(self, purge: Purge) -> None:
        """As if it had not been heard of."""

        def forgotten(known: PurgeLog) -> PurgeLog:
            others = [it for it in known.purges.values() if it.id != purge.id]
            return PurgeLog("", others, dropped=known.dropped)

        self._change(forgotten)

    @property
    def state(self) -> tuple[int, int]:
        """Another one after each change."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size

    @property
    def looked_at(self) -> float:
        """Unix seconds; 0 for never."""
        try:
            return os.stat(self._path).st_mtime
        except FileNotFoundError:
            return 0.0

    def looked(self, at: float) -> None:
        """The log of all hosts was read, and all is done that it says."""
        try:
            os.utime(self._path, (at, at))
        except FileNotFoundError:
            self._change(lambda known: known)
            os.utime(self._path, (at, at))

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process of this host is looking at the log."""
        with (
            in_order(Rank.PURGES, waits=False),
            self._lock("purges of other hosts", Deadline(0)) as hold,
        ):
            yield hold is not Hold.NOT

    def _change(self, change: Callable[[PurgeLog], PurgeLog]) -> None:
        """Raises OSError."""
        with (
            in_order(Rank.JOURNAL),
            self._lock("journal of purges", Deadline(_LOCK_SECONDS)) as hold,
        ):
            if hold is Hold.NOT:
                raise TimeoutError(errno.ETIMEDOUT, "a lock is held for too long", self._path)
            # Written by one at a time, so the name can be the same each time, and leaves no strays.
            new, looked_at = f"{self._path}.new", self.looked_at
            with open(new, "wb") as file:
                file.write(change(self.read()).to_json())
            os.utime(new, (looked_at, looked_at))
            os.replace(new, self._path)


class Host:
    """The tiers of one host, and the log in memcached by which hosts learn of each other's purges.

    tiers    by name: the disk, and what nginx keeps. Those on other hosts are not asked; each host
             looks at the log once a second, and purges its own
    log      None for a host that stands alone
    journal  None without a disk: then there is nothing here that others could be told to purge
    """

    # Seconds between two looks, and after which all hosts have looked and purged.
    period = 1.0
    propagation_delay = 2.0

    def __init__(
        self, tiers: Mapping[str, Tier], log: Log | None = None, journal: Journal | None = None
    ) -> None:
        self._tiers = dict(tiers)
        self._log = log
        self._journal = journal
        # What the last look has found, so that no news cost no reading.
        self._seen: tuple[PurgeLog, tuple[int, int]] | None = None

    @property
    def follows(self) -> bool:
        """Whether there is anything to look at."""
        return self._log is not None and self._journal is not None

    def purge(self, scope: Scope) -> dict[str, Removed | PurgeFailed]:
        """Purge all tiers, the one that others refill from first; what became of each, by name."""
        purge, done = new_purge(scope), dict[str, Removed | PurgeFailed]()
        if self._log is not None:
            done["memcached"] = attempted("memcached", partial(self._tell, self._log, purge))
        for name, tier in self._tiers.items():
            done[name] = attempted(name, partial(tier.purge, scope))
        if self._journal is not None and isinstance(done.get("disk"), PurgeFailed):
            # The next look does it, if memcached has it.
            with suppress(OSError):
                self._journal.forget(purge)
        return done

    def _tell(self, log: Log, purge: Purge) -> None:
        """Put a purge into the log. It is written down here before, so that this host does not take
        it for another's; and tells it later, if memcached does not answer now.

        Raises PurgeFailed.
        """
        later = False
        if self._journal is not None:
            try:
                self._journal.note([purge])
                later = True
            except OSError:
                pass  # the disk will say so itself
        if log.tell([purge]) is None:
            others = "are told when it does" if later else "do not know"
            raise PurgeFailed(f"memcached does not answer; other hosts {others}")

    # -- purges of others ------------------------------------------------------------------

    def look(self) -> None:
        """Purge what other hosts were told to purge since the last look, by any process of this
        host; and tell again what memcached has lost.

        Raises OSError and PurgeFailed; whatever is not done then is done by a later look.
        """
        if self._log is None or self._journal is None:
            return
        with self._journal.alone() as alone:
            now = time.time()
            if not alone or abs(now - self._journal.looked_at) < self.period / 2:
                return
            told = self._log.purges()
            if told is None:
                return  # nothing is known; the next look asks again
            state = self._journal.state
            if self._seen is None or told is not self._seen[0] or state != self._seen[1]:
                # In this order: what a process of ours tells, it has written down before.
                known = self._journal.read()
                self._catch_up(self._journal, _told_again(self._log, told, known), known)
                self._seen = told, state
            self._journal.looked(now)

    def _catch_up(self, journal: Journal, told: PurgeLog, known: PurgeLog) -> None:
        looked_at, oldest = journal.looked_at, time.time() - RETENTION
        # What is older has left the journal, and is not news.
        new = [it for it in told.purges.values() if it.id not in known.purges and it.at > oldest]
        missed = known.dropped < told.dropped and looked_at - SKEW < told.dropped
        if missed or 0 < looked_at < oldest:
            log.warning("this host has missed what others were told to purge; it purges everything")
            self._apply(_EVERYTHING)
            journal.note(new, dropped=told.dropped)
            return
        done, failure = list[Purge](), None
        for purge in new:
            try:
                self._apply(purge.scope)
            except PurgeFailed as error:
                failure = failure or error
            else:
                done.append(purge)
                log.info("purged %r, as another host was told to", purge.scope.text)
        if done:
            journal.note(done)
        if failure is not None:
            raise failure

    def _apply(self, scope: Scope) -> None:
        """Raises PurgeFailed if the disk could not be purged. Others are passed over: what nginx
        keeps, it asks about within seconds."""
        done = {name: attempted(name, partial(tier.purge, scope))
                for name, tier in self._tiers.items()}  # fmt: skip
        for name, failure in done.items():
            if isinstance(failure, PurgeFailed):
                if name == "disk":
                    raise failure
                log.warning("%s", failure)


def _told_again(log: Log, told: PurgeLog, known: PurgeLog) -> PurgeLog:
    """The log, with what memcached has lost, or could not be told."""
    since = max(told.dropped, time.time() - RETENTION)
    lost = [it for it in known.purges.values() if it.id not in told.purges and it.at > since]
    return (log.tell(lost) or told) if lost else told
