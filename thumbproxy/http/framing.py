"""Responses of HTTP servers as RFC 9112 frames them: heads that are refused if they are malformed,
every interim response skipped, and where a body ends never guessed."""

from __future__ import annotations

import http.client
import re
from typing import Any

# A line of a head as RFC 9112 has it, but that its end may be a bare LF (section 2.2). A bare CR,
# which http.client takes for the end of a line, must not be (same section); space before the colon
# hides a header (section 5.1); and behind what is no header line, http.client finds no headers.
_TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_STATUS_LINE = re.compile(rb"HTTP/" + _TEXT + rb"\r?\n")
_FIELD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:" + _TEXT + rb"\r?\n")
_FOLDED_LINE = re.compile(rb"[ \t]" + _TEXT + rb"\r?\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;" + _TEXT + rb")?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BODILESS = (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED)
_HTTP_1_0 = 10
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


def _content_length(lines: list[str]) -> int | None:
    """Of a message without Transfer-Encoding; None where there is none. Raises HTTPException.

    "If a message is received without Transfer-Encoding and with an invalid Content-Length header
    field, then the message framing is invalid and the recipient MUST treat it as an unrecoverable
    error, unless the field value can be successfully parsed as a comma-separated list [...], all
    values in the list are valid, and all values in the list are the same" (RFC 9112 section 6.3).
    """
    if not lines:
        return None
    first, *others = {value.strip(" \t") for value in ",".join(lines).split(",")} - {""} or {""}
    if others or not _LENGTH.fullmatch(first):
        raise http.client.HTTPException(f"Content-Length {', '.join(lines)[:80]!r}")
    return int(first)


class FinalResponse(http.client.HTTPResponse):
    """Skips every interim response, and takes no head or chunk that is malformed.

    http.client skips only 100, and would take a 103 (Early Hints, RFC 8297) for the final one.
    """

    # "A proxy or gateway that receives an obs-fold in a response message [...] MUST either discard
    # the message and replace it with a 502 (Bad Gateway) response [...] or replace each received
    # obs-fold with one or more SP octets" (RFC 9112 section 5.2). Here whoever reads decides.
    folds = True
    _method: str  # http.client's

    def begin(self) -> None:
        file: Any = self.fp
        head: Any = _Head(file, folds=self.folds)
        self.fp = head
        try:
            super().begin()
        finally:
            if self.fp is head:  # else it was closed
                self.fp = file
        self._frame()

    def _frame(self) -> None:
        """Where the message ends (RFC 9112 section 6.3), which http.client takes too lightly."""
        codings = ",".join(self.headers.get_all("Transfer-Encoding", [])).strip().lower()
        # We accept none but chunked (no TE, section 7.4), and what is decoded in part only would
        # be another message.
        if codings not in ("", "identity", "chunked"):
            raise http.client.HTTPException(f"Transfer-Encoding {codings[:80]!r}")
        lengths = [] if codings else self.headers.get_all("Content-Length", [])
        self.length = _content_length(lengths)
        if len(lengths) > 1 or (lengths and lengths[0] != str(self.length)):
            del self.headers["Content-Length"]
            self.headers["Content-Length"] = str(self.length)
        if self._method == "HEAD" or self.status in _BODILESS:
            # "always terminated by the first empty line after the header fields, regardless of the
            # header fields present in the message". Of a body that comes all the same nobody knows
            # where it ends.
            announced = self.status == http.HTTPStatus.NO_CONTENT and (codings or self.length)
            self.will_close |= bool(announced)
            self.chunked, self.length = False, 0
        else:
            # http.client overlooks it with a space behind.
            self.chunked, self.chunk_left = codings == "chunked", None
            self.will_close |= not self.chunked and self.length is None
        # "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding
        # header field MUST [...] close the connection after processing the message" (section 6.1).
        self.will_close |= self.version == _HTTP_1_0 and bool(codings)

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            # "A server MUST NOT switch to a protocol that was not indicated by the client in the
            # corresponding request's Upgrade header field" (RFC 9110 section 7.8): we send none.
            raise http.client.HTTPException("it switches to a protocol that nobody asked for")
        return version, int(http.HTTPStatus.CONTINUE) if 100 < status < 200 else status, reason

    def _read_next_chunk_size(self) -> int:
        # http.client takes whatever int() does: "-5", "0x5", "5_0".
        line = self.fp.readline(_LONGEST_CHUNK_LINE)
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise ValueError(f"a malformed chunk: {line[:80]!r}")  # becomes IncompleteRead
        return int(size[1], 16)
