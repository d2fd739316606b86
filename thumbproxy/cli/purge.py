"""`thumbproxy purge`."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

import click

from thumbproxy.assembly.build import purger_of
from thumbproxy.caches.base import Scope
from thumbproxy.cli.group import Refusal, cache_options, check_cache, serving_settings
from thumbproxy.core.errors import BadSource
from thumbproxy.purging.purger import PurgeResult, scope_at
from thumbproxy.urls.codec import folder_of


@click.command()
@click.argument("what", metavar="[SOURCE|FOLDER/|URL]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Purge everything.")
@click.option("--json", "as_json", is_flag=True, help="For machines, a line for each name.")
@cache_options
def purge(
    what: tuple[str, ...],
    everything: bool,
    as_json: bool,
    config: str | None,
    **arguments: str | None,
) -> None:
    """Remove all that is kept of a source like photos/cat.jpg, or of a folder like photos/.

    The address of a thumbnail, or its path, stands for its source. In the caches of the
    configuration: the disk of this host, memcached, by which other hosts learn of it within two
    seconds, nginx's copies, and CDNs. No server need run. Run by root, it acts as the owner of the
    disk cache.

    Exit status: 0 all is purged, 1 something could not be, 2 wrong usage.
    """
    if not any(what) and not everything:
        raise click.UsageError("Name a SOURCE or a FOLDER/, or purge --all.")
    if what and everything:
        raise click.UsageError("Either a SOURCE, a FOLDER/, or --all.")
    settings = serving_settings(config, arguments)
    scopes = [_scope(name, settings.prefix) for name in what] or [""]
    if settings.cache_dir:
        check_cache(settings.cache_dir)
    # What is logged here, the result says as well.
    logging.getLogger("thumbproxy").setLevel(logging.ERROR)
    purger = purger_of(settings)
    _become_owner(settings.cache_dir)
    complete = True
    for scope in scopes:
        folder = _is_folder(settings.cache_dir, scope)
        result = purger.purge(scope)
        _show(result, settings.cache_dir, as_json=as_json)
        complete &= result.complete
        if folder:
            click.echo(f"{scope!r} is a folder: {scope + '/'!r} purges what is in it.", err=True)
    if not complete:
        sys.exit(1)


def _scope(name: str, prefix: str) -> str:
    """What a name of the command line is about. Everything takes more than a short address."""
    scope = scope_at(name, prefix)
    if scope is None:
        raise Refusal(f"{name!r} is not below {prefix}, where thumbnails live (--prefix).")
    if not scope:
        raise Refusal(f"{name!r} is about everything: that is --all.")
    try:
        return Scope(scope).text
    except BadSource as error:
        raise Refusal(f"{name!r}: {error.reason}") from None


def _become_owner(directory: str) -> None:
    """What root makes in a cache directory, a server that is not root could not change."""
    directory = os.path.expanduser(directory)
    if os.geteuid() or not os.path.isdir(directory):
        return
    status = os.stat(directory)
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)


def _is_folder(directory: str, scope: str) -> bool:
    """Whether there are sources below it, and no picture of its own."""
    entries: list[os.DirEntry[str]] = []
    for tree in ("public", "private") if directory and not scope.endswith("/") and scope else ():
        place = os.path.join(os.path.expanduser(directory), tree, folder_of(scope))
        with suppress(OSError), os.scandir(place) as found:
            # These say nothing of pictures.
            entries += [entry for entry in found if entry.name not in (".source", ".purged")]
    return bool(entries) and all(entry.is_dir(follow_symlinks=False) for entry in entries)


def _show(result: PurgeResult, directory: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(result.to_json())
        return
    what = repr(result.scope) if result.scope else "everything"
    files = f"{result.files:,} file{'' if result.files == 1 else 's'}"
    place = f" from {os.path.abspath(os.path.expanduser(directory))}" if directory else ""
    click.echo(f"{what}: removed {files} of {result.bytes:,} bytes{place}")
    if result.purged:
        click.echo(f"purged: {', '.join(result.purged)}")
    for why in result.failed.values():
        click.echo(f"NOT purged: {why}", err=True)
