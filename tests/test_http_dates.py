"""Which texts are dates of HTTP (RFC 9110 section 5.6.7, RFC 9111 section 4.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import http_date

from thumbproxy.http.dates import read_date

NOW = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
THEN = datetime(2050, 8, 18, 2, 1, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Thu, 18 Aug 2050 02:01:18 GMT", THEN),
        ("Thursday, 18-Aug-50 02:01:18 GMT", THEN),
        ("Thu Aug 18 02:01:18 2050", THEN),
        ("Mon Aug  8 02:01:18 2050", datetime(2050, 8, 8, 2, 1, 18, tzinfo=UTC)),
        # in any case
        ("THU, 18 Aug 2050 02:01:18 GMT", THEN),
        ("Thu, 18 AUG 2050 02:01:18 GMT", THEN),
        ("Thu, 18 Aug 2050 02:01:18 gMT", THEN),
        ("thursday, 18-aug-50 02:01:18 gmt", THEN),
        # beyond what fits 32 bits, and before all counting
        ("Tue, 19 Jan 2038 14:14:08 GMT", datetime(2038, 1, 19, 14, 14, 8, tzinfo=UTC)),
        ("Sun, 21 Nov 2286 04:46:39 GMT", datetime(2286, 11, 21, 4, 46, 39, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", datetime(1970, 1, 1, tzinfo=UTC)),
        ("Mon, 01 Jan 0001 00:00:00 GMT", datetime(1, 1, 1, tzinfo=UTC)),
        # years of two digits are never more than 50 ahead
        ("Friday, 01-Jul-76 00:00:00 GMT", datetime(2076, 7, 1, tzinfo=UTC)),
        ("Friday, 01-Jul-77 00:00:00 GMT", datetime(1977, 7, 1, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Saturday, 01-Jan-00 00:00:00 GMT", datetime(2000, 1, 1, tzinfo=UTC)),
        # a leap second, and a leap year
        ("Sat, 31 Dec 2016 23:59:60 GMT", datetime(2017, 1, 1, tzinfo=UTC)),
        ("Thu, 29 Feb 2024 00:00:00 GMT", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_date(text: str, moment: datetime) -> None:
    assert read_date(text, NOW) == moment.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "-1", "1", "now", "2050-08-18T02:01:18Z", "2544400878",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 2050 02:01:18 Z",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18 GMT+1",
        "Thu, 18 Aug 2050 02:01:18",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu,18 Aug 2050 02:01:18 GMT",
        "Thu,  18 Aug 2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18-Aug-50 02:01:18 GMT",
        "Thursday, 18-Aug-2050 02:01:18 GMT",
        "Thursday, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 18 Aug 2050 02:01 GMT",
        "Thu, 8 Aug 2050 02:01:18 GMT",
        "Thu, 18 August 2050 02:01:18 GMT",
        "Xyz, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 02050 02:01:18 GMT",
        "Thu, 18 Aug 2050 24:00:00 GMT",
        "Thu, 18 Aug 2050 02:60:18 GMT",
        "Thu, 18 Aug 2050 02:01:61 GMT",
        "Thu, 00 Aug 2050 02:01:18 GMT",
        "Thu, 31 Feb 2050 02:01:18 GMT",
        "Wed, 29 Feb 2023 02:01:18 GMT",
        "Thu, 18 Aug 0000 02:01:18 GMT",
        "Thu Aug 8 02:01:18 2050",
        "Thu Aug 08 02:01:18 50",
        "Thu Aug  8 02:01:18 2050 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT\n",
        "Thu, 1\u0668 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GM\u1e6a",
        '"Thu, 18 Aug 2050 02:01:18 GMT"',
    ],
)  # fmt: skip
def test_no_date(text: str) -> None:
    assert read_date(text, NOW) is None


@given(st.integers(0, 253_402_300_799))
def test_what_we_write_we_read(moment: int) -> None:
    assert read_date(http_date(moment), NOW) == moment
