"""Landlock: this process, and those that it starts, may open no file and reach no network.

linux/landlock.h and its page in the kernel's documentation. A ruleset without any rule: all that
the kernel can take away is taken. The numbers of the calls are the same on all architectures.
"""

from __future__ import annotations

import os
import struct

from thumbproxy.rendering.kernel import PR_SET_NO_NEW_PRIVS, prctl, syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION = 1  # a flag: ask for the ABI, make nothing
# Since which ABI the kernel controls so many kinds of access to files, by their lowest bits.
_FILES = ((5, 16), (3, 15), (2, 14), (1, 13))
_SINCE_NETWORK, _SINCE_SCOPES = 4, 6
_TCP = 0b11  # bind and connect
_SCOPES = 0b11  # abstract sockets and signals of those outside


def abi() -> int:
    """The kernel's version of Landlock. Raises OSError where there is none, or it is off."""
    return syscall(_CREATE_RULESET, None, 0, _VERSION)


def restrict() -> str:
    """Give it all up, for ever; what that was, in words. Raises OSError where it cannot be."""
    version = abi()
    files = next((1 << bits) - 1 for since, bits in _FILES if version >= since)
    attributes = [files]
    kept_out = ["files"]
    if version >= _SINCE_NETWORK:
        attributes.append(_TCP)
        kept_out.append("TCP")
    if version >= _SINCE_SCOPES:
        attributes.append(_SCOPES)
        kept_out += ["abstract sockets", "signals"]
    ruleset = struct.pack(f"={len(attributes)}Q", *attributes)
    descriptor = syscall(_CREATE_RULESET, ruleset, len(ruleset), 0)
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
    return f"no {', '.join(kept_out)} (ABI {version})"
