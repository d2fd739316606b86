"""seccomp: allows the system calls that a render needs, and refuses all others.

linux/seccomp.h, linux/filter.h. The filter is a program of the old packet filter, which sees the
number of a call and its arguments, but nothing that they point to. A refused call fails with EPERM,
so that libraries go on without what they asked for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from typing import NamedTuple

from thumbproxy.rendering.kernel import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl


class _Machine(NamedTuple):
    """audit: linux/audit.h; column: of the numbers below."""

    audit: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}

# asm/unistd_64.h of x86, asm-generic/unistd.h. -1: there is no such call. The frequent ones first.
_ALLOWED = {
    "futex": (202, 98), "read": (0, 63), "recvfrom": (45, 207), "sendto": (44, 206),
    "mmap": (9, 222), "munmap": (11, 215), "brk": (12, 214), "mprotect": (10, 226),
    "madvise": (28, 233), "mremap": (25, 216), "clock_gettime": (228, 113), "pread64": (17, 67),
    "getrusage": (98, 165), "prlimit64": (302, 261), "write": (1, 64), "close": (3, 57),
    "fstat": (5, 80), "lseek": (8, 62), "poll": (7, -1), "ppoll": (271, 73),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "tgkill": (234, 131), "getpid": (39, 172), "gettid": (186, 178),
    "gettimeofday": (96, 169), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "restart_syscall": (219, 128), "getrandom": (318, 278),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "clone": (56, 220), "clone3": (435, 435), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
# linux/bpf_common.h: load a word, jump if equal, jump if any bit is set, return.
_LOAD, _IF, _IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16
_LET_THROUGH, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_MODE_FILTER = 2

_Step = tuple[int, int, int, int]


def restrict() -> str:
    """Refuse all that is not needed, for ever; in words. Raises OSError where it cannot be."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"not written for {platform.machine()}")
    steps = _program(machine, os.getpid())
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    # struct sock_fprog: how many, and where.
    address = ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p).value
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, struct.pack("@HP", len(steps), address))
    return f"{len(_ALLOWED)} system calls"


def _program(machine: _Machine, pid: int) -> list[_Step]:
    """Of another architecture's calls (a process may change its own) none is to be made."""
    steps: list[_Step] = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_IF, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    for name, numbers in _ALLOWED.items():
        verdict = _verdict(name, pid)
        if numbers[machine.column] >= 0:
            steps += [(_IF, 0, len(verdict), numbers[machine.column]), *verdict]
    return [*steps, _refusal(errno.EPERM)]


def _verdict(name: str, pid: int) -> Sequence[_Step]:
    allow = (_RETURN, 0, 0, _LET_THROUGH)
    refuse = _refusal(errno.EPERM)
    if name in ("mmap", "mprotect"):  # no new code
        return [_argument(2), (_IF_ANY, 0, 1, _PROT_EXEC), refuse, allow]
    if name == "clone":  # threads, but no processes
        return [_argument(0), (_IF_ANY, 1, 0, _CLONE_THREAD), refuse, allow]
    if name == "clone3":  # its flags are in memory, out of sight; without it, clone is tried
        return [_refusal(errno.ENOSYS)]
    if name == "tgkill":  # abort() ends its own process
        return [_argument(0), (_IF, 1, 0, pid), refuse, allow]
    if name == "prlimit64":  # its own limits
        return [_argument(0), (_IF, 1, 0, 0), refuse, allow]
    return [allow]


def _argument(number: int) -> _Step:
    """The lower half of an argument; both architectures put it first."""
    return _LOAD, 0, 0, _AT_ARGUMENTS + 8 * number


def _refusal(number: int) -> _Step:
    return _RETURN, 0, 0, _REFUSE | number
