"""Which origin a source belongs to."""

from __future__ import annotations

import pytest

from thumbproxy.origins.folder import Folder
from thumbproxy.origins.mounts import Mounts

A, B, C = Folder("/a"), Folder("/b"), Folder("/c")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("cat.jpg", (A, "cat.jpg")),
        ("photos/cat.jpg", (A, "photos/cat.jpg")),
        ("media/cat.jpg", (B, "cat.jpg")),
        ("media/2024/cat.jpg", (B, "2024/cat.jpg")),
        ("media/raw/cat.jpg", (C, "cat.jpg")),
        # a prefix ends where a segment ends
        ("mediacat.jpg", (A, "mediacat.jpg")),
        ("media", (A, "media")),
        ("media/rawcat.jpg", (B, "rawcat.jpg")),
        ("other/media/cat.jpg", (A, "other/media/cat.jpg")),
    ],
)
def test_the_longest_prefix_wins_on_segment_borders(
    source: str, expected: tuple[Folder, str]
) -> None:
    assert Mounts({"media/": B, "": A, "media/raw": C}).resolve(source) == expected


def test_without_a_default_a_source_may_have_no_origin() -> None:
    assert Mounts({"media/": B}).resolve("cat.jpg") is None
    assert Mounts({}).resolve("cat.jpg") is None


@pytest.mark.parametrize(
    "mapping", [{"media": A, "media/": B}, {"/media": A}, {"/": A}, {"a//": A}]
)
def test_a_mount_that_no_source_can_reach_is_refused(mapping: dict[str, Folder]) -> None:
    with pytest.raises(ValueError, match=r"mounted at|no prefix"):
        Mounts(mapping)
