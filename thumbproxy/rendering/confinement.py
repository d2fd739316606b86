"""The privileges that a render process gives up before it reads the first byte of an image."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable

from thumbproxy.rendering import landlock, seccomp
from thumbproxy.rendering.kernel import (
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    prctl,
)

# What is left over for the first picture, whatever the setting says: less would be of no use.
_LEAST_MEMORY = 64 * 1024 * 1024
# linux/oom.h: -1000 to 1000. When memory runs out, a render is what the host can best do without.
_FIRST_TO_GO = b"800"
_PAGE = resource.getpagesize()


def die_with_parent(parent: int) -> None:
    """For the child of a process with one thread: be killed when it ends, or end now if it has."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def go_first() -> None:
    """Have the kernel take this process before others when memory runs out."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(descriptor, _FIRST_TO_GO)
        finally:
            os.close(descriptor)


def confine(memory: int, mapped: int) -> dict[str, str]:
    """Set limits and enter the sandbox, for ever; what keeps us in it, by name, in words.

    memory  most address space, bytes; 0: no bound
    mapped  address space that is taken already, bytes
    What this kernel does not have is left out, and its words begin with "none".
    """
    prctl(PR_SET_DUMPABLE, 0)  # nobody of our user looks into us
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # Nothing is opened any more. (Landlock still makes a descriptor.)
        resource.RLIMIT_NOFILE: 16,
    }
    if memory:
        limits[resource.RLIMIT_AS] = max(memory, mapped + _LEAST_MEMORY)
    for limit, most in limits.items():
        hard = resource.getrlimit(limit)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (bound, bound))
    with contextlib.suppress(OSError):  # only root has any
        drop_capabilities()
    return {"landlock": _entered(landlock.restrict), "seccomp": _entered(seccomp.restrict)}


def _entered(restrict: Callable[[], str]) -> str:
    try:
        return restrict()
    except OSError as error:
        return f"none: {error.strerror}"


def allow_time(seconds: float) -> None:
    """End this process by SIGXCPU when it has worked for so long from now, seconds.

    Whoever waits for it would have killed it before; unless it cannot.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


class Memory:
    """How much memory this process has, told from a file that was opened before there were none."""

    def __init__(self) -> None:
        self.descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> tuple[int, int]:
        """Address space and resident memory, bytes (proc(5): statm)."""
        mapped, resident = os.pread(self.descriptor, 128, 0).split()[:2]
        return int(mapped) * _PAGE, int(resident) * _PAGE
