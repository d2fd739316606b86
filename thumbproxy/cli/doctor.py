"""`thumbproxy doctor`."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from thumbproxy.assembly.build import resolved
from thumbproxy.assembly.factories import (
    disk_cache,
    engine_of,
    faults_of,
    runner_of,
    with_all_faults,
)
from thumbproxy.cli.group import cache_options, serving_settings
from thumbproxy.config.settings import Settings, UnusableSettings
from thumbproxy.core.errors import SettingsError
from thumbproxy.doctor.findings import Finding, worst
from thumbproxy.doctor.machine import machine
from thumbproxy.doctor.reach import reach
from thumbproxy.doctor.safety import overrides, safety
from thumbproxy.doctor.sandbox import sandbox, try_out
from thumbproxy.doctor.servers import memcached
from thumbproxy.doctor.software import software
from thumbproxy.doctor.storage import Held, storage
from thumbproxy.doctor.text import facts, lines
from thumbproxy.telemetry.metrics import Metrics


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
    with _silent():
        settings, faults = _read(config, arguments)
        if faults:
            findings = list(_without_settings(settings, faults))
        else:
            findings = list(_examined(settings, config))
    if as_json:
        click.echo(json.dumps(facts(findings, unusable=bool(faults)), indent=2))
    else:
        click.echo("\n".join(lines(findings, unusable=bool(faults))))
    sys.exit(2 if faults else 1 if worst(findings) == "critical" else 0)


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


def _read(config: str | None, arguments: dict[str, str | None]) -> tuple[Settings, list[str]]:
    """The settings as `serve` would have them, and what is wrong with them; or, with faults, what
    else there is of them."""
    try:
        settings = with_all_faults(lambda: serving_settings(config, arguments))
    except UnusableSettings as error:
        return resolved(error.rest), error.faults
    except SettingsError as error:  # of a file that cannot be read
        return resolved(Settings(keys=(secrets.token_urlsafe(32),))), error.faults
    return resolved(settings), faults_of(settings)


def _without_settings(settings: Settings, faults: list[str]) -> Iterator[Finding]:
    """What can be told of a machine before its settings can be used."""
    plain = replace(settings, watermarks={}, presets={}, exif_fields=())
    yield from _renders(plain)
    yield from (Finding("settings", "critical", fault) for fault in faults)
    yield from machine(plain, plain.workers)


def _renders(settings: Settings) -> Iterator[Finding]:
    """What pictures are made with; without Pillow there is nothing to try out."""
    try:
        engine = engine_of(settings, settings.limits)
    except SettingsError:
        yield from software(contained=False)
        return
    trial = try_out(runner_of(engine, settings, Metrics()))
    yield from software(contained=trial.contained)
    yield from sandbox(trial)


def _examined(settings: Settings, config: str | None) -> Iterator[Finding]:
    yield from _renders(settings)
    yield from safety(settings, config)
    yield from overrides(config, os.environ)
    yield from reach(settings)
    yield from machine(settings, settings.workers)
    yield from storage(settings, _held(settings))
    yield from memcached(
        settings.memcached,
        connections=settings.workers * (settings.threads + settings.renders),
        client=settings.memcached_client,
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
