"""What a worker and its render processes say to each other: a header of JSON, then bytes.

A worker says what is to be made of which source, and is believed. A render process works on what
strangers have made; it may have been taken over by it. So its replies are held against what was
asked for, whatever they say, and nothing in them is more than text, numbers and a picture.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from thumbproxy.core.errors import (
    BadOptions,
    BrokenImage,
    DecoderFailed,
    EngineFailed,
    SourceTooLarge,
    ThumbproxyError,
    UnsupportedImage,
)
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Encoded
from thumbproxy.rendering.base import Task
from thumbproxy.urls.options import Options

HEAD = struct.Struct("!I")  # the length of the header
MOST_HEADER = 64 * 1024
_MOST_REASON, _MOST_LOG, _MOST_WORDS = 400, 1000, 200
_MOST_SECONDS = 1e6
# A pixel of noise, losslessly: four bytes and what the format adds.
_BYTES_PER_PIXEL, _MORE_BYTES = 5, 1024 * 1024

# The errors that a render may end with.
_ERRORS: dict[str, type[ThumbproxyError]] = {
    kind.token: kind
    for kind in (UnsupportedImage, BrokenImage, DecoderFailed, SourceTooLarge, BadOptions,
                 EngineFailed)
}  # fmt: skip


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ProtocolError(Exception):
    """A render process said what none would say that is in its right mind."""


class Reply(NamedTuple):
    """What became of a task, as far as the header of a reply says.

    lengths   bytes of each picture that follows
    pictures  all but their bytes; or
    error     why there is none
    resident  memory that the process has now, bytes
    """

    lengths: tuple[int, ...]
    pictures: tuple[Encoded, ...]
    error: ThumbproxyError | None
    resident: int


def _framed(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return HEAD.pack(len(text)) + text


# --- a worker to a render process


def order(task: Task) -> bytes:
    """The header of a task; its source follows."""
    return _framed(
        {
            "variants": [(str(options), format.value) for options, format in task.variants],
            "fallback": task.fallback and task.fallback.value,
            "seconds": task.seconds,
            "length": len(task.source),
        }
    )


def read_order(file: Readable) -> Task | None:
    """The next task; None when there will be none."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    order = json.loads(file.read(HEAD.unpack(head)[0]))
    source = file.read(order["length"])
    if len(source) < order["length"]:
        return None
    variants = tuple((Options.parse(text), Format(name)) for text, name in order["variants"])
    fallback = Format(order["fallback"]) if order["fallback"] else None
    return Task(source, variants, fallback, order["seconds"])


# --- a render process to its worker


def hello(sandbox: dict[str, str]) -> bytes:
    return _framed({"sandbox": sandbox})


def made(pictures: Sequence[Encoded], resident: int) -> bytes:
    facts = [
        (len(one.body), one.width, one.height, one.render_seconds, one.encode_seconds)
        for one in pictures
    ]
    return _framed({"made": facts, "resident": resident}) + b"".join(one.body for one in pictures)


def failed(error: ThumbproxyError, resident: int) -> bytes:
    token = error.token if error.token in _ERRORS else EngineFailed.token
    facts = {
        "failed": token,
        "reason": error.reason[:_MOST_REASON],
        "log": error.log[:_MOST_LOG],
        "resident": resident,
    }
    return _framed(facts)


def header_length(head: bytes) -> int:
    """Raises Garbled."""
    return _number(HEAD.unpack(head)[0], 2, MOST_HEADER)


def read_hello(header: bytes) -> dict[str, str]:
    """The sandbox of a process. Raises Garbled."""
    sandbox = _object(header).get("sandbox")
    if not isinstance(sandbox, dict) or len(sandbox) > 8:
        raise ProtocolError("no hello")
    return {_text(name, 20): _text(words, _MOST_WORDS) for name, words in sandbox.items()}


def read_reply(header: bytes, task: Task, limits: Limits) -> Reply:
    """Raises Garbled."""
    reply = _object(header)
    resident = _number(reply.get("resident"), 0, 2**50)
    if "made" not in reply:
        return Reply((), (), _error(reply), resident)
    facts = reply["made"]
    if not isinstance(facts, list) or len(facts) != len(task.variants):
        raise ProtocolError("not as many pictures as were asked for")
    lengths, pictures = [], []
    for fact, (_, format) in zip(facts, task.variants, strict=True):
        if not isinstance(fact, list) or len(fact) != 5:
            raise ProtocolError("not the facts of a picture")
        # JSON is read here, which takes many times its size, and all threads wait meanwhile.
        most = MOST_HEADER if format is Format.JSON else _most_bytes(limits)
        lengths.append(_number(fact[0], 1, most))
        width, height = (_number(side, 1, limits.output_side) for side in fact[1:3])
        pictures.append(Encoded(b"", format, width, height, *map(_seconds, fact[3:])))
    return Reply(tuple(lengths), tuple(pictures), None, resident)


def check_picture(body: bytes, format: Format) -> None:
    """Raises Garbled for bytes that do not begin as the format does, or are not JSON."""
    if not format.begins(body):
        raise ProtocolError(f"what was sent is no {format.extension}")
    if format is Format.JSON:
        _object(body)


def _most_bytes(limits: Limits) -> int:
    """Of a picture; of an animation, all frames together have no more pixels than a source."""
    pixels = max(limits.output_side**2, limits.source_pixels)
    return _BYTES_PER_PIXEL * pixels + _MORE_BYTES


def _error(reply: dict[str, Any]) -> ThumbproxyError:
    kind = _ERRORS.get(_text(reply.get("failed"), 40))
    if kind is None:
        raise ProtocolError("no error of ours")
    reason = _text(reply.get("reason"), _MOST_REASON)
    return kind(reason, log=_text(reply.get("log"), _MOST_LOG))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolError("not an object")
    return value


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ProtocolError(f"{value!r:.40} is not from {least} to {most}")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MOST_SECONDS:
        raise ProtocolError(f"{value!r:.40} is no time")
    return float(value)


def _text(value: Any, most: int) -> str:
    """Without anything that a terminal, a log or a header could take for more than text."""
    if not isinstance(value, str) or len(value) > most:
        raise ProtocolError("no text, or too long")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)
