"""Starts the fork server of this process when it is needed, and again when it has ended."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from thumbproxy.core.errors import EngineFailed, Overloaded
from thumbproxy.core.limits import Deadline
from thumbproxy.rendering.child import Plan
from thumbproxy.rendering.forkserver import (
    ANSWER,
    FORK,
    HOW_ENDED,
    IGNORED,
    QUESTION,
    STILL_RUNS,
    UNKNOWN,
)
from thumbproxy.rendering.process import RenderProcess

log = logging.getLogger(__name__)

_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from thumbproxy.rendering.forkserver import main; main()"
)
# Of the worker's environment, what programs need. Secrets are kept there, and have no business in a
# process that a picture might take over.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_ITS_OWN = {
    # One thread, or it could not be forked; and the cores belong to the other renders.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# Seconds without an answer after which it is taken for hung; it needs half a second to start.
_PATIENCE = 20.0
# Seconds between attempts to start one that has failed twice, doubled each time.
_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# Bytes under way to a render process; the kernel gives what it allows.
_SEND_BUFFER = 1 << 18


class Starter:
    """Starts render processes. All its methods may be called by any thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._number = 0
        self._closed = False
        self._answered = False  # this fork server, ever
        self._missed = False  # one has ended, and nobody has said that there is another
        self._unanswered_since: float | None = None
        self._failures = 0
        self._not_before = 0.0

    def fork(self, deadline: Deadline) -> RenderProcess:
        """A new render process, which may not be ready yet.

        Raises EngineFailed, or Overloaded at the deadline.
        """
        try:
            ours, its = socket.socketpair()
        except OSError as error:  # too many open files
            raise EngineFailed(log=f"no connection to a render process: {error}") from None
        try:
            with its:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
                its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
                pid, _, pidfd = self._ask(FORK, 0, its, deadline)
            if pid < 0:
                raise EngineFailed(log=f"no render process could be forked: {os.strerror(-pid)}")
            if pidfd is None:
                raise EngineFailed(log="no render process could be taken over: too many open files")
        except BaseException:
            ours.close()
            raise
        return RenderProcess(pid, pidfd, ours)

    def how_ended(self, pid: int, deadline: Deadline) -> int | None:
        """The exit status of a process that has ended, or minus the signal that ended it.

        0 if it goes on, None if the fork server has ended too. Raises Overloaded at the deadline.
        """
        try:
            status = self._ask(HOW_ENDED, pid, None, deadline)[1]
        except EngineFailed:
            return None
        return {STILL_RUNS: 0, UNKNOWN: None}.get(status, status)

    def close(self) -> None:
        """End the fork server, and by that all render processes."""
        self._closed = True
        held = self._lock.acquire(timeout=1)
        self._end()
        if held:
            self._lock.release()

    def abandon(self) -> None:
        """Forget a fork server that is another process's: our parent's, before it forked us."""
        self._closed = True
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.returncode = 0  # or Popen would warn that it still runs

    def _ask(
        self, what: bytes, about: int, enclosed: socket.socket | None, deadline: Deadline
    ) -> tuple[int, int, int | None]:
        """A process, what about it, and a pidfd if there is one. Raises as `fork` does."""
        if not self._lock.acquire(timeout=deadline.remaining):
            raise Overloaded(log="the fork server has others to answer")
        try:
            # Whatever it died of, it is started again at once; only then there is a pause.
            for more in (True, False) if what == FORK else (False,):
                try:
                    return self._exchange(what, about, enclosed, deadline)
                except TimeoutError:
                    self._waited()
                    raise Overloaded(log="the fork server did not answer in time") from None
                except (OSError, EOFError) as error:
                    self._failed(error)
                    if not more:
                        raise EngineFailed(log=f"the fork server has failed: {error}") from None
            raise AssertionError
        finally:
            self._lock.release()

    def _exchange(
        self, what: bytes, about: int, enclosed: socket.socket | None, deadline: Deadline
    ) -> tuple[int, int, int | None]:
        control = self._running() if what == FORK else self._control
        if control is None:
            raise EngineFailed(log="the fork server has ended")
        self._number = number = (self._number + 1) % 2**32
        if self._unanswered_since is None:
            self._unanswered_since = time.monotonic()
        question = QUESTION.pack(what, number, about)
        control.settimeout(max(0.001, deadline.remaining))
        if enclosed is None:
            control.send(question)
        else:
            socket.send_fds(control, [question], [enclosed.fileno()])
        while True:
            control.settimeout(max(0.001, deadline.remaining))
            answer, descriptors, _, _ = socket.recv_fds(control, ANSWER.size, 1)
            if not answer:
                raise EOFError("it has ended")
            self._unanswered_since, self._answered, self._failures = None, True, 0
            self._welcome_back()
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            answered, pid, status = ANSWER.unpack(answer)
            if answered == number:
                return pid, status, descriptors[0] if descriptors else None
            for descriptor in descriptors:  # of a question that nobody waits for any more
                os.close(descriptor)

    def _running(self) -> socket.socket:
        """The connection to a fork server, which is started if there is none."""
        if self._closed:
            raise EngineFailed(log="renders have been closed")
        if self._control is not None:
            return self._control
        if time.monotonic() < self._not_before:
            raise EngineFailed(log="the fork server has failed, and is not started again yet")
        self._process, self._control = _launch(self._plan)
        self._answered, self._unanswered_since = False, None
        return self._control

    def _waited(self) -> None:
        """Without an answer: whoever asked may have had little time, or it hangs."""
        since = self._unanswered_since
        if since is not None and time.monotonic() - since > _PATIENCE:
            self._failed(TimeoutError("no answer"))

    def _welcome_back(self) -> None:
        if self._missed and self._process is not None:
            self._missed = False
            log.warning("the fork server of renders is back: process %d", self._process.pid)

    def _failed(self, error: OSError | EOFError) -> None:
        worked = self._answered
        status = self._end()
        if not self._closed:
            log.error("the fork server of renders has ended (status %s): %s", status, error)
            self._missed = True
        if not worked:
            if self._failures:
                pause = min(_LONGEST_PAUSE, _PAUSE * 2**self._failures)
                self._not_before = time.monotonic() + pause
            self._failures += 1

    def _end(self) -> int | None:
        """End the fork server, if there is one; how it ended."""
        process, control = self._process, self._control
        self._process = self._control = None
        self._answered = False
        if control is not None:
            with contextlib.suppress(OSError):
                # Whoever waits for an answer wakes up, and so does the server, even if a process
                # that we have forked still has the connection.
                control.shutdown(socket.SHUT_RDWR)
            control.close()
        if process is None:
            return None
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """What a program that is started meanwhile ignores later must not reach it before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _launch(plan: Plan) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Raises OSError."""
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    executable = _python()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with its, _held_back(), open(os.memfd_create("thumbproxy-plan"), "w+b") as plans:
            pickle.dump(sys.path, plans)
            pickle.dump(plan, plans)
            plans.seek(0)
            process = subprocess.Popen(  # noqa: S603 - our own program
                [executable, "-I", "-c", _PROGRAM, str(its.fileno()), str(os.getpid())],
                stdin=plans,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                env={**environ, **_ITS_OWN},
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def _python() -> str:
    """The program of this Python. Raises OSError.

    Where a server has Python within it, `sys.executable` is that server, as in uWSGI, or nothing.
    """
    if os.path.basename(sys.executable or "").startswith("python"):
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        program = os.path.join(prefix, "bin", name)
        if os.access(program, os.X_OK):
            return program
    raise OSError(
        errno.ENOENT, f"there is no {name} in {sys.exec_prefix}/bin to make pictures with"
    )
