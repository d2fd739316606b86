"""Renders in processes of their own, so that an image can damage nothing but its own render."""

from __future__ import annotations

import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from functools import partial

from thumbproxy.core.errors import (
    DecoderFailed,
    EngineFailed,
    Overloaded,
    RenderKilled,
    RenderTooSlow,
    ThumbproxyError,
    TooSlow,
)
from thumbproxy.core.forking import PerProcess
from thumbproxy.core.limits import RENDER_MEMORY, Deadline, Limits
from thumbproxy.core.media import Encoded
from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.base import PoolStatus, Task
from thumbproxy.rendering.child import Plan
from thumbproxy.rendering.messages import ProtocolError
from thumbproxy.rendering.process import Gone, RenderProcess
from thumbproxy.rendering.process_pool import ProcessPool, ending
from thumbproxy.telemetry.metrics import Metrics

_MIB = 1024 * 1024


class Processes:
    """Implements rendering.base.Runner: each task in one of `size` processes of this process.

    engine    what they work with; can be pickled
    limits    that the engine works by: what comes back is held against them
    memory    most address space of a process, bytes; 0: no bound
    jobs      tasks after which a process is replaced
    resident  bytes of memory with which it is

    A process that crashes, hangs or talks nonsense is killed and replaced. If others had used it
    before, that may have been their doing: the task is done once more, in a new one. So it is if
    SIGKILL ended it, which no picture sends; one that is killed again is RenderKilled.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        size: int,
        *,
        metrics: Metrics | None = None,
        memory: int = RENDER_MEMORY,
        jobs: int = 1000,
        resident: int = 256 * _MIB,
    ) -> None:
        self.size = size
        self._limits = limits
        self._plan = Plan(pickle.dumps(engine), memory)
        self._metrics = metrics or Metrics()
        pool = partial(ProcessPool, self._plan, size, self._metrics, jobs=jobs, resident=resident)
        self._pool = PerProcess(lambda: _Lazily(pool), _Lazily.abandon)
        weakref.finalize(self, _close, self._pool)

    def start(self) -> None:
        self._pool.value.made().fill()

    def run(self, task: Task, deadline: Deadline, ended: Callable[[], None]) -> list[Encoded]:
        try:
            pool = self._pool.value.made()
            try:
                return self._make(pool, task, deadline, fresh=False)
            except _OnceMore as error:
                if deadline.passed:
                    raise TooSlow(log=str(error)) from None
                return self._make(pool, task, deadline, fresh=True)
        finally:
            ended()

    def pool_status(self) -> PoolStatus:
        pool = self._pool.value.pool
        if pool is None:
            return PoolStatus("processes", self.size, 0, {})
        return PoolStatus("processes", self.size, pool.ready, pool.sandbox)

    def close(self) -> None:
        self._pool.value.close()

    def _make(
        self, pool: ProcessPool, task: Task, deadline: Deadline, *, fresh: bool
    ) -> list[Encoded]:
        process = pool.take(deadline, fresh=fresh)
        used = process.done > 0
        failure: ThumbproxyError
        try:
            pictures = process.make(task, self._limits, deadline)
        except TooSlow as error:
            pool.dismiss(process, "killed", error.log)
            raise
        except ProtocolError as error:
            pool.dismiss(process, "crashed", f"it sent nonsense: {error}")
            failure = DecoderFailed(log=f"a render process sent nonsense: {error}")
        except Gone:
            failure = _buried(pool, process)
        except ThumbproxyError:
            pool.give_back(process)
            raise
        except BaseException:
            pool.dismiss(process, "killed", "its render was given up")
            raise
        else:
            pool.give_back(process)
            return pictures
        again = used if isinstance(failure, DecoderFailed) else not isinstance(failure, TooSlow)
        if again and not fresh:
            raise _OnceMore(failure.log)
        raise failure


def _buried(pool: ProcessPool, process: RenderProcess) -> ThumbproxyError:
    """What to raise for a process that has gone, which is dismissed."""
    try:
        status = pool.how_ended(process)
    except Overloaded as error:
        pool.dismiss(process, "crashed", f"ended, nobody tells how: {error.log}")
        return RenderKilled(log=f"its render process {process.pid} ended: {error.log}")
    told = ending(status)
    why = f"its render process {process.pid} {told}"
    pool.dismiss(process, "killed" if status == -signal.SIGXCPU else "crashed", told)
    if status is None:
        return EngineFailed(log=why)
    blamed = {-signal.SIGXCPU: RenderTooSlow, -signal.SIGKILL: RenderKilled}
    return blamed.get(status, DecoderFailed)(log=why)


class _OnceMore(Exception):
    """The picture may not be at fault."""


class _Lazily:
    """The process pool of a process, from when it is needed until it is closed."""

    def __init__(self, new: Callable[[], ProcessPool]) -> None:
        self._new = new
        self._lock = threading.Lock()
        self.pool: ProcessPool | None = None

    def made(self) -> ProcessPool:
        with self._lock:
            if self.pool is None:
                self.pool = self._new()
            return self.pool

    def close(self) -> None:
        with self._lock:
            pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()

    def abandon(self) -> None:
        """In a child: it belongs to the parent."""
        if self.pool is not None:
            self.pool.abandon()


def _close(pool: PerProcess[_Lazily]) -> None:
    pool.value.close()
