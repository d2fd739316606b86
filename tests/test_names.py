"""What is kept has a place of its own, whatever its name, and no name is too long for one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import servers
from hypothesis import given, settings
from hypothesis import strategies as st
from origin import Gallery, jpeg

from thumbproxy import Thumbnails, ThumbProxy
from thumbproxy.caches.base import Scope
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.core.errors import BadOptions, BadSource, SettingsError
from thumbproxy.core.formats import Format
from thumbproxy.http.responses import Response
from thumbproxy.urls.codec import ImageRequest, UrlCodec, check_source
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer

KEY = servers.KEY
SIGNER = Signer([KEY])
CODEC = UrlCodec(SIGNER)
THUMBS = Thumbnails([KEY])
NAME_MAX, PATH_MAX = 255, 4096
LONGEST_SOURCE, MOST_SEGMENTS, LONGEST_DIRECTORY, LONGEST_OPTIONS = 2048, 128, 1024, 222
LATER = 9_999_999_999
Make = Callable[..., ThumbProxy]


def signed(source: str, options: str = "_", format: str = "jpg") -> str:
    """A decoded path with a good signature, whatever its parts are."""
    signature = SIGNER.sign(f"{source}/{options}.{format}")
    return f"/thumb/{source}/{options}.{signature}.{format}"


def ask(app: ThumbProxy, path: str) -> Response:
    reply = app.respond({"REQUEST_METHOD": "GET", "PATH_INFO": path.encode().decode("latin-1"),
                         "SERVER_NAME": "localhost", "SERVER_PORT": "80"})  # fmt: skip
    assert reply is not None
    return reply


def status(reply: Response) -> str:
    assert reply.status == 200, reply.body
    return dict(reply.headers)["Cache-Status"]


def of_bytes(length: int, letter: str = "d") -> str:
    """A source of so many bytes, in segments as long as they may be."""
    whole, rest = divmod(length, NAME_MAX + 1)
    tail = [letter * rest] if rest else []
    source = "/".join([letter * NAME_MAX] * whole + tail)
    return source if len(source) == length else source[:-1] + "/e"


@pytest.fixture
def gallery() -> Gallery:
    gallery = Gallery()
    gallery.headers = [("Cache-Control", "max-age=600")]
    return gallery


@pytest.fixture
def make(gallery: Gallery, deep_path: Path) -> Make:
    def make(*sources: str, **settings: Any) -> ThumbProxy:
        gallery.pictures |= {f"/{source}": jpeg() for source in sources}
        return ThumbProxy(gallery, keys=[KEY], **{"cache_dir": str(deep_path / "c"), **settings})

    return make


# -- how long ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (of_bytes(4000), "4000 bytes; at most 2048"),
        (of_bytes(LONGEST_SOURCE + 1), "2049 bytes; at most 2048"),
        ("/".join(["é" * 64] * 16), "2063 bytes; at most 2048"),
        ("/".join("d" * 1200), "at most 2048|1200 segments; at most 128"),
        ("/".join("d" * (MOST_SEGMENTS + 1)), "129 segments; at most 128"),
    ],
)
def test_sources_that_would_make_paths_too_long_are_refused(
    make: Make, source: str, part: str
) -> None:
    with pytest.raises(BadSource, match=part):
        CODEC.build(source, Options(), "jpg")
    app = make()
    for path in (signed(source), signed(source, "unknown_1")):
        reply = ask(app, path)
        assert (reply.status, b"bad-source" in reply.body) == (400, True), "before its options"
    assert ask(app, f"/thumb/{source}/_.{'S' * 22}.jpg").status == 403, "after its signature"
    for scope in (source, source + "/"):
        assert app.purge(scope).complete, "what an older release has kept can be purged"


def options_of(length: int, more: str = "") -> str:
    """Options of so many characters, in their canonical spelling."""
    text = (
        "crop_0.111111x0.111111x0.888888x0.888888,trim_200,w_30,h_30,fit_pad,up,"
        "g_0.111111x0.111111,dpr_1.5,bg_11223344,blur_0.35,sharp_0.25,bright_-10,contrast_-10,"
        "sat_-10,q_91,v_"
    )
    text += "v" * (length - len(text) - len(more)) + more
    assert str(Options.read(text)) == text
    assert len(text) == length
    return text


@pytest.mark.parametrize("more", ["", ",e_9999999999"])
def test_options_that_would_make_names_too_long_are_refused(make: Make, more: str) -> None:
    assert CODEC.parse(signed("a.jpg", options_of(LONGEST_OPTIONS, more), "auto"))
    longer = options_of(LONGEST_OPTIONS + 1, more)
    with pytest.raises(BadOptions, match="223 characters; at most 222"):
        CODEC.parse(signed("a.jpg", longer, "auto"))
    with pytest.raises(BadOptions, match="223 characters; at most 222"):
        CODEC.build("a.jpg", Options.read(longer), "auto")
    assert ask(make(), signed("a.jpg", longer, "auto")).status == 400


def longest_directory(folder: Path, length: int = LONGEST_DIRECTORY) -> Path:
    names = "/".join(["c" * 200] * 6)
    directory = os.path.join(folder, names)[:length]
    return Path(directory if not directory.endswith("/") else directory[:-1] + "c")


@pytest.mark.parametrize(
    "options", [options_of(LONGEST_OPTIONS), options_of(LONGEST_OPTIONS, ",e_9999999999")]
)
def test_the_longest_of_everything_is_kept_and_removed(
    make: Make, gallery: Gallery, tmp_path: Path, options: str
) -> None:
    """Also where it is moved to be removed, which is a longer path."""
    cache = longest_directory(tmp_path)
    sources = [of_bytes(LONGEST_SOURCE), "s/" * 127 + "x" * 255,
               "photos/" + of_bytes(LONGEST_SOURCE - 7)]  # fmt: skip
    app = make(*sources, cache_dir=str(cache))
    for source in sources:
        for path in (signed(source, options, "auto"), signed(source, "w_20", "jpg")):
            assert "stored" in status(ask(app, path))
            assert status(ask(app, path)) == "thumbproxy; hit; detail=disk"
    names = [os.path.join(folder, name) for folder, _, files in os.walk(cache) for name in files]
    assert max(map(len, names)) < PATH_MAX
    assert max(len(os.path.basename(name)) for name in names) <= NAME_MAX
    for scope in (sources[0], "s/", "photos/"):
        assert app.purge(scope).complete
        for source in sources:
            if Scope(scope).covers(source):
                assert status(ask(app, signed(source, "w_20", "jpg"))).startswith("thumbproxy; fwd")
    assert app.purge("").complete
    disk = DiskCache(str(cache))
    assert disk.janitor.trim() is not None
    assert disk.inventory(lambda files: None).sources == 0
    assert os.listdir(cache / "tmp") == []


def test_a_cache_directory_that_leaves_no_room_for_names_is_refused(
    make: Make, tmp_path: Path
) -> None:
    assert make(cache_dir=str(longest_directory(tmp_path)))
    with pytest.raises(SettingsError, match=r"1025 bytes; at most 1024 .* shorter"):
        make(cache_dir=str(longest_directory(tmp_path, LONGEST_DIRECTORY + 1)))


# -- which place -------------------------------------------------------------------------------


def rendition_name(options: str = "w_32", format: str = "jpg") -> str:
    return f"{options}.{SIGNER.sign(f'k/{options}.{format}')}.{format}"


@pytest.mark.parametrize(
    "other",
    [
        "k/w_32.jpg", "k/w_32.jpg/w_32.jpg", "k/w_32.auto.jpg",
        f"k/{rendition_name()}/x.jpg", f"k/{rendition_name()}/{rendition_name()}/w_32.jpg",
        f"k/{rendition_name('w_32,v_1')}/below/x.jpg", f"k/{rendition_name('w_32', 'auto')}/x.jpg",
        f"k/{rendition_name('w_32,v_1', 'auto')}.jpg",
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["k", "other"])
def test_no_source_keeps_another_from_being_kept(make: Make, other: str, first: str) -> None:
    app = make("k", other)
    paths = [
        signed(source, options, format)
        for source in (("k", other) if first == "k" else (other, "k"))
        for options in ("w_32", "w_32,v_1", f"w_32,e_{LATER}")
        for format in ("jpg", "auto")
    ]
    for path in paths:
        assert status(ask(app, path)).endswith(("hit; detail=disk", "stored"))
    for path in paths:
        assert status(ask(app, path)) == "thumbproxy; hit; detail=disk"
    assert app.purge(other).complete
    assert status(ask(app, signed("k", "w_32", "jpg"))) == "thumbproxy; hit; detail=disk"
    assert status(ask(app, signed(other, "w_32", "jpg"))).startswith("thumbproxy; fwd=uri-miss")
    assert app.purge("k/").complete
    assert status(ask(app, signed(other, "w_32", "jpg"))).startswith("thumbproxy; fwd=uri-miss")


def test_a_folder_named_like_a_rendition_can_be_purged(make: Make) -> None:
    folder = f"k/{rendition_name()}"
    app = make("k", f"{folder}/x.jpg")
    for source in ("k", f"{folder}/x.jpg"):
        ask(app, signed(source, "w_32"))
    assert app.purge(f"{folder}/").files == 2, "and the original"
    assert status(ask(app, signed("k", "w_32"))) == "thumbproxy; hit; detail=disk"
    assert status(ask(app, signed(f"{folder}/x.jpg", "w_32"))).startswith("thumbproxy; fwd")


class Thing(NamedTuple):
    """What a cache may be asked to keep."""

    source: str
    options: str
    auto: bool
    format: Format
    public: bool

    @property
    def request(self) -> ImageRequest:
        extension = "auto" if self.auto else self.format.extension
        options = Options.parse(self.options)
        name = (
            f"{self.options}.{SIGNER.sign(f'{self.source}/{self.options}.{extension}')}.{extension}"
        )
        return ImageRequest(self.source, options, name, self.format, self.auto)

    @property
    def identity(self) -> tuple[object, ...]:
        """All things with one identity are one file."""
        options = Options.parse(self.options)
        return (*self[:1], str(options.identity), options.expires is None, *self[2:])


options = st.sampled_from(["_", "w_32", "w_32,v_1", "blur_0.5", f"w_32,e_{LATER}", f"e_{LATER}"])
segments = st.one_of(
    st.sampled_from(["k", "w_32.jpg", f"_.{'S' * 22}.webp", f"w_32.{'_' * 22}.auto.jpg", "source"]),
    st.text("ak.:\\\n", min_size=1, max_size=3),
)
sources = st.lists(segments, min_size=1, max_size=3).map("/".join)
formats = st.sampled_from(list(Format))
things = st.builds(Thing, sources, options, st.booleans(), formats, st.booleans())


def is_accepted(source: str) -> bool:
    try:
        check_source(source)
    except BadSource:
        return False
    return True


def beside(thing: Thing) -> list[Thing]:
    """It, and what has the names of its files for sources."""
    extension = f"{'auto.' * thing.auto}{thing.format.extension}"
    identity = Options.parse(thing.options).identity
    names = [thing.request.filename, thing.request.name, f"{identity}.{extension}", "source"]
    sources = [
        f"{thing.source}/{name}{below}" for name in names for below in ("", "/x", f"/{name}")
    ]
    return [thing, *(thing._replace(source=source) for source in sources)]


@settings(max_examples=50)
@given(st.lists(things, min_size=1, max_size=2))
def test_no_two_things_have_one_place_or_lie_below_each_other(drawn: list[Thing]) -> None:
    """Of all that a cache keeps: so nothing can be in the way of anything."""
    found = [it for thing in drawn for it in beside(thing) if is_accepted(it.source)]
    layout = Layout("/c")
    places: dict[str, object] = {}
    for thing in found:
        place = layout.variant(thing.request, thing.public)
        assert places.setdefault(place, thing.identity) == thing.identity
        assert places.setdefault(layout.record(thing.source), thing.source) == thing.source
        for depth, mark in enumerate(layout.marks(thing.source)):
            folder = thing.source.split("/")[:depth]
            assert places.setdefault(mark, folder) == folder
        if thing.public and not any("." in segment for segment in thing.source.split("/")):
            name = place.rpartition("/")[2]
            assert place == f"/c/public/{thing.source}/{name}", "where web servers look"
    for place in places:
        above = os.path.dirname(place)
        while above != "/c":
            assert above not in places, f"{place} lies below a file"
            above = os.path.dirname(above)
