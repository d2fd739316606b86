"""The URL grammar: `{prefix}/{source}/{options}.{signature}.{format}`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from thumbproxy.core.errors import BadOptions, BadSignature, BadSource, Expired, NotAThumbnailUrl
from thumbproxy.core.formats import OUTPUTS, Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.memo import memoized
from thumbproxy.core.suggest import unknown
from thumbproxy.urls.hosts import source_at
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer

AUTO = "auto"
FALLBACK = Format.JPEG

# What a path segment may hold unescaped (RFC 3986 section 3.3), so that URLs stay readable.
_SAFE = "/~-._!$'()*,;=:@"
# gunicorn's default request line is 4094 bytes: "HEAD " + path + " HTTP/1.1".
_LONGEST_PATH = 4094 - len("HEAD  HTTP/1.1")
_REMEMBERED = 1024  # paths; some 1 MB
DEFAULT_PREFIX = "/thumb"
# What is kept becomes a path, which may have 4095 bytes, and each name in it 255; docs/cache.md has
# the sum. Bytes of UTF-8; segments; characters, which are ASCII.
LONGEST_SOURCE = 2048
MOST_SEGMENTS = 128
LONGEST_OPTIONS = 255 - len(".{signature}.auto.webp".format(signature="S" * 22))
_THUMBNAIL_NAME = r"[^/]+\.[A-Za-z0-9_-]{22}\.(?:jpg|png|webp|avif|gif|auto|json)"
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_SURROGATES = r"\ud800-\udfff"  # in names of files that are not UTF-8
_FORBIDDEN = rf"\\{_CONTROL}{_SURROGATES}"
_SEGMENT = rf"[^/.{_FORBIDDEN}][^/{_FORBIDDEN}]{{0,62}}"
# Nearly all sources: whatever these characters are, 63 of them are under 256 bytes of UTF-8.
_ORDINARY = re.compile(
    rf"(?!(?:.*/)?{_THUMBNAIL_NAME}$){_SEGMENT}(?:/{_SEGMENT}){{0,{MOST_SEGMENTS - 1}}}"
)
_ORDINARY_LENGTH = LONGEST_SOURCE // 4
# The end of a segment that has the form of `ImageRequest.filename`.
_LIKE_A_FILE = re.compile(rf"(\.[A-Za-z0-9_-]{{22}}(?:\.auto)?)\.((?:{'|'.join(OUTPUTS)})(?:/|\Z))")


class ImageRequest(NamedTuple):
    """A verified request.

    name      the last segment of the URL, decoded: `{options}.{signature}.{format}`
    format    what will be sent; for an `auto` URL it counts only when it is settled
    accepted  for an `auto` URL what its client takes besides the common formats, best first
    """

    source: str
    options: Options
    name: str
    format: Format
    auto: bool
    accepted: tuple[Format, ...] = ()

    def accepting(self, format: Format) -> ImageRequest:
        return self._replace(format=format)

    @property
    def pinned(self) -> bool:
        """Whether the URL names a version of its source for ever: such a reply never changes."""
        return self.options.version is not None and self.options.expires is None

    @property
    def filename(self) -> str:
        """The name under which the variant is kept, in the directory of its source.

        It is the name in the URL, so that a web server finds it; with the format behind it where
        that was negotiated. What an expiring URL asks for is kept without time and signature, and
        with a dot before it, as no segment of a source has: see `folder_of`.
        """
        if self.options.expires is not None:
            auto = ".auto" if self.auto else ""
            return f".{self.options.identity}{auto}.{self.format.extension}"
        return f"{self.name}.{self.format.extension}" if self.auto else self.name


class UrlCodec:
    """Reads and writes thumbnail URLs below one prefix."""

    def __init__(
        self,
        signer: Signer,
        *,
        prefix: str = DEFAULT_PREFIX,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signer
        self._limits = limits
        self._clock = clock
        self.prefix = prefix.rstrip("/") + "/"
        # The same addresses come again and again. Only what was verified is remembered, under
        # the whole address with its signature. How long finding it takes tells nothing: texts are
        # compared only when their hashes agree, and those are keyed with a secret of the process.
        self._verified = memoized(_REMEMBERED)(self._verify)

    def parse(self, path: str) -> ImageRequest | None:
        """The request that a decoded path asks for; None when it is not below the prefix.

        Nothing is looked at before the signature is verified.
        Raises NotAThumbnailUrl, BadSignature, BadSource, BadOptions, Expired.
        """
        if not path.startswith(self.prefix):
            return None
        request = self._verified(path)
        expires = request.options.expires
        if expires is not None and expires <= self._clock():
            raise Expired
        return request

    def _verify(self, path: str) -> ImageRequest:
        """Everything about a path that time does not change."""
        rest = path[len(self.prefix) :]
        stem, signature, extension = _split(rest)
        try:
            verified = self._signer.verify(f"{stem}.{extension}", signature)
        except UnicodeEncodeError:  # a lone surrogate is in no text that we sign
            verified = False
        if not verified:
            raise BadSignature
        source, _, options_text = stem.rpartition("/")
        check_source(source)
        _check_length(options_text)
        options = Options.parse(options_text)
        options.check(self._limits)
        _check_format(options, extension)
        format = OUTPUTS.get(extension, FALLBACK)
        name = rest[len(source) + 1 :]
        return ImageRequest(source, options, name, format, extension == AUTO)

    def build(self, source: str, options: Options, format: str) -> str:
        """The signed path, percent-encoded (RFC 3986). Raises BadSource, BadOptions."""
        check_source(source)
        options.check(self._limits)
        if format not in OUTPUTS and format != AUTO:
            raise BadOptions(unknown("format", format, (*OUTPUTS, AUTO)))
        _check_format(options, format)
        text = str(options)
        _check_length(text)
        stem = f"{source}/{text}"
        signature = self._signer.sign(f"{stem}.{format}")
        path = quote(f"{self.prefix}{stem}.{signature}.{format}", safe=_SAFE)
        if len(path) > _LONGEST_PATH:
            raise BadSource(
                f"The address would have {len(path)} characters; web servers take {_LONGEST_PATH}."
            )
        return path


def _split(rest: str) -> tuple[str, str, str]:
    """stem, signature, extension of what follows the prefix."""
    parts = rest.rsplit(".", 2)
    if len(parts) != 3 or "/" not in parts[0] or "/" in parts[1]:
        raise NotAThumbnailUrl
    stem, signature, extension = parts
    if extension not in OUTPUTS and extension != AUTO:
        raise NotAThumbnailUrl
    return stem, signature, extension


def _check_length(options: str) -> None:
    if len(options) > LONGEST_OPTIONS:
        raise BadOptions(
            f"The options have {len(options)} characters; at most {LONGEST_OPTIONS} are allowed. "
            "Leave some out, or shorten v or the name of the watermark."
        )


def _check_format(options: Options, format: str) -> None:
    if options.lossless and format == Format.JPEG.extension:
        raise BadOptions("A JPEG cannot be lossless. Ask for webp or png, or for auto.")


def remote_source(url: str, mount: str = "remote/", *, encoded: bool = False) -> str:
    """The source that a `remote` origin mounted at `mount` has for an absolute URL.

    "https://images.example.com/a%20b.jpg?c=1" -> "remote/https/images.example.com/a b.jpg?c=1"
    encoded: as in the settings of the origin; then "remote/https/images.example.com/a%20b.jpg?c=1"
    Nothing is looked up. Raises BadSource for a URL that no source can stand for.

    Example:

        from thumbproxy import remote_source

        source = remote_source("https://images.example.com/a%20b.jpg?c=1")
        assert source == "remote/https/images.example.com/a b.jpg?c=1"
    """
    source = source_at(url, mount, encoded=encoded)
    try:
        check_source(source)
    except BadSource as error:
        raise BadSource(f"The URL {url[:80]!r} cannot be a source. {error.reason}") from None
    return source


def folder_of(source: str) -> str:
    """The folder, in each tree of a cache, of all that is kept of a source: its own name, so that a
    web server finds it, unless a segment could be taken for a file of the folder above it.

    Files are named as in `ImageRequest.filename`, or begin with a dot. No segment begins so, and
    one of the other form has a backslash here in place of its last dot, which no segment has. So
    no file is ever in the way of a folder, and `source_of` is the inverse.
    """
    if not _LIKE_A_FILE.search(source):  # which takes a tenth of the time
        return source
    return _LIKE_A_FILE.sub(r"\1\\\2", source)


def source_of(folder: str) -> str:
    """The source of a folder that `folder_of` gave."""
    return folder.replace("\\", ".")


def check_source(source: str) -> None:
    """Raise BadSource, with the reason, for a source that no origin is asked for."""
    if len(source) > _ORDINARY_LENGTH or not _ORDINARY.fullmatch(source):
        check_name(source)
        _check_room(source)


def _check_room(source: str) -> None:
    segments, length = source.count("/") + 1, len(source.encode())
    for there, allowed, unit in (
        (segments, MOST_SEGMENTS, "segments"),
        (length, LONGEST_SOURCE, "bytes"),
    ):
        if there > allowed:
            raise BadSource(
                f"The source has {there} {unit}; at most {allowed} are allowed. Give the picture a "
                "shorter path, or mount the folder that it is in as an origin of its own."
            )


def check_name(source: str) -> None:
    """Raise BadSource for what no source may be named, of whatever length."""
    segments = source.split("/")
    if not source:
        raise BadSource("The source is empty.")
    if "://" in source:
        raise BadSource(f"The source {source[:80]!r} is a URL; a source is the path of a picture "
                        "below its origin, like photos/cat.jpg.")  # fmt: skip
    if "" in segments:
        raise BadSource(f"The source {source[:80]!r} has an empty segment: it starts or ends with "
                        "a slash, or has two in a row. Write it like photos/cat.jpg.")  # fmt: skip
    if any(segment.startswith(".") for segment in segments):
        raise BadSource(f"The source {source[:80]!r} has a segment that starts with a dot.")
    if re.search(rf"[\\{_CONTROL}]", source):
        raise BadSource(f"The source {source[:80]!r} has a backslash or a control character.")
    if re.search(f"[{_SURROGATES}]", source):
        raise BadSource(f"The source {source[:80]!r} is not valid Unicode text.")
    if any(len(segment.encode()) > 255 for segment in segments):
        raise BadSource("The source has a segment of more than 255 bytes.")
    if re.fullmatch(_THUMBNAIL_NAME, segments[-1]):
        raise BadSource(f"The source {source[:80]!r} is itself the address of a thumbnail.")
