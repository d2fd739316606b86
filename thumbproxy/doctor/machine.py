"""The resources of the machine or its container: memory, open files, shared memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from thumbproxy.config.settings import DEFAULTS, Settings
from thumbproxy.config.sizing import RENDER_BYTES, WORKER_BYTES
from thumbproxy.config.types import Size
from thumbproxy.core.resources import Bound, Resources, available, size
from thumbproxy.doctor.findings import Finding
from thumbproxy.scheduling.admission import misses_of

_GROUP = "machine"
_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at only
# Of a process: its listening socket, log, caches, the pipes of render processes.
_FILES_OF_A_PROCESS, _FILES_OF_A_THREAD, _FILES_OF_A_RENDER = 64, 5, 4
# Times the memory that all renders may take together: pictures as they are take far less.
_FAR = 4
# What a process counts, at most.
_COUNTED = 1024 * 1024


def machine(
    settings: Settings, workers: int, resources: Resources | None = None
) -> Iterator[Finding]:
    """settings: as `serve` has them; resources: what it may use."""
    processors, memory = resources or available()
    yield Finding(
        _GROUP, "ok",
        f"processors: {processors.amount:g} ({processors.source}), workers: {workers}",
    )  # fmt: skip
    yield from _memory(settings, workers, memory)
    yield from _files(settings)
    yield from _shared(settings, workers)


def _memory(settings: Settings, workers: int, memory: Bound) -> Iterator[Finding]:
    limit, renders = int(memory.amount), settings.renders * workers
    text = f"memory: {size(limit)} ({memory.source})"
    needed = workers * (WORKER_BYTES + settings.renders * RENDER_BYTES)
    if needed > limit:
        yield Finding(
            _GROUP, "warning",
            f"{text}; {workers} workers with {settings.renders} renders each need {size(needed)} "
            "when they are busy",
            "lower workers or renders, or let both be chosen (0)",
        )  # fmt: skip
    downloads = (settings.misses or misses_of(settings.threads)) * settings.max_source_bytes
    if workers * downloads > limit:
        yield Finding(
            _GROUP, "note",
            f"{text}; downloads of the largest sources in all `misses`, of all workers, would take "
            f"{size(workers * downloads)}",
            "lower max_source_bytes to what your sources have, or misses",
        )  # fmt: skip
    if settings.isolation != "processes":
        yield Finding(_GROUP, "ok", f"{text}; {renders} renders at a time")
        return
    if not settings.render_memory:
        yield Finding(
            _GROUP, "warning", "render_memory is 0: one hostile picture can take all memory",
            f"set it; {Size().write(DEFAULTS['render_memory'])} is the default",
        )  # fmt: skip
        return
    most = renders * settings.render_memory
    text = f"{text}; {renders} renders at a time, {size(most)} at the very most"
    if settings.render_memory > limit:
        advice = "lower render_memory: the kernel would end processes before it is reached"
        yield Finding(_GROUP, "warning", text, advice)
    elif most > _FAR * limit:
        yield Finding(
            _GROUP, "warning", f"{text}: {most / limit:.0f} times what there is",
            "lower renders, workers or render_memory: a few hostile pictures would fill it",
        )  # fmt: skip
    elif most > limit:
        advice = "hostile pictures, all at once, could fill it: renders are ended first then"
        yield Finding(_GROUP, "note", text, advice)
    else:
        yield Finding(_GROUP, "ok", text)


def _files(settings: Settings) -> Iterator[Finding]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = (
        _FILES_OF_A_PROCESS
        + settings.threads * _FILES_OF_A_THREAD
        + settings.renders * _FILES_OF_A_RENDER
    )
    if limit == resource.RLIM_INFINITY or limit >= 2 * needed:
        yield Finding(_GROUP, "ok", f"{limit} open files for each process")
        return
    yield Finding(
        _GROUP,
        "critical" if limit < needed else "warning",
        f"{limit} open files for each process; {settings.threads} threads can need {needed}, and "
        "idle connections more",
        f"ulimit -n {4096 if needed < 2048 else 2 * needed}, or LimitNOFILE= of systemd",
    )


def _shared(settings: Settings, workers: int) -> Iterator[Finding]:
    if not _MEMORY.is_dir():
        yield Finding(
            _GROUP, "note", f"there is no {_MEMORY}: a disk that stalls can end a worker",
            "mount a tmpfs there",
        )  # fmt: skip
        return
    system = os.statvfs(_MEMORY)
    free, needed = system.f_bavail * system.f_frsize, _COUNTED * (workers + 1)
    text = f"{size(free)} free in {_MEMORY}"
    if settings.metrics_token and free < needed:
        yield Finding(
            _GROUP, "critical",
            f"{text}, where processes count together: {size(needed)} are needed",
            "make room there; for Docker, --shm-size",
        )  # fmt: skip
    else:
        yield Finding(_GROUP, "ok", text)
