"""The default numbers of processes and renders, and memory limits that fit.

With the processors alone, a container with 16 of them and 512 MiB would be started 65 processes in,
and end with the first pictures. So memory counts as well; docs/operating.md has the rule.
"""

from __future__ import annotations

from dataclasses import replace

from thumbproxy.config.groups.pictures import MOST_PROCESSES
from thumbproxy.config.settings import Settings
from thumbproxy.core.resources import Resources

_MIB = 1024 * 1024
# Of a worker and its fork server, before there is any picture (docs/reliability.md measures it).
WORKER_BYTES = 128 * _MIB
# Of a render of a photo of 12 megapixels, and of each pixel of source and picture.
RENDER_BYTES = 128 * _MIB
PIXEL_BYTES = 10
# With fewer, one that hangs would keep all others waiting until it is killed.
_RENDERS = 2
# Less leaves no room for a picture beside the libraries.
_LEAST_RENDER_MEMORY = 256 * _MIB


def sized(settings: Settings, resources: Resources) -> Settings:
    """The settings of the standalone server, for what its processes may use together."""
    processors = min(resources.whole_processors, MOST_PROCESSES)
    memory = int(resources.memory.amount)
    most = memory // (WORKER_BYTES + _RENDERS * RENDER_BYTES)
    workers = settings.workers or max(1, min(processors, most))
    left = max(0, memory - workers * WORKER_BYTES)
    most = max(1, left // RENDER_BYTES // workers)
    renders = settings.renders or min(most, max(_RENDERS, -(-processors // workers)))
    pixels = max(1, left // PIXEL_BYTES // workers)
    return replace(
        settings,
        workers=workers,
        renders=renders,
        render_pixels=min(settings.render_pixels, pixels),
        render_memory=min(settings.render_memory, max(left, _LEAST_RENDER_MEMORY)),
    )


def renders_alone(resources: Resources) -> int:
    """How many pictures one process makes at a time that has all there is for itself."""
    room = int(resources.memory.amount) - WORKER_BYTES
    return max(1, min(resources.whole_processors, MOST_PROCESSES, room // RENDER_BYTES))
