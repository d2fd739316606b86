"""What each status of an origin says of a picture, by the table of docs/sources.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from werkzeug.datastructures import Headers
from werkzeug.http import http_date

from thumbproxy.core.errors import (
    OriginBusy,
    OriginError,
    OriginFailed,
    SourceBlocked,
    SourceNotFound,
    SourceRefused,
    SourceWithdrawn,
)
from thumbproxy.origins.statuses import LONGEST_PAUSE, failure_of

NOW = 1_700_000_000.0
PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
NAMED = {
    **dict.fromkeys((401, 402, 403), SourceRefused),
    **dict.fromkeys((404, 410), SourceNotFound),
    451: SourceBlocked,
    **dict.fromkeys((408, 421, 425, 429), OriginBusy),
}


def failure(status: int, retry_after: str = "") -> SourceWithdrawn | OriginError:
    headers = Headers({"Retry-After": retry_after} if retry_after else {})
    return failure_of(status, headers, "why", NOW)


@pytest.mark.parametrize("status", [*range(201, 304), *range(305, 600), 600, 999])
def test_what_a_status_says_of_a_picture(status: int) -> None:
    error = failure(status, "60")
    assert type(error) is NAMED.get(status, OriginFailed)
    # nginx and CDNs serve what they have in place of a 5xx (RFC 5861), and of nothing else.
    assert isinstance(error, SourceWithdrawn) == (error.status < 500)
    assert error.log == "why"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", None),
        ("0", None),
        ("1", 1),
        (" 120 ", 120),
        (http_date(NOW + 90), 90),
        (http_date(NOW - 90), None),
        ("86400", LONGEST_PAUSE),
        ("9" * 5000, LONGEST_PAUSE),
        (http_date(NOW + 10**6), LONGEST_PAUSE),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
    ],
)
def test_for_how_long_an_origin_wants_to_be_spared(said: str, seconds: int | None) -> None:
    assert failure(429, said).retry_after == (seconds or OriginBusy.retry_after)
    assert failure(404, said).retry_after is None


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| (\d{3}) `([a-z-]+)`",
                      PAGE.read_text(), re.M)  # fmt: skip
    told = {
        int(status): (int(ours), token)
        for statuses, ours, token in rows
        for status in statuses.split(", ")
    }
    for status, ours in told.items():
        error = failure(status)
        assert (error.status, error.token) == ours
    assert told.keys() == NAMED.keys()
