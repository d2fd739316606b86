"""The values that travel through a request: sources and renditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from thumbproxy.core.formats import Format


@dataclass(frozen=True, slots=True)
class Validators:
    """What an origin gave to recognise a copy by (RFC 9110 section 8.8), as header values."""

    etag: str = ""
    last_modified: str = ""


class ClientTerms(NamedTuple):
    """For how long clients may keep a picture, by the word of its origin (RFC 9111, RFC 5861).

    Seconds count from when the origin confirmed the source, as `Age` does.

    max_age    0: they must ask each time
    s_maxage   the same for shared caches, where the origin tells them apart
    proxy_revalidate
               shared caches may not use it when it is stale
    stale_while_revalidate, stale_if_error
               seconds past its lifetime for which it may be used; None: it does not say
    storable   False: nobody may keep it
    """

    max_age: int = 0
    s_maxage: int | None = None
    proxy_revalidate: bool = False
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    storable: bool = True


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an encoded picture says; width and height are upright (EXIF applied)."""

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the engine made it. Times are seconds."""

    body: bytes
    format: Format
    width: int
    height: int
    render_seconds: float = 0.0
    encode_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rendition:
    """A picture as it is served: the whole of it in `body`, or in `file` if that is large.

    modified      unix seconds; with the length it makes the ETag, as in nginx
    cache_status  the parameters of RFC 9211 after the cache's name
    timings       (name, seconds) pairs for Server-Timing
    storable      False: the origin forbids to keep it (private, no-store)
    immutable     True: this URL will never show another picture
    file          open for reading, at position 0, in place of `body`; whoever sends it closes it
    size          bytes in `file`
    path          where it lies as a file, below the cache directory; None where it does not
    age           seconds since its source was last known to be this one; None: not told
    clients       for how long its origin lets clients keep it; None: it does not say
    """

    body: bytes
    format: Format
    modified: int
    cache_status: str
    timings: tuple[tuple[str, float], ...] = ()
    storable: bool = True
    immutable: bool = False
    file: BinaryIO | None = None
    size: int = 0
    path: str | None = None
    age: int | None = None
    clients: ClientTerms | None = None

    @property
    def length(self) -> int:
        """Bytes of the picture, wherever they are."""
        return len(self.body) if self.file is None else self.size

    def with_cache_status(
        self, cache_status: str, age: int | None, clients: ClientTerms | None
    ) -> Rendition:
        """The same, of which more is said. (dataclasses.replace takes 3 µs for it.)"""
        storable = self.storable and (clients is None or clients.storable)
        return Rendition(
            self.body, self.format, self.modified, cache_status, self.timings, storable,
            self.immutable, self.file, self.size, self.path, age, clients,
        )  # fmt: skip

    def in_memory(self) -> Rendition | None:
        """The same with all of it in `body`, for more than one to send; None if it cannot be
        read."""
        if self.file is None:
            return self
        try:
            with self.file as file:
                body = file.read()
        except OSError:
            return None
        return replace(self, body=body, file=None, size=0) if len(body) == self.size else None
