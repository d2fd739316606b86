"""urllib3's connections, kept alive, that tell a server which fails from a kept connection that
has grown stale, that know every interim response, and that refuse what is no HTTP."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    _Base = HTTPConnection
else:
    _Base = object


class StaleConnection(ConnectionResetError):
    """A kept connection was closed by the server before it answered: asking again is safe."""


def is_stale(error: BaseException | None) -> bool:
    """Whether a StaleConnection is what `error` was raised for."""
    while error is not None and not isinstance(error, StaleConnection):
        error = error.__cause__ or error.__context__
    return error is not None


_WORDS: dict[type[OSError], str] = {
    ConnectionRefusedError: "connection refused by",
    ConnectionResetError: "connection closed by",
    TimeoutError: "no whole answer in time from",
}


def told(error: BaseException, server: str) -> str:
    """What kept us from an answer of `server` ("host:port"), in words; "" if that is not known.

    Libraries wrap what happened in layers and show them all, with the request. Here is nothing of
    the request, so no secret either.
    """
    for cause in _causes(error):
        for kind, words in _WORDS.items():
            if isinstance(cause, kind):
                return f"{words} {server}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {server} is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return f"no connection to {server}: {cause.strerror}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised for: chained, or kept in it as urllib3 does."""
    seen: list[object] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and not any(cause is known for known in seen):
            seen.append(cause)
            yield cause
            waiting += [cause.__cause__ or cause.__context__, getattr(cause, "reason", None)]
            waiting += cause.args


# A line of a head as RFC 9112 has it, but that its end may be a bare LF (section 2.2). A bare CR,
# which http.client takes for the end of a line, must not be (same section); space before the colon
# hides a header (section 5.1); and behind what is no header line, http.client finds no headers.
_TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_STATUS_LINE = re.compile(rb"HTTP/" + _TEXT + rb"\r?\n")
_FIELD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:" + _TEXT + rb"\r?\n")
_FOLDED_LINE = re.compile(rb"[ \t]" + _TEXT + rb"\r?\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;" + _TEXT + rb")?\r?\n")
_LONGEST_HEAD = 64 * 1024  # bytes, with all interim responses
_LONGEST_CHUNK_LINE = 4096


class _Head:
    """A file of which only well-formed heads of responses are read, line by line.

    folds  whether a header may go on in the next line, as long ago
    """

    def __init__(self, file: Any, *, folds: bool) -> None:
        self.file = file
        self._fields = (_FIELD_LINE, _FOLDED_LINE) if folds else (_FIELD_LINE,)
        self._left = _LONGEST_HEAD
        self._between = True

    def readline(self, limit: int) -> bytes:
        line: bytes = self.file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException(f"headers of more than {_LONGEST_HEAD} bytes")
        if self._between:
            self._between = False
            if line and not _STATUS_LINE.fullmatch(line):
                raise http.client.BadStatusLine(repr(line[:80]))
        elif line in (b"\r\n", b"\n"):
            self._between = True  # what was read may have been an interim response
        elif not line.endswith(b"\n"):
            raise http.client.HTTPException("the headers are cut off")
        elif not any(form.fullmatch(line) for form in self._fields):
            # Its value may be a secret.
            name = line.partition(b":")[0][:80]
            raise http.client.HTTPException(f"a malformed header line: {name!r}")
        return line

    def close(self) -> None:
        self.file.close()


class FinalResponse(http.client.HTTPResponse):
    """Skips every interim response, and takes no head or chunk that is malformed.

    http.client skips only 100, and would take a 103 (Early Hints, RFC 8297) for the final one.
    """

    # "A proxy or gateway that receives an obs-fold in a response message [...] MUST either discard
    # the message and replace it with a 502 (Bad Gateway) response [...] or replace each received
    # obs-fold with one or more SP octets" (RFC 9112 section 5.2). Here whoever reads decides.
    folds = True

    def begin(self) -> None:
        file: Any = self.fp
        head: Any = _Head(file, folds=self.folds)
        self.fp = head
        try:
            super().begin()
        finally:
            if self.fp is head:  # else it was closed
                self.fp = file
        self._check_framing()

    def _check_framing(self) -> None:
        codings = ",".join(self.headers.get_all("Transfer-Encoding", [])).strip().lower()
        if codings not in ("", "identity", "chunked"):
            raise http.client.HTTPException(f"Transfer-Encoding {codings!r}")
        lines = self.headers.get_all("Content-Length", [])
        # http.client reads the first and ignores the others. urllib3 refuses them, but too late:
        # the response stays open.
        if len({value.strip() for line in lines for value in line.split(",")}) > 1:
            raise http.client.HTTPException(f"more than one Content-Length: {lines}")

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        interim = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, int(http.HTTPStatus.CONTINUE) if interim else status, reason

    def _read_next_chunk_size(self) -> int:
        # http.client takes whatever int() does: "-5", "0x5", "5_0".
        line = self.fp.readline(_LONGEST_CHUNK_LINE)
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise ValueError(f"a malformed chunk: {line[:80]!r}")  # becomes IncompleteRead
        return int(size[1], 16)


class Kept(_Base):
    """Mixed into a connection: tells when it has grown stale."""

    response_class = FinalResponse
    _answered = False

    def connect(self) -> None:
        self._answered = False
        super().connect()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except ConnectionError as error:  # http.client.RemoteDisconnected is one
            if self._answered:
                raise StaleConnection(str(error)) from error
            raise
        self._answered = True
        return response


class KeptHTTPConnection(Kept, HTTPConnection):
    pass


class KeptHTTPSConnection(Kept, HTTPSConnection):
    pass


class KeptHTTPPool(HTTPConnectionPool):
    ConnectionCls = KeptHTTPConnection


class KeptHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = KeptHTTPSConnection
