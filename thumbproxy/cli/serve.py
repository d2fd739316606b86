"""`thumbproxy serve` and `thumbproxy demo`."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

import click

from thumbproxy.assembly.build import ThumbProxy, standalone
from thumbproxy.assembly.factories import engine_of, with_all_faults
from thumbproxy.cli.group import cache_home, cache_options, serving_settings
from thumbproxy.config.loading import overridden
from thumbproxy.config.settings import DEFAULTS, Settings
from thumbproxy.config.sizing import sized
from thumbproxy.core.extras import Lacking
from thumbproxy.core.resources import available
from thumbproxy.core.shortage import reason
from thumbproxy.server.listening import checked_bind
from thumbproxy.server.metrics_files import share_metrics
from thumbproxy.telemetry import logs
from thumbproxy.urls.builder import Thumbnails
from thumbproxy.web.admin_endpoints import SHARED_DIRECTORY
from thumbproxy.web.middleware import WSGIApp

_lacking = Lacking()
with _lacking:
    from thumbproxy.demo import GalleryApp, make_samples
with _lacking:
    from thumbproxy.server.gunicorn_app import run

log = logging.getLogger(__name__)


@click.command()
@click.option("--upstream", metavar="URL", help="Pass every other request on to this server.")
@click.option("--bind", metavar="HOST:PORT", help="Where to listen.  [default: 127.0.0.1:8080]")
@click.option("--workers", metavar="N", help="Processes.  [default: one for each processor]")
@click.option("--threads", metavar="N", help="Threads of each process.  [default: 128]")
@cache_options
def serve(config: str | None, **arguments: str | None) -> None:
    """Serve thumbnails, and with --upstream everything else too.

    Signing keys come from THUMBPROXY_KEYS or from the file; `thumbproxy keygen` makes one.
    """

    _lacking.check()

    def load() -> Settings:
        return with_all_faults(lambda: serving_settings(config, arguments))

    def build() -> tuple[WSGIApp, Settings]:
        settings = load()
        if settings.metrics_token and SHARED_DIRECTORY not in os.environ:
            share_metrics()
        app = standalone(settings)
        _tell_overridden(config)
        return app, settings

    settings = with_all_faults(lambda: checked_bind(serving_settings(config, arguments)))
    if settings.metrics_token:
        share_metrics()
    app = standalone(settings)
    logs.start(settings.log_format)
    _tell_overridden(config)
    where = settings.origin or settings.upstream or "the configured origins"
    run(
        app,
        settings,
        f"thumbproxy makes thumbnails of {where} at http://{settings.bind}{settings.prefix}/, "
        f"cached in {settings.cache_dir}",
        build,
    )


def _tell_overridden(config: str | None) -> None:
    """Who changes the keys in the file would wait for them in vain."""
    for name, variable in overridden(config, os.environ).items():
        if name == "keys":
            log.warning("%s of %s are overridden by %s", name, config, variable)


@click.command()
@click.option(
    "--photos",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Show the pictures of this folder.",
)
@click.option("--bind", metavar="HOST:PORT", default=DEFAULTS["bind"], show_default=True)
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where sample pictures and thumbnails are kept; a per-user folder by default.",
)
def demo(photos: Path | None, bind: str, cache_dir: Path | None) -> None:
    """Serve a gallery of sample pictures, without any configuration."""
    _lacking.check()
    home = cache_dir or cache_home() / "demo"
    key, cache = secrets.token_urlsafe(32), str(home / "cache")
    settings = sized(Settings(keys=(key,), bind=bind, cache_dir=cache), available())
    checked_bind(settings)
    try:
        if photos is None:
            photos = home / "photos"
            make_samples(photos, progress=_progress)
        keys = (_kept_key(home / "key"),)
    except OSError as error:
        why = reason(error, str(home))
        raise click.ClickException(
            f"{home} cannot be used: {why}. Choose another folder with --cache-dir."
        ) from None
    gallery = GalleryApp(Thumbnails(keys), photos, engine=engine_of(settings, settings.limits))
    app = ThumbProxy(
        gallery,
        keys=keys,
        cache_dir=settings.cache_dir,
        renders=settings.renders,
        origins={"": str(photos.absolute())},
    )
    run(app, settings, f"The gallery of {photos} is at http://{bind}/ - Ctrl-C stops it.")


def _kept_key(path: Path) -> str:
    """The demo's own key, made once, so that its cache outlives a restart."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_urlsafe(32))
        temporary.replace(path)  # whole, or a demo that was stopped meanwhile left half a key
    return path.read_text()


def _progress(name: str, done: int, total: int) -> None:
    click.echo(f"sample picture {done} of {total}: {name}", err=True)
