"""The vector instructions for which Pillow-SIMD was compiled. It does not tell this itself."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# `vpmaddwd`, which multiplies and adds as a resize does, with registers of 256 bits: AVX2. Its
# two-byte VEX prefix has L=1 and pp=01, whatever its operands (Intel SDM, volume 2, chapter 2.3.5).
_OPERANDS = b"".join(rb"\x%02x" % byte for byte in range(0b101, 256, 8))
_WIDE = re.compile(rb"\xc5[%s]\xf5" % _OPERANDS)
# The same with 128 bits, in its old coding.
_NARROW = re.compile(rb"\x66[\x40-\x4f]?\x0f\xf5")
# Three bytes may be there by chance: about six times in a megabyte that is no code at all.
_BY_CHANCE = 24


def compiled_for(library: Path) -> str:
    """ "avx2", "sse4" or "" for neither, by the machine code of a library. Raises OSError."""
    code = library.read_bytes()
    if len(_WIDE.findall(code)) > _BY_CHANCE:
        return "avx2"
    return "sse4" if len(_NARROW.findall(code)) > _BY_CHANCE else ""


def cpu_has(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Of "avx2" and "sse4", what this machine has; both may be missing where it is no x86."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return set()
    try:
        found = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return set()
    flags = set(found[1].split()) if found else set()
    return {name for name, flag in (("avx2", "avx2"), ("sse4", "sse4_1")) if flag in flags}
