"""What is installed, and from what."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


def declared() -> Iterator[str]:
    """Every requirement of the project, its extras and its groups."""
    yield from PROJECT["build-system"]["requires"]
    yield from PROJECT["project"]["dependencies"]
    for family in (PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]):
        for requirements in family.values():
            yield from requirements


def needed() -> set[NormalizedName]:
    """The names of what the declared requirements come to, as far as that is installed here."""
    names: set[NormalizedName] = set()
    waiting = [Requirement(text) for text in declared()]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "thumbproxy" or name in names:
            continue
        extras = requirement.extras or {""}
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        names.add(name)
        with suppress(PackageNotFoundError):  # of a group that the tests do without
            waiting += [Requirement(text) for text in distribution(name).requires or ()]
    return names


def test_every_package_is_pinned_and_the_pinned_version_is_what_is_tested() -> None:
    assert needed() <= PINS.keys()
    for name in needed():
        with suppress(PackageNotFoundError):
            assert distribution(name).version == PINS[name], name


def test_a_pin_is_an_exact_version_from_wherever_pip_is_set_to_look() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"|#.*|[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line), line
        assert "://" not in line


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [file] = folder.iterdir()
    return zipfile.ZipFile(file)


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "thumbproxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert there == here
    assert "thumbproxy/py.typed" in there


def test_the_wheel_carries_its_license_and_is_named_for_any_machine(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert str(wheel.filename).endswith("-py3-none-any.whl")


def test_the_command_is_installed_and_tells_its_version() -> None:
    version = distribution("thumbproxy").version
    for command in (
        [str(Path(sys.executable).parent / "thumbproxy")],
        [sys.executable, "-m", "thumbproxy"],
    ):
        told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert version in told.stdout


def test_set_up_scripts_can_be_run() -> None:
    for script in (".ci/run", "scripts/setup.sh", "scripts/pillow-simd.sh"):
        path = ROOT / script
        assert path.stat().st_mode & 0o111, script
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_make_lists_its_targets() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "setup", "lint", "types", "test", "bench", "build", "clean"):
        assert f"make {target} " in listed.stdout


def test_the_pythons_that_are_claimed_are_those_that_are_run() -> None:
    named = PROJECT["project"]["classifiers"]
    prefix = "Programming Language :: Python :: "
    claimed = [name.removeprefix(prefix) for name in named if prefix in name]
    [whole] = claimed
    assert PROJECT["project"]["requires-python"] == f">={whole}"
    dockerfile, readme = ((ROOT / name).read_text() for name in ("Dockerfile", "README.md"))
    assert f"its own Python {whole}: the surroundings that the tests run in" in dockerfile
    assert f"All tests are run with {whole}, on Debian 12." in readme
