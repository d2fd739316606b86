"""A bare Debian to try things in, made by debootstrap from where this machine's apt looks.

It lives in memory, in namespaces of its own, which end with the process that made it, however that
ends: neither files nor mounts nor processes are left. Needs root.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# The release that this machine has.
_RELEASE = "bookworm"
_VARIANT = "minbase"
# Seconds for which a system that was made is used again.
_KEPT = 7 * 86_400
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbproxy-tests"
_PIP_CONFIGS = (".config/pip/pip.conf", ".pip/pip.conf")
# Variables that name a file.
_CERTIFICATES = {"PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
_STATE = "/tmp/shell"  # what a line leaves to the next: variables, and the folder it is in
# Mounts that are seen by nobody else; the last of them ends when it is told to, or with its parent.
_BOOT = """
set -eu
root=$1 tar=$2 cache=$3
mount -t tmpfs -o mode=755,size=6g system "$root"
{ [ -s "$tar" ] && tar -x -C "$root" -f "$tar"; } || {
    debootstrap --variant=$4 "$5" "$root" "$6" >&2
    tar -c -C "$root" -f "$tar.$$" . && mv "$tar.$$" "$tar"
}
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 devices "$root/dev"
mkdir -p "$root/dev/shm" "$root/dev/pts" "$root/root/.cache/pip"
mount -t devpts -o newinstance,ptmxmode=666 terminals "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 shared "$root/dev/shm"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name" && mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$cache" "$root/root/.cache/pip"
echo ready
exec cat
"""


def sources(release: str = _RELEASE) -> list[tuple[str, str]]:
    """Where this machine's apt finds Debian: archive and suite, the release itself first. Another
    release lies beside its own."""
    form = "$(IDENTIFIER) $(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    told = _told("apt-get", "indextargets", "--format", form)
    found = [
        line.split()[3:] for line in told.splitlines() if line.startswith("Packages Debian main")
    ]
    mirrors = [(uri, suite) for suite, uri in found if suite.startswith(_RELEASE)]
    assert mirrors, "this machine's apt knows no Debian 12"
    mirrors.sort(key=lambda mirror: mirror[1] != _RELEASE)
    return [(uri, suite.replace(_RELEASE, release)) for uri, suite in mirrors]


def _told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Machine:
    """root: where it is, as its own processes see it; pid: of its first process"""

    root: Path
    pid: int
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def inside(self) -> Path:
        """Where its files are, as we see them."""
        return Path(f"/proc/{self.pid}/root{self.root}")

    def command(self, script: str, *, alone: bool = False) -> list[str]:
        """What runs a script of the shell there. alone: in a network with nobody else."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--"]
        network = ["unshare", "--net", "--", "bash", "-c", 'python3 -c "$0"; exec "$@"', _LOOPBACK]
        changed = ["chroot", str(self.root), "env", "-i"]
        settings = [f"{name}={value}" for name, value in self.environ.items()]
        script = f"[ ! -e {_STATE} ] || . {_STATE}\n{script}\n"
        script += f'{{ export -p; printf "cd %q\\n" "$PWD"; }} > {_STATE}\n'
        return [*enter, *(network if alone else []), *changed, *settings, "bash", "-ec", script]

    def run(self, script: str, *, alone: bool = False) -> str:
        """What it prints. A line leaves variables and its folder to the next."""
        done = subprocess.run(self.command(script, alone=alone), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


_LOOPBACK = """
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
"""


@contextmanager
def machine(folder: Path, release: str = _RELEASE) -> Iterator[Machine]:
    """folder: an empty one, over which it is mounted where nobody else sees it."""
    (mirror, _), *_ = mirrors = sources(release)
    _CACHE.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{_VARIANT} {release} {mirror} {_BOOT}".encode()).hexdigest()[:12]
    tar = _CACHE / f"debian-{name}.tar"
    if tar.exists() and time.time() - tar.stat().st_mtime > _KEPT:
        tar.unlink()
    pip = Path(_told("pip", "cache", "dir").strip())
    pip.mkdir(parents=True, exist_ok=True)
    # It is killed when the thread that starts it ends, and with it, all that was begun there.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork",
               "--kill-child", "--propagation", "private", "bash", "-c", _BOOT, "boot",
               folder, tar, pip, _VARIANT, release, mirror]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as boot:
        try:
            assert boot.stdin
            assert boot.stdout
            assert boot.stdout.readline() == "ready\n"
            [pid] = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split()
            made = Machine(folder, int(pid))
            _settle(made, mirrors)
            yield made
        finally:
            boot.kill()


def _settle(made: Machine, mirrors: list[tuple[str, str]]) -> None:
    """Give it the ways out that this machine has: apt's, pip's, and those of the network."""
    etc = made.inside / "etc"
    lines = [f"deb {uri} {suite} main" for uri, suite in mirrors]
    (etc / "apt" / "sources.list").write_text("\n".join(lines) + "\n")
    ways = [line for line in _told("apt-config", "dump").splitlines()
            if line.startswith("Acquire::http")]  # fmt: skip
    # And nobody to ask.
    ways.append('APT::Get::Assume-Yes "true";')
    (etc / "apt" / "apt.conf.d" / "ways").write_text("\n".join(ways) + "\n")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", etc / name)
    for config in (Path("/etc/pip.conf"), *(Path.home() / name for name in _PIP_CONFIGS)):
        if config.exists():
            there = made.inside / str(config).lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(config, there)
    made.environ = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                    **_ways()}  # fmt: skip
    for name in _CERTIFICATES & made.environ.keys():
        # Not where Debian has its own, which it would put in their place.
        shutil.copy(made.environ[name], made.inside / "root" / name)
        made.environ[name] = f"/root/{name}"


def _ways() -> Mapping[str, str]:
    """The variables by which programs here find their way out."""
    names = ("pip_", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "requests_ca_bundle")
    return {name: value for name, value in os.environ.items() if name.lower().startswith(names)}


def clone(machine: Machine) -> None:
    """Into ~/thumbproxy, and go there: what is committed here, and what is about to be."""
    there = machine.inside / "root/thumbproxy"
    there.mkdir()
    listed = "git ls-files -z --cached --others --exclude-standard"
    pack = f"{listed} | tar -c --null -T - | tar -x -C {shlex.quote(str(there))}"
    subprocess.run(["bash", "-euc", pack], cwd=Path(__file__).parent.parent, check=True)
    machine.run("cd ~/thumbproxy")


def quoted(*variables: tuple[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables)
