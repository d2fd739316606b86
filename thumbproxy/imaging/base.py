"""The contract of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from thumbproxy.core.formats import Format
from thumbproxy.core.media import Encoded, ImageInfo
from thumbproxy.urls.options import Options


class Engine(Protocol):
    """Turns an encoded source into an encoded picture. Holds no state that a render changes,
    so that any number of threads may use one engine."""

    def inspect(self, source: bytes) -> ImageInfo:
        """What the header of `source` says, without decoding pixels.

        Raises UnsupportedImage (not an allowed format, by magic bytes) and BrokenImage (a header
        that cannot be read, or a picture over the pixel limits).
        """
        ...

    def check(self, options: Options, format: Format) -> None:
        """Raise BadOptions for what this engine cannot make of any source."""
        ...

    def output_size(self, info: ImageInfo, options: Options) -> tuple[int, int]:
        """Width and height of the picture that `options` would give, px; with `trim`, the most.

        Raises BadOptions, as `render` would.
        """
        ...

    def pixels(self, info: ImageInfo, options: Options, format: Format) -> int:
        """How many pixels `render` has in memory at a time, about: of the decoded source and of
        the picture. Raises BadOptions, as `render` would."""
        ...

    def render(
        self,
        source: bytes,
        options: Options,
        format: Format,
        *,
        fallback: Format | None = None,
    ) -> Encoded:
        """The picture that `options` describe, encoded as `format`, without metadata.

        fallback  the format that a client would have got instead: what is made has no more bytes
                  than that would have, where it is cheap to know
        Raises UnsupportedImage, BrokenImage, MemoryError; nothing else for any source bytes.
        BadOptions, when the options ask for a part or a page that the picture does not have, or
        for what `check` refuses.
        """
        ...

    def render_many(
        self, source: bytes, variants: Sequence[tuple[Options, Format]]
    ) -> list[Encoded]:
        """Several pictures of one source, in the order of `variants`, for less than one by one.

        The source is decoded once, and small pictures are made from larger ones where that is
        as good. Raises as `render` does when any of them fails.
        """
        ...
