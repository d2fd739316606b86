"""`thumbproxy explain`."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import click

from thumbproxy.assembly.build import parts
from thumbproxy.assembly.factories import served_origins
from thumbproxy.caches.base import Cache
from thumbproxy.cli.group import cache_options, serving_settings
from thumbproxy.config.settings import Settings
from thumbproxy.explain.address import Reader
from thumbproxy.explain.explainer import Explainer
from thumbproxy.explain.kept import Directories, DiskView
from thumbproxy.explain.text import lines

_BROWSER = "image/avif,image/webp,*/*"


@click.command()
@click.argument("url")
@click.option(
    "--accept",
    metavar="TYPES",
    default=_BROWSER,
    show_default=True,
    help="The client's Accept header, which decides about auto.",
)
@click.option("--fetch", is_flag=True, help="Ask the origin as well; nothing is kept.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@cache_options
def explain(
    url: str, accept: str, fetch: bool, as_json: bool, config: str | None, **arguments: str | None
) -> None:
    """Tell what URL means, what is kept of it, and what a request would get now.

    URL is a whole address or its path; a query is ignored. Nothing is changed.

    Exit status: 0 a picture would be served, 1 it would not, 2 wrong usage.
    """
    settings = serving_settings(config, arguments)
    # What is built lacks a cache here, of which servers are warned.
    logging.getLogger("thumbproxy").setLevel(logging.ERROR)
    facts = explainer(settings).explain(url, accept=accept, fetch=fetch)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(lines(facts, time.time())))
    sys.exit(0 if facts["served"] else 1)


def explainer(settings: Settings) -> Explainer:
    """Raises SettingsError."""
    # Without a disk cache, which would make its folder and tidy up.
    built = parts(replace(settings, cache_dir=""), served_origins(settings))
    others: Sequence[Cache] = built.caches
    return Explainer(
        reader=Reader(settings.keys, prefix=settings.prefix, limits=settings.limits),
        mounts=built.mounts,
        engine=built.engine,
        directories=Directories(
            DiskView(settings.cache_dir) if settings.cache_dir else None, others
        ),
        limits=settings.limits,
        auto_formats=built.auto_formats,
        avif_pixels=settings.auto_avif_pixels,
    )
