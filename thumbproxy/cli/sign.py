"""`thumbproxy sign` and `thumbproxy keygen`."""

from __future__ import annotations

import os
import secrets

import click

from thumbproxy.cli.group import config_option, prefix_option
from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import BadSource
from thumbproxy.urls.codec import AUTO, UrlCodec, remote_source
from thumbproxy.urls.signing import Signer
from thumbproxy.warm.variants import combined, preset_text


@click.command()
@click.argument("source")
@click.argument("options", default="_")
@click.option("--preset", metavar="NAME", help="Options of the settings, before OPTIONS.")
@click.option(
    "--format", default=AUTO, show_default=True, help="Also jpg, png, webp, avif, gif, json."
)
@click.option("--base-url", metavar="URL", help="What comes before the prefix.")
@prefix_option
@config_option
def sign(
    source: str,
    options: str,
    preset: str | None,
    format: str,
    config: str | None,
    **arguments: str | None,
) -> None:
    """Print the signed URL of SOURCE with OPTIONS, as in w_400,h_300,fit_cover, in any order."""
    settings = Settings.load(config, os.environ, arguments)
    base = preset_text(settings.presets, preset) if preset else "_"
    if "://" in source:
        raise BadSource(_as_source(source, settings))
    urls = UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=settings.limits)
    path = urls.build(source, combined(base, options), format)
    click.echo(settings.base_url.rstrip("/") + path)


def _as_source(url: str, settings: Settings) -> str:
    """Why a URL is not signed, and what might be meant by it."""
    why = f"{url[:80]!r} is a URL; a source is the path of a picture, like photos/cat.jpg."
    mounts = [(prefix, it.encoded) for prefix, it in settings.origins.items() if it.hosts]
    mount, encoded = mounts[0] if mounts else ("remote/", False)
    try:
        source = remote_source(url, mount, encoded=encoded)
    except BadSource:
        return why
    if mounts:
        return f"{why} Sign {source!r}."
    return f'{why} With an origin "remote/" that names its host, it would be {source!r}.'


@click.command()
def keygen() -> None:
    """Print a new signing key."""
    click.echo(secrets.token_urlsafe(32))
