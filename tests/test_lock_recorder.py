"""What could ever wait for each other is found though it never does, in any process of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import planted
import pytest
import servers
from lock_recorder import DIRECTORY, Edges
from origin import Gallery, jpeg

from thumbproxy import Thumbnails
from thumbproxy.core.lock_order import Rank

HERE = Path(__file__).parent
# Does what is planted, under a name of ours, and says of each what was found.
PROGRAM = """
import json, pathlib, sys, lock_recorder
recorder, found = lock_recorder.install(), {}
scope = {"__name__": "thumbproxy.planted"}
exec(compile(pathlib.Path(sys.argv[1]).read_text(), sys.argv[1], "exec"), scope)
for plant in scope["FAULTY"] + scope["GOOD"]:
    directory = pathlib.Path(sys.argv[2], plant.__name__)
    directory.mkdir()
    plant(directory)
    found[plant.__name__] = recorder.faults()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    tmp_path = tmp_path_factory.mktemp("planted")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(HERE / "planted.py"), str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE), DIRECTORY: str(tmp_path)},
    )
    told: dict[str, list[str]] = json.loads(ran.stdout)
    return told


@pytest.mark.parametrize("plant", [plant.__name__ for plant in planted.FAULTY])
def test_what_is_against_some_order_is_a_fault(found: dict[str, list[str]], plant: str) -> None:
    """Told with where it was taken, and where the next was waited for, of each."""
    (fault,) = found[plant]
    if plant == "a_fork":
        assert "a fork while another thread holds lock of " in fault
    else:
        waits = 3 if plant == "three_locks" else 2
        assert fault.count(" was taken\n") == fault.count(" was waited for\n") == waits
    assert f"{HERE}/planted.py:" in fault


@pytest.mark.parametrize("plant", [plant.__name__ for plant in planted.GOOD])
def test_what_is_in_order_is_none(found: dict[str, list[str]], plant: str) -> None:
    assert found[plant] == []


def test_the_test_that_closes_the_circle_fails(tmp_path: Path) -> None:
    """The first half may have been seen in any other."""
    (tmp_path / "test_two.py").write_text(
        "import threading\n"
        "scope = {'__name__': 'thumbproxy.planted', 'threading': threading}\n"
        "exec('one = threading.Lock()\\nother = threading.Lock()', scope)\n"
        "def test_one():\n"
        "    with scope['one'], scope['other']: pass\n"
        "def test_other():\n"
        "    with scope['other'], scope['one']: pass\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        # Where pytest takes a machine for one of CI, it repeats all of an error in its summary.
        env={**os.environ, "CI": "", "PYTHONPATH": str(HERE), DIRECTORY: str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout
    assert "ERROR at teardown of test_other" in ran.stdout
    assert "2 passed, 1 error" in ran.stdout
    assert ran.stdout.count("test_two.py:5 test_one") == 2


# Those of the table in docs/architecture.md that one request needs.
RANKED = {
    "flight REQUEST": Rank.REQUEST,
    "flight VARIANT": Rank.VARIANT,
    "file lock work rendition": Rank.RENDITION,
    "lease rendition": Rank.RENDITION,
    "flight SOURCE": Rank.SOURCE,
    "file lock work source": Rank.QUESTION,
    "lease source": Rank.QUESTION,
    "slot": Rank.SLOT,
    "file lock records": Rank.RECORD,
    "file lock usage usage": Rank.COUNT,
}


def test_a_server_is_recorded_and_does_as_is_declared(
    memcached: servers.Server, tmp_path: Path
) -> None:
    with (
        servers.wsgi(Gallery(**{"a.jpg": jpeg()})) as origin,
        servers.thumbproxy(
            "--origin", origin.url, "--cache-dir", str(tmp_path / "cache"),
            "--memcached", f"127.0.0.1:{memcached.port}",
            **{DIRECTORY: str(tmp_path), "THUMBPROXY_MEMCACHED_NAMESPACE": str(tmp_path)},
        ) as server,
    ):  # fmt: skip
        assert server.ask(Thumbnails([servers.KEY]).url("a.jpg", width=9)).status == 200
    edges = Edges(tmp_path / "edges").read()
    assert RANKED.keys() == {name for edge in edges for name in edge if name in RANKED}
    for one, other in edges:
        if one in RANKED and other in RANKED:
            assert RANKED[one] < RANKED[other] or {one, other} == {
                name for name in RANKED if RANKED[name] == RANKED[one]
            }
