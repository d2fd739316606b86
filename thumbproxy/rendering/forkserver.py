"""The program of a fork server: started clean, loads an engine once, and forks render processes.

It has one thread and none of the worker's memory: no keys, no connections, no locks that somebody
holds. A fork of it takes some milliseconds, and shares what the engine needs. It ends when its
worker has ended, and then its render processes are killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
from collections import OrderedDict

from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.child import Plan, become_render_process
from thumbproxy.rendering.kernel import PR_SET_NAME, prctl
from thumbproxy.rendering.warmup import warm_up

# A question: what for, its number, whom about. An answer: its number, a process, and what about it.
QUESTION = struct.Struct("!cII")
ANSWER = struct.Struct("!Iii")
FORK, HOW_ENDED = b"F", b"E"
# What about it, if not its end: it still runs, or was started by a fork server before us.
STILL_RUNS, UNKNOWN = -(2**31), -(2**31) + 1
_PATIENCE = 250  # ms for a process to end of which is asked how it ended
_REMEMBERED = 256
# They are for the worker, and reach all processes of its terminal or service. Renders in progress
# are waited for; when the worker ends, we do.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
           signal.SIGUSR2)  # fmt: skip


def main() -> None:
    """Arguments: the descriptor of the control connection, and the worker's id."""
    for name in IGNORED:
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    prctl(PR_SET_NAME, b"thumb-forks")
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(True)
    worker = int(sys.argv[2])
    with contextlib.suppress(ProcessLookupError):
        alive = os.pidfd_open(worker)
        if os.getppid() == worker:
            plan = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own worker
            server = ForkServer(control, alive, plan)
            server.serve()
            server.close()


class ForkServer:
    def __init__(self, control: socket.socket, worker: int, plan: Plan) -> None:
        """worker: a pidfd, readable when that process has ended."""
        self._control = control
        self._worker = worker
        self._plan = plan
        self._engine: Engine = pickle.loads(plan.engine)  # noqa: S301 - from our own worker
        self._running: dict[int, int] = {}  # pidfd → pid
        self._ended: OrderedDict[int, int] = OrderedDict()
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(worker, select.POLLIN)
        warm_up(self._engine)
        gc.collect()
        gc.freeze()  # or a collection in a child would copy every page with an object

    def serve(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._worker:
                    return
                if descriptor != self._control.fileno():
                    self._reap(descriptor)
                elif not self._answer():
                    return

    def close(self) -> None:
        """If we are killed before, the kernel ends them; but then who closed us would not wait."""
        for pidfd in self._running:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in list(self._running):
            self._reap(pidfd)

    def _answer(self) -> bool:
        """One question; False when there will be no more."""
        try:
            question, descriptors, _, _ = socket.recv_fds(self._control, QUESTION.size, 1)
        except ConnectionError:
            return False
        if not question:
            return False
        what, number, about = QUESTION.unpack(question)
        if what == HOW_ENDED:
            answer, enclosed = ANSWER.pack(number, about, self._how_ended(about)), None
        else:
            answer, enclosed = self._fork(number, socket.socket(fileno=descriptors[0]))
        try:
            if enclosed is None:
                self._control.send(answer)
            else:
                socket.send_fds(self._control, [answer], [enclosed])
        except ConnectionError:
            return False
        return True

    def _fork(self, number: int, job: socket.socket) -> tuple[bytes, int | None]:
        """A render process, with a pidfd of it; or minus the error."""
        parent = os.getpid()
        with job:
            try:
                pid = os.fork()
            except OSError as error:
                return ANSWER.pack(number, -(error.errno or 1), 0), None
            if pid == 0:
                become_render_process(job, self._engine, self._plan, parent)
        pidfd = os.pidfd_open(pid)
        self._running[pidfd] = pid
        self._ended.pop(pid, None)
        self._poll.register(pidfd, select.POLLIN)
        return ANSWER.pack(number, pid, 0), pidfd

    def _how_ended(self, pid: int) -> int:
        """Its exit status, or minus the signal."""
        for pidfd, running in list(self._running.items()):
            if running == pid:
                ending = select.poll()
                ending.register(pidfd, select.POLLIN)
                if not ending.poll(_PATIENCE):
                    return STILL_RUNS
                self._reap(pidfd)
        return self._ended.get(pid, UNKNOWN)

    def _reap(self, pidfd: int) -> None:
        if pidfd not in self._running:  # reaped since it was found ready
            return
        pid = self._running.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        self._ended[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
