"""Outputs that depend on the picture: `auto`, animations, the info document."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import servers
from origin import Gallery, jpeg
from pictures import RED, encoded, landscape
from PIL import Image

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.core.errors import SettingsError
from thumbproxy.http.responses import Response

THUMBS = Thumbnails([servers.KEY])
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI_13 = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
FRAMES = [Image.new("RGB", (60, 40), (number * 20, 0, 90)) for number in range(8)]
GIF = encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:], duration=70, loop=0)
CLEAR = encoded(Image.new("RGBA", (60, 40), (255, 0, 0, 90)), "PNG")
PHOTO = encoded(landscape(300, 200))


@pytest.fixture
def gallery() -> Gallery:
    return Gallery(**{
        "photo.jpg": PHOTO, "clear.png": CLEAR, "moving.gif": GIF, "flat.jpg": jpeg(),
    })  # fmt: skip


@pytest.fixture
def app(gallery: Gallery, tmp_path: Path) -> ThumbProxy:
    logo = tmp_path / "logo.png"
    Image.new("RGB", (20, 10), RED).save(logo)
    return ThumbProxy(
        gallery,
        keys=[servers.KEY],
        cache_dir=str(tmp_path / "cache"),
        auto_avif_pixels=20_000,
        watermarks={"logo": {"image": str(logo), "position": "c", "scale": 0.5}},
        exif_fields=["Model"],
    )


def get(app: ThumbProxy, source: str, accept: str = CHROME, **options: Any) -> Response:
    path = unquote(THUMBS.url(source, **options))
    reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "localhost",
                         "SERVER_PORT": "80", "HTTP_HOST": "localhost",
                         "HTTP_ACCEPT": accept})  # fmt: skip
    assert reply is not None
    return reply


def kind(reply: Response) -> str:
    assert reply.status == 200, reply.body
    return dict(reply.headers)["Content-Type"].partition("/")[2]


def status(reply: Response) -> str:
    return dict(reply.headers)["Cache-Status"].removeprefix("thumbproxy; ")


@pytest.mark.parametrize(
    ("source", "accept", "options", "expected"),
    [
        ("photo.jpg", CHROME, {"width": 100}, "avif"),
        ("photo.jpg", CHROME, {"width": 200}, "webp"),  # too large for AVIF here
        ("photo.jpg", SAFARI_13, {"width": 100}, "jpeg"),
        ("photo.jpg", SAFARI_13, {"width": 100, "radius": 9}, "png"),
        ("clear.png", CHROME, {}, "avif"),
        ("clear.png", SAFARI_13, {}, "png"),
        ("clear.png", SAFARI_13, {"background": "ffffff"}, "jpeg"),
        ("moving.gif", CHROME, {}, "webp"),
        ("moving.gif", SAFARI_13, {}, "gif"),
        ("moving.gif", CHROME, {"still": True}, "avif"),
        ("moving.gif", SAFARI_13, {"page": 2}, "png"),
        ("photo.jpg", CHROME, {"width": 50, "lossless": True}, "webp"),
        ("moving.gif", "*/*", {"lossless": True}, "gif"),
        ("moving.gif", "image/avif,image/*;q=0.5", {"lossless": True}, "gif"),
    ],
)
@pytest.mark.parametrize("version", [None, "v1"])
def test_auto_fits_the_client_and_the_picture_and_is_kept(
    app: ThumbProxy,
    source: str,
    accept: str,
    options: dict[str, Any],
    expected: str,
    version: str | None,
) -> None:
    first = get(app, source, accept, **options, version=version)
    second = get(app, source, accept, **options, version=version)
    assert kind(first) == kind(second) == expected
    assert status(first) == "fwd=uri-miss; stored"
    assert status(second) == "hit; detail=disk"
    assert first.body == second.body
    assert dict(second.headers)["Vary"] == "Accept"


def test_what_one_client_was_given_does_not_change_what_another_gets(app: ThumbProxy) -> None:
    """Whichever comes first: the same URL and Accept give the same bytes."""
    before = get(app, "photo.jpg", SAFARI_13, width=100).body
    assert kind(get(app, "photo.jpg", CHROME, width=100)) == "avif"
    assert kind(get(app, "photo.jpg", "image/webp,*/*;q=0.8", width=100)) == "webp"
    assert get(app, "photo.jpg", SAFARI_13, width=100).body == before


@pytest.mark.parametrize(("format", "quality"), [("avif", 80), ("webp", 20)])
def test_an_auto_picture_that_would_be_larger_than_the_jpeg_is_lowered(
    tmp_path: Path, format: str, quality: int
) -> None:
    grain = Image.effect_noise((160, 120), 90).convert("RGB")
    picture = {"avif": landscape(160, 120), "webp": grain}[format]
    app = ThumbProxy(
        Gallery(**{"p.png": encoded(picture, "PNG")}),
        keys=[servers.KEY],
        cache_dir=str(tmp_path),
        auto_formats=[format],
    )
    jpeg = get(app, "p.png", SAFARI_13, quality=quality)
    named = get(app, "p.png", quality=quality, format=format)
    ours = get(app, "p.png", f"image/{format},*/*;q=0.8", quality=quality)
    assert [kind(reply) for reply in (jpeg, named, ours)] == ["jpeg", format, format]
    assert len(ours.body) <= len(jpeg.body) < len(named.body)


def test_what_was_negotiated_is_never_taken_for_what_was_asked_for(gallery: Gallery) -> None:
    """A negotiated picture is held to the size of a JPEG; one that was named is not."""
    noise = Image.merge("RGB", [Image.effect_noise((200, 150), 160) for _ in range(3)])
    gallery.pictures["/noise.png"] = encoded(noise, "PNG")
    for expires in (None, 99_999_999_999):
        with tempfile.TemporaryDirectory() as cache:
            app = ThumbProxy(gallery, keys=[servers.KEY], cache_dir=cache)
            negotiated = get(app, "noise.png", "image/webp", expires=expires)
            named = get(app, "noise.png", format="webp", expires=expires)
            assert kind(negotiated) == kind(named) == "webp"
            assert len(negotiated.body) < len(named.body)
            assert get(app, "noise.png", "image/webp", expires=expires).body == negotiated.body


def test_an_animation_stays_one_and_its_still_is_none(app: ThumbProxy) -> None:
    for format, frames in (("gif", 8), ("webp", 8), ("png", 1), ("jpg", 1)):
        body = get(app, "moving.gif", format=format, width=30).body
        assert n_frames(body) == frames
        assert n_frames(get(app, "moving.gif", format=format, width=30, still=True).body) == 1


def n_frames(body: bytes) -> int:
    return getattr(Image.open(io.BytesIO(body)), "n_frames", 1)


def test_long_animations_are_refused_and_say_what_to_do(gallery: Gallery) -> None:
    app = ThumbProxy(gallery, keys=[servers.KEY], max_frames=7)
    reply = get(app, "moving.gif", format="webp")
    assert reply.status == 422
    assert b"8 frames; at most 7 are allowed. With `still`" in reply.body
    assert get(app, "moving.gif", format="webp", still=True).status == 200
    assert get(app, "moving.gif", format="jpg").status == 200


def test_an_animation_is_not_enlarged_beyond_the_limit_of_pixels(gallery: Gallery) -> None:
    app = ThumbProxy(gallery, keys=[servers.KEY], max_source_pixels=100_000)
    reply = get(app, "moving.gif", format="webp", width=2000, enlarge=True)
    assert reply.status == 400
    assert b"8 frames of 2000 x 1333 pixels" in reply.body


def test_the_info_document_is_served_and_kept_like_a_picture(app: ThumbProxy) -> None:
    first = get(app, "moving.gif", format="json", width=30, version="v1")
    assert status(first) == "fwd=uri-miss; stored"
    assert status(get(app, "moving.gif", format="json", width=30, version="v1")).startswith("hit")
    headers = dict(first.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    facts = json.loads(first.body)
    assert facts["source"] | {"version": ""} == {
        "format": "gif", "width": 60, "height": 40, "bytes": len(GIF), "frames": 8,
        "orientation": 1, "has_alpha": True, "version": "",
    }  # fmt: skip
    assert facts["output"] == {"width": 30, "height": 20}


def test_what_cannot_be_made_is_not_fetched_for(app: ThumbProxy, gallery: Gallery) -> None:
    for format in ("jpg", "auto", "json"):
        reply = get(app, "photo.jpg", format=format, watermark="other")
        assert (reply.status, b"no watermark 'other'" in reply.body) == (400, True)
    assert get(app, "photo.jpg", format="avif", lossless=True).status == 400
    assert not gallery.asked
    assert get(app, "photo.jpg", format="jpg", watermark="logo").status == 200


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"watermarks": {"a": {"image": "/nowhere.png"}}}, "watermarks: '/nowhere.png' for 'a'"),
        ({"watermarks": {"a": {}}}, "'a' has no image"),
        ({"watermarks": {"a": {"image": "x", "size": 1}}}, "'a' has 'size', which is none of"),
        ({"watermarks": {"a": {"image": "x", "opacity": 2}}}, "opacity of 'a' is 2"),
        ({"watermarks": {"a b": {"image": "x"}}}, "watermarks:"),
        ({"exif_fields": ["Nonsense"]}, "exif_fields: there is no EXIF field 'Nonsense'"),
        ({"effort_webp": 7}, "effort_webp: 7 is not allowed"),
        ({"subsampling_jpg": "410"}, "subsampling_jpg: '410' is not allowed"),
    ],
)
def test_settings_of_outputs_are_checked_at_the_start(
    gallery: Gallery, settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(SettingsError) as failure:
        ThumbProxy(gallery, keys=[servers.KEY], **settings)
    assert fault in str(failure.value)
