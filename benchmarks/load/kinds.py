"""The kinds of requests, how often each is made, and what is right for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Of each kind of request, the statuses that are right.
RIGHT: Mapping[str, frozenset[str]] = {
    "hit": frozenset({"200"}),
    "miss": frozenset({"200"}),
    "new source": frozenset({"200"}),
    "not modified": frozenset({"304"}),
    "unsigned": frozenset({"403"}),
    "tampered": frozenset({"403"}),
    "not canonical": frozenset({"400"}),
    "hostile": frozenset({"413", "415", "422"}),
    "missing": frozenset({"404"}),
    "origin fails": frozenset({"502"}),
    "origin cuts": frozenset({"502"}),
    "origin hangs": frozenset({"504"}),
    "hangs up": frozenset({"gone"}),
    "purge": frozenset({"200"}),
}
# How often each kind is, of 1000.
MIXED = {"hit": 500, "miss": 210, "new source": 60, "not modified": 60, "unsigned": 30,
         "tampered": 30, "not canonical": 20, "hostile": 30, "missing": 20, "origin fails": 10,
         "origin cuts": 10, "origin hangs": 3, "hangs up": 12, "purge": 5}  # fmt: skip
# What fails is among it, because it is what may leave something behind.
RENDERS = {"hit": 60, "miss": 740, "new source": 100, "not modified": 10, "unsigned": 10,
           "tampered": 10, "not canonical": 10, "hostile": 20, "missing": 10, "origin fails": 10,
           "origin cuts": 10, "hangs up": 10}  # fmt: skip


class Record(NamedTuple):
    """One request. began, ended: on the monotonic clock. outcome: the status, "no reply", "cut
    off" (a reply that is not whole) or "gone" (we hung up). fault: what is wrong with a picture.
    made: it was rendered for us."""

    kind: str
    began: float
    ended: float
    outcome: str
    fault: str = ""
    made: bool = False
