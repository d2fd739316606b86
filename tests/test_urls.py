"""URLs: the grammar, its signatures, and what is refused."""

from __future__ import annotations

import string
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.core.errors import (
    BadOptions,
    BadSignature,
    BadSource,
    Expired,
    NotAThumbnailUrl,
    RequestError,
)
from thumbproxy.core.formats import Format
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer

VECTOR_KEY = "correct-horse-battery-staple-0001"
VECTORS = [
    ("photos/cat.jpg", "w_400,h_300,fit_cover,q_80", "webp", "A-_Sn1043zAIVMTaqlCEjg"),
    ("photos/cat.jpg", "_", "auto", "ERMcXwkMqhapSqc2vwf_1g"),
    ("médias/été à Nice.jpg", "w_320", "jpg", "K73HhxbPnNjX_YOg-7bsEw"),
    ("a/b?c=1.png", "w_64,v_3f2a1b", "png", "LoUb6eDmmBqPerTvxDAMkA"),
]
SIGNER = Signer([VECTOR_KEY])
URLS = UrlCodec(SIGNER)


def signed(source: str, options: str, format: str, prefix: str = "/thumb/") -> str:
    """A decoded path with a good signature, whatever its parts are."""
    text = f"{source}/{options}.{format}"
    return f"{prefix}{source}/{options}.{SIGNER.sign(text)}.{format}"


segments = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda segment: not segment.startswith(".") and len(segment.encode()) <= 255)
sources = st.lists(segments, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize(("source", "options", "format", "signature"), VECTORS)
def test_signatures_are_those_of_the_published_vectors(
    source: str, options: str, format: str, signature: str
) -> None:
    path = f"/thumb/{source}/{options}.{signature}.{format}"
    request = URLS.parse(path)
    assert request is not None
    assert (request.source, str(request.options)) == (source, options)
    assert unquote(URLS.build(source, Options.parse(options), format)) == path


@given(sources)
def test_what_is_built_is_parsed_as_the_same(source: str) -> None:
    try:
        path = URLS.build(source, Options(width=320, version="a_b-c"), "webp")
    except BadSource:
        return
    assert path.isascii()
    request = URLS.parse(unquote(path))
    assert request is not None
    assert request.source == source
    assert request.filename == unquote(path).rpartition("/")[2]


@given(
    vector=st.sampled_from(VECTORS),
    position=st.integers(0, 200),
    character=st.characters(exclude_categories=("Cs",)),
    edit=st.sampled_from(["replace", "insert", "delete"]),
)
def test_every_change_of_one_character_is_refused(
    vector: tuple[str, str, str, str], position: int, character: str, edit: str
) -> None:
    source, options, format, signature = vector
    rest = f"{source}/{options}.{signature}.{format}"
    at = position % len(rest)
    middle = {"replace": character, "insert": character + rest[at], "delete": ""}[edit]
    changed = rest[:at] + middle + rest[at + 1 :]
    if changed == rest:
        return
    with pytest.raises((BadSignature, NotAThumbnailUrl)):
        URLS.parse("/thumb/" + changed)


@pytest.mark.parametrize(("source", "options", "format", "signature"), VECTORS)
def test_a_signature_has_one_spelling(
    source: str, options: str, format: str, signature: str
) -> None:
    """Of the last of 22 base64 characters only two bits count; the other spellings fail too."""
    for last in string.ascii_letters + string.digits + "-_+/=":
        if last != signature[-1]:
            with pytest.raises((BadSignature, NotAThumbnailUrl)):
                URLS.parse(f"/thumb/{source}/{options}.{signature[:-1]}{last}.{format}")


@pytest.mark.parametrize(
    "path", ["/", "/thumbs/a.jpg", "/thumb", "/x/thumb/a.jpg", "", "thumb/a/_.x.jpg"]
)
def test_other_paths_are_not_ours(path: str) -> None:
    assert URLS.parse(path) is None


@pytest.mark.parametrize(
    "rest",
    ["", "a.jpg", "a/_.jpg", "_.AAAAAAAAAAAAAAAAAAAAAA.jpg", "a/_.AAAAAAAAAAAAAAAAAAAAAA.bmp",
     "a/_.AAAAAAAAAAAAAAAAAAAAAA.JPG", "a/_.AAAAAAAAAAAA/AAAAAAAAA.jpg", "a/b/", "a..jpg"],
)  # fmt: skip
def test_what_is_not_of_the_grammar_is_not_found(rest: str) -> None:
    with pytest.raises(NotAThumbnailUrl):
        URLS.parse("/thumb/" + rest)


@pytest.mark.parametrize("text", ["a/_.\ud800.jpg", "\ud800/_.AAAAAAAAAAAAAAAAAAAAAA.jpg"])
def test_text_that_is_not_unicode_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        URLS.parse("/thumb/" + text)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("http://example.com/a.jpg", "is a URL"), ("", "empty"), ("/a.jpg", "empty segment"),
        ("a//b.jpg", "empty segment"),
        ("a/", "empty segment"), ("../a.jpg", "dot"), ("a/../b.jpg", "dot"), ("./a.jpg", "dot"),
        ("a/./b", "dot"), (".git/config", "dot"), ("a/.source", "dot"), ("a\\b.jpg", "backslash"),
        ("a\nb.jpg", "control"), ("a\x00.jpg", "control"), ("a\x7f.jpg", "control"),
        ("a\x85.jpg", "control"), ("é" * 128, "255 bytes"),
        ("a/" + "é" * 128, "255 bytes"), ("a/b/_.AAAAAAAAAAAAAAAAAAAAAA.jpg", "itself"),
        ("a/_.AAAAAAAAAAAAAAAAAAAAAA.jpg", "itself"),
        ("a/w_1.AAAAAAAAAAAAAAAAAAAAAA.auto", "itself"),
        ("a/x.AAAAAAAAAAAAAAAAAAAAAA.json", "itself"),
    ],
)  # fmt: skip
def test_sources_that_no_origin_is_asked_for(source: str, part: str) -> None:
    """Refused when a URL is built, and when one is signed all the same."""
    with pytest.raises(BadSource, match=part):
        URLS.build(source, Options(), "jpg")
    with pytest.raises(BadSource, match=part):
        URLS.parse(signed(source, "_", "jpg"))


@pytest.mark.parametrize("options", ["h_3,w_4", "w_04", "nope_1", "w_4097", ""])
def test_signed_options_that_are_not_canonical_are_refused(options: str) -> None:
    with pytest.raises(BadOptions):
        URLS.parse(signed("a.jpg", options, "jpg"))


def test_an_address_expires() -> None:
    now = [1000.0]
    urls = UrlCodec(SIGNER, clock=lambda: now[0])
    path = unquote(urls.build("a.jpg", Options(expires=1001), "jpg"))
    assert urls.parse(path) is not None
    now[0] = 1001.0
    with pytest.raises(Expired):
        urls.parse(path)


def test_the_signature_is_looked_at_before_anything_else() -> None:
    for rest in ("../x/_.AAAA.jpg", "a/e_1.AAAA.jpg", "a/nope.AAAA.jpg"):
        with pytest.raises(BadSignature):
            URLS.parse("/thumb/" + rest)


def test_variants_are_kept_under_the_name_in_the_url() -> None:
    def name(options: Options, format: str) -> str:
        request = URLS.parse(unquote(URLS.build("a.jpg", options, format)))
        assert request is not None
        return request.accepting(Format.WEBP).filename if format == "auto" else request.filename

    fixed = name(Options(width=5), "jpg")
    assert fixed == f"w_5.{SIGNER.sign('a.jpg/w_5.jpg')}.jpg"
    assert name(Options(width=5), "auto") == f"w_5.{SIGNER.sign('a.jpg/w_5.auto')}.auto.webp"
    assert name(Options(width=5, expires=10**10), "png") == ".w_5.png"


def test_a_name_that_is_no_text_is_not_built() -> None:
    with pytest.raises(BadSource, match="Unicode"):
        URLS.build("a\udcff.jpg", Options(), "jpg")


def test_an_address_that_servers_would_refuse_is_not_built() -> None:
    long = "/".join(["é" * 127] * 6)
    with pytest.raises(BadSource, match="characters"):
        URLS.build(long, Options(), "jpg")


@pytest.mark.parametrize("format", ["jpeg", "JPG", "", "bmp"])
def test_unknown_formats_are_not_built(format: str) -> None:
    with pytest.raises(BadOptions, match="jpg, png, webp, avif, gif, json, auto"):
        URLS.build("a.jpg", Options(), format)


@pytest.mark.parametrize("format", ["webp", "avif", "png", "gif", "json", "auto"])
def test_a_jpeg_cannot_be_lossless_and_is_not_built(format: str) -> None:
    lossless = Options(lossless=True)
    assert URLS.parse(URLS.build("a.jpg", lossless, format))
    with pytest.raises(BadOptions, match="webp or png"):
        URLS.build("a.jpg", lossless, "jpg")


def test_all_errors_of_an_address_are_its_own() -> None:
    for error in (BadSignature, BadSource, BadOptions, Expired, NotAThumbnailUrl):
        assert issubclass(error, RequestError)
