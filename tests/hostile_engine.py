"""An engine that does what a picture tells it to, as a decoder does that was taken over.

The source is a word and a number: b"sleep 3". What is done well ends with a picture that says who
made it, or what came of what was tried.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from thumbproxy.core.errors import BadOptions, BrokenImage
from thumbproxy.core.formats import Format
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.urls.options import Options

START = b"\xff\xd8\xff"
_MIB = 1024 * 1024
_kept: list[bytearray] = []
_poisoned: list[str] = []


def connection() -> int:
    """The descriptor that cannot be sought in; nothing else can be asked of one."""
    return next(number for number in range(64) if _sought(number) == errno.ESPIPE)


def _sought(descriptor: int) -> int:
    try:
        os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError as error:
        return error.errno
    return 0


def eat(megabytes: int) -> str:
    while megabytes > 0:
        block = bytearray(16 * _MIB)
        block[::4096] = bytes(len(block) // 4096)  # touched
        _kept.append(block)
        megabytes -= 16
    return "eaten"


def say(sentence: str) -> None:
    """Raw bytes in hex, in place of a reply."""
    os.write(connection(), bytes.fromhex(sentence))
    time.sleep(60)


def hang_up() -> None:
    for descriptor in range(3, 64):
        try:
            os.close(descriptor)
        except OSError:
            continue
    time.sleep(60)


def new_code() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)


def spin() -> None:
    for _ in iter(int, 1):
        pass


def work(milliseconds: int) -> str:
    """Of a processor, which may take longer by the clock."""
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass
    return "worked"


def in_a_thread() -> str:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append("from a thread"))
    thread.start()
    thread.join()
    return said[0]


def trace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def poison() -> str:
    _poisoned.append("the next one crashes")
    return "poisoned"


def broken() -> None:
    raise BrokenImage("It is broken\r\n.", log="for\x1b[31m the operator")


def refused() -> None:
    raise BadOptions("No.")


def bug() -> None:
    raise KeyError("a bug")


def big(kilobytes: int) -> str:
    return "x" * (kilobytes * 1024)


def shout() -> str:
    os.write(1, b"FORGED LINE\n")
    os.write(2, b"FORGED LINE\n")
    return "shouted"


DEEDS: dict[str, Callable[..., object]] = {
    "pid": os.getpid,
    "segv": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "sleep": lambda seconds: time.sleep(seconds / 1000),
    "spin": spin,
    "work": work,
    "garbage": gc.collect,
    "eat": eat,
    "say": say,
    "hang-up": hang_up,
    "poison": poison,
    "broken": broken,
    "refused": refused,
    "bug": bug,
    "big": big,
    "shout": shout,
    # What must be refused.
    "open": lambda: Path("/etc/passwd").read_text(),
    "list": lambda: os.listdir("/"),
    "write": lambda: Path("/tmp/by-a-decoder").write_text(""),
    "socket": socket.socket,
    "pair": socket.socketpair,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "fork": os.fork,
    "run": lambda: subprocess.run(["true"], check=False),
    "kill": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "kill-all": lambda: os.kill(-1, signal.SIGKILL),
    "trace": trace,
    "new-code": new_code,
    "memfd": lambda: os.memfd_create("x"),
    "thread": in_a_thread,
    "environment": lambda: sorted(os.environ),
    "descriptors": lambda: [number for number in range(64) if _sought(number) != errno.EBADF],
}


class HostileEngine:
    """Implements imaging.base.Engine."""

    def inspect(self, source: bytes) -> ImageInfo:
        return ImageInfo(Format.JPEG, 10, 10)

    def check(self, options: Options, format: Format) -> None:
        pass

    def output_size(self, info: ImageInfo, options: Options) -> tuple[int, int]:
        return 10, 10

    def pixels(self, info: ImageInfo, options: Options, format: Format) -> int:
        return 100

    def render(
        self, source: bytes, options: Options, format: Format, *, fallback: Format | None = None
    ) -> Encoded:
        word, _, rest = source.decode("latin-1").partition(" ")
        if _poisoned:
            ctypes.string_at(0)
        deed = DEEDS.get(word)
        if deed is None:  # a real picture, of those who warm up
            return Encoded(START, format, 10, 10)
        arguments = [rest if word == "say" else int(rest)] if rest else []
        try:
            came_of_it = deed(*arguments)
        except OSError as error:
            came_of_it = f"{type(error).__name__} {error.errno}"
        return Encoded(START + f"{came_of_it}".encode(), format, 10, 10)

    def render_many(
        self, source: bytes, variants: Sequence[tuple[Options, Format]]
    ) -> list[Encoded]:
        return [self.render(source, options, format) for options, format in variants]


class Absent(HostileEngine):
    """Cannot even be loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return _not_there, ("no such engine",)


def _not_there(why: str) -> None:
    raise ImportError(why)
