"""Makes the engines, origins, caches and CDNs that the settings name.

Faults are put into a list, so that all can be told at once.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.disk.layout import Layout
from thumbproxy.caches.disk.size import Space
from thumbproxy.caches.memcached.cache import MemcachedCache
from thumbproxy.caches.memcached.client import strict_clients
from thumbproxy.config.loading import has_scheme
from thumbproxy.config.settings import Settings, UnusableSettings, setting_of
from thumbproxy.config.sizing import renders_alone
from thumbproxy.config.types import FromEnvironment, OriginSetting, WatermarkSetting
from thumbproxy.core.errors import SettingsError
from thumbproxy.core.extras import Lacking
from thumbproxy.core.limits import Limits
from thumbproxy.core.resources import available
from thumbproxy.core.shortage import shortage
from thumbproxy.core.suggest import hint
from thumbproxy.http.fetch_headers import header_faults
from thumbproxy.origins.base import Origin
from thumbproxy.origins.folder import Folder
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.origins.mounts import Mounts
from thumbproxy.origins.remote import RemoteOrigin
from thumbproxy.origins.wsgi import WsgiOrigin
from thumbproxy.purging.cdn.base import Cdn
from thumbproxy.purging.cdn.cloudflare import Cloudflare
from thumbproxy.purging.cdn.cloudfront import CloudFront
from thumbproxy.purging.cdn.fastly import Fastly
from thumbproxy.purging.coordinator import Host, Journal, Tier
from thumbproxy.purging.nginx import NginxCache
from thumbproxy.rendering.base import Runner
from thumbproxy.rendering.threads import Threads
from thumbproxy.telemetry.metrics import Metrics, prometheus
from thumbproxy.urls.value_types import COMPASS
from thumbproxy.web.admin_endpoints import SHARED_DIRECTORY
from thumbproxy.web.middleware import WSGIApp

_of_pictures, _of_pylibmc = Lacking(), Lacking()
with _of_pictures:
    from thumbproxy.imaging.exif_fields import EXIF_NAMES
    from thumbproxy.imaging.pillow import PillowEngine
    from thumbproxy.imaging.watermark import Watermark, load_watermark
    from thumbproxy.rendering.processes import Processes
with _of_pylibmc:
    from thumbproxy.caches.memcached.libmemcached import libmemcached_clients

log = logging.getLogger(__name__)
# ext4 makes one inode for each 16 KiB of a disk: a full cache uses twice its share of them at most.
_BYTES_PER_FILE = 8192
# Seconds for which one host does a piece of work alone: longer than nearly all take. It is also for
# how long whoever can write to memcached can make others wait, by putting a lease back.
_LONGEST_LEASE = 5
# What a CDN finds the pictures by that it is told to forget.
_TAGGED_FOR = {"fastly": "Surrogate-Key", "cloudflare": "Cache-Tag"}
# By any of them it is known where pictures are.
_PLACES = {"origin", "origins", "upstream"}
OriginLike = Origin | OriginSetting | WSGIApp | str
Origins = Callable[[Settings, list[str]], Mapping[str, OriginLike]]


def host_of(settings: Settings, disk: DiskCache | None, memcached: MemcachedCache | None) -> Host:
    tiers: dict[str, Tier] = {"disk": disk} if disk else {}
    if settings.nginx_cache_dir:
        tiers["nginx"] = NginxCache(str(Path(settings.nginx_cache_dir).expanduser().absolute()))
    return Host(tiers, memcached, Journal(disk.layout.locks, disk.hold) if disk else None)


def cdns_of(settings: Settings, faults: list[str]) -> list[Cdn]:
    cdns: list[Cdn] = []
    for name, entry in settings.cdn.items():
        more: dict[str, Any] = {"endpoint": entry.endpoint} if entry.endpoint else {}
        if name == "fastly":
            cdns.append(Fastly(entry.id, entry.token, whole=entry.whole, **more))
        elif name == "cloudflare":
            cdns.append(Cloudflare(entry.id, entry.token, whole=entry.whole, **more))
        else:
            lacking = Lacking()
            with lacking:
                cdns.append(CloudFront(entry.id, prefix=settings.prefix, **more))
            faults += [f"cdn: for cloudfront, {lacking.fault}"] * bool(lacking.fault)
    return cdns


def tagged_headers(settings: Settings) -> tuple[str, ...]:
    """The headers with tags: those that are wanted, and those that a CDN needs."""
    needed = [_TAGGED_FOR[name] for name in settings.cdn if name in _TAGGED_FOR]
    return tuple(dict.fromkeys([*settings.surrogate_keys, *needed]))


def metrics_of(settings: Settings, faults: list[str]) -> Metrics:
    """They cost some microseconds of each hit, so nobody pays who does not look at them."""
    if not (settings.metrics_token or SHARED_DIRECTORY in os.environ):
        return Metrics()
    lacking = Lacking()
    with lacking:
        return prometheus()
    if settings.metrics_token:
        faults.append(f"metrics_token: {lacking.fault}")
    return Metrics()


def engine_of(settings: Settings, limits: Limits) -> PillowEngine:
    """Raises SettingsError, also without Pillow."""
    _of_pictures.check()
    faults = [
        f"exif_fields: there is no EXIF field {name!r}{hint(name, EXIF_NAMES) or '.'}"
        for name in settings.exif_fields
        if name not in EXIF_NAMES
    ]
    watermarks = {}
    for name, setting in settings.watermarks.items():
        try:
            watermarks[name] = _watermark(setting)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            faults.append(f"watermarks: {setting.image!r} for {name!r} cannot be used: {why}")
    if faults:
        raise SettingsError(faults)
    return PillowEngine(limits, settings.encoding, watermarks, settings.exif_fields)


def runner_of(engine: PillowEngine, settings: Settings, metrics: Metrics) -> Runner:
    """Where pictures are made; nothing is started yet."""
    size = settings.renders or renders_alone(available())
    if settings.isolation != "processes":
        return Threads(engine, size)
    return Processes(engine, settings.limits, size, metrics=metrics, memory=settings.render_memory)


def _watermark(setting: WatermarkSetting) -> Watermark:
    position = setting.position
    return load_watermark(
        str(Path(setting.image).expanduser()),
        position=COMPASS.get(position, COMPASS["c"]) if isinstance(position, str) else position,
        opacity=setting.opacity,
        scale=setting.scale,
        margin=setting.margin,
    )


def with_all_faults(load: Callable[[], Settings], origins: Origins | None = None) -> Settings:
    """What `load` gives. If it raises UnusableSettings, one is raised that also has what is wrong
    with the folders, URLs and pictures that the rest of the settings names."""
    try:
        return load()
    except UnusableSettings as error:
        faults = [*faults_of(error.rest, origins), *_cache_faults(error.rest)]
        wrong = error.wrong
        if not wrong.isdisjoint(_PLACES):  # that there is none of them is not known then
            wrong |= {"origin"}
        more = [fault for fault in faults if setting_of(fault) not in wrong]
        raise UnusableSettings([*error.faults, *more], error.wrong, error.rest) from None


def faults_of(settings: Settings, origins: Origins | None = None) -> list[str]:
    """What keeps a server from being built, but for its disk cache. Nothing is made or started.

    origins: where they come from, which may find faults itself; default: origins_served
    """
    faults: list[str] = []
    mounts_of(settings, (origins or origins_served)(settings, faults), faults)
    try:
        engine_of(settings, settings.limits)
    except SettingsError as error:
        faults += error.faults
    metrics_of(settings, faults)
    memcached_of(settings, None, Metrics(), faults)
    cdns_of(settings, faults)
    return faults


def _cache_faults(settings: Settings) -> list[str]:
    """What can be told of the disk cache without making it."""
    if not settings.cache_dir:
        return []
    there = Path(settings.cache_dir).expanduser().absolute()
    try:
        Layout(str(there)).check()
    except OSError as error:
        return [_unusable_cache(settings.cache_dir, error)]
    while not os.path.exists(there):
        there = there.parent
    if not there.is_dir():
        return [_unusable_cache(settings.cache_dir, _os_error(errno.ENOTDIR))]
    if not os.access(there, os.W_OK | os.X_OK):
        return [_unusable_cache(settings.cache_dir, _os_error(errno.EACCES))]
    return []


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _unusable_cache(directory: str, error: OSError) -> str:
    if short := shortage(error, directory):
        return f"cache_dir: {directory!r} cannot be used: {short}."
    shorter = error.errno == errno.ENAMETOOLONG
    choice = "with a shorter path" if shorter else "that this user may write to"
    return f"cache_dir: {directory!r} cannot be used: {error.strerror}. Choose a folder {choice}."


def served_origins(settings: Settings) -> dict[str, OriginLike]:
    """The origins of the standalone server. Raises SettingsError when there is none."""
    faults: list[str] = []
    origins = origins_served(settings, faults)
    if faults:
        raise SettingsError(faults)
    return origins


def origins_served(settings: Settings, faults: list[str]) -> dict[str, OriginLike]:
    """The origins of the standalone server. That there is none is a fault."""
    origins = configured_origins(settings)
    if not origins and settings.upstream:
        origins = {"": OriginSetting(settings.upstream)}
    if not origins:
        faults.append("origin: none given; `--origin FOLDER` or `--origin http://HOST` "
                      "says where the pictures are.")  # fmt: skip
    return origins


def origins_added(
    settings: Settings, added: Mapping[str, OriginLike], faults: list[str]
) -> dict[str, OriginLike]:
    """The origins of the settings, and those that were given in Python."""
    configured = configured_origins(settings)
    faults += [
        f"origins: {prefix!r} is the prefix of two; leave one of them out."
        for prefix in configured.keys() & added.keys()
    ]
    return {**configured, **added}


def configured_origins(settings: Settings) -> dict[str, OriginLike]:
    table: dict[str, OriginLike] = dict(settings.origins)
    if settings.origin:
        table[""] = OriginSetting(settings.origin, settings.immutable)
    return table


def mounts_of(settings: Settings, origins: Mapping[str, OriginLike], faults: list[str]) -> Mounts:
    mounted: dict[str, Origin] = {}
    for prefix, origin in origins.items():
        try:
            mounted[prefix] = _mounted(origin, settings)
        except SettingsError as error:
            place = f"origins: {prefix!r}" if prefix else "origin"
            faults += [f"{place}: {fault}" for fault in error.faults]
    try:
        return Mounts(mounted)
    except ValueError as error:
        faults.append(f"origins: {error}.")
        return Mounts({})


def _mounted(origin: OriginLike, settings: Settings) -> Origin:
    if isinstance(origin, str):
        origin = OriginSetting(origin)
    if isinstance(origin, OriginSetting):
        origin = _origin_of(origin, settings)
    if isinstance(origin, Folder):
        _check_folder(origin)
    if isinstance(origin, Origin):
        return origin
    if not callable(origin):
        raise SettingsError([f"{origin!r} is no origin, application, folder or URL."])
    return WsgiOrigin(origin)


def _origin_of(setting: OriginSetting, settings: Settings) -> Origin:
    if setting.location and not has_scheme(setting.location):
        return Folder(Path(setting.location).expanduser(), immutable=setting.immutable)
    common: dict[str, Any] = {
        "immutable": setting.immutable,
        "encoded": setting.encoded,
        "headers": _headers_of(setting),
        "allow_networks": settings.allow_networks,
    }
    try:
        if setting.hosts:
            return RemoteOrigin(setting.hosts, **common)
        return HttpOrigin(setting.location, allow_ports=settings.allow_ports, **common)
    except ValueError as error:
        advice = "" if setting.hosts else " It is a folder or an http or https URL."
        raise SettingsError([f"{error}.{advice}"]) from None


def _headers_of(setting: OriginSetting) -> dict[str, str]:
    """The headers of an origin, with what the environment has of them. Raises SettingsError."""
    headers, faults = {}, []
    for name, value in setting.headers.items():
        found = os.environ.get(value.variable) if isinstance(value, FromEnvironment) else value
        if found:
            headers[name] = found
        elif isinstance(value, FromEnvironment):
            faults.append(f"the header {name!r} is to have what the variable {value.variable} has, "
                          "which is not set or empty.")  # fmt: skip
    faults += [f"{fault}." for fault in header_faults(headers)]
    if faults:
        raise SettingsError(faults)
    return headers


def _check_folder(folder: Folder) -> None:
    if not os.path.isdir(folder.path):
        raise SettingsError([f"there is no folder {folder.path!r}."])
    if not os.access(folder.path, os.R_OK | os.X_OK):
        raise SettingsError([f"this user may not read the folder {folder.path!r}."])


def disk_of(settings: Settings, metrics: Metrics, faults: list[str]) -> DiskCache | None:
    if not settings.cache_dir:
        if not settings.memcached:
            log.warning("neither cache_dir nor memcached is set: every picture is made anew")
        return None
    disk = disk_cache(settings, metrics)
    try:
        disk.prepare()
    except OSError as error:
        faults.append(_unusable_cache(settings.cache_dir, error))
    return disk


def disk_cache(settings: Settings, metrics: Metrics | None = None) -> DiskCache:
    """The disk cache of `cache_dir`, with its bounds; nothing is touched yet."""
    files = settings.cache_max_files or settings.cache_max_bytes // _BYTES_PER_FILE
    return DiskCache(
        str(Path(settings.cache_dir).expanduser().absolute()),
        Space(settings.cache_max_bytes, files),
        metrics=metrics,
    )


def memcached_of(
    settings: Settings, disk: DiskCache | None, metrics: Metrics, faults: list[str]
) -> MemcachedCache | None:
    if not settings.memcached:
        return None
    clients = strict_clients
    if settings.memcached_client == "pylibmc":
        if _of_pylibmc.fault:
            faults.append(f"memcached_client: {_of_pylibmc.fault}")
            return None
        clients = libmemcached_clients
    return MemcachedCache(
        settings.memcached,
        secret=settings.keys[0],
        others=settings.keys[1:],
        namespace=settings.memcached_namespace,
        host=disk.host if disk else "",
        lease_seconds=min(math.ceil(settings.fetch_timeout) + 2, _LONGEST_LEASE),
        metrics=metrics,
        clients=clients,
    )
