"""The render processes of one process: idle ones, busy ones, and the queue for them."""

from __future__ import annotations

import logging
import signal
import threading

from thumbproxy.core.errors import CapacityError, EngineFailed, Overloaded, RenderKilled
from thumbproxy.core.limits import Deadline
from thumbproxy.rendering.child import Plan
from thumbproxy.rendering.messages import ProtocolError
from thumbproxy.rendering.process import Gone, RenderProcess
from thumbproxy.rendering.starter import Starter
from thumbproxy.telemetry.metrics import Ended, Metrics

log = logging.getLogger(__name__)

# Seconds that a process may take until it is ready: the first one has all modules to wait for.
_TO_BEGIN = 30.0
# Seconds for one that has hung up to end as well, and for the fork server to tell how it ended.
_TO_END = 0.25
_TO_TELL = 2.0
# How many processes may turn out to be dead before one is given up on.
_ATTEMPTS = 3


class ProcessPool:
    """`size` render processes, kept up to that number by a thread in the background.

    jobs      tasks after which a process is replaced
    resident  bytes of memory with which it is
    """

    def __init__(
        self, plan: Plan, size: int, metrics: Metrics, *, jobs: int, resident: int
    ) -> None:
        self.starter = Starter(plan)
        self.sandbox: dict[str, str] = {}
        self._size = size
        self._metrics = metrics
        self._jobs = jobs
        self._resident = resident
        self._lock = threading.Lock()
        self._idle: list[RenderProcess] = []
        self._busy: set[RenderProcess] = set()
        self._starting = 0
        self._filling: threading.Thread | None = None
        self._closed = False

    def take(self, deadline: Deadline, *, fresh: bool = False) -> RenderProcess:
        """A process that is ready for work; `fresh`: one that has done none yet.

        Raises EngineFailed, RenderKilled, or Overloaded when there is none by the deadline.
        """
        status: int | None = 0
        for _ in range(_ATTEMPTS):
            process = self._from_idle(fresh) or self._forked(deadline)
            try:
                self._welcome(process, deadline)
            except Gone:
                status = self.how_ended(process)
                self.dismiss(process, "crashed", f"before its first task: {ending(status)}")
            except ProtocolError as error:
                self.dismiss(process, "crashed", f"before its first task: {_told(error)}")
            except TimeoutError:
                # It may be there in a moment, for the next who asks.
                self._put_back(process)
                raise Overloaded(log="no render process was ready in time") from None
            except BaseException:
                self._forget(process)
                raise
            else:
                return process
        failure = RenderKilled if status == -signal.SIGKILL else EngineFailed
        raise failure(log=f"render processes end before their first task: it {ending(status)}")

    def give_back(self, process: RenderProcess) -> None:
        """After a task that has not harmed it."""
        if process.done >= self._jobs:
            self.dismiss(process, "recycled")
        elif process.resident > self._resident:
            self.dismiss(process, "recycled", f"it has {process.resident >> 20} MiB", logging.DEBUG)
        else:
            self._put_back(process)

    def dismiss(
        self, process: RenderProcess, how: Ended, why: str = "", level: int = logging.WARNING
    ) -> None:
        """Kill a process, and have it replaced."""
        process.kill()
        self._forget(process)
        self._metrics.render_process_ended(how)
        if why and not self._closed:  # when we end, so do they
            log.log(level, "render process %d: %s: %s", process.pid, how, why)
        self.fill()

    def fill(self) -> None:
        """See to it, in the background, that there are as many as there should be."""
        with self._lock:
            self._bury()
            if self._closed or self._filling is not None or self._complete:
                return
            filling = threading.Thread(target=self._fill, name="render-fill", daemon=True)
            try:
                # Under the lock, so that who closes finds a thread that can be waited for.
                filling.start()
            except RuntimeError as error:  # no more threads: who needs a process starts it
                log.error("render processes are not replaced for now: %s", error)
            else:
                self._filling = filling

    def how_ended(self, process: RenderProcess) -> int | None:
        """The exit status of a process that has hung up, or minus the signal that ended it; 0 if
        it goes on, None if the fork server has ended too, and with it all processes.

        Raises Overloaded when nobody tells in time.
        """
        if not process.ends(_TO_END):
            return 0
        status = self.starter.how_ended(process.pid, Deadline(_TO_TELL))
        if status is None:
            with self._lock:  # they may not know it yet
                idle, self._idle = self._idle, []
            for each in idle:
                each.close()
        return status

    @property
    def ready(self) -> int:
        with self._lock:
            usable = sum(process.usable for process in self._idle)
            return min(self._size, usable + len(self._busy))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            filling = self._filling
        self.starter.close()  # which kills them all
        if filling is not None:
            filling.join()
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    def abandon(self) -> None:
        """Forget all of it, in a child of the process whose it is. No other thread is here."""
        self._closed = True
        self.starter.abandon()
        for process in (*self._idle, *self._busy):
            process.close()

    def _from_idle(self, fresh: bool) -> RenderProcess | None:
        """The one that worked last: its memory is in the processor's cache, and it alone grows."""
        while True:
            with self._lock:
                places = range(len(self._idle) - 1, -1, -1)
                place = next((i for i in places if not (fresh and self._idle[i].done)), None)
                if place is None:
                    self._starting += 1
                    return None
                process = self._idle.pop(place)
                self._busy.add(process)
            if process.usable:
                return process
            self._tell_of_idle(process)
            self.dismiss(process, "crashed")

    def _forked(self, deadline: Deadline) -> RenderProcess:
        """One that is started for whoever has found nobody idle."""
        try:
            process = self.starter.fork(deadline)
        except BaseException:
            with self._lock:
                self._starting -= 1
            raise
        with self._lock:
            self._starting -= 1
            self._busy.add(process)
        return process

    def _welcome(self, process: RenderProcess, deadline: Deadline) -> None:
        if process.sandbox is not None:
            return
        sandbox = process.greeted(deadline)
        with self._lock:
            first, self.sandbox = not self.sandbox, sandbox
        if first:
            for name, words in sandbox.items():
                if words.startswith("none"):
                    log.warning("renders are without %s: %s", name, words.removeprefix("none: "))

    def _put_back(self, process: RenderProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            keep = not self._closed and not self._complete
            if keep:
                # What has never worked comes last, so that it is there for who needs such a one.
                self._idle.insert(len(self._idle) if process.done else 0, process)
        if not keep:
            process.close()

    def _forget(self, process: RenderProcess) -> None:
        with self._lock:
            self._busy.discard(process)
        process.close()

    def _bury(self) -> None:
        """Forget those who have ended, or gone mad, while they were idle."""
        for process in [each for each in self._idle if not each.usable]:
            self._idle.remove(process)
            self._metrics.render_process_ended("crashed")
            self._tell_of_idle(process)
            process.kill()
            process.close()

    def _tell_of_idle(self, process: RenderProcess) -> None:
        if not self._closed:
            log.warning("render process %d: ended while it was idle", process.pid)

    @property
    def _complete(self) -> bool:
        return len(self._idle) + len(self._busy) + self._starting >= self._size

    def _fill(self) -> None:
        more = True
        try:
            while more:
                with self._lock:
                    if self._closed or self._complete:
                        # Now: who finds one missing from here on needs another thread.
                        self._filling = None
                        return
                more = self._one_more()
        finally:
            with self._lock:
                if self._filling is threading.current_thread():
                    self._filling = None

    def _one_more(self) -> bool:
        """Another process among the idle, if it can be had."""
        deadline = Deadline(_TO_BEGIN)
        try:
            process = self.starter.fork(deadline)
        except CapacityError:
            return False
        try:
            self._welcome(process, deadline)
        except (Gone, ProtocolError, TimeoutError) as error:
            if not self._closed:
                log.warning("render process %d: not ready: %s", process.pid, _told(error))
            process.kill()
            process.close()
            return False
        self._put_back(process)
        return True


def ending(status: int | None) -> str:
    """How a process ended, in words: `how_ended` has the numbers."""
    if status is None:
        return "ended, and so did the fork server"
    if status == 0:  # it may go on
        return "hung up"
    if status > 0:
        return f"ended with exit status {status}"
    if status == -signal.SIGKILL:
        return "ended by SIGKILL, of the kernel when memory runs out, or of an operator"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def _told(error: Exception) -> str:
    if isinstance(error, ProtocolError):
        return f"it sent nonsense: {error}"
    return "it ended" if isinstance(error, Gone) else "it took too long"
