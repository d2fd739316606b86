"""`thumbproxy doctor`: each fault is made for real, and found."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from click.testing import CliRunner
from impostors import Talk, impostor

from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.core.resources import Bound, Resources
from thumbproxy.doctor.findings import Finding, Level
from thumbproxy.doctor.holes import HOLES, before, known_holes
from thumbproxy.doctor.machine import machine
from thumbproxy.doctor.reach import reach
from thumbproxy.doctor.safety import safety
from thumbproxy.doctor.sandbox import Trial, sandbox
from thumbproxy.doctor.servers import memcached as look
from thumbproxy.doctor.simd import compiled_for, cpu_has
from thumbproxy.doctor.storage import Held, mount_of, storage
from thumbproxy.doctor.text import lines
from thumbproxy.rendering.base import PoolStatus

KEY = "Xo7vQ2nM9sLr4TzKc1Wb8YpE5HdUfJ6g"
TOKEN = "Bq3xR8wN5mVt2ZyLk7Sc4PfA9GhDuE1j"
MIB = 1024 * 1024


def settings(**more: Any) -> Settings:
    given = {"keys": (KEY,), "workers": 2, "renders": 2, "isolation": "processes", **more}
    return Settings(**given)


def levels(findings: Iterator[Finding], word: str) -> list[Level]:
    """The levels of what is said with this word."""
    return [found.level for found in findings if word in found.text]


# -- the command -----------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def run(tmp_path: Path, *arguments: str, **environ: str) -> Any:
    clean = {name: None for name in os.environ if name.startswith("THUMBPROXY_")}
    given = {"THUMBPROXY_KEYS": KEY, "THUMBPROXY_WORKERS": "1", **environ}
    where = ["--origin", str(tmp_path / "photos"), "--cache-dir", str(tmp_path / "cache")]
    return CliRunner().invoke(main, ["doctor", *where, *arguments], env={**clean, **given})


def test_a_sound_site_is_told_so_in_groups(
    photos: Path, tmp_path: Path, memcached: servers.Server
) -> None:
    """With the sandbox that a render process has really entered; and nothing is left behind."""
    done = run(tmp_path, "--memcached", f"127.0.0.1:{memcached.port}")
    assert done.exit_code == 0, done.output
    groups = [line for line in done.output.splitlines() if not line.startswith(" ")]
    assert groups[:-1] == [
        "software", "renders", "settings", "reach", "machine", "disk", "memcached"
    ]  # fmt: skip
    assert groups[-1].startswith("in all: ")
    assert "in processes of each worker" in done.output
    assert "landlock: " in done.output
    assert "gunicorn 27" in done.output
    assert "critical" not in done.output
    assert not (tmp_path / "cache").exists()
    assert KEY not in done.output


def test_programs_get_facts_and_a_status(photos: Path, tmp_path: Path) -> None:
    server = f"127.0.0.1:{servers.free_port()}"
    done = run(tmp_path, "--json", "--memcached", server, THUMBPROXY_PURGE_TOKEN=KEY)
    facts = json.loads(done.output)
    assert (done.exit_code, facts["worst"]) == (1, "critical")
    critical = [found for found in facts["findings"] if found["level"] == "critical"]
    assert {found["group"] for found in critical} == {"settings"}
    assert all(found["text"] and found["advice"] for found in critical)
    assert KEY not in done.output, "secrets are never told"
    (dead,) = (found for found in facts["findings"] if found["group"] == "memcached")
    assert dead["level"] == "warning", "serving goes on"
    assert "purge" in dead["advice"]


def test_what_cannot_be_used_is_told_all_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "--threads", "many", THUMBPROXY_KEYS="short")
    assert done.exit_code == 2
    assert "--threads" in done.output
    assert "THUMBPROXY_KEYS" in done.output
    assert "there is no folder" in done.output
    done = run(tmp_path, "--json", THUMBPROXY_EXIF_FIELDS="NoSuchField")
    facts = json.loads(done.output)
    assert (done.exit_code, facts["worst"]) == (2, "unusable")
    told = [found for found in facts["findings"] if found["group"] == "settings"]
    assert {found["level"] for found in told} == {"critical"}
    assert "NoSuchField" in str(told)
    assert "there is no folder" in str(told)


def test_a_machine_is_looked_at_before_there_is_a_key(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path, THUMBPROXY_KEYS="")
    assert done.exit_code == 2
    groups = [line for line in done.output.splitlines() if not line.startswith(" ")]
    assert groups[:4] == ["software", "renders", "settings", "machine"]
    assert "critical  keys: none given" in done.output
    assert "landlock: " in done.output
    done = run(tmp_path, "--config", str(tmp_path / "absent.toml"))
    assert done.exit_code == 2
    assert "absent.toml cannot be read" in done.output


def test_threads_have_no_sandbox(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path, THUMBPROXY_ISOLATION="threads")
    assert "no sandbox" in done.output
    assert 'isolation is "threads"' in done.output


# -- versions --------------------------------------------------------------------------------


def test_holes_are_known_by_version_unless_the_distribution_has_mended_them(tmp_path: Path) -> None:
    def ids(**versions: str) -> set[str]:
        return {hole.id for hole in known_holes(versions, tmp_path)}

    assert "CVE-2026-112403" in ids(Pillow="12.1.1.post0")
    assert ids(Pillow="13.0.0", libwebp="1.3.2", dav1d="1.5.3") == set()
    assert ids(libwebp="1.2.4") == {"CVE-2023-4863"}
    (tmp_path / "libwebp7").mkdir()
    with gzip.open(tmp_path / "libwebp7" / "changelog.Debian.gz", "wt") as file:
        file.write("  * Fix for CVE-2023-4863\n")
    assert ids(libwebp="1.2.4") == set()


@pytest.mark.parametrize(
    ("version", "other", "earlier"),
    [("9.10", "10.0", True), ("1.3.10", "1.3.2", False), ("27.0.1", "27", False),
     ("v1", "1", True), ("12.1.1.post0", "12.1.1", False)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version: str, other: str, earlier: bool) -> None:
    assert before(version, other) == earlier


def test_simd_is_told_by_the_machine_code(tmp_path: Path) -> None:
    """vpmaddwd ymm0, ymm1, ymm2; pmaddwd xmm0, xmm1; and what is neither."""
    library = tmp_path / "it.so"
    for code, found in ((b"\xc5\xf5\xf5\xc2", "avx2"), (b"\x66\x0f\xf5\xc1", "sse4"),
                        (b"\xc5\xf1\xf5\xc2", "")):  # fmt: skip
        library.write_bytes(b"\x90" * 50 + code * 60)
        assert compiled_for(library) == found
    library.write_bytes(os.urandom(MIB))
    assert compiled_for(library) == ""
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("processor\t: 0\nflags\t\t: fpu sse4_1 bmi1\n")
    assert cpu_has(cpu) <= {"sse4"}


# -- settings --------------------------------------------------------------------------------

UNSAFE: dict[str, tuple[dict[str, Any], str, Level]] = {
    "a key of one character": ({"keys": ("a" * 40,)}, "repeats itself", "critical"),
    "a key of a few": ({"keys": ("abcabcabcabcabcabcabc",)}, "repeats itself", "critical"),
    "a key with a word": ({"keys": ("changeme-1b7Xq0zRw8Lk",)}, "everyone would try", "critical"),
    "a short key": ({"keys": ("k7Xq0zRw8LkM2vBn",)}, "is short", "warning"),
    "a key twice": ({"keys": (KEY, TOKEN, KEY)}, "twice", "warning"),
    "many keys": ({"keys": tuple(f"{number}{KEY}" for number in range(4))}, "4 keys", "note"),
    "a token that is a key": ({"purge_token": KEY}, "can sign any URL", "critical"),
    "a weak token": ({"metrics_token": "x" * 20}, "metrics_token repeats", "critical"),
    "one token for two": (
        {"purge_token": TOKEN, "metrics_token": TOKEN}, "are the same", "warning"
    ),
    "all networks": ({"allow_networks": ("0.0.0.0/0",)}, "anywhere", "critical"),
    "the clouds' network": ({"allow_networks": ("169.254.0.0/16",)}, "credentials", "critical"),
    "all addresses": ({"bind": "0.0.0.0:8080"}, "hold connections", "note"),
    "no threads for hits": ({"threads": 8, "misses": 8}, "nothing is left for hits", "critical"),
    "threads": ({"isolation": "threads"}, "isolation", "warning"),
    "short requests": (
        {"request_timeout": 5, "fetch_timeout": 8}, "fetch_timeout", "warning"
    ),
    "short renders": ({"render_timeout": 20}, "clipped to half", "note"),
    "a token with a word": ({"purge_token": "changeme-1b7Xq0zRw8Lk"}, "everyone would", "critical"),
    "a short token": ({"metrics_token": "k7Xq0zRw8LkM2vBn"}, "metrics_token is short", "warning"),
    "little memory": ({"render_memory": 400 * MIB}, "want of memory", "warning"),
    "few pixels": ({"render_pixels": 10**6}, "made alone", "note"),
    "one format for all": (
        {"cdn": {"cloudflare": {"zone": "x", "token": TOKEN}}}, "to all", "note",
    ),
    "large sources": ({"max_source_bytes": 500 * MIB}, "times the default", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_unsafe_settings_are_found(unsafe: str) -> None:
    more, word, level = UNSAFE[unsafe]
    found = list(safety(settings(**more), None))
    assert levels(iter(found), word)[:1] == [level]
    secrets = (*more.get("keys", ()), more.get("purge_token"), more.get("metrics_token"))
    assert not [line for line in lines(found) for secret in secrets if secret and secret in line]


def test_what_the_environment_overrides_is_told_by_name(tmp_path: Path, photos: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'keys = ["{TOKEN}"]\nthreads = 9\nmax_age = 5\n')
    done = run(tmp_path, "--config", str(config), THUMBPROXY_THREADS="8")
    assert f"note      keys of {config}: overridden by THUMBPROXY_KEYS" in done.output
    assert f"threads of {config}: overridden by THUMBPROXY_THREADS" in done.output
    assert "max_age of" not in done.output
    assert KEY not in done.output
    assert TOKEN not in done.output


def test_a_default_that_gives_way_to_a_setting_is_no_fault() -> None:
    assert [found.level for found in safety(settings(request_timeout=5), None)] == ["ok"]


def test_safe_settings_are_told_to_be() -> None:
    assert [found.level for found in safety(settings(purge_token=TOKEN), None)] == ["ok"]


@pytest.mark.parametrize(("mode", "level"), [(0o644, "warning"), (0o646, "critical")])
def test_a_file_with_secrets_is_for_few(tmp_path: Path, mode: int, level: Level) -> None:
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'keys = ["{KEY}"]\n')
    config.chmod(mode)
    assert levels(safety(settings(), str(config)), config.name) == [level]
    config.write_text(f'[origins."a/"]\nheaders = {{ X-Key = "{TOKEN}" }}\n')
    for headers, told in (({"X-Key": TOKEN}, [level]), ({"User-Agent": TOKEN}, []), ({}, [])):
        kept = settings(origins={"a/": {"location": "http://a", "headers": headers}})
        expected = told if level == "warning" else [level]
        assert levels(safety(kept, str(config)), config.name) == expected
    config.chmod(0o640)
    assert levels(safety(settings(), str(config)), config.name) == []


# -- renders ---------------------------------------------------------------------------------


def test_a_wall_that_is_missing_is_told() -> None:
    walls = {"landlock": "none: Function not implemented", "seccomp": "43 system calls"}
    trial = Trial(PoolStatus("processes", 2, 2, walls), 0.01, "")
    assert not trial.contained
    assert levels(sandbox(trial), "landlock") == ["warning"]
    assert levels(sandbox(trial), "seccomp") == ["ok"]
    assert levels(sandbox(trial._replace(error="it died")), "it died") == ["critical"]


# -- the machine -----------------------------------------------------------------------------


def test_memory_and_processors_are_held_against_what_may_be_used() -> None:
    half = Resources(Bound(0.5, "/group/cpu.max"), Bound(512 * MIB, "/group/memory.max"))
    found = list(machine(settings(workers=1), 1, half))
    assert levels(iter(found), "processors: 0.5 (/group/cpu.max), workers: 1") == ["ok"]
    assert levels(iter(found), "memory: 512 MiB (/group/memory.max); 2 renders") == ["warning"]
    many = settings(render_memory=500 * MIB, renders=3)
    assert levels(machine(many, 2, half), "6 times what there is") == ["warning"]
    assert levels(machine(many, 2, half), "2 workers with 3 renders each need") == ["warning"]
    few = {"renders": 1, "max_source_bytes": MIB}
    lower = settings(render_memory=200 * MIB, **few)
    assert levels(machine(lower, 2, half), "memory: ") == ["ok"]
    lower = settings(render_memory=300 * MIB, **few)
    assert levels(machine(lower, 2, half), "memory: ") == ["note"]
    large = settings(renders=1, max_source_bytes=3 * MIB)
    assert levels(machine(large, 2, half), "would take 576 MiB") == ["note"]


def test_few_open_files_are_found() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        found = list(machine(settings(threads=64), 2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert levels(iter(found), "open files") == ["critical"]


# -- the disk --------------------------------------------------------------------------------

UNBOUND = Held(0, 0, 0, 0)
Mounted = Callable[[str], Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount a file system: {done.stderr.strip()}")
        return folder

    yield mounted
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def looked_at(cache: Path, held: Held = UNBOUND) -> list[Finding]:
    return list(storage(settings(cache_dir=str(cache)), held))


def test_a_disk_with_too_little_space_is_found(mounted: Mounted) -> None:
    cache = mounted("size=8m,noatime") / "cache"
    found = looked_at(cache, Held(0, 0, 10**9, 10**5))
    assert levels(iter(found), "nothing new can be kept") == ["critical"]
    assert levels(iter(found), "is on tmpfs") == ["note"]
    assert levels(iter(found), "noatime") == ["note"]
    full = looked_at(cache, Held(6 * MIB, 10, 6 * MIB, 10))
    assert levels(iter(full), "nothing new") == [], "a cache that has all it may have is well"


def test_a_bound_that_the_disk_does_not_have_is_found(mounted: Mounted) -> None:
    cache = mounted("size=64m,nr_inodes=500,relatime")
    found = looked_at(cache, Held(10 * MIB, 20, 100 * MIB, 1000))
    assert levels(iter(found), "full before the cache is") == ["warning", "warning"]
    advice = next(it.advice for it in found if "MiB that the cache may hold" in it.text)
    assert "lower cache_max_bytes to " in advice
    assert levels(iter(looked_at(cache, Held(0, 0, MIB, 10))), "free on its") == ["ok", "ok"]
    assert levels(iter(looked_at(cache)), "cache_max_bytes is 0") == ["warning"]


def test_a_disk_that_cannot_be_written_is_found(mounted: Mounted) -> None:
    assert "critical" in levels(iter(looked_at(mounted("ro,size=32m"))), "cannot be used")


def test_rights_that_are_too_wide_are_found(tmp_path: Path) -> None:
    for tree in ("public", "private", "sources", "tmp", "locks"):
        (tmp_path / tree).mkdir(mode=0o700)
    found = looked_at(tmp_path)
    assert {it.level for it in found if str(tmp_path) in it.text} <= {"ok", "note"}
    (tmp_path / "public").chmod(0o777)
    (tmp_path / "private").chmod(0o755)
    found = looked_at(tmp_path)
    assert levels(iter(found), "everyone may write") == ["critical"]
    assert levels(iter(found), "others may look into") == ["warning"]


def test_a_tree_on_another_file_system_is_found(mounted: Mounted, tmp_path: Path) -> None:
    """Nothing could be renamed into it."""
    cache = tmp_path / "cache"
    for tree in ("tmp", "public"):
        (cache / tree).mkdir(parents=True)
    (cache / "private").symlink_to(mounted("size=4m"))
    assert levels(iter(looked_at(cache)), "two file systems") == ["critical"]


def test_the_last_and_longest_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    inner = tmp_path / "a b"
    inner.mkdir()
    quoted = str(inner).replace(" ", r"\040")
    mounts.write_text(
        "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"2 1 0:40 / {quoted} rw,noatime - nfs4 server:/x rw,vers=4.2\n"
    )
    assert mount_of(tmp_path, mounts).kind == "ext4"
    found = mount_of(inner, mounts)
    assert (found.kind, found.place) == ("nfs4", str(inner))
    assert {"noatime", "vers=4.2"} <= found.options


def test_no_cache_at_all_is_found() -> None:
    assert levels(storage(settings(), UNBOUND), "no cache_dir") == ["critical"]
    shared = settings(memcached=("127.0.0.1:11211",))
    assert levels(storage(shared, UNBOUND), "no cache_dir") == ["note"]


# -- memcached -------------------------------------------------------------------------------


def started(*options: str) -> Any:
    port = servers.free_port()
    command = ["memcached", "-p", str(port), "-u", "nobody", *options]
    if "-l" not in options:
        command += ["-l", servers.HOST]
    return servers.running(command, port)


def asked(server: servers.Server, connections: int = 10) -> list[Finding]:
    return list(look([f"{servers.HOST}:{server.port}"], connections=connections))


def test_a_sound_memcached_is_told_so(memcached: servers.Server) -> None:
    found = asked(memcached)
    assert [it.level for it in found] == ["ok"]
    assert "memcached 1." in found[0].text
    assert "ms there and back" in found[0].text


def test_what_a_memcached_does_not_take_is_found() -> None:
    with started("-U", "0", "-I", "512k", "-M", "-C", "-c", "64") as server:
        found = asked(server, 100)
    assert levels(iter(found), "items up to 512 KiB") == ["warning"]
    assert levels(iter(found), "refuses new items") == ["warning"]
    assert levels(iter(found), "no `cas`") == ["critical"]
    assert levels(iter(found), "takes 64 connections") == ["warning"]


def test_a_memcached_that_listens_to_everyone_is_found() -> None:
    with started("-U", "0", "-l", "0.0.0.0") as server:
        assert levels(iter(asked(server)), "all addresses") == ["warning"]
    with started() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("thumbproxy.doctor.servers._is_loopback", lambda host: False)
        assert levels(iter(asked(server)), "over the network") == ["warning"]


def test_a_memcached_that_has_to_drop_items_is_found() -> None:
    with started("-U", "0", "-m", "1", "-I", "512k") as server, socket.create_connection(
        (servers.HOST, server.port)
    ) as connection:  # fmt: skip
        value = b"x" * 60_000
        for number in range(400):
            connection.sendall(b"set k%d 0 0 60000 noreply\r\n%s\r\n" % (number, value))
        connection.sendall(b"version\r\n")
        connection.recv(100)
        assert levels(iter(asked(server)), "had to drop") == ["note"]


def test_a_memcached_that_is_gone_or_none_is_found() -> None:
    address = f"{servers.HOST}:{servers.free_port()}"
    assert levels(look([address], connections=1), "refused") == ["warning"]
    with socket.create_server((servers.HOST, 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = list(look([f"{servers.HOST}:{listener.getsockname()[1]}"], connections=1))
        thread.join()
    assert [it.level for it in found] == ["warning"]


def test_pylibmc_and_a_server_that_anybody_could_be_is_found(
    memcached: servers.Server, tmp_path: Path
) -> None:
    address, path = f"{servers.HOST}:{memcached.port}", tmp_path / "memcached.sock"
    with servers.memcached_at(path):
        found = list(look([address, f"unix:{path}"], connections=1, client="pylibmc"))
    assert [it.text.split()[0] for it in found if it.level == "warning"] == [address]
    assert levels(iter(found), "believed by pylibmc") == ["warning"]
    assert levels(iter(found), f"unix:{path}: memcached 1.") == ["ok"]


def test_what_sends_without_end_is_no_memcached() -> None:
    def says(talk: Talk) -> None:
        talk.say(*[b"STAT %d x\r\n" % number for number in range(100_000)])

    with impostor(says) as liar:
        found = list(look([liar.address], connections=1))
    assert [it.level for it in found] == ["warning"]


def test_a_frozen_memcached_is_waited_for_two_seconds() -> None:
    with servers.memcached() as server:
        assert server.process
        servers.freeze(server.process.pid)
        assert [it.level for it in asked(server)] == ["warning"]


# -- what it reaches -------------------------------------------------------------------------


def test_origins_and_the_upstream_are_asked(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "empty").mkdir()
    dead = f"http://{servers.HOST}:{servers.free_port()}"
    origins = {"a/": str(tmp_path / "photos"), "b/": str(tmp_path / "empty"), "c/": dead,
               "d/": str(tmp_path / "gone")}  # fmt: skip
    with socket.create_server((servers.HOST, 0)) as listener:
        here = f"http://{servers.HOST}:{listener.getsockname()[1]}"
        found = list(reach(settings(origins=origins, origin=here, upstream=dead)))
    assert levels(iter(found), f"origin: {here} accepts") == ["ok"]
    assert levels(iter(found), "photos can be read") == ["ok"]
    assert levels(iter(found), "is empty") == ["note"]
    assert levels(iter(found), f"origin c/: {dead} cannot be reached") == ["critical"]
    assert levels(iter(found), "gone cannot be read") == ["critical"]
    assert levels(iter(found), f"upstream: {dead} cannot be reached") == ["critical"]


def test_where_it_cannot_listen_is_found(tmp_path: Path) -> None:
    def of(bind: str) -> list[Level]:
        return levels(reach(settings(bind=bind)), "listen")

    assert of(f"{servers.HOST}:0") == ["ok"]
    with socket.create_server((servers.HOST, 0)) as listener:
        found = list(reach(settings(bind=f"{servers.HOST}:{listener.getsockname()[1]}")))
    assert levels(iter(found), "somebody listens") == ["note"], "it may be ours"
    assert of("192.0.2.1:8080") == ["critical"]
    assert of("127.0.0.1:99999") == ["critical"]
    assert list(reach(settings(bind=f"unix:{tmp_path}/socket"))) == []
    absent = reach(settings(bind=f"unix:{tmp_path}/absent/socket"))
    assert levels(absent, "no socket can be made") == ["critical"]


@pytest.mark.parametrize(
    ("host", "word"),
    [("*.com", "anybody's"), ("*.github.io", "anybody's"), ("169.254.169.254", "clouds"),
     ("http://10.0.0.5:8080", "private"), ("[::1]", "private"), ("*.example.com", ""),
     ("a.github.io", ""), ("93.184.215.14", "")],
)  # fmt: skip
def test_hosts_that_are_not_one_party_are_found(host: str, word: str) -> None:
    found = reach(settings(origins={"r/": {"hosts": [host]}}, bind=f"{servers.HOST}:0"))
    told = [it for it in found if "of an origin" in it.text]
    assert [it.level for it in told] == ["warning"] * bool(word)
    assert all(word in it.text for it in told)


def test_a_cache_of_nginx_that_is_not_there_is_found(tmp_path: Path) -> None:
    def of(place: str) -> list[Level]:
        return levels(reach(settings(nginx_cache_dir=place)), "nginx_cache_dir")

    assert of(str(tmp_path)) == []
    assert of(str(tmp_path / "absent")) == ["warning"]
    assert of("nowhere/cache") == ["warning", "warning"]


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache/a"])
def test_a_cache_that_cannot_be_made_is_found(place: str) -> None:
    """Rights alone do not tell: root has them all."""
    found = storage(settings(cache_dir=place), UNBOUND)
    assert levels(found, "cannot be used: it cannot be made in") == ["critical"]


# -- the report ------------------------------------------------------------------------------


def test_what_a_server_says_does_not_steer_the_terminal() -> None:
    found = [Finding("memcached", "ok", "memcached \x1b[2J\n1.6", "do \x07 it")]
    assert not [line for line in lines(found) if "\x1b" in line or "\n" in line or "\x07" in line]


def test_it_needs_no_terminal_and_leaves_no_process(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thumbproxy", "doctor", "--origin", str(photos),
               "--cache-dir", str(tmp_path / "cache"), "--workers", "1"]  # fmt: skip
    environ = {**os.environ, "THUMBPROXY_KEYS": KEY}
    # The pipe ends when the last process that has it does.
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_holes_that_are_known_are_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text()
    for hole in HOLES:
        assert f"| {hole.fixed} | {hole.id} | {hole.what} |" in page
