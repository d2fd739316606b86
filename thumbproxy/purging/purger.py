"""Purging: removes what is stored of a source, of a folder, or altogether, wherever it is
stored."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from thumbproxy.caches.base import Removed, Scope, attempted
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.formats import OUTPUTS
from thumbproxy.http.cache_tags import tag_of
from thumbproxy.purging.cdn.base import Cdn
from thumbproxy.telemetry.metrics import Metrics, ScopeKind
from thumbproxy.urls.codec import AUTO

log = logging.getLogger(__name__)
# Called after a purge with what it was about, and the tag of that (cache_tags.py).
Hook = Callable[[Scope, str], object]

_FORMATS = "|".join([*OUTPUTS, AUTO])
_THUMBNAIL = re.compile(rf"(.+)/[^/]+\.[A-Za-z0-9_-]{{22}}\.(?:{_FORMATS})", re.DOTALL)


class Host(Protocol):
    """The caches of one host, and what it knows of the others (caches/host.py).

    period   seconds between two looks
    spread   seconds after which other hosts have purged what they were told to
    follows  whether there is anything to look at
    """

    period: float
    propagation_delay: float

    @property
    def follows(self) -> bool: ...
    def purge(self, scope: Scope) -> Mapping[str, Removed | PurgeFailed]: ...
    def look(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """What a purge has done.

    scope   what it was about, as it was given
    files   pictures and originals that it removed from the disk of this host
    bytes   their size
    purged  what was purged: memcached (which tells other hosts), disk, nginx, CDNs, hooks
    failed  what was not, and why

    Example:

        from thumbproxy import PurgeResult, ThumbProxy

        site = ThumbProxy(app, keys=["your signing key"], cache_dir="/var/cache/thumbproxy")
        result: PurgeResult = site.purge("photos/cat.jpg")
        assert result.complete, result.failed
    """

    scope: str
    files: int = 0
    bytes: int = 0
    purged: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all of it was purged."""
        return not self.failed

    def to_json(self) -> str:
        """The fields as a JSON object, as the command with `--json` and PURGE answer."""
        told = {
            "scope": self.scope,
            "files": self.files,
            "bytes": self.bytes,
            "purged": list(self.purged),
            "failed": dict(self.failed),
        }
        return json.dumps(told, ensure_ascii=False)


class Purger:
    """Purges this host, has other hosts purge themselves, and then CDNs.

    cdns   told after all hosts, from which they would refill
    hooks  called last

    `following` holds True when nothing need be done for this process to learn of what other hosts
    purge.
    """

    def __init__(
        self,
        host: Host,
        *,
        cdns: Sequence[Cdn] = (),
        hooks: Sequence[Hook] = (),
        metrics: Metrics,
    ) -> None:
        self._host = host
        self._cdns = tuple(cdns)
        self._hooks = tuple(hooks)
        self._metrics = metrics
        self._starting = PerProcess(threading.Lock)
        self.following = PerProcess(lambda: not host.follows)
        _purgers.add(self)

    def purge(self, text: str) -> PurgeResult:
        """Purge "photos/cat.jpg" a source, "photos/" a folder, "" everything.

        Nothing of it that was fetched or rendered before this returns is served to a request that
        begins after. What cannot be purged does not keep the rest from it; the result tells.
        Raises BadSource for what is neither.
        """
        scope = Scope(text)
        done = dict(self._host.purge(scope))
        disk = done.get("disk")
        removed = disk if isinstance(disk, Removed) else Removed()
        self._metrics.purged(cast(ScopeKind, scope.kind), removed.files, removed.bytes)
        if self._cdns or self._hooks:
            if isinstance(done.get("memcached"), Removed):
                # A CDN that asks a host that does not know yet would keep what that has for long.
                time.sleep(self._host.propagation_delay)
            for name, tell in self._outside(scope):
                done[name] = attempted(name, tell)
        failed = {name: str(it) for name, it in done.items() if isinstance(it, PurgeFailed)}
        purged = tuple(name for name in done if name not in failed)
        what = repr(text) if text else "everything"
        log.info("purged %s: %d files, %d bytes", what, removed.files, removed.bytes)
        for why in failed.values():
            log.warning("not purged of %s: %s", what, why)
        return PurgeResult(text, removed.files, removed.bytes, purged, failed)

    def _outside(self, scope: Scope) -> list[tuple[str, Callable[[], object]]]:
        """What is told after the hosts, by name."""
        told: list[tuple[str, Callable[[], object]]] = [
            (cdn.name, partial(cdn.purge, scope)) for cdn in self._cdns
        ]
        for hook in self._hooks:
            name = getattr(hook, "__name__", type(hook).__name__)
            told.append((f"on_purge {name}", partial(hook, scope, tag_of(scope.text))))
        return told

    # -- what other hosts purge --------------------------------------------------------------

    def follow(self) -> None:
        """From now on, look what other hosts have purged, in a thread of this process."""
        starting = self._starting.value
        if not starting.acquire(blocking=False):
            return  # another thread does so
        try:
            if not self.following.value:
                looker = threading.Thread(
                    target=_follow, args=(weakref.ref(self),), name="purges", daemon=True
                )
                looker.start()
                self.following.value = True
        except RuntimeError as error:  # no more threads; the next request tries again
            log.warning("other hosts' purges are not followed: %s", error)
        finally:
            starting.release()

    @property
    def period(self) -> float:
        return self._host.period

    def look(self) -> None:
        self._host.look()


def _follow(reference: weakref.ref[Purger]) -> None:
    """Look again and again, for as long as the Purger is there."""
    failing = False
    while (purger := reference()) is not None:
        try:
            purger.look()
        except Exception as error:
            if not failing:
                log.warning("purges of other hosts cannot be followed for now: %r", error)
            failing = True
        else:
            if failing:
                log.warning("purges of other hosts are followed again")
            failing = False
        period = purger.period
        del purger  # nothing else may end before us
        time.sleep(period)


_purgers: weakref.WeakSet[Purger] = weakref.WeakSet()


def follow_purges() -> None:
    """Have this process learn of other hosts' purges, before anyone asks it for a picture."""
    for purger in list(_purgers):
        if not purger.following.value:
            purger.follow()


def scope_at(address: str, prefix: str) -> str | None:
    """The same of a whole URL or a path with the prefix, percent-encoded; None if it is below
    another. What begins otherwise is a source or a folder, as it stands."""
    if not address.startswith(("/", "http://", "https://")):
        return scope_of(address)
    path = unquote(urlsplit(address).path)
    prefix = prefix.rstrip("/") + "/"
    return scope_of(path.removeprefix(prefix)) if path.startswith(prefix) else None


def scope_of(path: str) -> str:
    """What a PURGE of a decoded path, below the prefix, is about: that of a thumbnail's address is
    about its source, with all the other sizes of it."""
    thumbnail = _THUMBNAIL.fullmatch(path)
    return thumbnail[1] if thumbnail else path
