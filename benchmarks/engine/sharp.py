"""sharp, the engine of Node: how to get it, how to start it, and how it is to encode."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from thumbproxy.core.formats import Format

from .makers import AVIF_EFFORT, PNG_LEVEL, QUALITIES, WEBP_EFFORT

VERSION = "0.35.5"
# Optimised Huffman tables, which only sharp makes by default, would cost it time; and its AVIF
# keeps colour at the full resolution unless told otherwise.
OPTIONS: dict[Format, dict[str, object]] = {
    Format.JPEG: {"quality": QUALITIES[Format.JPEG], "optimiseCoding": False},
    Format.WEBP: {"quality": QUALITIES[Format.WEBP], "effort": WEBP_EFFORT},
    Format.AVIF: {
        "quality": QUALITIES[Format.AVIF],
        "effort": AVIF_EFFORT,
        "chromaSubsampling": "4:2:0",
    },
    Format.PNG: {"compressionLevel": PNG_LEVEL},
}


def install(folder: Path) -> Path | None:
    """sharp in `folder`, by npm; None when there is no Node or npm cannot fetch it."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    fetch = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit",
             "--no-fund", "--silent", f"sharp@{VERSION}"]  # fmt: skip
    done = subprocess.run(fetch, capture_output=True, check=False)
    return module(folder) if done.returncode == 0 else None


def module(folder: Path) -> Path:
    """Where npm puts sharp in a folder."""
    return folder.resolve() / "node_modules" / "sharp"


def version(sharp: Path) -> str:
    return str(json.loads((sharp / "package.json").read_text())["version"])


def command(sharp: Path) -> tuple[str, ...]:
    """Starts a process that speaks as child.py does."""
    return "node", str(Path(__file__).with_suffix(".cjs").resolve()), str(sharp)
