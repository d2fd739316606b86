"""Metrics: what is counted, by all workers together, and told to those who may know."""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import prometheus_client
import pytest
import servers
from origin import jpeg
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from test_responses import all_errors

from thumbproxy import Thumbnails
from thumbproxy.config.settings import Settings
from thumbproxy.core import errors
from thumbproxy.core.formats import Format
from thumbproxy.server.gunicorn_app import share_metrics
from thumbproxy.telemetry import metrics
from thumbproxy.telemetry.metrics import Metrics, failure_of, outcome_of, prometheus, result_of
from thumbproxy.web.admin_endpoints import MetricsPage, not_found, settled

ROOT = Path(__file__).parent.parent
TOKEN = "a-token-that-only-the-tests-use"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SHARED = "PROMETHEUS_MULTIPROC_DIR"
REQUESTS = ("thumbproxy_requests_total", (("result", "hit_disk"), ("status", "200")))

# The standalone server, around an application that counts a hit and says which worker it is.
COUNTING = """
import os, sys
from thumbproxy.telemetry.metrics import prometheus
from thumbproxy.web.admin_endpoints import MetricsPage, plain
from thumbproxy.server.gunicorn_app import run, share_metrics
from thumbproxy.config.settings import Settings

def count(environ, start_response):
    metrics.request("hit_disk", 200, 1000, 0.0002)
    metrics.cache_size(int(environ["QUERY_STRING"] or 0), 7)
    metrics.tier_failed("memcached")
    return plain(200, str(os.getpid()))(environ, start_response)

settings = Settings(keys=("a-key-that-only-the-tests-use",), workers=2, bind=sys.argv[1])
share_metrics()
metrics = prometheus()
run(MetricsPage(count, "a-token-that-only-the-tests-use"), settings, "ready")
"""


@contextmanager
def counting(tmp_path: Path, **environ: str) -> Iterator[servers.Server]:
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    port = servers.free_port()
    clean = {name: value for name, value in os.environ.items() if name != SHARED}
    command = [sys.executable, str(script), f"{servers.HOST}:{port}"]
    with (
        open(tmp_path / "log", "ab") as log,
        servers.running(
            command, port, env=clean | environ, stdout=subprocess.DEVNULL, stderr=log
        ) as server,
    ):
        yield server
        count_in_both(server)  # a worker that is just starting does not hear that it should stop


def scrape(server: servers.Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, by name and sorted labels."""
    reply = server.ask("/metrics", BEARER)
    assert reply.status == 200, reply.body
    families = text_string_to_metric_families(reply.body.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in chain.from_iterable(family.samples for family in families)
    }


def count(server: servers.Server, query: str = "") -> int:
    """One request that is counted: the worker's process id."""
    return int(server.ask(f"/?{query}").body)


def until(condition: Any) -> None:
    """Asks again until it is true; pytest's time limit ends the wait."""
    while not condition():
        threading.Event().wait(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def each_worker_alone(server: servers.Server) -> Iterator[int]:
    """The id of each of two workers, while it alone can answer."""
    assert server.process
    master = server.process.pid
    until(lambda: len(children(master)) == 2)
    workers = children(master)
    for worker, other in (workers, workers[::-1]):
        servers.freeze(other)
        try:
            yield worker
        finally:
            os.kill(other, signal.SIGCONT)


def count_in_both(server: servers.Server) -> tuple[set[int], int]:
    """A request to each of two workers: their ids, and how many requests there were."""
    workers = {count(server) for _ in each_worker_alone(server)}
    assert len(workers) == 2
    return workers, 2


def shared_directory(server: servers.Server) -> Path:
    """The directory in which the workers of a server count: its files are mapped into them."""
    assert server.process
    maps = Path(f"/proc/{count(server)}/maps").read_text()
    return Path(re.findall(r"(/\S+)/counter_\d+\.db", maps)[0])


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("hit; detail=disk", "hit_disk"),
        ("hit; detail=memcached", "hit_memcached"),
        ("hit; detail=memory", "hit_memory"),
        ("hit; ttl=30; detail=disk", "hit_disk"),
        ("hit; ttl=-30; detail=disk", "stale_while_revalidate"),
        ("hit; ttl=-30; detail=origin-failed", "stale_if_error"),
        ("fwd=stale; detail=origin-timeout", "stale_if_error"),
        ("fwd=stale; fwd-status=304; detail=disk", "revalidated"),
        ("fwd=stale; fwd-status=502; detail=disk", "stale_if_error"),
        ("fwd=stale; detail=memcached", "stale_if_error"),
        ("fwd=stale; fwd-status=200; stored", "miss"),
        ("fwd=stale; fwd-status=304; stored", "miss"),
        ("fwd=stale; fwd-status=200", "miss"),
        ("fwd=uri-miss", "miss"),
        ("fwd=uri-miss; stored", "miss"),
        ("fwd=uri-miss; stored; collapsed", "collapsed"),
        ("fwd=stale; fwd-status=304; detail=disk; collapsed", "collapsed"),
    ],
)
def test_the_result_follows_from_the_cache_status(text: str, result: str) -> None:
    assert result_of(text) == result
    assert result_of(text.replace("; ", ";")) == result


@pytest.mark.parametrize("text", ["", "stored", "hit", "hit; detail=tape", "hit; ttl=-1"])
def test_a_cache_status_that_we_never_send_is_an_error(text: str) -> None:
    with pytest.raises(KeyError):
        result_of(text)


def test_errors_are_refused_or_failed() -> None:
    assert failure_of(errors.BadSignature()) == "refused"
    assert failure_of(errors.Expired()) == "refused"
    assert failure_of(errors.SourceNotFound()) == "failed"
    assert failure_of(errors.Overloaded()) == "failed"


def test_a_fetch_ends_in_one_of_few_ways() -> None:
    assert outcome_of(errors.SourceNotFound()) == "not_found"
    assert outcome_of(errors.SourceTooLarge()) == "refused"
    assert outcome_of(errors.OriginTimeout()) == "timeout"
    assert outcome_of(errors.OriginFailed()) == "failed"
    for kind in all_errors(errors.ThumbproxyError):
        assert outcome_of(kind()) in get_args(metrics.Outcome)


def value(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


# Each call, with the series that it changes and by how much; of gauges, to what.
CALLS: list[tuple[str, tuple[Any, ...], list[tuple[str, dict[str, str], float]]]] = [
    ("request", ("hit_disk", 206, 50, 0.0002), [
        ("thumbproxy_requests_total", {"result": "hit_disk", "status": "206"}, 1),
        ("thumbproxy_sent_bytes_total", {"result": "hit_disk"}, 50),
        ("thumbproxy_request_duration_seconds_count", {"result": "hit_disk"}, 1),
        ("thumbproxy_request_duration_seconds_bucket", {"result": "hit_disk", "le": "0.0005"}, 1),
    ]),
    ("fetched", ("not_modified", 0.25), [
        ("thumbproxy_fetch_duration_seconds_sum", {"outcome": "not_modified"}, 0.25)]),
    ("queued", (0.5,), [("thumbproxy_queue_duration_seconds_sum", {}, 0.5)]),
    ("rendered", (Format.JPEG, 0.5), [
        ("thumbproxy_render_duration_seconds_sum", {"format": "jpg"}, 0.5)]),
    ("encoded", (Format.AVIF, 0.5), [
        ("thumbproxy_encode_duration_seconds_sum", {"format": "avif"}, 0.5)]),
    ("render_process_ended", ("crashed",),
     [("thumbproxy_render_processes_ended_total", {"how": "crashed"}, 1)]),
    ("coalesced", ("fleet",), [("thumbproxy_coalesced_total", {"where": "fleet"}, 1)]),
    ("refreshed", ("ok",), [("thumbproxy_refreshes_total", {"outcome": "ok"}, 1)]),
    ("stored", ("memcached",), [("thumbproxy_stored_total", {"tier": "memcached"}, 1)]),
    ("evicted", (3, 4000), [
        ("thumbproxy_evicted_files_total", {}, 3), ("thumbproxy_evicted_bytes_total", {}, 4000)]),
    ("purged", ("folder", 3, 4000), [
        ("thumbproxy_purges_total", {"scope": "folder"}, 1),
        ("thumbproxy_purged_files_total", {"scope": "folder"}, 3),
        ("thumbproxy_purged_bytes_total", {"scope": "folder"}, 4000)]),
    ("cache_size", (4000, 3), [
        ("thumbproxy_cache_bytes", {}, 4000), ("thumbproxy_cache_files", {}, 3)]),
    ("tier_failed", ("disk",), [
        ("thumbproxy_tier_failures_total", {"tier": "disk"}, 1),
        ("thumbproxy_tier_down", {"tier": "disk"}, 1)]),
    ("tier_recovered", ("disk",), [("thumbproxy_tier_down", {"tier": "disk"}, -1)]),
]  # fmt: skip


def test_each_call_counts_what_it_says() -> None:
    """And a Metrics that counts nothing takes the same calls."""
    assert {name for name, _, _ in CALLS} == methods(Metrics) == methods(metrics.Prometheus)
    for name, arguments, changes in CALLS:
        before = [value(series, **labels) for series, labels, _ in changes]
        getattr(Metrics(), name)(*arguments)
        assert before == [value(series, **labels) for series, labels, _ in changes]
        getattr(prometheus(), name)(*arguments)
        after = [value(series, **labels) for series, labels, _ in changes]
        assert after == [old + more for old, (_, _, more) in zip(before, changes, strict=True)]


def methods(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_a_metrics_that_counts_nothing_has_the_same_signatures() -> None:
    for name in methods(Metrics):
        assert inspect.signature(getattr(Metrics, name)) == inspect.signature(
            getattr(metrics.Prometheus, name)
        )


def test_every_reply_has_its_series() -> None:
    for kind in all_errors(errors.ThumbproxyError):
        prometheus().request(failure_of(kind()), kind.status, 0, 0.1)
    for result in get_args(metrics.Served):
        for status in (200, 206, 304, 416):
            prometheus().request(result, status, 0, 0.1)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("request", ("hit", 200, 0, 0.1)),
        ("request", ("miss", 404, 0, 0.1)),
        ("fetched", ("photos/cat.jpg", 0.1)),
        ("coalesced", ("galaxy",)),
        ("purged", ("photos/", 0, 0)),
        ("stored", ("tape",)),
        ("rendered", ("jpg", 0.1)),
    ],
)
def test_label_values_are_a_closed_set(name: str, arguments: tuple[Any, ...]) -> None:
    """Nothing that a client or an origin says can make a series."""
    with pytest.raises(KeyError):
        getattr(prometheus(), name)(*arguments)


def test_nothing_loads_prometheus_client_but_who_counts() -> None:
    """It decides when it is loaded whether processes share what they count."""
    code = (
        "import sys, thumbproxy.server.gunicorn_app, thumbproxy.assembly.build\n"
        "print('prometheus_client' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout.strip() == "False"


def test_without_prometheus_client_there_is_a_metrics_that_counts_nothing() -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
from thumbproxy.telemetry.metrics import Metrics, prometheus
Metrics().request("miss", 200, 1, 0.1)
try:
    prometheus()
except ImportError:
    print("missing")
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout.strip() == "missing"


def test_workers_count_together(tmp_path: Path) -> None:
    """One scrape of any worker shows what all of them counted."""
    with counting(tmp_path) as server:
        before = scrape(server)
        assert before[REQUESTS] == 0, "series are there before they count"
        _, total = count_in_both(server)
        for _ in range(5):
            seen = scrape(server)
            assert seen[REQUESTS] == total
            hits = (("result", "hit_disk"),)
            assert seen["thumbproxy_sent_bytes_total", hits] == 1000 * total
            assert seen["thumbproxy_request_duration_seconds_count", hits] == total
            assert not any("pid" in dict(labels) for _, labels in seen)
        count(server, "123")
        assert scrape(server)["thumbproxy_cache_bytes", ()] == 123, "the last one who measured"


def test_thumbproxy_serve_counts_what_became_of_requests(tmp_path: Path) -> None:
    """Out of the box, with two workers: a miss, hits, and what is wrong with a URL or a source."""
    thumbs = Thumbnails([servers.KEY])
    (tmp_path / "cat.jpg").write_bytes(jpeg(80, 60))
    url = thumbs.url("cat.jpg", width=40, format="webp", version="v1")
    arguments = ("--origin", str(tmp_path), "--cache-dir", str(tmp_path / "cache"))
    with servers.thumbproxy(*arguments, THUMBPROXY_METRICS_TOKEN=TOKEN) as server:
        body = server.ask(url).body
        for _ in each_worker_alone(server):
            assert [server.ask(url).body for _ in range(10)] == [body] * 10
        assert server.ask(url.replace("w_40", "w_41")).status == 403
        assert server.ask(thumbs.url("dog.jpg", width=40)).status == 404
        seen = scrape(server)
    counted = {
        tuple(dict(labels).values()): value
        for (name, labels), value in seen.items()
        if name == "thumbproxy_requests_total" and value
    }
    assert counted == {
        ("miss", "200"): 1, ("hit_disk", "200"): 20, ("refused", "403"): 1, ("failed", "404"): 1,
    }  # fmt: skip
    assert seen["thumbproxy_sent_bytes_total", (("result", "miss"),)] == len(body)
    assert seen["thumbproxy_fetch_duration_seconds_count", (("outcome", "ok"),)] == 1
    assert seen["thumbproxy_fetch_duration_seconds_count", (("outcome", "not_found"),)] == 1
    for step in ("render", "encode"):
        assert seen[f"thumbproxy_{step}_duration_seconds_count", (("format", "webp"),)] == 1
    assert seen["thumbproxy_queue_duration_seconds_count", ()] == 1
    assert seen["thumbproxy_stored_total", (("tier", "disk"),)] == 1


def test_a_worker_that_dies_leaves_what_it_counted(tmp_path: Path) -> None:
    """Nothing is lost, and its files do not stay; what it said of itself goes with it."""
    with counting(tmp_path) as server:
        directory = shared_directory(server)
        total = 1
        sizes = []
        for _ in range(5):
            workers, more = count_in_both(server)
            total += more
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            until(lambda dead=workers: not [pid for pid in dead if files_of(directory, pid)])
            seen = scrape(server)
            assert seen[REQUESTS] == total
            assert seen["thumbproxy_cache_files", ()] == 7
            assert seen["thumbproxy_tier_down", (("tier", "memcached"),)] == 0
            sizes.append(len(list(directory.glob("*_retired.db"))))
        assert sizes == [3] * 5


def files_of(directory: Path, pid: int) -> list[Path]:
    return list(directory.glob(f"*_{pid}.db"))


def test_scrapes_and_deaths_at_once_neither_lose_nor_count_twice(tmp_path: Path) -> None:
    """A counter that goes down looks to Prometheus like one that began anew."""
    with counting(tmp_path) as server:
        _, total = count_in_both(server)
        stop = threading.Event()
        wrong: list[object] = []

        def look() -> None:
            while not stop.is_set():
                try:
                    if (seen := scrape(server)[REQUESTS]) != total:
                        wrong.append(seen)
                except (OSError, HTTPException):  # the worker that was killed
                    pass
                except AssertionError as error:
                    wrong.append(error)

        readers = [threading.Thread(target=look) for _ in range(3)]
        for reader in readers:
            reader.start()
        assert server.process
        for _ in range(6):
            workers = children(server.process.pid)
            os.kill(workers[0], signal.SIGKILL)
            until(lambda old=workers: len(set(children(server.process.pid)) - {old[0]}) == 2)
        stop.set()
        for reader in readers:
            reader.join()
        assert wrong == []


def test_a_scrape_waits_while_files_are_put_together(tmp_path: Path) -> None:
    with counting(tmp_path) as server:
        directory = shared_directory(server)
        seen: list[float] = []
        with settled(str(directory), fcntl.LOCK_EX):
            inode = f":{(directory / 'lock').stat().st_ino} "
            reader = threading.Thread(target=lambda: seen.append(scrape(server)[REQUESTS]))
            reader.start()
            until(lambda: any("->" in line and inode in line for line in locks()))
            assert seen == []
        reader.join()
        assert seen == [1]


def locks() -> list[str]:
    return Path("/proc/locks").read_text().splitlines()


def test_files_that_are_being_read_are_put_together_later(tmp_path: Path) -> None:
    """The server itself waits for no scrape: a worker may be stuck in one."""
    with counting(tmp_path) as server:
        directory = shared_directory(server)
        workers, more = count_in_both(server)
        first, second = workers
        assert server.process
        with settled(str(directory), fcntl.LOCK_SH):
            os.kill(first, signal.SIGKILL)
            until(lambda: len(set(children(server.process.pid)) - {first}) == 2)
            assert files_of(directory, first)
            assert scrape(server)[REQUESTS] == 1 + more
        os.kill(second, signal.SIGKILL)
        until(lambda: not files_of(directory, first) + files_of(directory, second))
        assert scrape(server)[REQUESTS] == 1 + more


def test_servers_do_not_count_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with counting(tmp_path / "one") as one, counting(tmp_path / "two") as two:
        count(one)
        directories = {shared_directory(one), shared_directory(two)}
        assert len(directories) == 2
        assert scrape(one)[REQUESTS] == 2
        assert scrape(two)[REQUESTS] == 1
        for directory in directories:
            assert directory.stat().st_mode & 0o077 == 0, "others may not write there"
    assert not any(directory.exists() for directory in directories)


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """And what a living one counts in is not."""
    with counting(tmp_path) as living:
        kept = shared_directory(living)
        left = kept.with_name(f"thumbproxy-metrics-{tmp_path.name}")
        left.mkdir()
        (left / "counter_1.db").write_bytes(b"x")
        for old in (kept, left):
            os.utime(old, (1e9, 1e9))
        with counting(tmp_path) as other:
            count(other)
        assert kept.exists()
        assert not left.exists()


def test_gunicorn_counts_with_our_configuration(tmp_path: Path) -> None:
    port = servers.free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "conf" / "gunicorn.conf.py")]
    command += [
        "--bind",
        f"{servers.HOST}:{port}",
        "--workers",
        "2",
        "thumbproxy:application()",
    ]
    environ = {name: value for name, value in os.environ.items() if name != SHARED} | {
        "THUMBPROXY_KEYS": servers.KEY,
        "THUMBPROXY_ORIGIN": str(tmp_path),
        "THUMBPROXY_CACHE_DIR": str(tmp_path / "cache"),
        "THUMBPROXY_METRICS_TOKEN": TOKEN,
    }
    wrong = Thumbnails([servers.KEY + "!"]).url("cat.jpg", width=40)
    refused = ("thumbproxy_requests_total", (("result", "refused"), ("status", "403")))
    with servers.running(command, port, env=environ, stderr=subprocess.DEVNULL) as server:
        for _ in each_worker_alone(server):
            assert server.ask(wrong).status == 403
        seen = scrape(server)
        assert server.process
        old = children(server.process.pid)
        for worker in old:
            os.kill(worker, signal.SIGKILL)
        until(lambda: not set(old) & set(children(server.process.pid)))
        for _ in each_worker_alone(server):
            assert scrape(server)[refused] == 2
    assert seen[refused] == 2


def test_a_directory_of_the_users_own_outlives_a_restart(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    total = 0
    for _ in range(3):
        with counting(tmp_path, **{SHARED: str(directory)}) as server:
            assert scrape(server).get(REQUESTS, 0) == total
            count(server)
            total += 3  # two more when it ends
    # Those of the last run, and one of each kind for all before.
    assert len(list(directory.glob("counter_*.db"))) <= 4


def test_a_directory_that_cannot_be_is_a_fault_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SHARED, "/dev/null/shared")
    with pytest.raises(errors.SettingsError, match="PROMETHEUS_MULTIPROC_DIR: /dev/null/shared"):
        share_metrics()


@contextmanager
def page(token: str = TOKEN) -> Iterator[servers.Server]:
    prometheus()
    with servers.wsgi(MetricsPage(not_found, token)) as server:
        yield server


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer é"},
    ],
)
def test_metrics_are_shown_to_nobody_without_the_token(headers: Mapping[str, str]) -> None:
    with page() as server:
        reply = server.ask("/metrics", headers)
        assert reply.status == 401
        assert reply["WWW-Authenticate"] == 'Bearer realm="thumbproxy"'
        assert reply["Cache-Control"] == "no-store"
        assert b"thumbproxy_" not in reply.body


def test_without_a_token_there_is_no_such_page() -> None:
    with page("") as server:
        assert server.ask("/metrics", BEARER).status == 404
        assert server.ask("/metrics", {"Authorization": "Bearer "}).status == 404


def test_metrics_are_read_and_nothing_else() -> None:
    with page() as server:
        assert server.ask("/metrics", BEARER).status == 200
        assert server.ask("/metrics", {"Authorization": f"bearer {TOKEN}"}).status == 200
        assert server.ask("/metrics", BEARER, "HEAD").body == b""
        assert server.ask("/metrics", BEARER, "POST").status == 405
        assert server.ask("/metrics/", BEARER).status == 404


def test_a_client_that_wants_open_metrics_gets_it(tmp_path: Path) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    with counting(tmp_path) as server:
        count(server)
        reply = server.ask("/metrics", BEARER | accept)
    assert reply["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in open_metrics_families(reply.body.decode())}
    assert "thumbproxy_requests" in families


@pytest.mark.parametrize("token", ["short", "with a space in the middle of it", "ümlaut-" * 4])
def test_a_token_that_is_too_short_or_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(errors.SettingsError) as refused:
        Settings(keys=(servers.KEY,), metrics_token=token)
    assert "metrics_token" in str(refused.value)
    assert token not in str(refused.value)
    assert TOKEN not in repr(Settings(keys=(servers.KEY,), metrics_token=TOKEN))


def families() -> dict[str, tuple[str, set[str]]]:
    """Every metric of ours: its type and its labels."""
    prometheus()
    found = {}
    for family in prometheus_client.REGISTRY.collect():
        if family.name.startswith("thumbproxy_") and not family.name.endswith("_created"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = set(chain.from_iterable(sample.labels for sample in family.samples))
            found[name] = (family.type, labels - {"le"})
    return found


def series() -> set[str]:
    """What an expression may name."""
    names = set()
    for name, (type, _) in families().items():
        parts = ("_bucket", "_sum", "_count") if type == "histogram" else ("",)
        names |= {name + part for part in parts}
    return names


def test_every_metric_is_documented_with_its_labels() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(thumbproxy_\w+)` \| (\w+) \| (.*?) \| .+ \|$", text, re.M)
    documented = {name: (type, set(re.findall(r"`(\w+)`", labels))) for name, type, labels in rows}
    assert documented == families()


def test_every_label_value_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for values in (metrics.Result, metrics.Outcome, metrics.Where, metrics.Tier, metrics.ScopeKind):
        for word in get_args(values):
            assert f"`{word}`" in text, word


def test_the_queries_in_the_documentation_name_metrics_that_exist() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    queries = "\n".join(re.findall(r"```promql\n(.*?)```", text, re.S))
    assert queries.count("# ") >= 5
    assert set(re.findall(r"thumbproxy_\w+", queries)) <= series()


def test_the_dashboard_shows_metrics_that_exist() -> None:
    dashboard = json.loads((ROOT / "conf" / "grafana.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(targets) >= 10
    shown = set()
    for target in targets:
        named = set(re.findall(r"thumbproxy_\w+", target["expr"]))
        assert named, target["expr"]
        assert named <= series(), target["expr"]
        assert target["datasource"]["uid"] == "${datasource}"
        shown |= named
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert "datasource" in variables
    hidden = {name for name in families() if not any(part.startswith(name) for part in shown)}
    assert hidden == set()


def test_the_dashboards_panels_lie_side_by_side() -> None:
    dashboard = json.loads((ROOT / "conf" / "grafana.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
