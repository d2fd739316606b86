"""A program that forks while its threads are busy, and says of each child whether it could do all
that its parent does:  python forks.py SETTINGS ROUNDS SEED

SETTINGS is JSON: those of a standalone site that has an origin, an upstream, memcached and metrics.
Prints "ROUNDS children" at the end; a child that hangs prints where, and ends the program.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import random
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import unquote

LOCKS: list[Any] = []
# For a child to do everything once: with a busy machine it takes its time.
_SECONDS = 150


def record_locks() -> None:
    """From now on, keep all locks that modules of thumbproxy make, or have threading make."""
    make = threading.Lock

    def recorded() -> Any:
        lock, frame = make(), sys._getframe(1)
        while frame.f_back is not None and frame.f_globals["__name__"] == "threading":
            frame = frame.f_back
        name = frame.f_globals["__name__"]
        # One lock is free whenever there is a fork: forking.lock_across_forks().
        if name.startswith("thumbproxy") and name != "thumbproxy.core.forking":
            LOCKS.append(lock)
        return lock

    threading.Lock = recorded  # type: ignore[assignment]


class Parent:
    """A site, and what is asked of it, by threads of the parent or by a child."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from thumbproxy import Thumbnails  # noqa: PLC0415 - after locks are recorded
        from thumbproxy.assembly.build import standalone  # noqa: PLC0415
        from thumbproxy.config.settings import Settings  # noqa: PLC0415
        from thumbproxy.telemetry import logs  # noqa: PLC0415 - after locks are recorded

        logs.start("text")
        self.thumbs = Thumbnails(settings["keys"])
        self.token = settings["metrics_token"]
        self.site = standalone(Settings.checked(settings))
        self.serial = itertools.count()

    def ask(self, path: str, method: str = "GET", **more: str) -> bytes:
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "SERVER_NAME": "localhost",
            "SERVER_PORT": "80", "HTTP_HOST": "localhost", "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": BytesIO(), "wsgi.url_scheme": "http", **more,
        }  # fmt: skip
        told: list[str] = []
        body = self.site(environ, lambda status, headers, *_: told.append(status))
        try:
            content = b"".join(body)
        finally:
            getattr(body, "close", lambda: None)()
        # memcached has 50 ms to answer, which on a busy machine may be too little.
        purged = method == "PURGE" and b'"purged": ["disk"]' in content
        if told[0][:3] not in ("200", "404") and not purged:
            raise RuntimeError(f"{path}: {told[0]}: {content!r}")
        return content

    def picture(self, width: int, height: int) -> None:
        url = self.thumbs.url("a.jpg", width=width, height=height, fit="stretch", format="jpg")
        if not self.ask(unquote(url)).startswith(b"\xff\xd8"):
            raise RuntimeError(url)

    def something(self, order: random.Random) -> None:
        """One of all that a process does."""
        bearer = f"Bearer {self.token}"
        acts: list[Callable[[], object]] = [
            lambda: self.picture(1 + next(self.serial) % 40, order.randrange(1, 500)),  # cold
            lambda: self.picture(7, 7),
            lambda: self.ask("/metrics", HTTP_AUTHORIZATION=bearer),
            lambda: self.ask("/readyz"),
            lambda: self.ask("/passed-on"),
            lambda: self.ask("/thumb/b.jpg", "PURGE", HTTP_AUTHORIZATION=bearer),
        ]
        weights = [8, 4, 1, 1, 2, 1]
        order.choices(acts, weights)[0]()

    def everything(self, seed: int) -> None:
        """In a child, whose numbers are not its parent's."""
        self.picture(50 + seed % 40, 1000 + seed)
        self.picture(7, 7)
        bearer = f"Bearer {self.token}"
        self.ask("/metrics", HTTP_AUTHORIZATION=bearer)
        if self.ask("/readyz") not in (b"ok\n", b"degraded\n"):
            raise RuntimeError("not ready")
        self.ask("/passed-on")
        self.ask("/thumb/b.jpg", "PURGE", HTTP_AUTHORIZATION=bearer)


def fork(parent: Parent, seed: int) -> tuple[int, int]:
    """A child that does everything once: its id, and what it tells of that."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        faulthandler.dump_traceback_later(_SECONDS * 0.8, exit=True)
        parent.everything(seed)
        os.write(writer, b"1")
    except BaseException as error:
        os.write(2, f"child {seed}: {error!r}\n".encode())
    finally:
        os._exit(0)


def check(pid: int, reader: int) -> None:
    ready, _, _ = select.select([reader], [], [], _SECONDS)
    good = bool(ready) and os.read(reader, 1) == b"1"
    os.close(reader)
    if not good:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    if not good:
        sys.exit(f"child {pid} could not do what its parent does")


@contextmanager
def busy(parent: Parent, seed: int) -> Iterator[None]:
    """Threads that do something all the time."""
    stop, faults = threading.Event(), list[BaseException]()

    def work(number: int) -> None:
        order = random.Random(seed * 100 + number)
        try:
            while not stop.is_set():
                parent.something(order)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]


@contextmanager
def all_held(parent: Parent) -> Iterator[None]:
    """Every lock of thumbproxy is held, by a thread that is not in a child."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        taken = [lock for lock in LOCKS if lock.acquire(timeout=0.2)]
        held.set()
        release.wait()
        for lock in taken:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        yield
    finally:
        release.set()
        holder.join()


def at_random_moments(parent: Parent, rounds: int, order: random.Random) -> None:
    children: list[tuple[int, int]] = []
    with busy(parent, order.randrange(1000)):
        for seed in range(rounds):
            threading.Event().wait(order.random() * 0.02)
            children.append(fork(parent, seed))
            if len(children) == 3:
                check(*children.pop(0))
        for child in children:
            check(*child)


def at_the_worst_moment(parent: Parent, rounds: int) -> None:
    """rounds: of children; each starts from a parent of which all has been used."""
    for seed in range(rounds):
        parent.everything(900 + seed)
        with all_held(parent):
            child = fork(parent, seed)
        check(*child)


def main(settings: str, moments: str, rounds: str, seed: str) -> None:
    record_locks()
    parent = Parent(json.loads(settings))
    parent.picture(7, 7)
    if moments == "random":
        at_random_moments(parent, int(rounds), random.Random(int(seed)))
    else:
        at_the_worst_moment(parent, int(rounds))
    print(f"{rounds} children, {len(LOCKS)} locks", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
