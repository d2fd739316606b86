"""`thumbproxy purge`."""

from __future__ import annotations

import logging
import os
import sys

import click

from thumbproxy.build import purger_of
from thumbproxy.cli.group import cache_options, serving_settings
from thumbproxy.purge import PurgeResult


@click.command()
@click.argument("what", metavar="[SOURCE|FOLDER/]", required=False)
@click.option("--all", "everything", is_flag=True, help="Purge everything.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@cache_options
def purge(
    what: str | None, everything: bool, as_json: bool, config: str | None, **arguments: str | None
) -> None:
    """Remove all that is kept of a source like photos/cat.jpg, or of a folder like photos/.

    In the caches of the configuration: the disk of this host, memcached, by which other hosts
    learn of it within two seconds, nginx's copies, and CDNs. No server need run. Run by root, it
    acts as the owner of the disk cache.

    Exit status: 0 all is purged, 1 something could not be, 2 wrong usage.
    """
    if not what and not everything:
        raise click.UsageError("Name a SOURCE or a FOLDER/, or purge --all.")
    if what and everything:
        raise click.UsageError("Either a SOURCE, a FOLDER/, or --all.")
    settings = serving_settings(config, arguments)
    # What is logged here, the result says as well.
    logging.getLogger("thumbproxy").setLevel(logging.ERROR)
    purger = purger_of(settings)
    _become_owner(settings.cache_dir)
    result = purger.purge(what or "")
    if as_json:
        click.echo(result.to_json())
    else:
        _show(result)
    if not result.complete:
        sys.exit(1)


def _become_owner(directory: str) -> None:
    """What root makes in a cache directory, a server that is not root could not change."""
    if os.geteuid() or not os.path.isdir(directory):
        return
    status = os.stat(directory)
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)


def _show(result: PurgeResult) -> None:
    what = repr(result.scope) if result.scope else "everything"
    files = f"{result.files:,} file{'' if result.files == 1 else 's'}"
    click.echo(f"{what}: removed {files} of {result.bytes:,} bytes")
    if result.purged:
        click.echo(f"purged: {', '.join(result.purged)}")
    for why in result.failed.values():
        click.echo(f"NOT purged: {why}", err=True)
