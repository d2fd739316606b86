"""Hits of thumbproxy beside bare gunicorn, nginx and thumbor, in one table from one run.

    python benchmarks/serving.py [--rounds N] [--seconds S] [--thumbor PYTHON]
    python benchmarks/serving.py --stages     where the time of a hit under gunicorn goes
    python benchmarks/serving.py --syscalls   what a hit asks of the kernel

Every server is on processor 0, with one worker, and wrk on processor 1, over 8 kept connections on
loopback. All serve one picture of about 24 KB, as WebP; before it is measured, each must answer
with a hit of that length. Rounds go through all servers in turn, and ratios are taken within a
round, because machines drift; what is told is the median.

"bare" is an application under the same gunicorn that returns the same bytes and headers from
memory: there is no faster reply with gunicorn. "cpu" is the time that processor 0 spent for a hit
in all processes of the row. The first ratio is of hits/s, the second of that time. They agree on
an idle machine; on one that is shared, only the second is worth anything, so promises go by it.
What nginx passes on costs both servers' time. Whether it has a copy of what is private ("nginx,
folder") is for conf/nginx.conf to say.

Needs wrk, nginx, memcached (and strace), which are Debian packages, and two processors. thumbor is
measured if PYTHON is an interpreter that has it:
`python3 -m venv DIR && DIR/bin/pip install thumbor`, then `--thumbor DIR/bin/python`.
The exit status is 1 when a ratio, or the number of system calls, is not as promised.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from socket import create_server, socket
from statistics import median
from typing import Any, NamedTuple

from PIL import Image
from werkzeug.test import create_environ

from thumbproxy import Thumbnails
from thumbproxy.build import application, configured_origins, parts
from thumbproxy.settings import Settings

HERE = Path(__file__).parent
HOST = "127.0.0.1"
KEY = "a-key-that-only-this-benchmark-uses"
NAME, WIDTH = "photo.jpg", 320
ACCEPT = {"Accept": "image/webp"}
PINNED = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp", version="v1")
PRIVATE = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp")
EXPIRING = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp", expires=9_999_999_999)
App = Callable[..., Any]


class Target(NamedTuple):
    """What is measured: a path of a server, and the servers whose work that is.

    status  what the reply's Cache-Status must have in it
    beside  the row that it is held against
    """

    name: str
    port: int
    path: str
    servers: tuple[int, ...]
    status: str = ""
    beside: str = ""


class Sample(NamedTuple):
    """hits a second; microseconds for the median and the 99th percentile; and of processor 0."""

    rate: float
    p50: float
    p99: float
    cpu: float
    hits: int


# What is promised: a row, the row it is held against, and at least how many times as fast.
PROMISES = (
    ("disk, v_", "bare gunicorn", 0.75),
    ("disk, folder", "bare gunicorn", 0.75),
    ("disk, HTTP origin", "bare gunicorn", 0.75),
    ("nginx, v_", "nginx static", 0.95),
    ("disk, v_", "thumbor", 3.0),
    ("disk, folder", "thumbor", 3.0),
)
SYSTEM_CALLS = 8
CONNECTIONS = 8

# -- applications: gunicorn loads them from here, and the environment says what and where -------


def bare() -> App:
    """The very reply of the application from memory, after a part of the work for it is done."""
    url = os.environ["BENCHMARK_URL"]
    status, headers, body = reply(application(), url)
    settings = Settings.load(None, os.environ)
    site = parts(settings, configured_origins(settings))
    find = site.thumbnailer.get

    def parsed(environ: dict[str, Any]) -> Any:
        return site.urls.parse(environ["PATH_INFO"])

    steps: dict[str, Callable[..., Any]] = {
        "": id,
        "verify": parsed,
        "find": lambda environ: find(parsed(environ), environ),
    }
    step = steps[os.environ.get("BENCHMARK_STEP", "")]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        step(environ)
        start_response(status, headers)
        return [body]

    return app


def reply(app: App, url: str) -> tuple[str, list[tuple[str, str]], bytes]:
    said: list[Any] = []
    for _ in range(2):  # the first one may be made
        body = b"".join(app(create_environ(url, headers=ACCEPT), lambda *head: said.append(head)))
    assert said[-1][0] == "200 OK", said
    return said[-1][0], said[-1][1], body


def loop(count: int) -> None:
    """So many hits without a server, after the one that may make the picture."""
    app, url = application(), os.environ["BENCHMARK_URL"]
    reply(app, url)
    environ = create_environ(url, headers=ACCEPT)
    for _ in range(count):
        b"".join(app(environ, lambda *_: None))


# -- servers -----------------------------------------------------------------------------------


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[int]:
    """A server that listens on `port`: its process id, which is its session's as well."""
    clean = {name: value for name, value in os.environ.items() if "THUMBPROXY" not in name}
    process = subprocess.Popen(command, env={**clean, **environ}, start_new_session=True)
    try:
        while not listening(port):
            if process.poll() is not None:
                sys.exit(f"serving: {command[:3]} ended with {process.returncode}")
            time.sleep(0.025)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def listening(port: int) -> bool:
    with socket() as client:
        return client.connect_ex((HOST, port)) == 0


def free_port() -> int:
    with create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def gunicorn(app: str, **environ: str) -> Iterator[tuple[int, int]]:
    """port, process id. `environ` is without the prefix THUMBPROXY_ for its settings."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(HERE.parent / "conf/gunicorn.conf.py"),
               "--workers", "1", "--log-level", "warning", "--chdir", str(HERE),
               "--bind", f"{HOST}:{port}", app]  # fmt: skip
    with running(command, port, **settings_of(**environ)) as pid:
        yield port, pid


def settings_of(**values: str) -> dict[str, str]:
    named = {name if name.isupper() else f"THUMBPROXY_{name.upper()}": value
             for name, value in values.items()}  # fmt: skip
    return {"THUMBPROXY_KEYS": KEY, "BENCHMARK_URL": PINNED, **named}


@contextmanager
def nginx(folder: Path, conf: str) -> Iterator[tuple[int, int]]:
    """port, process id. `conf` has PORT where the port goes, and begins its block with `http {`."""
    folder.mkdir()
    port = free_port()
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"\n{name}_temp_path {folder / name};" for name in temporary)
    text = conf.replace("PORT", f"{HOST}:{port}").replace("http {", f"http {{{paths}")
    (folder / "nginx.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    command = [found("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr",
               "-g", f"daemon off; pid {folder / 'pid'}; worker_processes 1; {user}"]  # fmt: skip
    with running(command, port) as pid:
        yield port, pid


def our_conf(public: Path, upstream: int) -> str:
    """conf/nginx.conf fitted, for one worker."""
    text = (HERE.parent / "conf/nginx.conf").read_text()
    text = re.sub("^(user .*|worker_processes .*)$", "", text, flags=re.MULTILINE)
    text = text.replace("server 127.0.0.1:8080;", f"server {HOST}:{upstream};")
    text = text.replace("listen 80;", "listen PORT;")
    text = text.replace("/var/cache/nginx-thumbproxy", str(public.parent.parent / "copies"))
    return text.replace("/var/cache/thumbproxy/public", str(public))


def static_conf(public: Path) -> str:
    return f"""events {{}}
        http {{
            types {{ image/webp webp; }} sendfile on; tcp_nopush on; access_log off;
            server {{ listen PORT; location /thumb/ {{ alias {public}/; }} }}
        }}"""


@contextmanager
def memcached() -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [found("memcached"), "-l", HOST, "-p", str(port), "-U", "0", "-u", "nobody"]
    with running(command, port) as pid:
        yield port, pid


@contextmanager
def origin(photos: Path) -> Iterator[str]:
    """A web server that has the photo, and says nothing of how long it is fresh: an hour."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=str(photos)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def thumbor(python: str, home: Path) -> Iterator[Target]:
    """thumbor that signs its URLs too and keeps its results as files."""
    port, path = free_port(), f"{WIDTH}x0/filters:format(webp):quality(82)/{NAME}"
    mac = hmac.digest(KEY.encode(), path.encode(), "sha1")
    (home / "thumbor.conf").write_text(
        f"SECURITY_KEY = '{KEY}'\nALLOW_UNSAFE_URL = False\n"
        f"LOADER = 'thumbor.loaders.file_loader'\nFILE_LOADER_ROOT_PATH = '{home / 'photos'}'\n"
        "STORAGE = 'thumbor.storages.no_storage'\n"
        "RESULT_STORAGE = 'thumbor.result_storages.file_storage'\n"
        f"RESULT_STORAGE_FILE_STORAGE_ROOT_PATH = '{home / 'thumbor'}'\n"
        "RESULT_STORAGE_EXPIRATION_SECONDS = 0\n"
    )
    command = [python, "-m", "thumbor.server", "--ip", HOST, "--port", str(port), "--conf",
               str(home / "thumbor.conf"), "--processes", "1", "-l", "error"]  # fmt: skip
    with running(command, port) as pid:
        signature = base64.urlsafe_b64encode(mac).decode()
        yield Target("thumbor", port, f"/{signature}/{path}", (pid,))


def found(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return path or sys.exit(f"serving: {program} is not installed; apt-get install {program}")


# -- measuring ---------------------------------------------------------------------------------


def checked(target: Target, length: int | None = None) -> int:
    """Ask twice; the second reply must be the whole picture, from where it should be.

    Its length, which must be `length`, and about that from another engine.
    """
    for _ in range(2):
        connection = http.client.HTTPConnection(HOST, target.port, timeout=30)
        connection.request("GET", target.path, headers=ACCEPT)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    told = answer.status, answer.getheader("Content-Type"), answer.getheader("Cache-Status", "")
    good = told[:2] == (200, "image/webp") and target.status in told[2]
    spread = 0.1 * (length or 0) if target.name == "thumbor" else 0
    if not good or abs(len(body) - (length or len(body))) > spread:
        sys.exit(f"serving: {target.name} answered {told} and {len(body)} bytes: {body[:80]!r}")
    with Image.open(BytesIO(body)) as image:
        assert image.width == WIDTH, target
    return len(body)


def measured(target: Target, seconds: int, connections: int = CONNECTIONS) -> Sample:
    """Ask as fast as it answers; every reply must be a 200."""
    before = processor_time(target.servers)
    command = ["taskset", "-c", "1", found("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s",
               "--latency", "-H", "Accept: image/webp",
               f"http://{HOST}:{target.port}{target.path}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = processor_time(target.servers) - before
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"serving: {target.name} did not answer as it should:\n{said}")
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])
    hits = int(re.findall(r"(\d+) requests in", said)[0])
    p50, p99 = (
        float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
        for number, unit in re.findall(r"(?:50|99)%\s+([\d.]+)(us|ms|s)", said)
    )
    return Sample(rate, p50, p99, spent / hits * 1e6, hits)


def processor_time(sessions: tuple[int, ...]) -> float:
    """Seconds that the processes of these sessions have spent on a processor."""
    total = 0
    for process in processes(sessions):
        for task in process.glob("task/*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9


def processes(sessions: tuple[int, ...]) -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            session = (process / "stat").read_text().rpartition(") ")[2].split()[3]
        except OSError:  # it has just ended
            continue
        if int(session) in sessions:
            yield process


def interleaved(targets: list[Target], rounds: int, seconds: int) -> dict[str, list[Sample]]:
    for target in targets:
        measured(target, 1)
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(measured(target, seconds))
    return samples


def ratios(samples: dict[str, list[Sample]], name: str, beside: str) -> tuple[float, float]:
    """How many times as fast: by hits a second, and by the processor's time."""
    pairs = list(zip(samples[name], samples[beside], strict=True))
    return (
        median(one.rate / other.rate for one, other in pairs),
        median(other.cpu / one.cpu for one, other in pairs),
    )


# -- the three reports -------------------------------------------------------------------------


def table(home: Path, arguments: argparse.Namespace) -> bool:
    with ExitStack() as stack:
        targets = all_targets(home, arguments.thumbor, stack)
        length = checked(targets[0])
        for target in targets[1:]:
            checked(target, length)
        samples = interleaved(targets, arguments.rounds, arguments.seconds)
    print(f"{length} bytes; {arguments.rounds} rounds of {arguments.seconds} s\n")
    print("| hit | hits/s | p50 ms | p99 ms | cpu µs | beside | ratio | by cpu |")
    print("|---|---|---|---|---|---|---|---|")
    for target in targets:
        rate, p50, p99, cpu, _ = map(median, zip(*samples[target.name], strict=True))
        row = f"| {target.name} | {rate:.0f} | {p50 / 1e3:.2f} | {p99 / 1e3:.2f} | {cpu:.1f} |"
        if target.beside:
            by_rate, by_cpu = ratios(samples, target.name, target.beside)
            print(f"{row} {target.beside} | {by_rate:.2f} | {by_cpu:.2f} |")
        else:
            print(f"{row} | | |")
    return kept(samples)


def kept(samples: dict[str, list[Sample]]) -> bool:
    good = True
    print()
    for name, beside, least in PROMISES:
        if beside not in samples:
            print(f"{name}: not held against {beside}, which is absent (--{beside} PYTHON)")
            continue
        _, value = ratios(samples, name, beside)
        good &= value >= least
        print(f"{name}: {value:.2f} of {beside}, {'as' if value >= least else 'NOT as'} promised, "
              f"at least {least}")  # fmt: skip
    return good


def all_targets(home: Path, other: str, stack: ExitStack) -> list[Target]:
    start = stack.enter_context
    photos, disk, private = str(home / "photos"), home / "disk", home / "http"
    ours = start(gunicorn("thumbproxy.build:application()", origin=photos, cache_dir=str(disk)))
    plain = start(gunicorn("serving:bare()", origin=photos, cache_dir=str(disk)))
    url = start(origin(home / "photos"))
    remote = start(gunicorn("thumbproxy.build:application()", origin=url, cache_dir=str(private)))
    shared = start(memcached())
    servers = f"{HOST}:{shared[0]}"
    beyond = start(gunicorn("thumbproxy.build:application()", origin=photos, memcached=servers))
    front = start(nginx(home / "nginx", our_conf(disk / "public", ours[0])))
    static = start(nginx(home / "static", static_conf(disk / "public")))
    on_disk, on_memcached = "thumbproxy; hit; detail=disk", "thumbproxy; hit; detail=memcached"
    gunicorn_, nginx_ = "bare gunicorn", "nginx static"
    targets = [
        Target("disk, v_", ours[0], PINNED, ours[1:], on_disk, gunicorn_),
        Target("disk, folder", ours[0], PRIVATE, ours[1:], on_disk, gunicorn_),
        Target("disk, HTTP origin", remote[0], PRIVATE, remote[1:], on_disk, gunicorn_),
        Target("memcached, v_, no disk", beyond[0], PINNED, (beyond[1], shared[1]), on_memcached,
               gunicorn_),
        Target("nginx, folder", front[0], PRIVATE, (front[1], ours[1]), "hit", gunicorn_),
        Target("nginx, e_, passed on", front[0], EXPIRING, (front[1], ours[1]), on_disk, gunicorn_),
        Target(gunicorn_, plain[0], PINNED, plain[1:], on_disk),
        Target("nginx, v_", front[0], PINNED, front[1:], "nginx; hit", nginx_),
        Target(nginx_, static[0], PINNED, static[1:]),
    ]  # fmt: skip
    if other:
        targets.append(start(thumbor(other, home)))
    return targets


def stages(home: Path, arguments: argparse.Namespace) -> bool:
    """What a hit under gunicorn spends: each server does more of the work than the one before.

    verify  signature and grammar; find  the rendition in the caches; reply  headers, and the edge
    """
    where = {"origin": str(home / "photos"), "cache_dir": str(home / "disk")}
    print("Microseconds of processor 0.\n\n| hit | bare | verify | find | reply | all |")
    print("|---|---|---|---|---|---|")
    for name, url in (("disk, v_", PINNED), ("disk, folder", PRIVATE)):
        with ExitStack() as stack:
            targets = []
            for step in ("", "verify", "find", "all"):
                app = "thumbproxy.build:application()" if step == "all" else "serving:bare()"
                started = gunicorn(app, BENCHMARK_URL=url, BENCHMARK_STEP=step, **where)
                port, pid = stack.enter_context(started)
                targets.append(Target(step, port, url, (pid,)))
                checked(targets[-1])
            samples = interleaved(targets, arguments.rounds, arguments.seconds)
        spent = [median(sample.cpu for sample in each) for each in samples.values()]
        more = "".join(f" {after - before:+.0f} |" for before, after in pairwise(spent))
        print(f"| {name} | {spent[0]:.0f} |{more} {spent[-1]:.0f} |")
    return True


def syscalls(home: Path, arguments: argparse.Namespace) -> bool:
    """System calls of a hit by name, under gunicorn and of our own code alone."""
    where = {"origin": str(home / "photos"), "cache_dir": str(home / "disk")}
    columns = {}
    for name, app, url in (
        ("bare", "serving:bare()", PINNED),
        ("v_", "thumbproxy.build:application()", PINNED),
        ("folder", "thumbproxy.build:application()", PRIVATE),
    ):
        with gunicorn(app, BENCHMARK_URL=url, **where) as (port, pid):
            target = Target(name, port, url, (pid,))
            checked(target)
            columns[f"gunicorn, {name}"] = counted_in_worker(target, arguments.seconds, home)
        if name != "bare":
            columns[f"alone, {name}"] = counted_alone(home, settings_of(BENCHMARK_URL=url, **where))
    names = sorted({call for calls in columns.values() for call in calls})
    print(f"| system calls of a hit | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for call in names:
        numbers = [calls.get(call, 0.0) for calls in columns.values()]
        if max(numbers) >= 0.01:
            print(f"| {call} | {' | '.join(f'{n:.2f}' for n in numbers)} |")
    totals = {name: sum(calls.values()) for name, calls in columns.items()}
    print(f"| all | {' | '.join(f'{total:.2f}' for total in totals.values())} |\n")
    most = max(total for name, total in totals.items() if name.startswith("alone"))
    print(f"{most:.2f} of our own at most; promised: at most {SYSTEM_CALLS}")
    return most <= SYSTEM_CALLS


def counted_in_worker(target: Target, seconds: int, home: Path) -> dict[str, float]:
    """Of the worker alone, over one kept connection."""
    master = target.servers[0]
    (worker,) = (path.name for path in processes((master,)) if path.name != str(master))
    out = home / "calls"
    command = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(out), "-p", worker]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()  # it says so as soon as it is
        assert "attached" in attached, attached
        hits = measured(target, seconds, connections=1).hits
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    return {name: calls / hits for name, calls in read_counts(out).items()}


def counted_alone(home: Path, environ: dict[str, str], hits: int = 10_000) -> dict[str, float]:
    """Of `hits` calls of the application, less those of none."""
    runs = []
    for count in (0, hits):
        out = home / f"calls-{count}"
        command = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(out), sys.executable, "-c",
                   f"import serving; serving.loop({count})"]  # fmt: skip
        subprocess.run(command, cwd=HERE, env={**os.environ, **environ}, check=True)
        runs.append(read_counts(out))
    idle, busy = runs
    return {name: max(0, calls - idle.get(name, 0)) / hits for name, calls in busy.items()}


def read_counts(report: Path) -> dict[str, int]:
    lines = (line.split() for line in report.read_text().splitlines())
    rows = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    rows.pop("total", None)
    return rows


def photo() -> bytes:
    """Something with detail, so that its rendition has the size of a real one."""
    out = BytesIO()
    image = Image.effect_noise((800, 600), 50).convert("RGB").resize((3200, 2400))
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--thumbor", default="", metavar="PYTHON")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--syscalls", action="store_true")
    arguments = parser.parse_args()
    report = stages if arguments.stages else syscalls if arguments.syscalls else table
    for program in ("wrk", "nginx", "memcached", "strace"):
        found(program)
    os.sched_setaffinity(0, {0})  # the servers inherit it
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "photos").mkdir()
        (home / "photos" / NAME).write_bytes(photo())
        good = report(home, arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
