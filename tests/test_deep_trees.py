"""Trees that are deeper than a path can be long, as older releases made them or people: they are
looked at and removed like all others, and keep nobody from the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from commands import thumbproxy
from mounts import read_only
from test_caches import record
from test_janitor import has, kept, opened, put, used

from thumbproxy.caches.base import Scope
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.size import Space
from thumbproxy.demo.folder import list_pictures
from thumbproxy.warm.names import Entry, Names, Refused, from_folder

DEEP = [("d", 1200), ("d" * 255, 20)]
SIGNED = f"w_1.{'S' * 22}.webp"


@pytest.fixture
def root(deep_path: Path) -> Path:
    return deep_path / "cache"


def dig(folder: Path, name: str, levels: int, file: str = SIGNED) -> None:
    """A file below so many directories of one name."""
    folder.mkdir(parents=True, exist_ok=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
    os.close(at)


def is_empty(root: Path) -> bool:
    trees = ("public", "private", "sources", "tmp")
    return not [name for tree in trees for name in os.listdir(root / tree) if name != ".purged"]


@pytest.mark.parametrize(("name", "levels"), DEEP)
def test_however_deep_a_tree_is_it_is_removed_with_the_rest(
    root: Path, name: str, levels: int
) -> None:
    disk = opened(root)
    assert put(disk, "a.jpg")
    for tree in ("public", "private", "sources"):
        dig(root / tree / "deep", name, levels)
    dig(root / "private/deep", name, levels, ".source")
    descriptors = len(os.listdir("/proc/self/fd"))
    assert disk.inventory(lambda files: None).total.files > 3 * levels
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert disk.janitor.trim()
    assert not os.path.exists(root / "private/deep"), "no source can be there"
    assert not os.path.exists(root / "public/deep")
    assert has(disk, "a.jpg")
    assert disk.janitor.trim(Space(1))
    assert kept(disk) == Space()
    assert is_empty(root)


@pytest.mark.parametrize(
    ("scope", "name", "levels"), [("deep/", *DEEP[0]), ("deep/", *DEEP[1]), ("", *DEEP[1])]
)
def test_however_deep_a_tree_is_it_can_be_purged(
    root: Path, scope: str, name: str, levels: int
) -> None:
    disk = opened(root)
    assert put(disk, "deep.jpg")
    for tree in ("public", "private"):
        dig(root / tree / "deep", name, levels)
    assert disk.purge(Scope(scope)).files == (2 if scope else 3)
    disk.janitor.trim(Space(1))
    disk.prepare()
    assert not list((root / "tmp").iterdir())
    assert not [path for path in root.glob("p*/deep/*") if path.name != ".purged"]


def test_what_an_older_release_kept_goes_though_it_is_moved_to_a_longer_path(root: Path) -> None:
    """A source of some 4000 bytes, and a purge of the folder that it is in."""
    disk = opened(root)
    room = 4095 - len(str(root)) - len("/private/a//.source")
    source = "a/" + "/".join(["d" * 200] * 30)[: room - 10].rstrip("/")
    stands = disk.set_record(source, record(fetched_at=time.time()))
    assert os.path.exists(disk.layout.record(source))
    assert put(disk, "b.jpg")
    disk.purge(Scope("a/"))
    assert disk.record(source) is None
    assert disk.inventory(lambda files: None).sources == 1
    assert disk.janitor.trim()
    disk.prepare()
    assert not list((root / "tmp").iterdir())
    assert has(disk, "b.jpg")
    disk.set_record(source, stands)
    assert disk.janitor.trim()
    assert disk.record(source) is None, "where no source can be, nothing stays"


def test_the_commands_work_on_deep_trees(root: Path) -> None:
    disk = opened(root)
    put(disk, "b.jpg")
    for tree in ("public/a", "private/a", "tmp/of-a-purge.aside"):
        dig(root / tree, *DEEP[1])

    def cache(*arguments: str) -> str:
        done = thumbproxy("cache", *arguments, "--cache-dir", str(root))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "1 sources" in cache("stats")
    assert cache("clear", "--yes").startswith("removed 3 files")


# -- what cannot be read or removed ------------------------------------------------------------


def test_a_tree_that_cannot_be_removed_keeps_no_other_from_it(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = opened(root)
    for source in ("a.jpg", "b/b.jpg", "c.jpg"):
        put(disk, source)
        used(root, source, 7200)
    with read_only(root / "private" / "b"):
        for _ in range(2):
            assert disk.janitor.trim(Space(1))
        assert (has(disk, "a.jpg"), has(disk, "b/b.jpg"), has(disk, "c.jpg")) == (
            False,
            True,
            False,
        )
        (line,) = caplog.messages
        assert "passed over" in line
        assert "Read-only file system" in line
        assert f"{root}/private/b" in line
        assert disk.inventory(lambda files: None).sources == 1
    assert disk.janitor.trim(Space(1))
    assert kept(disk) == Space()


@pytest.mark.parametrize("scope", ["b/", "b/b.jpg", ""])
def test_a_purge_tells_what_it_could_not_remove_and_removes_the_rest(
    root: Path, scope: str
) -> None:
    disk = opened(root)
    for source in ("a.jpg", "b/b.jpg", "b/c.jpg", "d.jpg"):
        put(disk, source)
    with read_only(root / "private" / "b"):
        with pytest.raises(Exception, match="Read-only file system"):
            disk.purge(Scope(scope))
        assert (has(disk, "a.jpg"), has(disk, "d.jpg")) == (scope != "", scope != "")
    disk.purge(Scope(scope))
    assert not has(disk, "b/b.jpg")


def test_what_cannot_be_removed_from_tmp_stops_nobody(root: Path) -> None:
    disk = opened(root)
    put(disk, "a/a.jpg")
    put(disk, "b.jpg")
    aside = root / "tmp" / "gone-1-x.1.aside"
    (aside / "below").mkdir(parents=True)
    (aside / "below" / SIGNED).touch()
    with read_only(aside):
        DiskCache(str(root)).prepare()
        assert disk.janitor.trim()
        assert disk.purge(Scope("a/")).files == 1
        assert has(disk, "b.jpg")


# -- folders with pictures ---------------------------------------------------------------------


def test_folders_deeper_than_sources_may_be_are_told_and_passed_over(
    root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    dig(folder / "b", "d", 1200, "deep.jpg")
    dig(folder / "c", "d" * 255, 30, "deep.jpg")
    dig(folder / "e", "d", 3, "e.jpg")
    for name in ("a.jpg", "f.jpg"):
        (folder / name).touch()
    found = list(from_folder(str(folder), Names()))
    sources = [entry.source for entry in found if isinstance(entry, Entry)]
    assert sources == ["a.jpg", "e/d/d/d/e.jpg", "f.jpg"]
    refused = [entry for entry in found if isinstance(entry, Refused)]
    assert [entry.where[:3] for entry in refused] == ["b/d", "c/d"]
    assert all(entry.reason.startswith("bad-source") for entry in refused)
    assert list_pictures(folder)[0] == sources


def test_a_folder_that_cannot_be_read_is_told_and_passed_over(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.jpg").touch()
    (folder / "b").chmod(0)
    for above in (folder, *(each for each in folder.parents if "pytest" in str(each))):
        above.chmod(0o755)
    program = textwrap.dedent("""
        import os, sys
        from thumbproxy.warm.names import Names, from_folder
        if os.geteuid() == 0:  # who may read everything
            os.seteuid(65534)
        print([tuple(found)[:2] for found in from_folder(sys.argv[1], Names())])
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(
        [("a/x.jpg", "_"), ("b/", "unreadable: Permission denied"), ("c/x.jpg", "_")]
    )
