"""Versions: Python, the engine and its codecs, the server."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from thumbproxy.core.extras import Lacking
from thumbproxy.doctor.findings import Finding
from thumbproxy.doctor.holes import before, known_holes, numbers
from thumbproxy.doctor.simd import compiled_for, cpu_has

_lacking = Lacking()
with _lacking:
    import PIL
    from PIL import features

_GROUP = "software"
_LEAST_GUNICORN = "27"


class Engine(NamedTuple):
    """simd      whether it is Pillow-SIMD
    versions  of the engine and its codecs, by name, as they call themselves
    """

    simd: bool
    versions: dict[str, str]


def installed() -> Engine:
    """What pictures are made with here."""
    versions = {"Pillow": PIL.__version__}
    for name, feature in (("libjpeg-turbo", "libjpeg_turbo"), ("libwebp", "webp"),
                          ("zlib", "zlib"), ("Little CMS", "littlecms2")):  # fmt: skip
        versions[name] = features.version(feature) or ""
    versions["libjpeg-turbo of simplejpeg"] = _simplejpeg()
    versions.update(_avif())
    told = {name: version for name, version in versions.items() if version}
    return Engine(_version("pillow-simd") is not None, told)


def software(*, contained: bool) -> Iterator[Finding]:
    """contained: whether a decoder that is taken over can do nothing."""
    ours = _version("thumbproxy") or "of a checkout"
    yield Finding(_GROUP, "ok", f"thumbproxy {ours}, Python {platform.python_version()}")
    if not _lacking.fault:
        yield from _engine(installed(), contained)
    yield from _server()


def _engine(engine: Engine, contained: bool) -> Iterator[Finding]:
    yield from _build(engine)
    names = [f"{name} {version}" for name, version in engine.versions.items() if name != "Pillow"]
    yield Finding(_GROUP, "ok", f"codecs: {', '.join(names)}")
    yield from _holes(engine, contained)


def _build(engine: Engine) -> Iterator[Finding]:
    version = engine.versions["Pillow"]
    if not engine.simd:
        yield Finding(_GROUP, "ok", f"engine: Pillow {version}, without SIMD")
        return
    if _version("pillow") is not None:
        yield Finding(
            _GROUP, "critical", "both Pillow and Pillow-SIMD are installed, over each other",
            "uninstall both, then install one of them",
        )  # fmt: skip
    found, has = _compiled(), cpu_has()
    text = f"engine: Pillow-SIMD {version}, compiled for {found.upper() or 'no known SIMD'}"
    if found and has and found not in has:
        yield Finding(
            _GROUP, "critical", f"{text}, which this CPU does not have: it would crash",
            "compile it on this machine: pip install --force-reinstall --no-binary :all: "
            "pillow-simd",
        )  # fmt: skip
    elif found != "avx2" and "avx2" in has:
        advice = (
            "this CPU has AVX2: CC='cc -mavx2' pip install --force-reinstall --no-deps "
            "--no-cache-dir --no-binary pillow-simd pillow-simd"
        )
        yield Finding(_GROUP, "note", text, advice)
    else:
        yield Finding(_GROUP, "ok", text)


def _compiled() -> str:
    found = importlib.util.find_spec("PIL._imaging")
    try:
        return compiled_for(Path(found.origin)) if found and found.origin else ""
    except OSError:
        return ""


def _holes(engine: Engine, contained: bool) -> Iterator[Finding]:
    holes = groupby(known_holes(engine.versions), lambda hole: hole.program)
    for program, found in holes:
        known = list(found)
        fixed = max((hole.fixed for hole in known), key=numbers)
        name, advice = program, f"use {program} {fixed} or later"
        if engine.simd and program == "Pillow":
            name = "Pillow-SIMD"
            advice = f"pip uninstall pillow-simd; pip install 'pillow>={fixed}'"
        told = "; ".join(f"{hole.id}, {hole.what}" for hole in known)
        yield Finding(
            _GROUP,
            "warning" if contained else "critical",
            f"{name} {engine.versions[program]} has known holes: {told}",
            f"{advice}; until then the sandbox contains them" if contained else advice,
        )


def _server() -> Iterator[Finding]:
    version = _version("gunicorn")
    if version is None:
        advice = "pip install 'thumbproxy[server]' if it is to serve"
        yield Finding(_GROUP, "note", "gunicorn is not installed", advice)
    elif before(version, _LEAST_GUNICORN):
        yield Finding(
            _GROUP, "critical",
            f"gunicorn {version} takes requests that HTTP forbids, so that a request could be "
            "smuggled past a proxy in front of it",
            f"pip install 'gunicorn>={_LEAST_GUNICORN}'",
        )  # fmt: skip
    else:
        yield Finding(_GROUP, "ok", f"gunicorn {version}")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _simplejpeg() -> str:
    """It has libjpeg-turbo in itself, whose version only its binary tells."""
    found = importlib.util.find_spec("simplejpeg._jpeg")
    if found is None or not found.origin:
        return ""
    told = re.search(rb"libjpeg-turbo version ([0-9.]+)", Path(found.origin).read_bytes())
    return told[1].decode() if told else ""


def _avif() -> dict[str, str]:
    """Of Pillow's own AVIF, or of the plugin for Pillow-SIMD."""
    if (version := features.version("avif")) is not None:
        return {"libavif": version}
    try:
        from pillow_avif import _avif  # noqa: PLC0415 - an extra
    except ImportError:
        return {}
    versions = {"libavif": str(_avif.libavif_version)}
    for part in str(_avif.codec_versions()).split(", "):
        name, _, version = part.partition(":")
        numbers = re.match(r"v?([0-9.]+)", version)
        if numbers:
            versions[name.partition(" ")[0]] = numbers[1]
    return versions
