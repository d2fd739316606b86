"""`thumbproxy cache stats`, `trim`, `clear` and `verify`."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from thumbproxy.assembly.factories import disk_cache
from thumbproxy.caches.base import Scope
from thumbproxy.cli.decoding import decoder
from thumbproxy.cli.group import (
    Command,
    Refusal,
    cache_home,
    check_cache,
    config_option,
    interruptible,
)
from thumbproxy.config.settings import Settings
from thumbproxy.config.types import Size
from thumbproxy.core.errors import PurgeFailed
from thumbproxy.core.extras import Lacking
from thumbproxy.core.limits import Deadline
from thumbproxy.core.shortage import shortage

# How long to wait for a server's janitor, which rests most of the time.
_PATIENCE = 3600.0
_SHOWN_SECONDS = 0.1
# Servers on this machine come first.
_NICE = 10
_AGES = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def _options(command: Command) -> Command:
    directory = click.option("--cache-dir", metavar="DIR", help="The disk cache.")
    return config_option(directory(command))


@click.group()
def cache() -> None:
    """Look at the disk cache, make room in it, or empty it. Servers may run meanwhile."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@_options
def stats(config: str | None, cache_dir: str | None, as_json: bool) -> None:
    """Tell what the disk cache holds."""
    disk = disk_cache(_settings(config, cache_dir))
    with _shown() as show, _told():
        found = disk.inventory(lambda files: show(f"{files:,} files"))
    facts = found.facts()
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


@cache.command()
@click.option(
    "--to", metavar="SIZE|N%", help="How much to leave: 5GB, or 50%.  [default: 90%, if it is more]"
)
@_options
def trim(config: str | None, cache_dir: str | None, to: str | None) -> None:
    """Remove what was used least, down to a size, or to a part of what the cache may hold."""
    disk = disk_cache(_settings(config, cache_dir))
    usage = disk.janitor.usage
    target = None
    if to is not None:
        share = _share(to)
        if share is not None and not any(usage.bounds):
            raise Refusal("--to: the cache has no bound that this could be a part of; name a size.")
        bounds = usage.bounds.part(share) if share else usage.bounds._replace(files=0)
        target = bounds if share else bounds._replace(bytes=_size(to))
    words = {"count": "files counted", "remove": "files removed"}
    with _shown() as show, _told():
        show("waiting for another janitor")
        done = disk.janitor.trim(
            target,
            progress=lambda stage, files: show(f"{files:,} {words[stage]}"),
            patience=Deadline(_PATIENCE),
        )
    if done is None:
        raise click.ClickException("another janitor is at work")
    click.echo(
        f"removed {done.removed.files:,} files, {text(done.removed.bytes)}; "
        f"left are {done.left.files:,} files, {text(done.left.bytes)}"
    )


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options
def clear(config: str | None, cache_dir: str | None, yes: bool) -> None:
    """Empty the disk cache. It purges nothing elsewhere: `thumbproxy purge --all` does."""
    disk = disk_cache(_settings(config, cache_dir))
    if not yes:
        click.confirm(f"Remove all pictures from {disk.layout.directory}?", abort=True)
    try:
        removed = disk.purge(Scope(""))
    except PurgeFailed as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"removed {removed.files:,} files, {text(removed.bytes)}")


@cache.command()
@click.option("--dry-run", is_flag=True, help="Only tell; remove nothing.")
@_options
def verify(config: str | None, cache_dir: str | None, dry_run: bool) -> None:
    """Look into every file, and remove what is damaged; it is made anew when it is asked for.

    Exit status: 0 all is sound, 1 something was damaged or could not be looked into, 2 wrong usage.
    """
    settings = _settings(config, cache_dir)
    disk = disk_cache(settings)
    os.nice(_NICE)
    count = 0
    with _shown() as show, _told(), decoder(settings) as decode:
        look = disk.verification(decode, lambda files: show(f"{files:,} files looked into"))
        for damage in look.run(remove=not dry_run):
            count += 1
            click.echo(f"{damage.place!a}: {damage.why}")
    done = "" if dry_run or not count else ", and removed"
    unknown = f"; {look.unknown:,} could not be looked into" if look.unknown else ""
    click.echo(f"{look.looked_at:,} files: {count:,} damaged{done}{unknown}")
    sys.exit(1 if count or look.unknown else 0)


def _settings(config: str | None, cache_dir: str | None) -> Settings:
    """Of a cache that is there. Nothing is signed here: no key is needed."""
    defaults = {"cache_dir": str(cache_home()), "keys": (secrets.token_urlsafe(32),)}
    settings = Settings.load(config, os.environ, {"cache_dir": cache_dir}, defaults)
    check_cache(settings.cache_dir)
    return settings


def _share(to: str) -> float | None:
    said = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%", to)
    if said is None:
        return None
    if not 0 < float(said[1]) <= 100:
        raise Refusal(f"--to: {to!r} is not a part; `thumbproxy cache clear` removes everything.")
    return float(said[1]) / 100


def _size(to: str) -> int:
    try:
        size = Size().read(to)
    except (ValueError, KeyError):
        raise Refusal(f"--to: {to!r} is not a size like 5GB or a part like 50%.") from None
    if not size:
        raise Refusal("--to: `thumbproxy cache clear` removes everything.")
    return size


def text(size: float) -> str:
    """Bytes in words: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['directory']}"
    yield _line("holds", facts["bytes"], facts["files"], "files and directories")
    most = [text(facts["max_bytes"])] * bool(facts["max_bytes"])
    most += [f"{facts['max_files']:,} files"] * bool(facts["max_files"])
    share = "" if facts["share"] is None else f"; {facts['share']:.1%} is used"
    yield f"{'may hold':<12}{' and '.join(most) or 'any size'}{share}"
    yield _line("free", facts["free_bytes"], facts["free_files"], "inodes on its file system")
    for name in ("trees", "formats"):
        for kind, pile in facts[name].items():
            yield _line(kind, pile["bytes"], pile["files"], "files")
    failures = f"{facts['failures']:,} that could not be had"
    yield f"{'records':<12}{facts['sources']:,} sources, {failures}"
    if facts["unreadable"]:
        yield f"{'unreadable':<12}{facts['unreadable']:,} files and folders are not counted"
    if facts["newest_use"]:
        yield f"{'oldest use':<12}{_ago(facts['oldest_use'])} ago"
        yield f"{'newest use':<12}{_ago(facts['newest_use'])} ago"


def _line(name: str, size: int, files: int, of: str) -> str:
    return f"{name:<12}{text(size):>11} {files:>13,} {of}"


def _ago(when: float) -> str:
    age = max(0.0, time.time() - when)
    for seconds, unit in _AGES:
        if age >= 2 * seconds:
            return f"{age // seconds:.0f} {unit}s"
    return "a second"


@contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """Shows a text that changes, to people; logs are spared."""
    status = _status() if sys.stderr.isatty() else None
    if status is None:
        yield lambda text: None
        return
    shown = 0.0
    with interruptible(), status:

        def show(text: str) -> None:
            nonlocal shown
            if time.monotonic() - shown > _SHOWN_SECONDS:
                shown = time.monotonic()
                status.update(text)

        yield show


def _status() -> Any:
    """A line on the terminal that can be changed; None without rich, which is an extra."""
    with Lacking():
        from rich.console import Console  # noqa: PLC0415

        return Console(stderr=True).status("")
    return None


@contextmanager
def _told() -> Iterator[None]:
    """Failures of the disk as a sentence."""
    try:
        yield
    except OSError as error:
        place = error.filename or ""
        raise click.ClickException(shortage(error, place) or f"{error.strerror}: {place}") from None
