"""The command line: serve, demo, sign, keygen."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import click

from thumbproxy import __version__
from thumbproxy.build import ThumbProxy, engine_of, standalone
from thumbproxy.errors import RequestError, SettingsError
from thumbproxy.options import Options
from thumbproxy.playground import GalleryApp, make_samples
from thumbproxy.server import run
from thumbproxy.settings import Settings
from thumbproxy.signing import Signer
from thumbproxy.thumbnails import Thumbnails
from thumbproxy.urls import AUTO, UrlCodec

_config = click.option(
    "--config", envvar="THUMBPROXY_CONFIG", metavar="FILE", help="Settings in TOML."
)


class _Group(click.Group):
    """Shows our own errors as sentences, not as tracebacks."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except SettingsError as error:
            raise click.ClickException("\n       ".join(error.faults)) from None
        except RequestError as error:
            raise click.ClickException(error.reason) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thumbproxy")
def main() -> None:
    """A caching reverse-proxy for images: signed URLs in, resized pictures out."""


@main.command()
@click.option("--origin", metavar="PATH|URL", help="Where the pictures are: a folder or a server.")
@click.option("--upstream", metavar="URL", help="Pass every other request on to this server.")
@click.option("--prefix", metavar="PATH", help="Where thumbnails live.  [default: /thumb]")
@click.option("--bind", metavar="HOST:PORT", help="Where to listen.  [default: 127.0.0.1:8080]")
@click.option("--cache-dir", metavar="DIR", help="The disk cache; a per-user folder by default.")
@click.option("--memcached", metavar="HOST:PORT[,...]", help="Memcached servers.")
@click.option("--workers", metavar="N", help="Processes.  [default: one for each core]")
@click.option("--threads", metavar="N", help="Threads of each process.  [default: 16]")
@_config
def serve(config: str | None, **arguments: str | None) -> None:
    """Serve thumbnails, and with --upstream everything else too.

    Signing keys come from THUMBPROXY_KEYS or from the file; `thumbproxy keygen` makes one.
    """
    defaults = {"cache_dir": str(_cache_home())}
    settings = Settings.load(config, os.environ, arguments, defaults)
    app = standalone(settings)
    where = settings.origin or settings.upstream or "the configured origins"
    run(
        app,
        settings,
        f"thumbproxy makes thumbnails of {where} at http://{settings.bind}{settings.prefix}/, "
        f"cached in {settings.cache_dir}",
    )


@main.command()
@click.argument("source")
@click.argument("options", default="_")
@click.option(
    "--format", default=AUTO, show_default=True, help="Also jpg, png, webp, avif, gif, json."
)
@click.option("--prefix", metavar="PATH", help="Where thumbnails live.  [default: /thumb]")
@click.option("--base-url", metavar="URL", help="What comes before the prefix.")
@_config
def sign(
    source: str, options: str, format: str, config: str | None, **arguments: str | None
) -> None:
    """Print the signed URL of SOURCE with OPTIONS, as in w_400,h_300,fit_cover, in any order."""
    settings = Settings.load(config, os.environ, arguments)
    urls = UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=settings.limits)
    path = urls.build(source, Options.read(options), format)
    click.echo(settings.base_url.rstrip("/") + path)


@main.command()
def keygen() -> None:
    """Print a new signing key."""
    click.echo(secrets.token_urlsafe(32))


@main.command()
@click.option(
    "--photos",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Show the pictures of this folder.",
)
@click.option("--bind", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True)
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where sample pictures and thumbnails are kept; a per-user folder by default.",
)
def demo(photos: Path | None, bind: str, cache_dir: Path | None) -> None:
    """Serve a gallery of sample pictures, without any configuration."""
    home = cache_dir or _cache_home() / "demo"
    try:
        if photos is None:
            photos = home / "photos"
            make_samples(photos, progress=_progress)
        keys = (_kept_key(home / "key"),)
    except OSError as error:
        raise click.ClickException(
            f"{home} cannot be used: {error.strerror}. Choose another folder with --cache-dir."
        ) from None
    settings = Settings(keys=keys, bind=bind, cache_dir=str(home / "cache"))
    gallery = GalleryApp(Thumbnails(keys), photos, engine=engine_of(settings, settings.limits))
    app = ThumbProxy(
        gallery, keys=keys, cache_dir=settings.cache_dir, origins={"": str(photos.absolute())}
    )
    run(app, settings, f"The gallery of {photos} is at http://{bind}/ - Ctrl-C stops it.")


def _cache_home() -> Path:
    """Where caches live when nobody says: as the XDG base directory specification has it."""
    if os.geteuid() == 0 and "XDG_CACHE_HOME" not in os.environ:
        return Path("/var/cache/thumbproxy")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbproxy"


def _kept_key(path: Path) -> str:
    """The demo's own key, made once, so that its cache outlives a restart."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text()


def _progress(name: str, done: int, total: int) -> None:
    click.echo(f"sample picture {done} of {total}: {name}", err=True)
