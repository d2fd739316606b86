"""What a render process says is believed as far as it can be checked, and no further."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbproxy.core.errors import BrokenImage, DecoderFailed, Expired, ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Limits
from thumbproxy.core.media import Encoded
from thumbproxy.rendering.base import Task
from thumbproxy.rendering.messages import (
    HEAD,
    MOST_HEADER,
    ProtocolError,
    check_picture,
    failed,
    header_length,
    hello,
    made,
    order,
    read_hello,
    read_order,
    read_reply,
)
from thumbproxy.urls.options import Options

TASK = Task(b"source", ((Options(width=10), Format.JPEG), (Options(), Format.JSON)))
LIMITS = Limits()
PICTURE = [4, 10, 8, 0.5, 0.25]


def header_of(message: bytes) -> bytes:
    length = header_length(message[: HEAD.size])
    return message[HEAD.size : HEAD.size + length]


def reply(**more: Any) -> bytes:
    return json.dumps({"made": [PICTURE, PICTURE], "resident": 1, **more}).encode()


@pytest.mark.parametrize(
    "task",
    [
        TASK,
        Task(b"", ((Options(), Format.PNG),), seconds=2.5),
        Task(
            bytes(range(256)) * 100,
            ((Options.read("crop_0.1x0.2x0.3x0.4,w_10,dpr_1.5,g_0.31x0.7,e_99"), Format.AVIF),),
            Format.JPEG,
        ),
    ],
)
def test_an_order_arrives_as_it_was_given(task: Task) -> None:
    line = io.BytesIO(order(task) + task.source)
    assert read_order(line) == task
    assert read_order(line) is None


def test_an_order_that_is_cut_short_is_none() -> None:
    assert read_order(io.BytesIO(order(TASK) + b"sour")) is None


def test_pictures_arrive_as_they_were_made() -> None:
    pictures = [
        Encoded(b"\xff\xd8\xff", Format.JPEG, 10, 8, 0.5, 0.25),
        Encoded(b"{}", Format.JSON, 1, 2),
    ]
    message = made(pictures, 77)
    answer = read_reply(header_of(message), TASK, LIMITS)
    assert answer.lengths == (3, 2)
    assert answer.resident == 77
    assert [(one.format, one.width, one.height) for one in answer.pictures] == [
        (Format.JPEG, 10, 8), (Format.JSON, 1, 2)]  # fmt: skip
    assert answer.pictures[0].render_seconds == 0.5
    assert message.endswith(b"\xff\xd8\xff{}")


@pytest.mark.parametrize("error", [BrokenImage("Why.", log="who"), DecoderFailed()])
def test_errors_arrive_as_they_were_raised(error: ThumbproxyError) -> None:
    arrived = read_reply(header_of(failed(error, 1)), TASK, LIMITS).error
    assert (type(arrived), str(arrived)) == (type(error), error.reason)
    assert arrived is not None
    assert arrived.log == error.log


def test_an_error_that_no_render_has_is_the_engines_fault() -> None:
    arrived = read_reply(header_of(failed(Expired(), 1)), TASK, LIMITS).error
    assert arrived is not None
    assert arrived.token == "engine-failed"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 60_000,
        b"\xff\xfe",
        b"{}",
        b'{"resident": 1}',
        reply(resident=-1),
        reply(resident=True),
        reply(resident=2**70),
        reply(made=[PICTURE]),
        reply(made=[PICTURE] * 3),
        reply(made=[PICTURE, 7]),
        reply(made=[PICTURE, [4, 10, 8, 0.5]]),
        reply(made=[PICTURE, [0, 10, 8, 0, 0]]),
        reply(made=[PICTURE, [2**40, 10, 8, 0, 0]]),
        reply(made=[PICTURE, [4.0, 10, 8, 0, 0]]),
        reply(made=[PICTURE, [4, 0, 8, 0, 0]]),
        reply(made=[PICTURE, [4, 4097, 8, 0, 0]]),
        reply(made=[PICTURE, [4, "10", 8, 0, 0]]),
        reply(made=[PICTURE, [4, 10, 8, -1, 0]]),
        reply(made=[PICTURE, [4, 10, 8, float("nan"), 0]]),
        reply(made=[PICTURE, [4, 10, 8, float("inf"), 0]]),
        reply(made=[PICTURE, [4, 10, 8, "0", 0]]),
        json.dumps({"failed": "overloaded", "reason": "", "log": "", "resident": 1}).encode(),
        json.dumps({"failed": "expired", "reason": "", "log": "", "resident": 1}).encode(),
        json.dumps({"failed": ["x"], "reason": "", "log": "", "resident": 1}).encode(),
        json.dumps({"failed": "broken-image", "log": "", "resident": 1}).encode(),
        json.dumps(
            {"failed": "broken-image", "reason": "x" * 500, "log": "", "resident": 1}
        ).encode(),
    ],
)
def test_what_cannot_be_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_reply(header, TASK, LIMITS)


@pytest.mark.parametrize("length", [0, 1, MOST_HEADER + 1, 2**32 - 1])
def test_headers_have_a_length_that_can_be(length: int) -> None:
    with pytest.raises(ProtocolError):
        header_length(HEAD.pack(length))


@pytest.mark.parametrize(
    ("format", "body"),
    [
        (Format.JPEG, b"\x89PNG\r\n\x1a\n"),
        (Format.PNG, b"<html>"),
        (Format.GIF, b"GIF"),
        (Format.WEBP, b"RIFF0000WAVE"),
        (Format.AVIF, b"0000ftypmp42"),
        (Format.JSON, b"<script>"),
        (Format.JSON, b"{]"),
        (Format.JSON, b""),
    ],
)
def test_a_picture_begins_as_its_format_does(format: Format, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_picture(body, format)


def test_a_hello_names_the_sandbox() -> None:
    assert read_hello(header_of(hello({"seccomp": "on\n"}))) == {"seccomp": "on\ufffd"}
    for nonsense in (b'{"sandbox": 1}', b'{"sandbox": {"a": 1}}', b"{}", b'{"sandbox": []}'):
        with pytest.raises(ProtocolError):
            read_hello(nonsense)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
_FIELDS = st.sampled_from(["made", "failed", "reason", "log", "resident", "sandbox"])


@given(st.dictionaries(_FIELDS, _JSON | st.just([PICTURE, PICTURE]) | st.just(1)))
def test_whatever_it_says_it_is_a_reply_or_garbled(facts: dict[str, Any]) -> None:
    header = json.dumps(facts).encode()
    with contextlib.suppress(ProtocolError):
        answer = read_reply(header, TASK, LIMITS)
        assert (answer.error is None) == (len(answer.pictures) == 2)
    with contextlib.suppress(ProtocolError):
        read_hello(header)


@pytest.mark.parametrize(
    "limits",
    [Limits(output_side=100, source_pixels=50), Limits(output_side=5, source_pixels=10**4)],
)
def test_a_picture_has_no_more_bytes_than_noise_of_the_largest_would(limits: Limits) -> None:
    most = 5 * 10_000 + 1024 * 1024
    task = Task(b"source", ((Options(), Format.PNG),))

    def said(length: int) -> bytes:
        return reply(made=[[length, 5, 5, 0, 0]])

    assert read_reply(said(most), task, limits).lengths == (most,)
    with pytest.raises(ProtocolError):
        read_reply(said(most + 1), task, limits)


def test_a_side_is_no_longer_than_an_output_may_be() -> None:
    task, limits = Task(b"source", ((Options(), Format.PNG),)), Limits(output_side=100)
    assert read_reply(reply(made=[[1, 100, 100, 0, 0]]), task, limits).pictures[0].width == 100
    for sides in ([101, 100], [100, 101], [0, 1], [1, 0]):
        with pytest.raises(ProtocolError):
            read_reply(reply(made=[[1, *sides, 0, 0]]), task, limits)


def test_what_is_as_its_format_is_passes() -> None:
    check_picture(b"\xff\xd8\xff and no JSON", Format.JPEG)
    check_picture(b'{"width": 1}', Format.JSON)


def test_a_document_is_never_too_large_to_be_read_at_once() -> None:
    """It is read in the worker, and all its threads wait meanwhile."""
    task = Task(b"", ((Options(), Format.JSON),))
    facts = [MOST_HEADER, 1, 1, 0, 0]
    assert read_reply(reply(made=[facts]), task, LIMITS).lengths == (MOST_HEADER,)
    with pytest.raises(ProtocolError):
        read_reply(reply(made=[[MOST_HEADER + 1, *facts[1:]]]), task, LIMITS)
