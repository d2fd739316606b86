"""Records who waits for what while holding what, in all tests and in the servers that they start.

Nothing has to be declared. A lock is known by the place in thumbproxy's code that makes it, a lock
of a file by that file and the kind of its key, a lease in memcached by the kind of its key; flights
and slots, which are waited for like locks, by what they are for. Whoever waits for one while it
holds another makes an edge. An edge that closes a circle is a fault, though nobody was in the way:
in some other schedule two wait for each other. The edges are in a file that all processes of a run
share, so the other half may have been seen in another test, or in a server.

A fork while another thread holds a lock is a fault as well, if the child would find that lock held:
if it was made neither by a PerProcess nor by lock_across_forks() (forking.py).
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from thumbproxy.core import forking

DIRECTORY = "LOCK_RECORDER_DIRECTORY"
_PACKAGE = os.path.dirname(os.path.dirname(forking.__file__))
_DEEPEST = 10
# Tests put others in their place.
_open, _write, _close = os.open, os.write, os.close
_make_lock, _make_rlock = threading.Lock, threading.RLock

Stack = tuple[tuple[str, int, str], ...]


class Known(NamedTuple):
    """What can be waited for.

    kind      of it: those of a kind are waited for in the same order
    instance  which of its kind it is
    forks     whether a child that is forked while it is held does not find it held
    """

    kind: str
    instance: str
    forks: bool


class _Held(NamedTuple):
    known: Known
    stack: Stack
    holder: list[_Held]


class Recorder:
    """directory: of the edges of a run, shared by its processes, and of the faults of each worker's
    tests and of the servers that these start."""

    def __init__(self, directory: str) -> None:
        self._edges = Edges(Path(directory, "edges"))
        self._faults = Path(directory, f"faults-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
        self._seen: set[tuple[str, str]] = set()
        self._held: dict[int, list[_Held]] = {}
        os.register_at_fork(before=self._forking, after_in_child=self._forked)

    # -- what happens ----------------------------------------------------------------------

    def waits(self, known: Known) -> None:
        """This thread is about to wait for it, or would, if somebody were in the way."""
        held = self._held.get(threading.get_ident())
        for each in held or ():
            if each.known == known:
                continue  # tests of leases do so, for a moment; of all others nobody would return
            one, other = each.known.kind, known.kind
            if one == other:  # of those of one kind it is their own order that counts
                one, other = f"{one} {each.known.instance}", f"{other} {known.instance}"
            if (one, other) not in self._seen:
                self._seen.add((one, other))
                self._add(one, other, each.stack, _stack())

    def holds(self, known: Known) -> _Held:
        holder = self._held.setdefault(threading.get_ident(), [])
        held = _Held(known, _stack(), holder)
        holder.append(held)
        return held

    def leaves(self, held: _Held) -> None:
        """By any thread."""
        for place, each in enumerate(held.holder):
            if each is held:
                del held.holder[place]
                return

    @contextmanager
    def around(self, known: Known) -> Iterator[None]:
        self.waits(known)
        held = self.holds(known)
        try:
            yield
        finally:
            self.leaves(held)

    def _forking(self) -> None:
        ours = threading.get_ident()
        for thread, held in list(self._held.items()):
            for each in list(held) if thread != ours else ():
                if not each.known.forks:
                    what = f"a fork while another thread holds {each.known.kind}, which the child"
                    self._tell([f"{what} finds held; taken", *_lines(each.stack), "forked",
                                *_lines(_stack())])  # fmt: skip

    def _forked(self) -> None:
        ours = threading.get_ident()
        self._held = {ours: self._held.get(ours, [])}

    # -- what comes of it ------------------------------------------------------------------

    def _add(self, one: str, other: str, held: Stack, waits: Stack) -> None:
        edges = self._edges.read()
        if (one, other) in edges:
            return
        self._edges.add((one, other), [_lines(held), _lines(waits)])
        edges = self._edges.read()
        way = _way(edges, other, one)
        if way is None:
            return
        told = [f"in some schedule these wait for each other: {one} and {other}"]
        for pair in [(one, other), *itertools.pairwise(way)]:
            taken, waited = edges[pair]
            told += [f"{pair[0]} was taken", *taken, f"and then {pair[1]} was waited for", *waited]
        self._tell(told)

    def _tell(self, lines: Iterable[str]) -> None:
        process = f"process {os.getpid()}: {' '.join(sys.orig_argv[1:])[:200]}"
        _append(self._faults, "\n".join([*lines, process]))

    def faults(self) -> list[str]:
        """Those that were not told yet."""
        with suppress(FileNotFoundError):
            taken = self._faults.rename(f"{self._faults}-{os.getpid()}")
            return _read(taken.read_bytes())
        return []


class Edges:
    """What was held and what was waited for meanwhile, with the stacks of both, by all processes.

    Nobody locks the file: a process that is stopped or killed would keep all others waiting. What
    is appended to it is so at once; a line that is not whole yet is read the next time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self._known: dict[tuple[str, str], list[list[str]]] = {}

    def read(self) -> dict[tuple[str, str], list[list[str]]]:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read_to)
            news = file.read()
            whole = news[: news.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for held, waits, stacks in _read(whole):
                self._known.setdefault((held, waits), stacks)
        return dict(self._known)

    def add(self, edge: tuple[str, str], stacks: list[list[str]]) -> None:
        self._known[edge] = stacks
        _append(self._path, [*edge, stacks])


def _read(lines: bytes) -> list[Any]:
    """Without that of a process that was killed while it wrote."""
    found = []
    for line in lines.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _way(edges: Iterable[tuple[str, str]], begin: str, end: str) -> list[str] | None:
    ways = [[begin]]
    reached = {begin}
    while ways:
        way = ways.pop()
        if way[-1] == end:
            return way
        for one, other in edges:
            if one == way[-1] and (other not in reached or other == end):
                reached.add(other)
                ways.append([*way, other])
    return None


def _append(path: Path, what: Any) -> None:
    with suppress(OSError):  # of tests in which files cannot be written
        fd = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _write(fd, json.dumps(what).encode() + b"\n")
        finally:
            _close(fd)


def _stack() -> Stack:
    frame, found = sys._getframe(2), list[tuple[str, int, str]]()
    while frame is not None and len(found) < _DEEPEST:
        code = frame.f_code
        if "/_pytest/" in code.co_filename:
            break
        if code.co_filename != __file__ and "/contextlib.py" not in code.co_filename:
            found.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


def _lines(stack: Stack) -> list[str]:
    return [f"    {file}:{line} {name}" for file, line, name in stack]


# -- where it is recorded --------------------------------------------------------------------


class _Lock:
    """A lock of threading, recorded."""

    def __init__(self, recorder: Recorder, lock: Any, known: Known) -> None:
        self._recorder = recorder
        self._lock = lock
        self.known = known
        self._held: list[_Held] = []
        # What Condition asks of an RLock, and multiprocessing of all.
        for name in ("_release_save", "_acquire_restore", "_is_owned", "_at_fork_reinit"):
            if hasattr(lock, name):
                setattr(self, name, getattr(lock, name))

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and timeout and not self._owned():
            self._recorder.waits(self.known)
        taken: bool = self._lock.acquire(blocking, timeout)
        if taken:
            self._held.append(self._recorder.holds(self.known))
        return taken

    __enter__ = acquire

    def release(self) -> None:
        if self._held:
            self._recorder.leaves(self._held.pop())
        self._lock.release()

    def __exit__(self, *error: object) -> None:
        self.release()

    def locked(self) -> bool:
        return bool(self._lock.locked())

    def _owned(self) -> bool:
        owned = getattr(self._lock, "_is_owned", None)
        return owned is not None and bool(owned())


def _made() -> tuple[str, bool] | None:
    """Where thumbproxy's code has something made, and whether that is made anew in a child."""
    frame, site, forks = sys._getframe(2), "", False
    while frame is not None:
        file = frame.f_code.co_filename
        if file == forking.__file__:
            forks = True
            owner = frame.f_locals.get("self")
            site = site or ("" if owner is None else _sites.get(owner, ""))
        elif _ours(frame):
            site = site or f"lock of {os.path.relpath(file, _PACKAGE)}:{frame.f_lineno}"
        elif not site and file not in (threading.__file__, typing.__file__, __file__):
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return (site, forks) if site else None


def _ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("thumbproxy")


# Of each PerProcess, where it was made.
_sites: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


class _Factory:
    """What stands in the place of threading.Lock. Not a function: as an attribute of a class, which
    some libraries make of it, that would be a method, and the builtin is none."""

    def __init__(self, recorder: Recorder, make: Callable[[], Any]) -> None:
        self._recorder = recorder
        self._make = make

    def __call__(self) -> Any:
        lock, made = self._make(), _made()
        if made is None:
            return lock
        return _Lock(self._recorder, lock, Known(made[0], f"{id(lock):x}", made[1]))


def _record_locks(recorder: Recorder) -> None:
    init = forking.PerProcess.__init__

    @functools.wraps(init)
    def noted(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        _sites[self] = (_made() or ("", False))[0]

    forking.PerProcess.__init__ = noted  # type: ignore[method-assign]
    threading.Lock = _Factory(recorder, _make_lock)  # type: ignore[misc, assignment]
    threading.RLock = _Factory(recorder, _make_rlock)  # type: ignore[misc, assignment]


def _record_file_locks(recorder: Recorder) -> None:
    from thumbproxy.caches.disk import locks  # noqa: PLC0415 - what it makes is to be recorded
    from thumbproxy.scheduling.coalescing import Hold  # noqa: PLC0415

    acquire, release = locks.acquire, locks.release
    held: dict[int, _Held] = {}

    def recorded(fd: int, key: str | None, patience: Any) -> Any:
        if key == locks._ALL:  # on the way to all others
            return acquire(fd, key, patience)
        path = os.readlink(f"/proc/self/fd/{fd}")
        file = os.path.basename(path)
        kind = key.split()[0] if file in ("work", "usage") and key else ""
        known = Known(f"file lock {file} {kind}".strip(), f"{path} {key}", True)
        if not patience.passed:
            recorder.waits(known)
        hold = acquire(fd, key, patience)
        if hold is not Hold.NOT:
            held[fd] = recorder.holds(known)
        return hold

    def released(fd: int) -> None:
        if fd in held:
            recorder.leaves(held.pop(fd))
        release(fd)

    locks.acquire, locks.release = recorded, released
    os.register_at_fork(after_in_child=held.clear)


def _record_others(recorder: Recorder) -> None:
    from thumbproxy.caches.memcached.lease import SealedLease  # noqa: PLC0415
    from thumbproxy.scheduling.admission import WeightedSemaphore  # noqa: PLC0415
    from thumbproxy.scheduling.coalescing import Hold, SingleFlight  # noqa: PLC0415

    hold, do, take = SealedLease.hold, SingleFlight.do, WeightedSemaphore.take

    @contextmanager
    def leased(self: SealedLease, key: str, patience: Any) -> Iterator[Hold]:
        known = Known(f"lease {key.split(maxsplit=1)[0]}", f"{self._seal.order!r} {key}", True)
        if not patience.passed:
            recorder.waits(known)
        with hold(self, key, patience) as got:
            held = recorder.holds(known) if got is not Hold.NOT else None
            try:
                yield got
            finally:
                if held is not None:
                    recorder.leaves(held)

    def done(self: SingleFlight, key: Any, *arguments: Any, **options: Any) -> Any:
        lock = self._lock
        if not isinstance(lock, _Lock):  # of a play (explorer.py), which has no others
            return do(self, key, *arguments, **options)
        known = Known(f"flight {self._rank.name}", f"{id(self):x} {key!r}", lock.known.forks)
        with recorder.around(known):
            return do(self, key, *arguments, **options)

    def taken(self: WeightedSemaphore, *arguments: Any, **options: Any) -> Callable[[], None]:
        lock = self._lock
        # Tests of slots take several.
        if not (isinstance(lock, _Lock) and _ours(sys._getframe(1))):
            return take(self, *arguments, **options)
        known = Known("slot", f"{id(self):x}", lock.known.forks)
        recorder.waits(known)
        leave = take(self, *arguments, **options)
        held = recorder.holds(known)

        def left() -> None:
            recorder.leaves(held)
            leave()

        return left

    SealedLease.hold = leased  # type: ignore[method-assign]
    SingleFlight.do = done  # type: ignore[method-assign]
    WeightedSemaphore.take = taken  # type: ignore[method-assign]


def install() -> Recorder:
    """Record all that this process does from now on; before it loads anything of thumbproxy that
    makes locks. What it starts finds the directory in its environment."""
    directory = os.environ.get(DIRECTORY)
    if directory is None:
        directory = os.environ[DIRECTORY] = tempfile.mkdtemp(prefix="lock-recorder-")
        atexit.register(_remove, directory, os.getpid())
    recorder = Recorder(directory)
    _record_locks(recorder)
    _record_file_locks(recorder)
    _record_others(recorder)
    return recorder


def _remove(directory: str, maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(directory)
