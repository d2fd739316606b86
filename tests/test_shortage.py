"""Of what there is too little is told as what it is: space, inodes, or a quota."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import servers
from mounts import mounted
from test_caches import record

from thumbproxy import ThumbProxy
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.core.errors import SettingsError
from thumbproxy.core.shortage import reason
from thumbproxy.server.request_bodies import Body, Length, Room

INODES, SPACE = "no inodes are left at ", "no space is left at "


def leave(folder: Path, inodes: int) -> None:
    """Use up all of them but so many."""
    for number in range(os.statvfs(folder).f_favail - inodes):
        (folder / f"filler-{number}").touch()


def failing(folder: Path) -> OSError:
    """What the kernel says to who needs two inodes, and gives back what he has got."""
    place = folder / "new"
    try:
        place.mkdir()
        (place / "file").write_bytes(bytes(8192))
    except OSError as error:
        return error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    raise AssertionError("there is room")


@pytest.mark.parametrize("left", [0, 1])
def test_without_inodes_it_is_not_space_that_is_missing(tmp_path: Path, left: int) -> None:
    with mounted(tmp_path / "small", "tmpfs", "size=8m,nr_inodes=40") as folder:
        leave(folder, left)
        failed = failing(folder)
        assert failed.strerror == "No space left on device", "the kernel's words"
        told = reason(failed, str(folder))
        assert told.startswith(f"{INODES}{folder}")
        assert "df -i" in told


@pytest.mark.parametrize("inodes", ["", ",nr_inodes=8"])
def test_without_space_it_is_not_inodes_that_are_missing(tmp_path: Path, inodes: str) -> None:
    with mounted(tmp_path / "small", "tmpfs", f"size=64k{inodes}") as folder:
        with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        assert reason(failing(folder), str(folder)).startswith(f"{SPACE}{folder}")


def test_a_quota_and_what_is_no_shortage(tmp_path: Path) -> None:
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert reason(quota, str(tmp_path)).startswith(f"the disk quota at {tmp_path} is used up")
    denied = OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert reason(denied, str(tmp_path)) == "Permission denied"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert reason(full, str(tmp_path / "not" / "there")).startswith(SPACE)


def test_all_who_keep_files_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "small", "tmpfs", "size=8m,nr_inodes=40") as folder:
        disk = DiskCache(str(folder / "cache"))
        disk.prepare()
        leave(folder, 0)
        disk.set_original(record(), b"bytes")
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        body = Body(Length(200_000), Room())
        body.add(bytes(100_000))
        body.close()
        with pytest.raises(SettingsError) as refused:
            ThumbProxy(str, keys=[servers.KEY], cache_dir=str(folder / "other"))
    assert any(f"fails and is passed over for now: {INODES}" in line for line in caplog.messages)
    assert any(f"cannot be kept in a file: {INODES}" in line for line in caplog.messages)
    assert any(INODES in fault and "Choose" not in fault for fault in refused.value.faults)
