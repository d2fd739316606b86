"""Sources from a URL: listings of S3 and compatible servers, sitemaps, plain lists."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import requests

from thumbproxy._version import __version__
from thumbproxy.http.client_connections import told
from thumbproxy.warm.markup import BadMarkup, leaves
from thumbproxy.warm.names import Found, Names, bounded_lines, from_lines, looks_like_picture

# The protocol of sitemaps allows 50 MB, and no index in an index.
_LARGEST_DOCUMENT = 64 * 1024 * 1024
_DEEPEST_INDEX = 2
_CHUNK = 64 * 1024
_GZIP = b"\x1f\x8b"
_MARKUP = (b"<", b"\xff\xfe", b"\xfe\xff")  # the last two: UTF-16
_TIMEOUT = (10, 60)

Leaf = tuple[str, str]


class ListingFailed(Exception):
    """The listing could not be read to its end. The message says why."""


class Listing:
    """The sources that a URL lists.

    By its first element it is a listing of a bucket (ListObjectsV2, or the first version), a
    sitemap or an index of sitemaps; what is no XML is a list with one source a line. Each
    iteration asks for page after page. Raises ListingFailed.
    """

    def __init__(self, url: str, names: Names) -> None:
        self._url = url
        self._names = names
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.max_redirects = 3
        self._session.headers["User-Agent"] = f"thumbproxy-warm/{__version__}"

    def __iter__(self) -> Iterator[Found]:
        url = self._url
        while url:
            try:
                following = yield from self._document(url, 0)
            except (requests.RequestException, BadMarkup, zlib.error) as error:
                why = told(error, urlsplit(url).netloc.rpartition("@")[2]) or str(error)
                raise ListingFailed(f"{url}: {why}") from error
            if following == url:
                raise ListingFailed(f"{url}: the next page is this one again")
            url = following

    def _document(self, url: str, depth: int) -> Generator[Found, None, str]:
        """What one document lists; returns the URL of the page that continues it, or ""."""
        with closing(self._ask(url, redirects=depth == 0)) as response:
            chunks = _bounded(_unzipped(response.iter_content(_CHUNK)))
            beginning = next(chunks, b"")
            chunks = chain([beginning], chunks)
            if not beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_MARKUP):
                yield from from_lines(bounded_lines(chunks), self._names, url)
                return ""
            elements = leaves(chunks)
            first = next(elements)  # there is one: what has no element is no XML
            elements = chain([first], elements)
            root = first[0].partition("/")[0]
            if root == "ListBucketResult":
                return (yield from self._bucket(url, elements))
            if root == "urlset":
                yield from self._sitemap(elements)
                return ""
            if root == "sitemapindex":
                yield from self._index(response.url, elements, depth)
                return ""
            raise BadMarkup(f"<{root}> is neither a sitemap nor the listing of a bucket")

    def _ask(self, url: str, *, redirects: bool) -> requests.Response:
        response = self._session.get(url, stream=True, timeout=_TIMEOUT, allow_redirects=redirects)
        if response.status_code != 200:
            response.close()
            raise ListingFailed(f"{url}: it answers {response.status_code} {response.reason}")
        return response

    def _bucket(self, url: str, elements: Iterable[Leaf]) -> Generator[Found, None, str]:
        """One page, of a thousand keys; returns the URL of the next, or ""."""
        facts: dict[str, str] = {}
        keys = []
        for path, text in elements:
            name = path.removeprefix("ListBucketResult/")
            if name == "Contents/Key":
                keys.append(text)
            elif "/" not in name:
                facts[name] = text
        # EncodingType may stand behind the keys.
        decoded = [unquote_plus(key) for key in keys] if facts.get("EncodingType") else keys
        for key in decoded:
            if looks_like_picture(key):
                yield self._names.name(key, key)
        if facts.get("IsTruncated") != "true":
            return ""
        if token := facts.get("NextContinuationToken"):
            return _with_query(url, "continuation-token", token)
        return _with_query(url, "marker", facts.get("NextMarker") or "".join(decoded[-1:]))

    def _sitemap(self, elements: Iterable[Leaf]) -> Iterator[Found]:
        for path, text in elements:
            # Pages are listed to be looked at; the pictures on them are named below.
            picture = path == "urlset/url/loc" and looks_like_picture(urlsplit(text).path)
            if picture or path == "urlset/url/image/loc":
                yield self._names.url(text, text)

    def _index(self, url: str, elements: Iterable[Leaf], depth: int) -> Iterator[Found]:
        if depth == _DEEPEST_INDEX:
            raise BadMarkup(f"indexes of sitemaps are nested more than {_DEEPEST_INDEX} deep")
        for path, text in elements:
            if path != "sitemapindex/sitemap/loc":
                continue
            # What a server lists must not make us ask others, perhaps inside our own network.
            if urlsplit(text)[:2] != urlsplit(url)[:2]:
                raise BadMarkup(f"the sitemap {text} is on another server")
            yield from self._document(text, depth + 1)


def _with_query(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != name]
    return parts._replace(query=urlencode([*query, (name, value)])).geturl()


def _unzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What a .gz file holds, in pieces no larger than a chunk; other files as they are."""
    pieces = iter(chunks)
    beginning = next(pieces, b"")
    if not beginning.startswith(_GZIP):
        yield from chain([beginning], pieces)
        return
    unzip = zlib.decompressobj(wbits=31)
    for chunk in chain([beginning], pieces):
        pending = chunk
        while pending and not unzip.eof:
            yield unzip.decompress(pending, _CHUNK)
            pending = unzip.unconsumed_tail
    if not unzip.eof:
        raise BadMarkup("it is cut short")


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > _LARGEST_DOCUMENT:
            raise BadMarkup(f"it has more than {_LARGEST_DOCUMENT >> 20} MiB")
        yield chunk
