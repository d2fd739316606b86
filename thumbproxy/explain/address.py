"""The meaning of a URL, and what is wrong with it."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from thumbproxy.config.types import EXAMPLE_KEYS
from thumbproxy.core.errors import BadOptions, Expired, NotAThumbnailUrl, RequestError
from thumbproxy.core.formats import OUTPUTS
from thumbproxy.core.limits import Limits
from thumbproxy.urls.codec import AUTO, ImageRequest, UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer


class Pieces(NamedTuple):
    """The parts of an address, as its text has them."""

    source: str
    options: str
    signature: str
    format: str

    @property
    def signed(self) -> str:
        """What the signature is over."""
        return f"{self.source}/{self.options}.{self.format}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address, read as far as it can be.

    path       decoded, without query
    pieces     None for what is not of the grammar
    key        by which of the keys it is signed, 0 the newest; None: by none
    request    what it asks for, if it is signed and allowed; also when it has expired
    fault      what a server answers in place of a picture
    canonical  the path as it would be written, percent-encoded; "" if that cannot be told
    hints      what may have happened to it, the likeliest first
    """

    path: str
    pieces: Pieces | None = None
    key: int | None = None
    request: ImageRequest | None = None
    fault: RequestError | None = None
    canonical: str = ""
    hints: tuple[str, ...] = ()


class Reader:
    """Reads addresses as a server with these keys and this prefix does."""

    def __init__(
        self,
        keys: Sequence[str],
        *,
        prefix: str,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signers = [Signer([key]) for key in keys]
        # It never finds an address expired: what has expired is to be explained as well.
        self._urls = UrlCodec(Signer(keys), prefix=prefix, limits=limits, clock=lambda: 0)
        self._prefix = self._urls.prefix
        self._clock = clock

    def read(self, url: str) -> Address:
        """From a whole URL or a path, with or without a query."""
        raw = _split_url(url)
        path = unquote(raw.path)
        pieces = self._pieces(path)
        try:
            request = self._urls.parse(path)
            if request is None:
                raise NotAThumbnailUrl(f"The path does not begin with {self._prefix}.")
        except RequestError as error:
            hints = [] if self._key(pieces) is not None else list(self._hints(raw.path, raw.query))
            return Address(path, pieces, self._key(pieces), None, error,
                           self._canonical(pieces), tuple(hints))  # fmt: skip
        expires = request.options.expires
        fault = Expired() if expires is not None and expires <= self._clock() else None
        return Address(path, pieces, self._key(pieces), request, fault, self._canonical(pieces), ())

    def _pieces(self, path: str) -> Pieces | None:
        parts = path.removeprefix(self._prefix).rsplit(".", 2)
        if not path.startswith(self._prefix) or len(parts) != 3 or parts[2] not in _FORMATS:
            return None
        source, slash, options = parts[0].rpartition("/")
        if not slash or "/" in parts[1]:
            return None
        return Pieces(source, options, parts[1], parts[2])

    def _key(self, pieces: Pieces | None) -> int | None:
        for number, signer in enumerate(self._signers):
            if pieces is not None and _holds(signer, pieces):
                return number
        return None

    def _canonical(self, pieces: Pieces | None) -> str:
        """The address as it would be written, with its signature where it keeps it."""
        if pieces is None:
            return ""
        try:
            options = str(Options.read(pieces.options))
        except BadOptions:
            return ""
        if options != pieces.options:
            pieces = pieces._replace(options=options, signature="SIGNATURE")
        name = f"{pieces.options}.{pieces.signature}.{pieces.format}"
        with suppress(UnicodeEncodeError):
            return quote(f"{self._prefix}{pieces.source}/{name}", safe="/~-._!$'()*,;=:@")
        return ""  # bytes that are no UTF-8 are in no address

    # -- hints -----------------------------------------------------------------------------

    def _hints(self, raw: str, query: str) -> Iterator[str]:
        """What would make the signature hold; then what can be seen without that."""
        path = unquote(raw)
        for hint, changed in _changes(path, raw, query, self._prefix):
            if changed != path and self._key(self._pieces(changed)) is not None:
                yield hint
                return
        pieces = self._pieces(path)
        if pieces is None:
            yield from self._elsewhere(path)
            return
        for hint, other in _other_pieces(pieces, self._prefix):
            if self._key(other) is not None:
                yield hint
                return
        if any(_holds(Signer([key]), pieces) for key in EXAMPLE_KEYS):
            yield "It is signed with an example key of the documentation, which no server takes."
        elif len(pieces.signature) != 22:
            yield (f"A signature has 22 characters, this one has {len(pieces.signature)}: "
                   "something was cut off or added.")  # fmt: skip
        else:
            yield ("It is signed with another key than those configured here, or something in it "
                   "was changed after it was signed.")  # fmt: skip
        if query:
            yield "The query string is not part of the signature, and is ignored."

    def _elsewhere(self, path: str) -> Iterator[str]:
        """The rest of the path may be right, below another prefix."""
        for start in range(len(path)):
            if path[start] == "/":
                pieces = self._pieces(self._prefix + path[start + 1 :])
                if self._key(pieces) is not None:
                    before = path[: start + 1]
                    yield (f"Wrong prefix: it has {before}, and the prefix here is {self._prefix} "
                           "(--prefix, or where a web server mounts thumbproxy).")  # fmt: skip
                    return
        yield f"An address is {self._prefix}SOURCE/OPTIONS.SIGNATURE.FORMAT."


_FORMATS = (*OUTPUTS, AUTO)


def _split_url(url: str) -> SplitResult:
    whole = "://" in url and not url.startswith("/")
    try:
        return urlsplit(url if whole else f"//host/{url.lstrip('/')}")
    except ValueError:  # a host that is none
        return urlsplit("//host/")


def _holds(signer: Signer, pieces: Pieces) -> bool:
    with suppress(UnicodeEncodeError):
        return signer.verify(pieces.signed, pieces.signature)
    return False


def _changes(path: str, raw: str, query: str, prefix: str) -> Iterator[tuple[str, str]]:
    """What web servers, CDNs and copying do to addresses: a hint, and the path without it."""
    yield ("It is percent-encoded twice: %2520 for a space, for example. Something encodes "
           "addresses that are encoded already."), unquote(path)  # fmt: skip
    yield "It was not percent-encoded: a % in a source is written %25.", raw
    if query:
        yield ("The ? belongs to the source and must be written %3F: what follows a plain ? is "
               "the query string, which is ignored."), unquote(f"{raw}?{query}")  # fmt: skip
    yield "A space was written as +; in a path it is %20.", path.replace("+", " ")
    for form in ("NFC", "NFD"):
        yield (f"The accents are spelled in another form of Unicode; it was signed as {form}.",
               unicodedata.normalize(form, path))  # fmt: skip
    with suppress(UnicodeError):
        yield ("UTF-8 was taken for Latin-1 and encoded again.",
               path.encode("latin-1").decode())  # fmt: skip
    yield "Something was copied along behind it.", path.rstrip(" )>]}\"',;.")
    if "//" in path:
        yield "It has two slashes in a row.", path.replace("//", "/")
    yield "The prefix is in it twice.", prefix + path.removeprefix(prefix).removeprefix(prefix[1:])


def _other_pieces(pieces: Pieces, prefix: str) -> Iterator[tuple[str, Pieces]]:
    with suppress(BadOptions):
        canonical = str(Options.read(pieces.options))
        yield (f"The options are not as they were signed: that was {canonical}. Something "
               "sorted or rewrote them."), pieces._replace(options=canonical)  # fmt: skip
    for format in _FORMATS:
        yield (f"It was signed for .{format}; the format is part of what is signed.",
               pieces._replace(format=format))  # fmt: skip
    yield ("The prefix was signed as a part of the source; it does not belong there.",
           pieces._replace(source=prefix.strip("/") + "/" + pieces.source))  # fmt: skip
    folder, slash, rest = pieces.source.partition("/")
    if slash:
        yield (f"It was signed without the folder {folder}/.", pieces._replace(source=rest))
    yield ("Plain base64 was written: - and _ stand for + and /.",
           pieces._replace(signature=pieces.signature.translate({43: 45, 47: 95})))  # fmt: skip
