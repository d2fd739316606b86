"""CPU time and fidelity of our engine, Pillow and libvips on a folder of JPEG photos.

    python benchmarks/engine.py FOLDER [--rounds 5]

Each engine makes a JPEG of quality 80 without metadata from each photo at four sizes. Machines are
noisy, so the engines take turns within one run on one core, and what is compared is the ratio of
two neighbours: the table gives the median over the photos of each photo's median ratio.
CPU ms is the process's time, all threads, of the fastest round, mean over the photos.

Fidelity is that of the resized pixels before they are encoded: PSNR against the same resize of the
whole decoded picture. So it measures what decoding at a reduced scale costs, and nothing else. Each
engine is held against its own full decode. Identical pictures count as 60 dB in means.

The exit status is 1 when ours costs more than libvips at any size, or its PSNR is below 50 dB in
the mean or 44 dB for any photo.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

# Read by libvips when it is loaded: our budget is CPU time, so all have one thread.
os.environ["VIPS_CONCURRENCY"] = "1"

import numpy as np
import pyvips
from PIL import Image

from thumbproxy.imaging.decode import decode
from thumbproxy.imaging.geometry import plan
from thumbproxy.imaging.headers import read_header
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.steps import Job, orient, resize
from thumbproxy.limits import Limits
from thumbproxy.media import Format
from thumbproxy.options import Options

SIZES = (320, 640, 1280, 1920)
QUALITY = 80
IDENTICAL = 60.0
LOWEST_MEAN, LOWEST = 50.0, 44.0
LIMITS = Limits(source_pixels=200_000_000)
ENGINE = PillowEngine(LIMITS, {Format.JPEG: QUALITY})

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def ours(source: bytes, side: int) -> bytes:
    return ENGINE.render(source, Options(width=side, height=side), Format.JPEG).body


def with_pillow(source: bytes, side: int) -> bytes:
    image = Image.open(io.BytesIO(source))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def with_libvips(source: bytes, side: int) -> bytes:
    image = pyvips.Image.thumbnail_buffer(source, side, height=side, size="down")
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep="none"))


def our_fidelity(source: bytes, side: int) -> float:
    header = read_header(source, LIMITS)
    numbers = plan(header.info, Options(width=side, height=side), LIMITS)
    pictures = []
    for way in (numbers, replace(numbers, eighths=8, fast_chroma=False)):
        decoded = decode(source, header, way)
        job = Job(decoded, way, Options(), Format.JPEG)
        pictures.append(np.asarray(orient(resize(decoded.image, job), job).convert("RGB")))
    return psnr(*pictures)


def pillow_fidelity(source: bytes, side: int) -> float:
    image = Image.open(io.BytesIO(source))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    whole = Image.open(io.BytesIO(source)).resize(image.size, Image.Resampling.LANCZOS)
    return psnr(np.asarray(image), np.asarray(whole))


def libvips_fidelity(source: bytes, side: int) -> float:
    image = pyvips.Image.thumbnail_buffer(source, side, height=side, size="down")
    whole = pyvips.Image.new_from_buffer(source, "").autorot()
    whole = whole.resize(image.width / whole.width, vscale=image.height / whole.height)
    return psnr(image.numpy(), whole.numpy())


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all channels, at most IDENTICAL."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return min(IDENTICAL, 10 * math.log10(255**2 / max(error, 1e-9)))


ENGINES: dict[str, Callable[[bytes, int], bytes]] = {
    "ours": ours,
    "Pillow": with_pillow,
    "libvips": with_libvips,
}
FIDELITIES: dict[str, Callable[[bytes, int], float]] = {
    "ours": our_fidelity,
    "Pillow": pillow_fidelity,
    "libvips": libvips_fidelity,
}


def cpu_seconds(make: Callable[[bytes, int], bytes], source: bytes, side: int) -> float:
    started = time.process_time()
    make(source, side)
    return time.process_time() - started


def measure(photos: list[bytes], side: int, rounds: int) -> dict[str, list[list[float]]]:
    """CPU seconds by engine, photo and round."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in photos] for name in ENGINES}
    for _ in range(rounds):
        for number, photo in enumerate(photos):
            for name, make in ENGINES.items():
                times[name][number].append(cpu_seconds(make, photo, side))
    return times


def median_ratio(ours_: list[list[float]], theirs: list[list[float]]) -> float:
    return statistics.median(
        statistics.median(a / b for a, b in zip(mine, other, strict=True))
        for mine, other in zip(ours_, theirs, strict=True)
    )


def report(photos: list[bytes], side: int, rounds: int) -> bool:
    """Print one size's rows; whether ours meets what we promise."""
    times = measure(photos, side, rounds)
    good = True
    for name in ENGINES:
        cpu = 1000 * statistics.mean(min(rounds_) for rounds_ in times[name])
        ratio = median_ratio(times["ours"], times[name])
        fidelity = [FIDELITIES[name](photo, side) for photo in photos]
        mean, lowest = statistics.mean(fidelity), min(fidelity)
        print(f"{side:>5}  {name:<8} {cpu:>7.1f} {ratio:>9.2f} {mean:>9.1f} {lowest:>9.1f}")
        if name == "ours":
            good &= mean >= LOWEST_MEAN and lowest >= LOWEST
        if name == "libvips":
            good &= ratio <= 1
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pyvips.cache_set_max(0)
    photos = [
        path.read_bytes()
        for path in sorted(arguments.folder.iterdir())
        if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    if not photos:
        parser.error(f"there are no JPEG files in {arguments.folder}")
    print(f"{len(photos)} photos, {arguments.rounds} rounds, JPEG quality {QUALITY}")
    print(" side  engine    CPU ms  ours/this   mean dB   lowest dB")
    verdicts = [report(photos, side, arguments.rounds) for side in SIZES]
    print("all requirements met" if all(verdicts) else "NOT all requirements met")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
