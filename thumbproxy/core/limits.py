"""The limits of one request, as values."""

from __future__ import annotations

import time
from dataclasses import dataclass

# Of address space, for a process that makes pictures; bytes.
RENDER_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds that protect the server. Each has a safe default.

    source_bytes     size of a source file, bytes
    source_pixels    width x height x frames of a source, pixels
    source_side      longest side of a source, pixels
    frames           frames of an animation that is written; as a still picture it may have more
    output_side      longest side of an output, pixels; also the bound of `w` and `h` times `dpr`
    fetch_seconds    one fetch from the origin, all redirects and the body included
    request_seconds  one request, waiting for others included
    render_seconds   one render, of a processor
    redirects        hops that a fetch follows

    Example:

        from thumbproxy import Limits, Thumbnails

        keys = ["your signing key"]
        large = Thumbnails(keys, limits=Limits(output_side=8192))  # max_output_side of the servers
        url = large.url("photos/cat.jpg", width=6000)
    """

    source_bytes: int = 30 * 1024 * 1024
    source_pixels: int = 50_000_000
    source_side: int = 16_384
    frames: int = 500
    output_side: int = 4_096
    fetch_seconds: float = 10
    request_seconds: float = 25
    render_seconds: float = 10
    redirects: int = 3


class Deadline:
    """A moment on the monotonic clock by which something must have ended."""

    __slots__ = ("at",)

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one `seconds` from now."""
        return Deadline(min(self.remaining, seconds))
