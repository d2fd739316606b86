"""Thumbnails: URLs for templates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote

import django.template
import django.utils.html
import jinja2
import pytest

from thumbproxy import Thumbnails
from thumbproxy.core.errors import BadOptions, BadSource
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.signing import Signer

KEY = "a-key-that-only-the-tests-use"
THUMBS = Thumbnails(
    keys=[KEY],
    base_url="https://cdn.example.com/",
    presets={
        "card": {"width": 400, "height": 300, "fit": "cover", "format": "webp"},
        "text": "w_400,h_300,fit_cover",
    },
)
URLS = UrlCodec(Signer([KEY]))


def options_of(url: str) -> str:
    path = unquote(url.removeprefix("https://cdn.example.com"))
    request = URLS.parse(path)
    assert request is not None, url
    return f"{request.options}.{'auto' if request.auto else request.format.extension}"


def test_a_url_is_complete_signed_and_canonical() -> None:
    url = THUMBS.url("photos/cat.jpg", height=300, width=400, fit="cover", format="webp")
    assert url.startswith("https://cdn.example.com/thumb/photos/cat.jpg/w_400,h_300,fit_cover.")
    assert options_of(url) == "w_400,h_300,fit_cover.webp"


def test_the_format_is_auto_unless_one_is_named() -> None:
    assert options_of(THUMBS.url("a.jpg")) == "_.auto"


def test_presets_are_resolved_here_and_can_be_overridden() -> None:
    assert options_of(THUMBS.url("a.jpg", "card")) == "w_400,h_300,fit_cover.webp"
    assert options_of(THUMBS.url("a.jpg", "text")) == "w_400,h_300,fit_cover.auto"
    assert options_of(THUMBS.url("a.jpg", "card", width=40, format="gif")) == (
        "w_40,h_300,fit_cover.gif"
    )


def test_srcset_has_a_candidate_for_each_width() -> None:
    srcset = THUMBS.srcset("été 1,2.jpg", widths=[320, 640], format="jpg")
    candidates = [candidate.split(" ") for candidate in srcset.split(", ")]
    assert [width for _, width in candidates] == ["320w", "640w"]
    assert [options_of(url) for url, _ in candidates] == ["w_320.jpg", "w_640.jpg"]


def test_srcset_keeps_the_ratio_of_the_box() -> None:
    srcset = THUMBS.srcset("a.jpg", "card", widths=[200, 801])
    options = [options_of(candidate.split(" ")[0]) for candidate in srcset.split(", ")]
    assert options == ["w_200,h_150,fit_cover.webp", "w_801,h_601,fit_cover.webp"]


def test_picture_is_html_that_a_browser_can_read() -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[tuple[str, dict[str, str | None]]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append((tag, dict(attrs)))

    reader = Reader()
    html = THUMBS.picture("it's.jpg", widths=[320, 640], sizes="50vw", alt='"><script>alert(1)')
    reader.feed(html)
    assert [tag for tag, _ in reader.tags] == ["picture", "source", "source", "img"]
    avif, webp, img = (attributes for _, attributes in reader.tags[1:])
    assert (avif["type"], webp["type"]) == ("image/avif", "image/webp")
    assert img["alt"] == '"><script>alert(1)'
    assert "<script" not in html
    assert options_of(str(img["src"])) == "w_640.jpg"
    for attributes, format in ((avif, "avif"), (webp, "webp"), (img, "jpg")):
        assert attributes["sizes"] == "50vw"
        urls = [candidate.split(" ")[0] for candidate in str(attributes["srcset"]).split(", ")]
        assert [options_of(url) for url in urls] == [f"w_320.{format}", f"w_640.{format}"]


def test_templates_do_not_escape_a_picture_again() -> None:
    html = THUMBS.picture("a.jpg", widths=[320], alt='"quoted"')
    page = jinja2.Environment(autoescape=True).from_string("{{ picture }}").render(picture=html)
    assert page == html
    assert django.utils.html.conditional_escape(html) == html


def test_picture_offers_the_formats_that_it_is_given() -> None:
    html = THUMBS.picture("a.jpg", widths=[320], formats=["webp"])
    assert "image/avif" not in html
    assert "image/webp" in html


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: THUMBS.url("a.jpg", "nope"), "card, text"),
        (lambda: THUMBS.url("a.jpg", size=4), "no option 'size'"),
        (lambda: THUMBS.url("a.jpg", format="bmp"), "no format 'bmp'"),
        (lambda: THUMBS.url("a.jpg", width=5000), "4096"),
        (lambda: THUMBS.srcset("a.jpg", widths=[5], height=4), "needs a width"),
        (lambda: THUMBS.picture("a.jpg", widths=[]), "one width"),
    ],
)
def test_mistakes_are_explained(call: object, part: str) -> None:
    with pytest.raises(BadOptions, match=part):
        call()  # type: ignore[operator]


def test_a_bad_source_is_a_value_error() -> None:
    with pytest.raises(BadSource):
        THUMBS.url("/media/a.jpg")
    assert issubclass(BadSource, ValueError)


def test_picture_takes_the_box_of_a_preset_and_not_its_format() -> None:
    html = THUMBS.picture("a.jpg", "card", widths=[200])
    assert "w_200,h_150,fit_cover" in html
    assert 'type="image/avif"' in html
    assert "w_1,h_1,fit_cover" in THUMBS.srcset("a.jpg", "card", widths=[1])


@pytest.mark.parametrize(
    "preset", [{"widht": 4}, "w_x", {"width": 0}, {"width": 9999}, {"format": "bmp"}]
)
def test_a_bad_preset_is_found_at_once(preset: object) -> None:
    with pytest.raises(BadOptions):
        Thumbnails(keys=[KEY], presets={"bad": preset})  # type: ignore[dict-item]


# -- what templates give ---------------------------------------------------------------------

TAGS = django.template.Engine(debug=True, builtins=["django.template.defaulttags"])
TAGS.template_builtins.append(library := django.template.Library())
library.simple_tag(THUMBS.url, name="thumb")
library.simple_tag(THUMBS.srcset)
library.simple_tag(THUMBS.picture)


def rendered(text: str, **names: object) -> str:
    return TAGS.from_string(text).render(django.template.Context(names))


class File:
    """As Django's FieldFile has its name: none where no file is."""

    def __init__(self, name: str | None) -> None:
        self.name = name


def test_the_methods_are_tags_of_django_as_they_are() -> None:
    """Also with a preset, `as`, and names of their own, which are those of the methods."""
    assert rendered('{% thumb "a.jpg" "card" width=40 %}') == THUMBS.url("a.jpg", "card", width=40)
    assert rendered('{% srcset "a.jpg" widths="8,9" %}') == THUMBS.srcset("a.jpg", widths=[8, 9])
    picture = THUMBS.picture("a.jpg", widths=[8], alt='"')
    assert rendered('{% picture "a.jpg" widths=8 alt=alt %}', alt='"') == picture
    as_name = '{% picture "a.jpg" widths=8 alt=alt as shown %}{{ shown }}'
    assert rendered(as_name, alt='"') == picture


@pytest.mark.parametrize("method", [THUMBS.url, THUMBS.srcset, THUMBS.picture])
def test_a_method_tells_its_own_parameters(method: Callable[..., str]) -> None:
    assert inspect.getfullargspec(method).args == ["source", "preset"]
    assert list(inspect.signature(method).parameters)[:2] == ["source", "preset"]
    assert inspect.getdoc(method)
    assert inspect.getfullargspec(getattr(Thumbnails, method.__name__)).args[0] == "self"


def test_a_subclass_calls_the_method_that_it_replaces() -> None:
    class Small(Thumbnails):
        def url(self, /, source: object, preset: str | None = None, **options: object) -> str:
            return super().url(source, preset, width=5, **options)  # type: ignore[arg-type]

    assert "/w_5." in Small([KEY]).url("a.jpg")


@pytest.mark.parametrize("source", ["a/b.jpg", File("a/b.jpg"), PurePosixPath("a", "b.jpg")])
def test_a_source_is_a_path_or_a_file_with_a_name(source: str) -> None:
    assert THUMBS.url(source, width=4) == THUMBS.url("a/b.jpg", width=4)
    assert "/a/b.jpg/" in THUMBS.picture(source, widths=[4])


@pytest.mark.parametrize("source", [File(None), File(""), None, "", 7, PurePosixPath()])
def test_what_is_no_file_is_no_source(source: str) -> None:
    with pytest.raises(BadSource):
        THUMBS.url(source)


def test_numbers_may_be_text_as_in_templates() -> None:
    loose = {"width": "400", "height": "300", "dpr": "1.5", "rotate": "90", "gravity": "0.31x0.7",
             "crop": "0.1x0.1x0.5x0.5", "radius": "max", "quality": "80"}  # fmt: skip
    assert options_of(THUMBS.url("a.jpg", **loose)) == (
        "crop_0.1x0.1x0.5x0.5,w_400,h_300,g_0.31x0.7,dpr_1.5,rot_90,round_max,q_80.auto"
    )
    sized = THUMBS.srcset("a.jpg", widths="200, 801", width="400", height="300", fit="cover")
    assert sized == THUMBS.srcset("a.jpg", widths=[200, 801], width=400, height=300, fit="cover")


@pytest.mark.parametrize("widths", ["640,320", "640 320", ["640", 320], (640, 320), "640,, 320"])
def test_widths_may_be_text(widths: str) -> None:
    assert THUMBS.picture("a.jpg", widths=widths) == THUMBS.picture("a.jpg", widths=[320, 640])


def test_formats_may_be_text_and_no_text_is_no_alt() -> None:
    html = THUMBS.picture("a.jpg", widths=320, formats="webp", alt=None)
    assert html == THUMBS.picture("a.jpg", widths=[320], formats=["webp"])


@pytest.mark.parametrize(
    "options",
    [{"width": ""}, {"width": "wide"}, {"width": "4e2"}, {"grayscale": ""}, {"grayscale": "no"}],
)
def test_text_that_is_no_number_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(BadOptions, match="is not allowed"):
        THUMBS.url("a.jpg", **options)


@pytest.mark.parametrize("widths", [None, "wide", [None], "320;640", 0, [4097]])
def test_widths_that_are_none_are_refused(widths: str) -> None:
    with pytest.raises(BadOptions):
        THUMBS.picture("a.jpg", widths=widths)
