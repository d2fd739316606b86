"""`thumbproxy doctor`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from thumbproxy.adapters import (
    cdns_of,
    disk_cache,
    engine_of,
    memcached_of,
    metrics_of,
    mounts_of,
    runner_of,
    served_origins,
)
from thumbproxy.build import resolved
from thumbproxy.cli.group import cache_options, serving_settings
from thumbproxy.doctor.findings import Finding, worst
from thumbproxy.doctor.machine import machine
from thumbproxy.doctor.safety import safety
from thumbproxy.doctor.sandbox import sandbox, try_out
from thumbproxy.doctor.servers import memcached
from thumbproxy.doctor.software import software
from thumbproxy.doctor.storage import Held, storage
from thumbproxy.doctor.text import facts, lines
from thumbproxy.errors import SettingsError
from thumbproxy.metrics import Metrics
from thumbproxy.rendering.base import Runner
from thumbproxy.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--upstream", metavar="URL", help="As for serve.")
@click.option("--bind", metavar="HOST:PORT", help="As for serve.")
@click.option("--workers", metavar="N", help="As for serve.")
@click.option("--threads", metavar="N", help="As for serve.")
@cache_options
def doctor(as_json: bool, config: str | None, **arguments: str | None) -> None:
    """Look at this machine and at the settings as `serve` would have them, and tell what is wrong.

    Nothing is changed but that memcached is given a small value, and a file is made and removed.

    Exit status: 0 it can serve, 1 something is critical, 2 the settings cannot be used.
    """
    settings = resolved(serving_settings(config, arguments))
    with _silent():
        findings = list(_examined(settings, _built(settings), config))
    if as_json:
        click.echo(json.dumps(facts(findings), indent=2))
    else:
        click.echo("\n".join(lines(findings)))
    sys.exit(1 if worst(findings) == "critical" else 0)


@contextmanager
def _silent() -> Iterator[None]:
    """What goes wrong is in the report, and not in a log as well."""
    log = logging.getLogger("thumbproxy")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _built(settings: Settings) -> Runner:
    """Where a server would make pictures, if all that it consists of can be built; but not the disk
    cache, whose folder would be made.

    Raises SettingsError with everything that is wrong.
    """
    faults: list[str] = []
    runner: Runner | None = None
    try:
        mounts_of(settings, served_origins(settings), faults)
    except SettingsError as error:
        faults += error.faults
    try:
        runner = runner_of(engine_of(settings, settings.limits), settings, Metrics())
    except SettingsError as error:
        faults += error.faults
    metrics_of(settings, faults)
    memcached_of(settings, None, Metrics(), faults)
    cdns_of(settings, faults)
    if faults or runner is None:
        raise SettingsError(faults)
    return runner


def _examined(settings: Settings, runner: Runner, config: str | None) -> Iterator[Finding]:
    trial = try_out(runner)
    yield from software(contained=trial.contained)
    yield from sandbox(trial)
    yield from safety(settings, config)
    yield from machine(settings, settings.workers)
    yield from storage(settings, _held(settings))
    yield from memcached(
        settings.memcached, connections=settings.workers * (settings.threads + settings.renders)
    )


def _held(settings: Settings) -> Held:
    if not settings.cache_dir:
        return Held(0, 0, 0, 0)
    usage = disk_cache(settings).janitor.usage
    try:
        kept = usage.read().kept
    except OSError:
        return Held(0, 0, *usage.bounds)
    return Held(*kept, *usage.bounds)
