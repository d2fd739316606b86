"""System calls for which Python has no functions."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

Argument = int | bytes | None


def prctl(option: int, value: Argument = 0, more: Argument = 0) -> None:
    """Raises OSError."""
    _checked(_libc.prctl(option, *map(_word, (value, more, 0, 0))))


def syscall(number: int, *arguments: Argument) -> int:
    """Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_word, arguments)))


def drop_capabilities() -> None:
    """Be no more than any user, even as root: who has them may raise its own limits.

    capset(2), with the structures of linux/capability.h, version 3. Raises OSError.
    """
    number = {"x86_64": 126, "aarch64": 91}.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    syscall(number, struct.pack("=Ii", 0x20080522, 0), bytes(24))


def _word(argument: Argument) -> ctypes.c_ulong | ctypes.c_char_p:
    """A register's worth: a number, or the address of some bytes."""
    if isinstance(argument, int):
        return ctypes.c_ulong(argument)
    return ctypes.c_char_p(argument)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
