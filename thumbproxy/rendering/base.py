"""The contract of a runner, which runs an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from thumbproxy.core.formats import Format
from thumbproxy.core.limits import Deadline, Limits
from thumbproxy.core.media import Encoded
from thumbproxy.urls.options import Options

Isolation = Literal["processes", "threads"]


class Task(NamedTuple):
    """Pictures to make of one source.

    fallback  as in Engine.render; for a single variant only
    seconds   of a processor that it may take
    """

    source: bytes
    variants: tuple[tuple[Options, Format], ...]
    fallback: Format | None = None
    seconds: float = Limits().render_seconds


class PoolStatus(NamedTuple):
    """What there is to work with.

    size     tasks that can be done at a time
    ready    of these, how many could begin at once, or are under way
    sandbox  what keeps a render from everything else, by name ("landlock", "seccomp", …), in
             words that begin with "none" where the kernel does not have it; empty for threads, and
             while no process has said so yet
    """

    isolation: Isolation
    size: int
    ready: int
    sandbox: dict[str, str]


class Runner(Protocol):
    """Does tasks, `size` at a time; whoever calls sees to it that they are not more."""

    size: int

    def start(self) -> None:
        """Get ready, in the background, in this process. Not needed, may be called often; raises
        nothing."""
        ...

    def run(self, task: Task, deadline: Deadline, ended: Callable[[], None]) -> list[Encoded]:
        """The pictures of a task, in the order of its variants.

        ended: called once, when the work takes no more room: by a thread that may be after its
        deadline, because nothing can stop it.
        Raises what Engine.render does; DecoderFailed when it died of it, RenderKilled when it was
        killed; RenderTooSlow when it took more than its seconds, TooSlow at the deadline;
        Overloaded when nobody is ready in time, EngineFailed when there is nobody.
        """
        ...

    def pool_status(self) -> PoolStatus:
        """What there is. Waits for nothing."""
        ...

    def close(self) -> None:
        """End what was started in this process. The next task starts it anew."""
        ...
