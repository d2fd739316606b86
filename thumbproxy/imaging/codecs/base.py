"""The contract of a codec: how files of a format are recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image

from thumbproxy.core.formats import Encoding, Format
from thumbproxy.imaging.codecs.animation import Animation
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.scratch import Memory, give_back


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels as they lie in the file, in a mode that resizing understands.

    image    L, LA, RGB, RGBX, RGBA or CMYK, without metadata; alpha only where something is clear
    eighths  the scale at which it was decoded
    icc      its colour profile; empty for none
    lease    memory that `image` points into, row after row and a row more, if it does; to be given
             back when it is no longer needed
    """

    image: Image.Image
    eighths: int = 8
    icc: bytes = b""
    lease: Memory | None = None

    def release(self) -> None:
        """Give the pixels' memory to the next decode. `image` must not be used after it."""
        if self.lease is not None:
            give_back(self.lease)


class Decoder(NamedTuple):
    """How a format is read. Both raise BrokenImage, MemoryError, and whatever else a library
    raises; all of that is the file's fault.

    still   the pixels of a file that holds a single picture; None: such a file has parts, too
    frames  the first frames, so many, of a file that is stored in parts (Header.in_parts)
    """

    still: Callable[[bytes, Header, Plan], Decoded] | None = None
    frames: Callable[[bytes, Header, int], Animation] | None = None


class AnimationWriter(Protocol):
    """frames  L, LA, RGB, RGBX or RGBA; sRGB; all of one size; at least one
    durations  ms of each; their sum is within 31 bits
    loop       how many times it is played; 0 for ever
    quality    1 to 100, where the format has one
    lossless   every pixel as it is, where the format can
    """

    def __call__(
        self,
        frames: Sequence[Image.Image],
        durations: Sequence[int],
        loop: int,
        quality: int,
        encoding: Encoding,
        *,
        lossless: bool,
    ) -> bytes: ...


class Encoder(NamedTuple):
    """How a format is written, in memory and without metadata, from L, LA, RGB or RGBA; sRGB.

    lossy      with a quality from 1 to 100; None: the format has none
    exact      with none, every pixel as it is as far as the format can; None: it cannot
    animation  see AnimationWriter; None: it cannot
    growth     how size grows with quality, at those of fitting.QUALITIES; empty without `lossy`
    """

    lossy: Callable[[Image.Image, Encoding, int], bytes] | None = None
    exact: Callable[[Image.Image, Encoding], bytes] | None = None
    animation: AnimationWriter | None = None
    growth: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A format as this installation can read and write it.

    recognises   whether a file is of this format, by its first bytes alone
    read_header  what its header says, read with bounds and without a decoder. Raises struct.error,
                 IndexError, BrokenImage and UnsupportedImage
    decoder      None: it cannot be read here
    encoder      None: it cannot be written here
    """

    format: Format
    recognises: Callable[[bytes], bool]
    read_header: Callable[[bytes], Header]
    decoder: Decoder | None
    encoder: Encoder | None
