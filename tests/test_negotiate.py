"""Negotiation: the best format that the client names."""

from __future__ import annotations

import pytest

from thumbproxy.core.formats import Format
from thumbproxy.core.media import ImageInfo
from thumbproxy.http.negotiation import accepted, negotiate, resolve_auto_format
from thumbproxy.urls.codec import ImageRequest
from thumbproxy.urls.options import Options

AUTO = ImageRequest("a.jpg", Options(), "_.S.auto", Format.JPEG, auto=True)
PHOTO = ImageInfo(Format.JPEG, 4000, 3000)
CLEAR = ImageInfo(Format.PNG, 400, 300, has_alpha=True)
MOVING = ImageInfo(Format.GIF, 400, 300, frames=12, has_alpha=True)
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
OLD = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"


def chosen(accept: str, info: ImageInfo = PHOTO, options: str = "_", pixels: int = 100_000) -> str:
    request = AUTO._replace(options=Options.read(options))
    return resolve_auto_format(negotiate(request, accept), info, pixels, 1_000_000).format.extension


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        # Chrome, Firefox, Safari, and what sends nothing special.
        (CHROME, "avif"),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "avif"),
        ("image/webp,image/avif,video/*;q=0.8,image/png,*/*;q=0.5", "avif"),
        ("image/webp,image/*,*/*;q=0.8", "webp"),
        (OLD, "jpg"),
        ("*/*", "jpg"), ("", "jpg"), ("image/*", "jpg"), ("text/html", "jpg"),
        # q-values
        ("image/avif;q=0, image/webp", "webp"), ("image/avif;q=0.5, image/webp", "webp"),
        ("image/avif;q=0.9, image/webp;q=0.8", "avif"), ("image/avif;q=0,image/webp;q=0.0", "jpg"),
        ("IMAGE/AVIF", "avif"), ("image/avif ; q=1.0", "avif"), ("image/avifx", "jpg"),
        ("image/webp;q=0.5, image/*;q=0.8", "jpg"), ("image/webp;q=0.5, */*;q=0.5", "webp"),
        ("image/avif;q=0.7, image/jpeg;q=0.9, image/webp", "webp"),
        ("image/avif, image/jpeg;q=0", "avif"),
        # what is no such header at all
        ("image/avif;q=x", "jpg"), (";;;,,,=", "jpg"), ("image/webp;q=2", "jpg"),
    ],
)  # fmt: skip
def test_auto_is_the_best_that_is_named(accept: str, format: str) -> None:
    assert chosen(accept) == format


def test_only_what_is_offered_is_chosen() -> None:
    for offered, format in (([Format.WEBP], Format.WEBP), ([], Format.JPEG)):
        request = negotiate(AUTO, "image/avif,image/webp", offered)
        assert resolve_auto_format(request, PHOTO, 1, 1).format is format


@pytest.mark.parametrize(
    ("accept", "info", "options", "pixels", "format"),
    [
        # AVIF takes long to write, so large pictures are WebP.
        (CHROME, PHOTO, "_", 1_000_000, "avif"),
        (CHROME, PHOTO, "_", 1_000_001, "webp"),
        ("image/avif", PHOTO, "_", 1_000_001, "jpg"),
        # What is transparent stays so.
        (CHROME, CLEAR, "_", 1, "avif"),
        (OLD, CLEAR, "_", 1, "png"),
        (OLD, CLEAR, "bg_ff0000", 1, "jpg"),
        (OLD, CLEAR, "bg_ff000080", 1, "png"),
        (OLD, PHOTO, "round_20", 1, "png"),
        (OLD, PHOTO, "bg_ffffff,round_20", 1, "jpg"),
        # What moves keeps moving.
        (CHROME, MOVING, "_", 1, "webp"),
        ("image/avif", MOVING, "_", 1, "gif"),
        (OLD, MOVING, "_", 1, "gif"),
        (CHROME, MOVING, "still", 1, "avif"),
        (OLD, MOVING, "page_3", 1, "png"),
        # What is to be exact is.
        (CHROME, PHOTO, "lossless", 1, "webp"),
        (OLD, PHOTO, "lossless", 1, "png"),
    ],
)
def test_the_picture_has_a_say(
    accept: str, info: ImageInfo, options: str, pixels: int, format: str
) -> None:
    assert chosen(accept, info, options, pixels) == format


def test_a_named_format_is_never_negotiated() -> None:
    fixed = ImageRequest("a.jpg", Options(), "_.S.png", Format.PNG, auto=False)
    assert negotiate(fixed, "image/avif") is fixed


def test_a_header_that_fills_memory_is_not_remembered() -> None:
    accepted.cache_clear()
    assert chosen("image/avif," + "x" * 2000) == "jpg"
    assert chosen("image/avif," + "y" * 2000) == "jpg"
    assert accepted.cache_info().currsize <= 1


@pytest.mark.parametrize(
    "odd", ['"image/avif"', 'text/html;a="b", image/avif', "\xa0image/avif", "image/avif\x0b"]
)
def test_what_nginx_reads_otherwise_is_not_read(odd: str) -> None:
    """nginx keeps a copy under what it has read; others would get what this client was sent."""
    assert negotiate(AUTO, odd).accepted == ()
