"""A folder gives the files below it, and nothing else."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from thumbproxy.core.errors import OriginFailed, SourceNotFound
from thumbproxy.origins import folder as module
from thumbproxy.origins.folder import Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "media-private").mkdir()
    (tmp_path / "media-private" / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "cat.jpg").write_bytes(b"cat")
    return folder


def test_a_link_that_stays_inside_is_followed(root: Path, ask: Any) -> None:
    (root / "sub" / "link.jpg").symlink_to("../cat.jpg")
    (root / "other").symlink_to(root / "sub")
    assert Folder(root).fetch(ask("other/link.jpg")).body == b"cat"


@pytest.mark.parametrize(
    ("link", "target", "name"),
    [
        ("out.jpg", "../secret.jpg", "out.jpg"),
        ("out", "..", "out/secret.jpg"),
        ("sub/out", "../..", "sub/out/secret.jpg"),
        # a neighbour whose path begins with the folder's own
        ("out", "../media-private", "out/secret.jpg"),
        ("loop", "loop", "loop"),
        ("gone.jpg", "nowhere.jpg", "gone.jpg"),
    ],
)
def test_a_link_that_leads_outside_is_not_found(
    root: Path, ask: Any, link: str, target: str, name: str
) -> None:
    (root / link).symlink_to(target)
    with pytest.raises(SourceNotFound) as caught:
        Folder(root).fetch(ask(name))
    told = f"a symbolic link leads out of {root}" if link not in ("loop", "gone.jpg") else ""
    assert caught.value.log == told


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "sub/../../secret.jpg", "sub/../cat.jpg", "", ".", "sub", "sub/", "cat.jpg/",
     "a\x00b", "\ud800", "x" * 300, "x/" * 3000],
)  # fmt: skip
def test_what_is_no_file_below_is_not_found(root: Path, ask: Any, name: str) -> None:
    with pytest.raises(SourceNotFound):
        Folder(root).fetch(ask(name))


def test_an_absolute_path_is_not_found(root: Path, ask: Any) -> None:
    with pytest.raises(SourceNotFound):
        Folder(root).fetch(ask(str(root.parent / "secret.jpg")))


def test_a_fifo_a_socket_and_a_device_are_not_found_and_do_not_hang(root: Path, ask: Any) -> None:
    os.mkfifo(root / "fifo.jpg")
    (root / "null.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket.jpg"))
        for name in ("fifo.jpg", "socket.jpg", "null.jpg"):
            with pytest.raises(SourceNotFound):
                Folder(root).fetch(ask(name))
            assert Folder(root).fingerprint(name) == ""


def test_a_question_mark_is_a_character(root: Path, ask: Any) -> None:
    (root / "cat.jpg?w=1").write_bytes(b"question")
    assert Folder(root).fetch(ask("cat.jpg?w=1")).body == b"question"
    assert Folder(root).fingerprint("cat.jpg?w=1") != Folder(root).fingerprint("cat.jpg")


def test_the_folder_itself_may_be_a_link_that_is_switched(root: Path, ask: Any) -> None:
    current = root.parent / "current"
    current.symlink_to(root)
    folder = Folder(current)
    assert folder.fetch(ask("cat.jpg")).body == b"cat"
    current.unlink()
    current.symlink_to(root.parent / "media-private")
    assert folder.fetch(ask("secret.jpg")).body == b"secret"


def test_a_file_replaced_within_the_same_second_has_another_fingerprint(root: Path) -> None:
    folder = Folder(root)
    (root / "cat.jpg").write_bytes(b"dog")
    os.utime(root / "cat.jpg", ns=(0, 1_000_000_001))
    before = folder.fingerprint("cat.jpg")
    os.utime(root / "cat.jpg", ns=(0, 1_000_000_002))
    assert folder.fingerprint("cat.jpg") not in (before, "", None)


def test_a_folder_that_is_gone_is_a_failure_and_its_files_are_not_lost(
    tmp_path: Path, ask: Any
) -> None:
    folder = Folder(tmp_path / "not-mounted")
    assert folder.fingerprint("cat.jpg") is None
    with pytest.raises(OriginFailed):
        folder.fetch(ask("cat.jpg"))


def test_a_file_that_may_not_be_read_is_a_failure_and_is_not_lost(
    root: Path, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied by hand: root, who may run these tests, is denied nothing."""

    def denied(*args: Any, **more: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    folder = Folder(root)
    with monkeypatch.context() as patched:
        patched.setattr("thumbproxy.origins.folder.os.open", denied)
        with pytest.raises(OriginFailed):
            folder.fetch(ask("cat.jpg"))
    with monkeypatch.context() as patched:
        patched.setattr("thumbproxy.origins.folder.os.stat", denied)
        fingerprint = folder.fingerprint("cat.jpg")
    assert fingerprint is None


def test_the_fingerprint_of_what_is_not_there_is_empty(root: Path) -> None:
    assert Folder(root).fingerprint("dog.jpg") == ""


class Rewritten:
    """Another process that writes the file anew each time that it is read, so many times."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.times = path, times

    def read_whole(self, descriptor: int, size: int) -> bytes:
        body = READ_WHOLE(descriptor, size)
        if self.times:
            self.times -= 1
            self.path.write_bytes(b"newer" * self.times)
        return body


READ_WHOLE = module._read_whole


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read_is_read_again_once(
    root: Path, ask: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    rewritten = Rewritten(root / "cat.jpg", times)
    monkeypatch.setattr(module, "_read_whole", rewritten.read_whole)
    if times == 1:
        assert Folder(root).fetch(ask("cat.jpg")).body == b""
    else:
        with pytest.raises(OriginFailed):
            Folder(root).fetch(ask("cat.jpg"))


def test_a_file_that_is_renamed_over_while_it_is_read_is_the_old_one_whole(
    root: Path, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_whole(descriptor: int, size: int) -> bytes:
        new = root / "new.jpg"
        new.write_bytes(b"new")
        new.rename(root / "cat.jpg")
        return READ_WHOLE(descriptor, size)

    monkeypatch.setattr(module, "_read_whole", read_whole)
    folder = Folder(root)
    assert folder.fetch(ask("cat.jpg")).body == b"cat"


def test_no_descriptor_stays_open(root: Path, ask: Any) -> None:
    folder = Folder(root)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("cat.jpg", "sub", "dog.jpg", "../secret.jpg"):
        try:
            folder.fetch(ask(name))
        except SourceNotFound:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
