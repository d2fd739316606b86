"""Renders in threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from thumbproxy.errors import BrokenImage, EngineFailed, RenderTooSlow
from thumbproxy.imaging.base import Engine
from thumbproxy.limits import Deadline
from thumbproxy.media import Encoded
from thumbproxy.rendering.base import Task, Workshop


class Threads:
    """Implements rendering.base.Runner.

    The threads are its own, for two reasons. Renders free large blocks of memory, of which glibc
    keeps some for each thread that ever had any: with a few threads that is bounded, with all
    threads of a server it was a gigabyte. And who asked can be answered at the deadline, whatever
    the work does. Nothing can stop it, though: a decoder that crashes ends the process.
    """

    def __init__(self, engine: Engine, size: int) -> None:
        self.size = size
        self._engine = engine
        self._lock = threading.Lock()
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def start(self) -> None:
        pass

    def run(self, task: Task, deadline: Deadline, ended: Callable[[], None]) -> list[Encoded]:
        try:
            future = self._pool().submit(work, self._engine, task)
        except RuntimeError as error:  # no more threads, or the process is ending
            ended()
            raise EngineFailed(log=str(error)) from error
        future.add_done_callback(lambda _: ended())
        finished, _ = wait([future], deadline.remaining)
        if not finished:
            future.cancel()
            raise RenderTooSlow(log="the render went on after its deadline")
        try:
            return future.result()
        except MemoryError as error:  # of a picture that claims too much, most likely
            raise BrokenImage(log=f"MemoryError: {error}") from error

    def workshop(self) -> Workshop:
        return Workshop("threads", self.size, self.size, {})

    def close(self) -> None:
        with self._lock:
            self._threads = None

    def _pool(self) -> ThreadPoolExecutor:
        """This process's threads: those of its parent have not come along."""
        pid = os.getpid()
        with self._lock:
            if self._threads is None or self._threads[0] != pid:
                self._threads = pid, ThreadPoolExecutor(self.size, thread_name_prefix="render")
            return self._threads[1]


def work(engine: Engine, task: Task) -> list[Encoded]:
    """The pictures of a task, made here and now. Raises what Engine.render does."""
    if len(task.variants) == 1:
        ((options, format),) = task.variants
        return [engine.render(task.source, options, format, fallback=task.fallback)]
    return engine.render_many(task.source, task.variants)
