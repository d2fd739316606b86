"""`thumbproxy warm`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import click

from thumbproxy.assembly.build import parts
from thumbproxy.assembly.factories import served_origins
from thumbproxy.cli.group import cache_options, interruptible, serving_settings
from thumbproxy.config.settings import Settings
from thumbproxy.config.sizing import renders_alone
from thumbproxy.core.formats import Format
from thumbproxy.core.resources import available
from thumbproxy.core.shortage import reason
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import Signer
from thumbproxy.warm.fleet import FleetWarmer
from thumbproxy.warm.journal import Journal, JournalInUse, NotAJournal
from thumbproxy.warm.listings import Listing, ListingFailed
from thumbproxy.warm.local import LocalWarmer
from thumbproxy.warm.names import Found, Names, from_file, from_folder, from_stream
from thumbproxy.warm.pace import Pace
from thumbproxy.warm.progress import display
from thumbproxy.warm.run import Run, chained
from thumbproxy.warm.tasks import Planner, Warmer
from thumbproxy.warm.variants import Variant, preset_text, variants

_FLEET_JOBS = 8


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Numbers with commas between."""

    name = "numbers"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(number) for number in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list like 320,640,1280", param, context)


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: Any, param: Any, context: Any) -> float:
        try:
            rate = float(str(value).removesuffix("/s"))
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            self.fail(f"{value!r} is not a number of pictures per second, like 20", param, context)
        return rate


class _From(NamedTuple):
    """Where sources are listed. length: how many, where it costs little to know."""

    found: Iterable[Found]
    length: Callable[[], int] | None


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option(
    "--from",
    "lists",
    metavar="FILE|-|FOLDER|URL",
    multiple=True,
    help="A list with one source a line, a folder, a sitemap, or a bucket's listing.",
)
@click.option("--preset", "presets", metavar="NAME", multiple=True, help="Options of the settings.")
@click.option("--options", metavar="OPTIONS", multiple=True, help="As in w_400,h_300,fit_cover.")
@click.option(
    "--widths",
    type=_Numbers(),
    metavar="W,W,...",
    default=(),
    help="Each of the above in these widths.",
)
@click.option(
    "--format",
    "formats",
    metavar="FORMAT",
    multiple=True,
    help="auto, jpg, png, webp, avif, gif or json.  [default: auto]",
)
@click.option("--strip", metavar="TEXT", default="", help="What comes before the source in a list.")
@click.option("--prepend", metavar="TEXT", default="", help="What is put before it instead.")
@click.option("--base-url", metavar="URL", help="Ask these servers, instead of filling the caches.")
@click.option("--rate", type=_Rate(), metavar="N", help="Pictures per second at most.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Sources at a time.  [default: one for each processor; 8 with --base-url]",
)
@click.option("--journal", metavar="FILE", help="Write down what is done, and leave out what was.")
@cache_options
def warm(  # noqa: PLR0913 - one for each option of the command
    *,
    sources: tuple[str, ...],
    lists: tuple[str, ...],
    presets: tuple[str, ...],
    options: tuple[str, ...],
    widths: tuple[int, ...],
    formats: tuple[str, ...],
    strip: str,
    prepend: str,
    rate: float | None,
    jobs: int | None,
    journal: str | None,
    config: str | None,
    **arguments: str | None,
) -> None:
    """Make thumbnails before anybody asks for them.

    Every SOURCE is made with each preset and each --options, in all --widths and --formats; what
    is there already is left as it is. The pictures go into the caches of the configuration or,
    with --base-url, into those of the servers there, which are asked as browsers would ask them.

    Exit status: 0 all is there, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    if not sources and not lists:
        raise click.UsageError("Nothing to warm: name a SOURCE, or a list with --from.")
    settings = serving_settings(config, arguments)
    bases = [*(preset_text(settings.presets, name) for name in presets), *options]
    wanted = variants(bases, widths, formats)
    names = Names(
        strip=strip, prepend=prepend, locations=_locations(settings), encoded=_encoded(settings)
    )
    listed = [_listed(place, names) for place in lists]
    given = _From([names.entry(source, "") for source in sources], lambda: len(sources))
    everything = [given, *listed]
    stop, fleet = threading.Event(), bool(arguments["base_url"])
    jobs = jobs or (_FLEET_JOBS if fleet else renders_alone(available()))
    planner, warmer = _work(settings, wanted, Pace(rate, sleep=stop.wait), stop, jobs, fleet=fleet)
    if not sources:
        everything[1] = _begun(lists[0], everything[1])
    with _journal(journal) as kept:
        run = Run(planner, warmer, jobs=jobs, display=display(), journal=kept, stop=stop,
                  count=_total(everything))  # fmt: skip
        # `stop` as well: Python drops a KeyboardInterrupt that comes in a finalizer.
        with interruptible(stop.set):
            tally = run.warm(chained(part.found for part in everything))
    click.echo("\n".join(tally.summary()))
    if not tally.complete:
        sys.exit(128 + signal.SIGINT if tally.interrupted else 1)


@contextmanager
def _journal(path: str | None) -> Iterator[Journal | None]:
    if path is None:
        yield None
        return
    try:
        journal = Journal(path)
    except (JournalInUse, NotAJournal, OSError) as error:
        raise click.UsageError(f"--journal: {error}") from None
    try:
        with journal:
            yield journal
    except OSError as error:  # a full disk, for one
        raise click.ClickException(
            f"The journal cannot be written: {reason(error, path)}"
        ) from None


def _work(
    settings: Settings,
    wanted: Sequence[Variant],
    pace: Pace,
    stop: threading.Event,
    jobs: int,
    *,
    fleet: bool,
) -> tuple[Planner, Warmer]:
    """What plans and what does it. Raises SettingsError, BadOptions."""
    urls = UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=settings.limits)
    for variant in wanted:  # a fault that all would have is told once
        urls.build("any", Options.read(variant.options), variant.format)
    if fleet:
        warmer: Warmer = FleetWarmer(settings.base_url, pace, stop.wait)
        offered: Sequence[Format] = [Format(name) for name in settings.auto_formats]
        return Planner(urls, wanted, offered, where=settings.base_url), warmer
    # Of damaged pictures Pillow says so in warnings; what counts is whether it raises.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    settings = replace(settings, renders=jobs)
    site = parts(settings, served_origins(settings))
    warmer = LocalWarmer(site.thumbnailer, site.urls, pace)
    where = f"{settings.cache_dir} {settings.memcached}"
    return Planner(urls, wanted, site.auto_formats, where=where), warmer


def _listed(place: str, names: Names) -> _From:
    if place == "-":
        return _From(from_stream(sys.stdin.buffer, names, "standard input"), None)
    if place.startswith(("http://", "https://")):
        return _From(Listing(place, names), None)
    if os.path.isdir(place):
        return _From(from_folder(place, names), lambda: _length(from_folder(place, names)))
    if os.path.isfile(place):
        return _From(from_file(place, names), lambda: _length(from_file(place, names)))
    raise click.UsageError(f"--from {place}: there is no such file or folder, and it is no URL.")


def _begun(place: str, first: _From) -> _From:
    """The first list, of which something is there: when it is not, nothing was begun."""
    found = iter(first.found)
    try:
        beginning = list(islice(found, 1))
    except (ListingFailed, OSError) as error:
        raise click.UsageError(f"--from {place}: {error}") from None
    return _From(chain(beginning, found), first.length)


def _length(found: Iterable[Found]) -> int:
    return sum(1 for _ in found)


def _total(lists: Sequence[_From]) -> Callable[[], int] | None:
    """How many sources there are, if that is known of all lists."""
    lengths = [part.length for part in lists if part.length]
    return (lambda: sum(length() for length in lengths)) if len(lengths) == len(lists) else None


def _locations(settings: Settings) -> dict[str, str]:
    """Where origins are, as folder or URL -> the prefix of their sources."""
    origins = [
        (entry.location, prefix) for prefix, entry in settings.origins.items() if entry.location
    ]
    if settings.origin:
        origins.append((settings.origin, ""))
    return {
        place if "://" in place else os.path.abspath(Path(place).expanduser()): _folder_of(prefix)
        for place, prefix in origins
    }


def _encoded(settings: Settings) -> set[str]:
    """The prefixes of origins whose sources stand as they are requested."""
    return {_folder_of(prefix) for prefix, entry in settings.origins.items() if entry.encoded}


def _folder_of(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix else ""
