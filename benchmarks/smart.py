"""What `g_smart` keeps of the subject, beside libvips's `attention`, and what it costs.

    python benchmarks/smart.py FOLDER [--subjects FILE] [--sheet FILE.png]

Both crop each JPEG photo of the folder, and the pictures made in code of tests/scenes.py, to four
ratios. `kept` is the share of the subject that lies in the crop, of what could lie in a crop of
that size; `whole` is how often that is more than 97 %. The subjects of photos are marked by hand,
in a file of lines `name left top right bottom`, the name without its ending and the edges as
fractions; without it, photos are listed with their crops' middles alone.

`drift` is by how much the crops of one photo in four widths differ, at the edge that differs most.
CPU ms is that of finding the crop in a decoded picture of 1000 px, all threads, the least of five.

The sheet shows each photo with both crops side by side, ours first. The exit status is 1 when ours
keeps less of the made pictures' subjects than libvips.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean

# Read by libvips when it is loaded: our budget is CPU time, so both have one thread.
os.environ["VIPS_CONCURRENCY"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import pyvips
from PIL import Image
from scenes import Box, cropped, kept, scenes, window

from thumbproxy.imaging.saliency import focal_point

RATIOS = {"1:1": 1.0, "16:9": 16 / 9, "9:16": 9 / 16, "4:1": 4.0}
SIDE = 1000
WIDTHS = (640, 480, 320)
CELL, GAP = 160, 4
WHOLE = 0.97
# Below this a ratio is the picture's own, and there is nothing to decide.
FREE = 0.95


def ours(picture: Image.Image, ratio: float) -> Box:
    part = window(picture.size, ratio)
    return cropped(focal_point(picture, part), part)


def of_libvips(picture: Image.Image, ratio: float) -> Box:
    image = in_memory(picture)
    width, height = pixels(picture, ratio)
    crop = image.smartcrop(width, height, interesting="attention")
    left, top = -crop.xoffset / picture.width, -crop.yoffset / picture.height
    return left, top, left + width / picture.width, top + height / picture.height


def in_memory(picture: Image.Image) -> pyvips.Image:
    return pyvips.Image.new_from_memory(picture.tobytes(), *picture.size, 3, "uchar")


def pixels(picture: Image.Image, ratio: float) -> tuple[int, int]:
    across, down = window(picture.size, ratio)
    return round(picture.width * across), round(picture.height * down)


def decided(picture: Image.Image) -> dict[str, float]:
    return {
        name: ratio for name, ratio in RATIOS.items() if min(window(picture.size, ratio)) < FREE
    }


def made_pictures() -> bool:
    """The table of the scenes. Whether ours keeps at least as much as libvips."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for scene in scenes():
        for ratio in decided(scene.picture).values():
            shares = [
                kept(scene.subject, crop(scene.picture, ratio)) for crop in (ours, of_libvips)
            ]
            rows.setdefault(scene.name, []).append((shares[0], shares[1]))
    rows["all"] = [pair for pairs in rows.values() for pair in pairs]
    print("| made pictures | kept, ours | libvips | whole, ours | libvips |\n|---|---|---|---|---|")
    for name, pairs in rows.items():
        both = list(zip(*pairs, strict=True))
        cells = [mean(shares) for shares in both]
        cells += [mean(share > WHOLE for share in shares) for shares in both]
        print(f"| {name} | " + " | ".join(f"{100 * cell:.0f} %" for cell in cells) + " |")
    means = [mean(shares) for shares in zip(*rows["all"], strict=True)]
    return means[0] >= means[1]


def photos(pictures: dict[str, Image.Image], subjects: dict[str, Box]) -> None:
    print(
        "\n| photo | ratio | middle, ours | libvips | kept, ours | libvips |\n" + "|---" * 6 + "|"
    )
    totals: list[tuple[float, ...]] = []
    for name, picture in pictures.items():
        for label, ratio in decided(picture).items():
            crops = [crop(picture, ratio) for crop in (ours, of_libvips)]
            middles = [f"{(box[0] + box[2]) / 2:.2f}, {(box[1] + box[3]) / 2:.2f}" for box in crops]
            shares = ["", ""]
            if name in subjects:
                totals.append(tuple(kept(subjects[name], box) for box in crops))
                shares = [f"{100 * share:.0f} %" for share in totals[-1]]
            print(f"| {name} | {label} | " + " | ".join(middles + shares) + " |")
    if totals:
        means = [f"{100 * mean(shares):.0f} %" for shares in zip(*totals, strict=True)]
        print("| all | | | | " + " | ".join(means) + " |")


def drift(pictures: Iterable[Image.Image]) -> None:
    """How far apart the middles of the crops of one photo in several widths are, as fractions."""
    spans: tuple[list[float], list[float]] = ([], [])
    for picture in pictures:
        widths = [picture.resize((width, round(width * picture.height / picture.width)))
                  for width in (picture.width, *WIDTHS)]  # fmt: skip
        for ratio in decided(picture).values():
            for found, crop in zip(spans, (ours, of_libvips), strict=True):
                boxes = [crop(width, ratio) for width in widths]
                found.append(max(max(edge) - min(edge) for edge in zip(*boxes, strict=True)))
    for name, found in zip(("ours", "libvips"), spans, strict=True):
        far = sum(span > 0.05 for span in found)
        print(
            f"\nDrift over widths, {name}: mean {mean(found):.3f}, most {max(found):.2f}, "
            f"over 0.05 for {far} of {len(found)} crops"
        )


def costs(pictures: Iterable[Image.Image]) -> None:
    """CPU ms of each, taking turns."""
    pyvips.cache_set_max(0)
    times: tuple[list[float], list[float]] = ([], [])
    for picture in pictures:
        part = window(picture.size, 1.0)
        image, size = in_memory(picture), pixels(picture, 1.0)

        def look_with_libvips(image: pyvips.Image = image, size: tuple[int, int] = size) -> object:
            return image.smartcrop(*size, interesting="attention")

        def look(picture: Image.Image = picture, part: tuple[float, float] = part) -> object:
            return focal_point(picture, part)

        best = [float("inf")] * 2
        for _ in range(5):
            best = [
                min(least, cpu(work))
                for least, work in zip(best, (look, look_with_libvips), strict=True)
            ]
        for spent, least in zip(times, best, strict=True):
            spent.append(least)
    print(f"\nCPU ms: ours {mean(times[0]):.2f}, libvips {mean(times[1]):.2f}")


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def sheet(pictures: dict[str, Image.Image], file: Path) -> None:
    """A row for each photo: the photo, and for each ratio our crop and that of libvips."""
    columns = 1 + 2 * len(RATIOS)
    canvas = Image.new("RGB", (columns * (CELL + GAP), len(pictures) * (CELL + GAP)), "white")
    for row, picture in enumerate(pictures.values()):
        cells = [picture]
        for ratio in RATIOS.values():
            for left, top, right, bottom in (ours(picture, ratio), of_libvips(picture, ratio)):
                box = (left * picture.width, top * picture.height,
                       right * picture.width, bottom * picture.height)  # fmt: skip
                cells.append(picture.crop(tuple(map(round, box))))
        for column, cell in enumerate(cells):
            small = cell.copy()
            small.thumbnail((CELL, CELL))
            canvas.paste(small, (column * (CELL + GAP), row * (CELL + GAP)))
    canvas.save(file)


def opened(path: Path) -> Image.Image:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.draft("RGB", (SIDE, SIDE))
        picture = image.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return picture


def read_subjects(file: Path | None) -> dict[str, Box]:
    subjects: dict[str, Box] = {}
    for line in file.read_text().splitlines() if file else ():
        name, *edges = line.split()
        left, top, right, bottom = map(float, edges)
        subjects[name] = (left, top, right, bottom)
    return subjects


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=Path)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    pictures = {path.stem: opened(path) for path in sorted(arguments.folder.glob("*.jp*g"))}
    good = made_pictures()
    photos(pictures, read_subjects(arguments.subjects))
    if pictures:
        drift(pictures.values())
        costs(pictures.values())
    if arguments.sheet and pictures:
        sheet(pictures, arguments.sheet)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
