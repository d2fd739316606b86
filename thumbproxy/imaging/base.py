"""What the rest of thumbproxy knows of an engine."""

from __future__ import annotations

from typing import Protocol

from thumbproxy.media import Encoded, Format, ImageInfo
from thumbproxy.options import Options


class Engine(Protocol):
    """Turns an encoded source into an encoded picture. Holds no state that a render changes,
    so that any number of threads may use one engine."""

    def inspect(self, source: bytes) -> ImageInfo:
        """What the header of `source` says, without decoding pixels.

        Raises UnsupportedImage (not an allowed format, by magic bytes) and BrokenImage (a header
        that cannot be read, or a picture over the pixel limits).
        """
        ...

    def render(self, source: bytes, options: Options, format: Format) -> Encoded:
        """The picture that `options` describe, encoded as `format`, without metadata.

        Raises UnsupportedImage, BrokenImage; nothing else for any source bytes. BadOptions, when
        the options ask for a part or a page that the picture does not have, or for a format that
        the engine cannot write.
        """
        ...
