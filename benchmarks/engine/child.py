"""A process that renders with one engine: python -m benchmarks.engine.child ENGINE

It is asked over stdin and answers over stdout. A question is a line of JSON: {"source": bytes} and
then that many bytes, a picture to keep; or {"side": px, "format": extension}. The answer is a line
{"bytes": n, "cpu": seconds, "wall": seconds} and then the bytes. sharp.cjs speaks the same.

It renders as the server does, in a thread of its own. The main thread's memory goes back to the
kernel and is cleared again for each picture, which would charge an engine with page faults that it
does not have in the server.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from thumbproxy.core.formats import Format

from .makers import MAKERS, Make, Task


def timed(make: Make, source: bytes, task: Task) -> tuple[dict[str, float], bytes]:
    """CPU is that of all threads; the others only wait."""
    wall, cpu = time.perf_counter(), time.process_time()
    body = make(source, task)
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}, body


def answers(make: Make) -> Iterator[tuple[dict[str, float], bytes]]:
    """One for each question that asks for a picture."""
    source = b""
    with ThreadPoolExecutor(1) as thread:
        while line := sys.stdin.buffer.readline():
            asked = json.loads(line)
            if "source" in asked:
                source = sys.stdin.buffer.read(asked["source"])
                continue
            task = Task(asked["side"], Format(asked["format"]))
            yield thread.submit(timed, make, source, task).result()


def main() -> None:
    for fields, body in answers(MAKERS[sys.argv[1]]):
        line = json.dumps({**fields, "bytes": len(body)}).encode()
        sys.stdout.buffer.write(line + b"\n" + body)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
