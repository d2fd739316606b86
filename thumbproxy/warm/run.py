"""The main loop: reads sources, has a few threads do their tasks, counts and records the
results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

from thumbproxy.core.errors import RequestError
from thumbproxy.warm.journal import Journal
from thumbproxy.warm.listings import ListingFailed
from thumbproxy.warm.names import Found, Refused
from thumbproxy.warm.progress import Display
from thumbproxy.warm.tally import Tally
from thumbproxy.warm.tasks import Outcome, Planner, Stopped, Task, Warmer

_TICK = 0.5


class Run:
    """One run. Nothing is held of sources but of those that are being worked on.

    jobs   sources that are worked on at a time
    stop   set when a person stops the run; what waits elsewhere must heed it
    count  how many sources there will be, if that can be known; asked on a thread of its own
    """

    def __init__(
        self,
        planner: Planner,
        warmer: Warmer,
        *,
        jobs: int,
        display: Display,
        journal: Journal | None = None,
        stop: threading.Event | None = None,
        count: Callable[[], int] | None = None,
    ) -> None:
        self._planner = planner
        self._warmer = warmer
        self._jobs = jobs
        self._display = display
        self._journal = journal
        self._stop = stop or threading.Event()
        self._count = count
        self._pending: set[Future[Outcome | None]] = set()
        self.tally = Tally()

    def warm(self, found: Iterable[Found]) -> Tally:
        """Warm everything. The first KeyboardInterrupt ends what is under way and returns."""
        if self._count is not None:
            threading.Thread(target=self._learn_total, daemon=True).start()
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="warm")
        try:
            for task in self._tasks(_to_the_end(found)):
                self._pending.add(pool.submit(self._do, task))
                # Twice the jobs: a thread that is done finds the next task waiting.
                self._collect(self._jobs * 2)
            self.tally.total = self.tally.sources + len(self._pending)
            self._collect(1)
        except KeyboardInterrupt:
            self.tally.interrupted = True
            self._stop.set()
            self._pending = {future for future in self._pending if not future.cancel()}
            self._collect(1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._display.close()
        self.tally.interrupted |= self._stop.is_set()
        return self.tally

    def _tasks(self, found: Iterable[Found]) -> Iterator[Task]:
        for entry in found:
            task = self._planned(entry)
            if isinstance(task, Refused):
                self.tally.refuse(task)
                if self._journal and not task.skipped:
                    self._journal.add(task.where, None, [task.reason])
            elif self._journal and task.mark in self._journal:
                self.tally.resume()
            else:
                yield task
            self._display.show(self.tally)

    def _planned(self, entry: Found) -> Task | Refused:
        if isinstance(entry, Refused):
            return entry
        try:
            return self._planner.task(entry)
        except RequestError as error:
            return Refused(entry.where or entry.source, f"{error.token}: {error.reason}")

    def _do(self, task: Task) -> Outcome | None:
        """None for what is stopped before its end: the next run does it."""
        if self._stop.is_set():
            return None
        try:
            return self._warmer.warm(task)
        except Stopped:
            return None
        except Exception as error:  # one source must not end the run
            return Outcome(task, failed=(f"unexpected: {error!r}",))

    def _collect(self, limit: int) -> None:
        """Take in what is finished; wait until fewer than `limit` are under way."""
        while True:
            patience = _TICK if len(self._pending) >= limit else 0
            for future in wait(self._pending, patience, FIRST_COMPLETED).done:
                self._pending.discard(future)  # first: an interrupt must not count it twice
                self._finished(future.result())
            self._display.show(self.tally)
            if len(self._pending) < limit:
                return

    def _finished(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        self.tally.finished(outcome)
        if self._journal:
            self._journal.add(outcome.task.source, outcome.task.mark, outcome.failed)

    def _learn_total(self) -> None:
        if self._count is not None:
            with suppress(OSError):  # whoever reads the list for warming tells
                total = self._count()
                self.tally.total = self.tally.total or total


def _to_the_end(found: Iterable[Found]) -> Iterator[Found]:
    """A list that breaks off is a failure like others, after what came before it."""
    try:
        yield from found
    except (ListingFailed, OSError) as error:
        yield Refused("the list of sources", f"unreadable: {error}")


def chained(lists: Iterable[Iterable[Found]]) -> Iterator[Found]:
    """All lists, one after the other, each to its end."""
    for found in lists:
        yield from _to_the_end(found)
