"""Negotiation: the best format that the client names."""

from __future__ import annotations

import pytest

from thumbproxy.media import Format
from thumbproxy.negotiate import best, negotiate
from thumbproxy.options import Options
from thumbproxy.urls import ImageRequest

AUTO = ImageRequest("a.jpg", Options(), "_.S.auto", Format.JPEG, auto=True)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        # Chrome, Firefox, Safari, and what sends nothing special.
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "avif"),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "avif"),
        ("image/webp,image/avif,video/*;q=0.8,image/png,*/*;q=0.5", "avif"),
        ("image/webp,image/*,*/*;q=0.8", "webp"),
        ("*/*", "jpg"), ("", "jpg"), ("image/*", "jpg"), ("text/html", "jpg"),
        # q-values
        ("image/avif;q=0, image/webp", "webp"), ("image/avif;q=0.5, image/webp", "webp"),
        ("image/avif;q=0.9, image/webp;q=0.8", "avif"), ("image/avif;q=0,image/webp;q=0.0", "jpg"),
        ("IMAGE/AVIF", "avif"), ("image/avif ; q=1.0", "avif"), ("image/avifx", "jpg"),
        # what is no such header at all
        ("image/avif;q=x", "jpg"), (";;;,,,=", "jpg"), ("image/webp;q=2", "jpg"),
    ],
)  # fmt: skip
def test_auto_is_the_best_that_is_named(accept: str, format: str) -> None:
    assert negotiate(AUTO, accept).format is Format(format)


def test_only_what_is_offered_is_chosen() -> None:
    assert negotiate(AUTO, "image/avif,image/webp", [Format.WEBP]).format is Format.WEBP
    assert negotiate(AUTO, "image/avif,image/webp", []).format is Format.JPEG


def test_a_named_format_is_never_negotiated() -> None:
    fixed = ImageRequest("a.jpg", Options(), "_.S.png", Format.PNG, auto=False)
    assert negotiate(fixed, "image/avif") is fixed


def test_a_header_that_fills_memory_is_not_remembered() -> None:
    best.cache_clear()
    assert negotiate(AUTO, "image/avif," + "x" * 2000).format is Format.JPEG
    assert negotiate(AUTO, "image/avif," + "y" * 2000).format is Format.JPEG
    assert best.cache_info().currsize <= 1
