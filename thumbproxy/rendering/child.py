"""The main loop of a render process: tasks in, images out."""

from __future__ import annotations

import os
import socket
import warnings
from typing import NamedTuple, NoReturn

from thumbproxy.core.errors import DecoderFailed, EngineFailed, ThumbproxyError
from thumbproxy.imaging.base import Engine
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.confinement import Memory, allow_time, confine, die_with_parent, go_first
from thumbproxy.rendering.kernel import PR_SET_NAME, prctl
from thumbproxy.rendering.messages import failed, hello, made, read_order
from thumbproxy.rendering.threads import work

_READ_AT_ONCE = 64 * 1024
_LAST_DESCRIPTOR = 1 << 20
# Hits come first: as at 10, where beside one busy neighbour a ninth of its share would be left to
# us; here it is a third. At 0, the slowest hits took three times as long.
_NICE = 5


class Plan(NamedTuple):
    """How render processes are to be.

    engine  pickled, because that loads its modules
    memory  most address space, bytes; 0: no bound
    """

    engine: bytes
    memory: int


def become_render_process(job: socket.socket, engine: Engine, plan: Plan, parent: int) -> NoReturn:
    """Never comes back. For the forked child of a process with one thread."""
    status = 1
    try:
        die_with_parent(parent)
        prctl(PR_SET_NAME, b"thumb-render")
        _stay_alone_with(job.fileno())
        # The worker has made it, where gevent or a default timeout makes all sockets non-blocking.
        job.setblocking(True)
        os.nice(_NICE)
        go_first()
        usage = Memory()
        # Nobody sees them, and showing them would need the source code.
        warnings.simplefilter("ignore")
        sandbox = confine(plan.memory, usage.read()[0])
        job.sendall(hello(sandbox))
        _work_off(job, engine, usage)
        status = 0
    finally:
        os._exit(status)


def _stay_alone_with(kept: int) -> None:
    """Close all that the parent had open but one."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, _LAST_DESCRIPTOR)


def _work_off(job: socket.socket, engine: Engine, usage: Memory) -> None:
    with job.makefile("rb", _READ_AT_ONCE) as orders:
        while True:
            task = read_order(orders)
            if task is None:
                return
            allow_time(task.seconds)
            job.sendall(_answer(engine, task, usage))


def _answer(engine: Engine, task: Task, usage: Memory) -> bytes:
    try:
        return made(work(engine, task), usage.read()[1])
    except ThumbproxyError as error:
        problem = error.fresh()  # which does not keep what it was raised in
    except MemoryError:
        problem = DecoderFailed(log="it needed more than render_memory")
    except Exception as error:
        problem = EngineFailed(log=_told(error))
    return failed(problem, usage.read()[1])


def _told(error: Exception) -> str:
    """What went wrong, and where."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__}: {error} at {place}"
