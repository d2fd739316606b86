"""Colour profiles made from the few numbers by which PNG files describe their colours.

ICC.1:2022, section 9: a profile of three primaries and a curve, or for grey of the curve alone.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# Chromaticities as x, y of white, red, green and blue, times 100 000 as in cHRM.
_D65 = (31270, 32900)
_SRGB = (*_D65, 64000, 33000, 30000, 60000, 15000, 6000)
# By the number that ITU-T H.273 table 2 gives them: BT.709, BT.601 of 625 and of 525 lines,
# BT.2020, Display P3.
_PRIMARIES = {
    1: _SRGB,
    5: (*_D65, 64000, 33000, 29000, 60000, 15000, 6000),
    6: (*_D65, 63000, 34000, 31000, 59500, 15500, 7000),
    9: (*_D65, 70800, 29200, 17000, 79700, 13100, 4600),
    12: (*_D65, 68000, 32000, 26500, 69000, 15000, 6000),
}
# Parametric curves, ICC.1:2022 section 10.18: a function type and its parameters.
_Curve = tuple[int, tuple[float, ...]]
_SRGB_CURVE: _Curve = (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
# H.273 table 3. What is coded for television is meant for a screen of gamma 2.4 (BT.1886).
_TRANSFERS: dict[int, _Curve] = {
    1: (0, (2.4,)),
    4: (0, (2.2,)),
    5: (0, (2.8,)),
    6: (0, (2.4,)),
    8: (0, (1.0,)),
    13: _SRGB_CURVE,
    14: (0, (2.4,)),
    15: (0, (2.4,)),
}
_SRGB_GAMMA = 45455


def coded_profile(primaries: int, transfer: int, *, grey: bool) -> bytes | None:
    """The profile of a cICP chunk; empty for sRGB, None for code points that are not known here.

    Among those are PQ and HLG, whose brightness would need a mapping of tones.
    """
    points, curve = _PRIMARIES.get(primaries), _TRANSFERS.get(transfer)
    if points is None or curve is None:
        return None
    if points == _SRGB and curve == _SRGB_CURVE:
        return b""
    return _grey(curve) if grey else _coloured(points, curve)


def gamma_profile(gamma: int, points: tuple[int, ...] | None, *, grey: bool) -> bytes:
    """The profile of gAMA (times 100 000) and the 8 numbers of cHRM, if there is one.

    Empty for a gamma that cannot be meant, and for the one that stands for sRGB if it stands alone.
    """
    if not 1_000 <= gamma <= 1_000_000 or (points is None and gamma == _SRGB_GAMMA):
        return b""
    curve: _Curve = (0, (100_000 / gamma,))
    return _grey(curve) if grey else _coloured(points or _SRGB, curve)


def _grey(curve: _Curve) -> bytes:
    return _profile(b"GRAY", {b"wtpt": _xyz(_D50), b"kTRC": _para(curve)})


def _coloured(points: tuple[int, ...], curve: _Curve) -> bytes:
    try:
        columns = _primaries(points)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        columns = _primaries(_SRGB)
    red, green, blue = (_xyz(tuple(column)) for column in columns.T)
    tags = {b"wtpt": _xyz(_D50), b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    return _profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _para(curve))})


def _primaries(points: tuple[int, ...]) -> Floats:
    """XYZ of red, green and blue as columns, seen under D50."""
    white, *rest = (
        np.array([x / y, 1.0, (100_000 - x - y) / y])
        for x, y in zip(points[::2], points[1::2], strict=True)
    )
    primaries = np.stack(rest, axis=1)
    matrix = primaries * np.linalg.solve(primaries, white)
    cone = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    adapted: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cone) @ _BRADFORD @ matrix
    if not np.all(np.abs(adapted) < 8):
        raise ZeroDivisionError
    return adapted


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _para(curve: _Curve) -> bytes:
    kind, parameters = curve
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*parameters)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, 0x04400000, b"mntr", space,
                       b"XYZ ")  # fmt: skip
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + table + body
