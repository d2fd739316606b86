"""A bounded cache for results of functions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, update_wrapper
from typing import TypeVar

R = TypeVar("R")
# Characters. Names of pictures are shorter; what is longer is worked out each time.
_LONGEST = 500


def memoized(most: int) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Keep the last `most` results of a function whose first argument is a text that others choose.

    Bounded by number alone, long texts would make that as large as they like.
    """

    def keeping(work: Callable[..., R]) -> Callable[..., R]:
        kept = lru_cache(maxsize=most)(work)

        def found(text: str, *more: Hashable) -> R:
            return (kept if len(text) <= _LONGEST else work)(text, *more)

        return update_wrapper(found, work)

    return keeping
