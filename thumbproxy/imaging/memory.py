"""Keeping the memory of one picture for the next."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024


def keep_freed_memory() -> None:
    """Let this process keep up to 128 MiB of freed memory instead of giving it back at once.

    A render frees tens of megabytes at its end; by default glibc returns them to the kernel, which
    then clears the same pages for the next render. That was a fifth of the CPU time of a picture
    of 1920 px. An operator who has tuned malloc by the environment is not overruled, and a C
    library without mallopt is left as it is.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the highest that glibc accepts
    mallopt(_M_TRIM_THRESHOLD, 128 * _MIB)
