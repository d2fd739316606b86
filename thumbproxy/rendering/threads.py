"""Renders in threads of this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib import import_module
from typing import Any

from thumbproxy.core.errors import BrokenImage, EngineFailed, TooSlow, UnsupportedImage
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline
from thumbproxy.core.media import Encoded
from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.allowance import Allowance
from thumbproxy.rendering.base import PoolStatus, Task

# Seconds in which a thread that is free takes a task.
_TO_BEGIN = 0.1


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
        self._threads = PerProcess(lambda: _executor(size))

    def start(self) -> None:
        pass

    def run(self, task: Task, deadline: Deadline, ended: Callable[[], None]) -> list[Encoded]:
        begun: list[Allowance] = []

        def work_off() -> list[Encoded]:
            place = f"/proc/self/task/{threading.get_native_id()}"
            begun.append(Allowance(task.seconds, place))
            _refuse_sandboxed(self._engine.inspect(task.source).format)
            return work(self._engine, task)

        try:
            future = self._threads.value.submit(work_off)
        except RuntimeError as error:  # no more threads, or the process is ending
            ended()
            raise EngineFailed(log=str(error)) from error
        future.add_done_callback(lambda _: ended())
        try:
            _wait_for(future, begun, deadline)
            return future.result()
        except TooSlow:
            future.cancel()
            raise
        except MemoryError as error:  # of a picture that claims too much, most likely
            raise BrokenImage(log=f"MemoryError: {error}") from error
        finally:
            del future  # which has what is raised, which has this frame, and the source with it

    def pool_status(self) -> PoolStatus:
        return PoolStatus("threads", self.size, self.size, {})

    def close(self) -> None:
        self._threads.renew()


def _refuse_sandboxed(format: Format) -> None:
    if format.sandboxed:
        raise UnsupportedImage(
            f'{format.name} is only read where `isolation` is "processes", and here it is not.'
        )


def _wait_for(work: Future[Any], begun: Sequence[Allowance], deadline: Deadline) -> None:
    """Raises RenderTooSlow, and TooSlow at the deadline."""
    pause = _TO_BEGIN
    while not wait([work], min(pause, deadline.remaining)).done:
        for allowance in begun:
            if deadline.passed:
                raise allowance.too_late()
            allowance.check()
            pause = allowance.pause
        if deadline.passed:
            raise TooSlow(log="no thread was free for the render")


def _executor(size: int) -> ThreadPoolExecutor:
    """Of the system's threads. Those that gevent puts in their place all run in one, where a render
    would keep everyone waiting."""
    monkey = sys.modules.get("gevent.monkey")
    kind = ThreadPoolExecutor
    if monkey is not None and monkey.is_module_patched("threading"):
        kind = import_module("gevent.threadpool").ThreadPoolExecutor
    return kind(size, thread_name_prefix="render")


def work(engine: Engine, task: Task) -> list[Encoded]:
    """The pictures of a task, made here and now. Raises what Engine.render does."""
    if len(task.variants) == 1:
        ((options, format),) = task.variants
        return [engine.render(task.source, options, format, fallback=task.fallback)]
    return engine.render_many(task.source, task.variants)
