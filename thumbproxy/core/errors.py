"""Everything that can go wrong, as one tree.

    ThumbproxyError
    ├── RequestError                  the URL is at fault
    │   ├── NotAThumbnailUrl   404
    │   ├── MethodNotAllowed   405
    │   ├── BadSignature       403
    │   ├── BadSource          400
    │   ├── BadOptions         400
    │   ├── Expired            410
    │   └── LoopDetected       508
    ├── SourceError                   the origin's picture is at fault
    │   ├── SourceWithdrawn             the origin does not give it (any more)
    │   │   ├── SourceNotFound 404
    │   │   ├── SourceRefused  403
    │   │   └── SourceBlocked  451
    │   ├── SourceTooLarge     413
    │   ├── UnsupportedImage   415
    │   └── BrokenImage        422
    │       └── DecoderFailed  422
    ├── OriginError                   the origin is at fault
    │   ├── OriginFailed       502
    │   ├── OriginBusy         503
    │   └── OriginTimeout      504
    ├── CapacityError                 we are at fault
    │   ├── Overloaded         503
    │   ├── RenderKilled       503
    │   ├── TooSlow            504
    │   │   └── RenderTooSlow  504
    │   └── EngineFailed       500
    └── ClientGone             499    nobody waits for the reply any more

Each class carries its HTTP status and a token for machines. `reason` is one sentence for the
person who sees it, without internals; `log` is what the operator should know besides.
"""

from __future__ import annotations

from typing import ClassVar, Self


class ThumbproxyError(Exception):
    """Base of all errors that become an HTTP reply.

    status       of that reply, by its class
    token        the same for machines, as `bad-options`
    reason       one sentence for whoever sees it, without internals
    log          what the operator should know besides
    retry_after  seconds after which it is worth asking again; None where that cannot be said

    Example:

        from thumbproxy import ThumbproxyError

        try:
            thumbs.url("photos/cat.jpg", width=-1)
        except ThumbproxyError as error:
            assert (error.status, error.token) == (400, "bad-options")
    """

    status: ClassVar[int]
    token: ClassVar[str]
    default_reason: ClassVar[str]
    ours: ClassVar[bool] = False
    # Seconds after which it is worth asking again, where that can be said.
    retry_after: int | None = None

    def __init__(self, reason: str = "", *, log: str = "", retry_after: int | None = None) -> None:
        self.reason = reason or self.default_reason
        self.log = log
        if retry_after is not None:
            self.retry_after = retry_after
        super().__init__(self.reason)

    def fresh(self) -> Self:
        """The same failure as a new exception: one per thread that raises it."""
        return type(self)(self.reason, log=self.log, retry_after=self.retry_after)


class RequestError(ThumbproxyError):
    """The URL is at fault; asking the origin would be pointless."""


class NotAThumbnailUrl(RequestError):
    status, token = 404, "not-a-thumbnail-url"
    default_reason = "This is not the address of a thumbnail."


class MethodNotAllowed(RequestError):
    status, token = 405, "method-not-allowed"
    default_reason = "Thumbnails answer GET and HEAD only."


class BadSignature(RequestError):
    status, token = 403, "bad-signature"
    default_reason = (
        "The signature of this address does not match it. "
        "It must be signed again, with a key of this server, after every change."
    )


class BadSource(RequestError, ValueError):
    """A source that no URL can have; docs/urls.md says which can.

    Example:

        from thumbproxy import BadSource

        try:
            thumbs.url("../secret.jpg")
        except BadSource as error:
            print(error.reason)
    """

    status, token = 400, "bad-source"
    default_reason = "The source part of this address is not allowed."


class BadOptions(RequestError, ValueError):
    """Options that no picture can be made with, or that are over a limit.

    Example:

        from thumbproxy import BadOptions

        try:
            thumbs.url("photos/cat.jpg", width="wide")
        except BadOptions as error:
            print(error.reason)
    """

    status, token = 400, "bad-options"
    default_reason = "The options of this address are not allowed."


class Expired(RequestError):
    status, token = 410, "expired"
    default_reason = "This address has expired."


class LoopDetected(RequestError):
    status, token = 508, "loop-detected"
    default_reason = "The source of this thumbnail leads back to thumbproxy itself."


class SourceError(ThumbproxyError):
    """The origin answered, but not with a picture that can be used."""


class SourceWithdrawn(SourceError):
    """The origin does not give the picture, whatever there was before: nothing that is kept of it
    may be served on. Its status is never a 5xx, for which other caches may serve what they have."""


class SourceNotFound(SourceWithdrawn):
    status, token = 404, "source-not-found"
    default_reason = "The source image was not found."


class SourceRefused(SourceWithdrawn):
    status, token = 403, "source-refused"
    default_reason = "The origin refuses to give the source image."


class SourceBlocked(SourceWithdrawn):
    """RFC 7725."""

    status, token = 451, "source-blocked"
    default_reason = "The source image is unavailable for legal reasons."


class SourceTooLarge(SourceError):
    status, token = 413, "source-too-large"
    default_reason = "The source image has too many bytes."


class UnsupportedImage(SourceError):
    status, token = 415, "unsupported-image"
    default_reason = "The source is no image of a supported format (JPEG, PNG, GIF, WebP, AVIF)."


class BrokenImage(SourceError):
    status, token = 422, "broken-image"
    default_reason = "The source image is damaged or cut short."


class DecoderFailed(BrokenImage):
    """What decoded it has crashed, or was killed for it."""

    status, token = 422, "decoder-failed"
    default_reason = "The source image could not be decoded."


class OriginError(ThumbproxyError):
    """The origin did not answer as it should."""


class OriginFailed(OriginError):
    status, token = 502, "origin-failed"
    default_reason = "The origin did not deliver the source image."


class OriginBusy(OriginError):
    status, token = 503, "origin-busy"
    default_reason = "The origin asks for patience. Please try again later."
    retry_after = 5


class OriginTimeout(OriginError):
    status, token = 504, "origin-timeout"
    default_reason = "The origin took too long to deliver the source image."


class CapacityError(ThumbproxyError):
    """We could not do the work."""

    ours = True


class Overloaded(CapacityError):
    status, token = 503, "overloaded"
    default_reason = "Too many images are being made at the moment. Please try again."
    retry_after = 1


class RenderKilled(CapacityError):
    """SIGKILL ended the render, which nothing in a picture sends: the kernel does, for want of
    memory, or an operator."""

    status, token = 503, "render-killed"
    default_reason = "This server has too little memory for the image now. Please try again later."
    retry_after = 5


class TooSlow(CapacityError):
    status, token = 504, "too-slow"
    default_reason = "Making this image took too long."


class RenderTooSlow(TooSlow):
    """The render itself took longer than a render may."""


class EngineFailed(CapacityError):
    status, token = 500, "engine-failed"
    default_reason = "The image could not be made."


class ClientGone(ThumbproxyError):
    """Everybody who asked has hung up. The status is the one that nginx logs for it."""

    status, token = 499, "client-gone"
    default_reason = "The client closed the connection."


class SettingsError(ValueError):
    """The configuration cannot be used.

    faults  every fault found, a sentence each

    Example:

        from thumbproxy import SettingsError, ThumbProxy

        try:
            ThumbProxy(app, keys=["your signing key"], max_age="for ever")
        except SettingsError as error:
            print(*error.faults, sep="\\n")
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class PurgeFailed(Exception):
    """A cache could not be purged, and may still have what it had. The message says which."""
