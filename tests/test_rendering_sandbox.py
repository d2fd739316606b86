"""Each part of the sandbox alone, as the kernel of this machine has it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thumbproxy.rendering import landlock, seccomp

TRY = """
import errno, os, resource, signal, socket, threading
from thumbproxy.rendering import landlock, seccomp
from thumbproxy.rendering.confinement import allow_time, confine

def refused(deed):
    try:
        deed()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

open_before = open("/etc/passwd")
listening = socket.create_server(("127.0.0.1", 0))
"""


def said(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", TRY + program],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return [*done.stdout.split(), *done.stderr.split(), str(done.returncode)]


def has_landlock() -> bool:
    try:
        return landlock.abi() >= 4
    except OSError:
        return False


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock of ABI 4")
def test_landlock_takes_files_and_tcp() -> None:
    program = """
landlock.restrict()
print(refused(lambda: open("/etc/passwd")), refused(lambda: os.listdir("/")),
      refused(lambda: os.mkdir(f"/tmp/by-nobody-{os.getpid()}")),
      refused(lambda: os.execv("/bin/true", ["true"])),
      refused(lambda: socket.create_connection(listening.getsockname())),
      refused(lambda: socket.create_server(("127.0.0.1", 0))),
      len(open_before.read()) > 0)
"""
    assert said(program) == ["EACCES"] * 6 + ["True", "0"]


def test_seccomp_takes_all_calls_that_a_render_does_not_need() -> None:
    program = """
import ctypes
seccomp.restrict()
libc = ctypes.CDLL(None, use_errno=True)
print(refused(lambda: open("/etc/passwd")), refused(socket.socket), refused(os.fork),
      refused(lambda: os.execv("/bin/true", ["true"])),
      refused(lambda: os.kill(os.getppid(), 0)),
      refused(lambda: signal.pthread_kill(threading.get_ident(), 0)),
      refused(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU)),
      len(open_before.read()) > 0)
thread = threading.Thread(target=print, args=("threads",))
thread.start()
thread.join()
"""
    assert said(program) == ["EPERM"] * 5 + ["allowed", "EPERM", "True", "threads", "0"]


def test_calls_of_another_architecture_end_the_process() -> None:
    """A process of x86-64 may make those of 32 bits, whose numbers mean other things."""
    program = """
import ctypes, mmap, platform
if platform.machine() == "x86_64":
    # mov eax, 20 (getpid of 32 bits); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    seccomp.restrict()
    call()
else:
    os.kill(os.getpid(), signal.SIGSYS)
"""
    assert said(program) == ["-31"]


def test_confined_twice_is_confined_and_limits_hold() -> None:
    program = """
words = confine(1, 1 << 30)
print(sorted(words), resource.getrlimit(resource.RLIMIT_AS)[1] - (1 << 30) >> 20,
      resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_FSIZE))
"""
    assert " ".join(said(program)) == "['landlock', 'seccomp'] 64 (0, 0) (0, 0) 0"


def test_who_works_for_longer_than_allowed_is_ended() -> None:
    assert said("allow_time(-2)\nwhile True: pass") == ["-24"]


def test_on_another_machine_it_is_said_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(OSError, match="not written for riscv64"):
        seccomp.restrict()
