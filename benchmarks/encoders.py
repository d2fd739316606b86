"""What formats, efforts and subsamplings cost, and at which quality they look alike.

    python benchmarks/encoders.py FOLDER [--sides 720] [--like 80]

The JPEG photos of the folder are resized by Pillow and encoded by thumbproxy.imaging.encode. Each
way of encoding is given the lowest quality whose mean SSIM is that of our JPEG of quality 80 (or
what --like says), so that times and sizes are those of pictures that look the same. More tables
show what each quality costs with the default settings, and the formats that have no quality.

CPU ms is the process's time, all threads, of the faster of two runs; everything is a mean over the
photos. SSIM is of the luma, which hardly sees colour, so colour is the PSNR of Cb and Cr.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thumbproxy.core.formats import Encoding, Format
from thumbproxy.imaging.encode import encode, written

Plane = np.ndarray[Any, np.dtype[np.float32]]

RUNS = 2


class Way(NamedTuple):
    name: str
    format: Format
    encoding: Encoding
    lossless: bool = False


class Result(NamedTuple):
    cpu_ms: float
    kilobytes: float
    ssim: float
    colour: float


JPEGS = [
    Way("jpg 4:2:0", Format.JPEG, Encoding(subsampling_jpg="420")),
    Way("jpg 4:2:2", Format.JPEG, Encoding(subsampling_jpg="422")),
    Way("jpg 4:4:4", Format.JPEG, Encoding(subsampling_jpg="444")),
    Way("jpg 4:2:0 progressive", Format.JPEG, Encoding(progressive_jpg=True)),
]
WEBPS = [
    Way(f"webp effort {effort}", Format.WEBP, Encoding(effort_webp=effort))
    for effort in (0, 1, 2, 3, 4, 6)
]
AVIFS = [
    Way(f"avif speed {speed}", Format.AVIF, Encoding(speed_avif=speed)) for speed in (9, 8, 7, 6)
] + [Way("avif speed 9 4:4:4", Format.AVIF, Encoding(speed_avif=9, subsampling_avif="444"))]
WITHOUT_QUALITY = [
    *(Way(f"png level {n}", Format.PNG, Encoding(compression_png=n)) for n in (1, 4, 6, 9)),
    *(
        Way(f"webp lossless effort {n}", Format.WEBP, Encoding(effort_webp=n), True)
        for n in (0, 2, 4)
    ),
    Way("gif", Format.GIF, Encoding()),
]


def ssim(one: Plane, other: Plane) -> float:
    """Mean structural similarity of two planes of 0 to 255 (Wang, Bovik, Sheikh, Simoncelli 2004).

    Gaussian window of 11 x 11, sigma 1.5; only where the window lies inside. Agrees with
    scikit-image (gaussian_weights, use_sample_covariance=False) within 0.00001.
    """
    mean_one, mean_other = smooth(one), smooth(other)
    variances = smooth(one * one) - mean_one**2 + smooth(other * other) - mean_other**2
    covariance = smooth(one * other) - mean_one * mean_other
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mean_one * mean_other + c1) * (2 * covariance + c2)
    return float(np.mean(alike / ((mean_one**2 + mean_other**2 + c1) * (variances + c2))))


def smooth(plane: Plane) -> Plane:
    weights = np.exp(-(np.arange(-5, 6, dtype=np.float32) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    for _ in range(2):
        rows = plane.shape[0] - 10
        # The sum along one axis, turned, so that the second pass goes along the other.
        plane = sum(w * plane[i : i + rows] for i, w in enumerate(weights)).T
    return plane


def planes(image: Image.Image) -> Plane:
    return np.asarray(image.convert("YCbCr"), np.float32).transpose(2, 0, 1)


def psnr(one: Plane, other: Plane) -> float:
    return float(10 * np.log10(255**2 / max(float(np.mean((one - other) ** 2)), 1e-9)))


def timed(make: Callable[[], bytes]) -> tuple[bytes, float]:
    """What it makes, and CPU ms of the faster run."""
    times = []
    for _ in range(RUNS):
        started = time.process_time()
        body = make()
        times.append(time.process_time() - started)
    return body, 1000 * min(times)


class Bench:
    """Pictures, and what has been measured on them."""

    def __init__(self, pictures: list[Image.Image]) -> None:
        self.photos = pictures
        self.references = [planes(photo) for photo in self.photos]
        self.measure = lru_cache(maxsize=None)(self._measure)  # of one run

    def _measure(self, way: Way, quality: int) -> Result:
        """The means over all photos."""
        return Result(*np.mean([self._one(i, way, quality) for i in range(len(self.photos))], 0))

    def _one(self, number: int, way: Way, quality: int) -> Result:
        photo = self.photos[number]
        body, cpu_ms = timed(
            lambda: encode(photo, way.format, quality, encoding=way.encoding, lossless=way.lossless)
        )
        shown, wanted = planes(Image.open(io.BytesIO(body))), self.references[number]
        colour = min(60.0, psnr(shown[1:], wanted[1:]))
        return Result(cpu_ms, len(body) / 1024, ssim(shown[0], wanted[0]), colour)

    def alike(self, way: Way, wanted: float) -> int:
        """The lowest quality with at least that SSIM, by halving; 100 if there is none."""
        low, high = 1, 100
        while low < high:
            middle = (low + high) // 2
            if self.measure(way, middle).ssim >= wanted:
                high = middle
            else:
                low = middle + 1
        return low


def resized(folder: Path, side: int) -> Iterator[Image.Image]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg"):
            image = Image.open(path).convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            image.info = {}
            yield image


def drawing(side: int) -> Image.Image:
    """Something like a screenshot of a table, resized: flat areas, lines and a lot of text."""
    image = Image.new("RGB", (1440, 960), "#f4f5f7")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default_imagefont()
    draw.rectangle((0, 0, 1440, 80), "#20293a")
    for line in range(28):
        top = 100 + line * 30
        draw.rectangle((30, top, 1100, top + 26), "#ffffff" if line % 2 else "#e2eafb")
        draw.ellipse((1120, top, 1146, top + 26), (60 + line * 6, 120, 230 - line * 7))
        text = f"#{10023 + line * 17}  order of {line * 31.7:.2f} on the {line + 1}. " * 4
        draw.text((40, top + 7), text, "#202030", font)
    return image.resize((side, side * 2 // 3), Image.Resampling.LANCZOS)


HEADER = """
| encoder | quality | CPU ms | KB | KB/JPEG | SSIM | colour dB |
|---|---|---|---|---|---|---|"""


def row(way: Way, quality: int, result: Result, base: float) -> None:
    shown = quality if way.format in (Format.JPEG, Format.WEBP, Format.AVIF) else ""
    print(
        f"| {way.name} | {'' if way.lossless else shown} | {result.cpu_ms:.1f} "
        f"| {result.kilobytes:.1f} | {result.kilobytes / base:.2f} | {result.ssim:.4f} "
        f"| {result.colour:.1f} |",
        flush=True,
    )


def alike(bench: Bench, like: int) -> None:
    """Every way at the quality that looks like our JPEG of quality `like`."""
    reference = bench.measure(JPEGS[0], like)
    print(f"\nWith the SSIM of our JPEG {like}\n{HEADER}")
    for way in JPEGS + WEBPS + AVIFS:
        if way.format in written():
            quality = bench.alike(way, reference.ssim)
            row(way, quality, bench.measure(way, quality), reference.kilobytes)


def ladder(bench: Bench, like: int) -> None:
    """The default settings at several qualities; from 90 on, a JPEG is 4:4:4."""
    base = bench.measure(JPEGS[0], like).kilobytes
    print(f"\nDefault settings\n{HEADER}")
    for format in (Format.JPEG, Format.WEBP, Format.AVIF):
        usual = Encoding().quality(format) or 0
        qualities = sorted({*range(40, 100, 10), 89, 95, usual})
        for quality in qualities if format in written() else ():
            way = Way(format.extension, format, Encoding())
            row(way, quality, bench.measure(way, quality), base)


def without_quality(bench: Bench, like: int) -> None:
    base = bench.measure(JPEGS[0], like).kilobytes
    print(HEADER)
    for way in WITHOUT_QUALITY:
        row(way, 1, bench.measure(way, 1), base)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[720])
    parser.add_argument("--like", type=int, default=80, help="quality of the JPEG to be like")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for side in arguments.sides:
        bench = Bench(list(resized(arguments.folder, side)))
        if not bench.photos:
            parser.error(f"there are no JPEG files in {arguments.folder}")
        print(f"\n{len(bench.photos)} photos of {side} px")
        alike(bench, arguments.like)
        ladder(bench, arguments.like)
        print("\nWithout a quality: photos")
        without_quality(bench, arguments.like)
        print("\nWithout a quality: a drawing")
        without_quality(Bench([drawing(side)]), arguments.like)
    return 0


if __name__ == "__main__":
    sys.exit(main())
