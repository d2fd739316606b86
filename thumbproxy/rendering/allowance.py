"""Whether a render takes long because of its image, or because other processes use the
processor."""

from __future__ import annotations

import os
import time
from pathlib import Path

from thumbproxy.core.errors import RenderTooSlow, TooSlow

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # proc(5): in which processor time is told
# Seconds between two looks at work that is about to have had it all.
_SOON = 0.05


class Allowance:
    """`seconds` of a processor, which a piece of work may have from now on.

    place  of who does it, in /proc: a process with all its threads ("/proc/1234"), or one of our
           threads ("/proc/self/task/1234")

    Beside busy neighbours, or under a quota, that takes longer by the clock, and no picture is to
    blame for it. Who sleeps, or was stopped, asks for no processor and is held to the clock; and so
    is everybody where /proc does not tell.
    """

    def __init__(self, seconds: float, place: str) -> None:
        self._seconds = seconds
        self._place = Path(place)
        self._began = time.monotonic()
        self._before = self._used()

    @property
    def pause(self) -> float:
        """Seconds by the clock in which one thread cannot use it up."""
        return max(_SOON, self._seconds - self._spent)

    def check(self) -> None:
        """Raises RenderTooSlow when it is used up."""
        if self._spent >= self._seconds:
            raise RenderTooSlow(log=f"the render took {self._spent:.1f} s of a processor")
        if self._elapsed >= self._seconds and not self._wants_more():
            raise RenderTooSlow(log=f"the render hangs, after {self._elapsed:.1f} s")

    def too_late(self) -> TooSlow:
        """What to raise when nobody waits any longer: RenderTooSlow if it is used up as well."""
        try:
            self.check()
        except RenderTooSlow as error:
            return error
        return TooSlow(log=f"the render had {self._spent:.1f} s of a processor in the "
                           f"{self._elapsed:.1f} s that were left for it")  # fmt: skip

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def _spent(self) -> float:
        used = self._used()
        if used is None or self._before is None:
            return self._elapsed
        return used - self._before

    def _used(self) -> float | None:
        """Seconds of a processor so far: utime and stime of proc(5), /proc/pid/stat."""
        fields = _stat(self._place)
        return (int(fields[11]) + int(fields[12])) * _TICK if fields else None

    def _wants_more(self) -> bool:
        """Whether a thread of it runs, or waits for a processor or for the disk."""
        threads = self._place / "task"
        places = list(threads.iterdir()) if threads.is_dir() else [self._place]
        return any(_stat(place)[:1] in (["R"], ["D"]) for place in places)


def _stat(place: Path) -> list[str]:
    """The fields from the state on, which follow a name that may have anything in it."""
    try:
        return (place / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
