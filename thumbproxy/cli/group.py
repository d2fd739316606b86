"""What the commands share: error handling, and reading the settings."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from thumbproxy.config.settings import Settings
from thumbproxy.core.errors import RequestError, SettingsError

Command = TypeVar("Command", bound=Callable[..., Any])


class Refusal(click.ClickException):
    """Nothing was begun: what was asked for, or the configuration, cannot be used."""

    exit_code = 2


class Group(click.Group):
    """Shows our own errors as sentences, not as tracebacks."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(128 + signal.SIGINT)
        except SettingsError as error:
            raise Refusal("\n       ".join(error.faults)) from None
        except RequestError as error:
            raise Refusal(error.reason) from None


@contextmanager
def interruptible(begin: Callable[[], object] = lambda: None) -> Iterator[None]:
    """While there is something to tidy up, Ctrl-C raises KeyboardInterrupt, after `begin`, in place
    of ending the process on the spot."""

    def interrupt(*_: object) -> None:
        begin()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


config_option = click.option(
    "--config", envvar="THUMBPROXY_CONFIG", metavar="FILE", help="Settings in TOML."
)
prefix_option = click.option(
    "--prefix", metavar="PATH", help="Where thumbnails live.  [default: /thumb]"
)


def cache_options(command: Command) -> Command:
    """The options of a command that uses the origins and caches of `serve`."""
    for option in (
        config_option,
        click.option(
            "--memcached", metavar="HOST:PORT[,...]", help="Memcached servers; unix:/path."
        ),
        click.option(
            "--cache-dir", metavar="DIR", help="The disk cache; a per-user folder by default."
        ),
        prefix_option,
        click.option(
            "--origin", metavar="PATH|URL", help="Where the pictures are: a folder or a server."
        ),
    ):
        command = option(command)
    return command


def serving_settings(config: str | None, arguments: dict[str, Any]) -> Settings:
    """The settings as `serve` has them. Raises UnusableSettings, SettingsError."""
    return Settings.load(config, os.environ, arguments, {"cache_dir": str(cache_home())})


def check_cache(directory: str) -> None:
    """Refuse a directory that is no cache: it may be misspelled, and must not be made."""
    place = os.path.expanduser(directory)
    if not any(os.path.isdir(os.path.join(place, tree)) for tree in ("private", "locks")):
        raise Refusal(f"cache_dir: there is no cache in {place!r}.")


def cache_home() -> Path:
    """Where caches live when nobody says: as the XDG base directory specification has it."""
    if os.geteuid() == 0 and "XDG_CACHE_HOME" not in os.environ:
        return Path("/var/cache/thumbproxy")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbproxy"
