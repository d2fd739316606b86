"""Settings in, object graph out: the one place that knows concrete engines, origins and caches."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thumbproxy.caches.base import Cache
from thumbproxy.caches.disk import DiskCache
from thumbproxy.concurrency import BoundedPool
from thumbproxy.errors import SettingsError
from thumbproxy.imaging.exif_fields import EXIF_NAMES
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.watermark import Watermark, load_watermark
from thumbproxy.kinds import COMPASS
from thumbproxy.limits import Limits
from thumbproxy.media import Format
from thumbproxy.metrics import Metrics, prometheus
from thumbproxy.ops import SHARED_DIRECTORY, Health, MetricsPage, not_found
from thumbproxy.origins.base import Origin
from thumbproxy.origins.folder import Folder
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.origins.mounts import Mounts
from thumbproxy.origins.wsgi import WsgiOrigin
from thumbproxy.responses import CachePolicy
from thumbproxy.service import Thumbnailer
from thumbproxy.setting_kinds import OriginSetting, WatermarkSetting
from thumbproxy.settings import Settings, unknown_setting
from thumbproxy.signing import Signer
from thumbproxy.sources import Sources
from thumbproxy.upstream import Upstream
from thumbproxy.urls import UrlCodec
from thumbproxy.wsgi import Middleware, WSGIApp

try:
    from thumbproxy.caches.memcached import MemcachedCache
except ImportError:  # pylibmc is an extra
    MemcachedCache = None  # type: ignore[assignment,misc]

log = logging.getLogger(__name__)
OriginLike = Origin | OriginSetting | WSGIApp | str


class ThumbProxy(Middleware):
    """WSGI middleware that serves thumbnails in front of `app`.

    app       the application; every request that is not for a thumbnail goes to it, untouched
    origins   source prefix -> where its sources come from: an origin (`Folder`, `HttpOrigin`), a
              WSGI application, a folder's path or an HTTP URL. By default `app` has them all.
    settings  the fields of `Settings`: keys, cache_dir, memcached, prefix, ...

    Raises SettingsError with everything that is wrong.
    """

    def __init__(
        self, app: WSGIApp, *, origins: Mapping[str, OriginLike] | None = None, **settings: Any
    ) -> None:
        unknown = sorted(settings.keys() - Settings.__dataclass_fields__.keys())
        if unknown:
            raise SettingsError([unknown_setting(name, name) for name in unknown])
        checked = Settings(**settings)
        mounts = origins or configured_origins(checked) or {"": app}
        super().__init__(app, **parts(checked, mounts).middleware())


def standalone(settings: Settings) -> WSGIApp:
    """The standalone server's application. Raises SettingsError."""
    origins = served_origins(settings)
    app: WSGIApp = Upstream(settings.upstream) if settings.upstream else not_found
    if not settings.renders:
        cores, workers = os.cpu_count() or 1, settings.workers or os.cpu_count() or 1
        settings = replace(settings, renders=max(1, -(-cores // workers)))
    # Of damaged pictures Pillow says so in warnings; what counts is whether it raises.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    middleware = Middleware(app, **parts(settings, origins).middleware())
    return Health(MetricsPage(middleware, settings.metrics_token))


def application() -> WSGIApp:
    """The standalone application, for those who start gunicorn or another server themselves.

    Reads THUMBPROXY_*, and the file that THUMBPROXY_CONFIG names. Raises SettingsError.
    """
    return standalone(Settings.load(os.environ.get("THUMBPROXY_CONFIG"), os.environ))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a site consists of, for those who serve it and those who look after it.

    disk, memcached  None where there is none
    caches           those that there are, nearest first
    """

    urls: UrlCodec
    mounts: Mounts
    engine: PillowEngine
    disk: DiskCache | None
    memcached: MemcachedCache | None
    thumbnailer: Thumbnailer
    metrics: Metrics
    policy: CachePolicy
    auto_formats: tuple[Format, ...]

    @property
    def caches(self) -> list[Cache]:
        return [cache for cache in (self.disk, self.memcached) if cache is not None]

    def middleware(self) -> dict[str, Any]:
        """What a Middleware works with."""
        return {
            "urls": self.urls,
            "thumbnailer": self.thumbnailer,
            "auto_formats": self.auto_formats,
            "policy": self.policy,
            "metrics": self.metrics,
        }


def parts(settings: Settings, origins: Mapping[str, OriginLike]) -> Parts:
    """Build it all. Raises SettingsError with everything that is wrong."""
    limits = settings.limits
    faults: list[str] = []
    try:
        engine = engine_of(settings, limits)
    except SettingsError as error:
        faults, engine = error.faults, PillowEngine(limits)
    metrics = _metrics(settings, faults)
    disk = _disk(settings, metrics, faults)
    mounts = _mounts(settings, origins, faults)
    memcached = _memcached(settings, disk, metrics, faults)
    if faults:
        raise SettingsError(faults)
    tiers = [tier for tier in (disk, memcached) if tier is not None]
    sources = Sources(
        engine=engine,
        caches=tiers,
        originals=disk,
        leases=tiers,
        limits=limits,
        lifetimes=settings.lifetimes,
        metrics=metrics,
    )
    thumbnailer = Thumbnailer(
        mounts=mounts,
        sources=sources,
        engine=engine,
        caches=tiers,
        leases=tiers,
        renders=BoundedPool(settings.renders or os.cpu_count() or 1, settings.render_queue),
        limits=limits,
        metrics=metrics,
        avif_pixels=settings.auto_avif_pixels,
        failure_ttl=settings.failure_ttl,
    )
    offered = [Format(name) for name in settings.auto_formats if Format(name) in engine.outputs]
    return Parts(
        urls=UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=limits),
        mounts=mounts,
        engine=engine,
        disk=disk,
        memcached=memcached,
        thumbnailer=thumbnailer,
        metrics=metrics,
        policy=CachePolicy(
            settings.max_age,
            settings.stale_while_revalidate,
            settings.stale_if_error,
            settings.accel_redirect,
        ),
        auto_formats=tuple(offered),
    )


def _metrics(settings: Settings, faults: list[str]) -> Metrics:
    """They cost some microseconds of each hit, so nobody pays who does not look at them."""
    if not (settings.metrics_token or SHARED_DIRECTORY in os.environ):
        return Metrics()
    try:
        return prometheus()
    except ImportError:
        if settings.metrics_token:
            faults.append("metrics_token: prometheus-client is missing; "
                          "pip install 'thumbproxy[metrics]'.")  # fmt: skip
        return Metrics()


def engine_of(settings: Settings, limits: Limits) -> PillowEngine:
    """Raises SettingsError."""
    faults = [
        f"exif_fields: there is no EXIF field {name!r}."
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


def _watermark(setting: WatermarkSetting) -> Watermark:
    position = setting.position
    return load_watermark(
        str(Path(setting.image).expanduser()),
        position=COMPASS.get(position, COMPASS["c"]) if isinstance(position, str) else position,
        opacity=setting.opacity,
        scale=setting.scale,
        margin=setting.margin,
    )


def served_origins(settings: Settings) -> dict[str, OriginLike]:
    """The origins of the standalone server. Raises SettingsError when there is none."""
    origins = configured_origins(settings)
    if not origins and settings.upstream:
        origins = {"": OriginSetting(settings.upstream)}
    if not origins:
        raise SettingsError(["origin: none given; `--origin FOLDER` or `--origin http://HOST` "
                             "says where the pictures are."])  # fmt: skip
    return origins


def configured_origins(settings: Settings) -> dict[str, OriginLike]:
    table: dict[str, OriginLike] = dict(settings.origins)
    if settings.origin:
        table[""] = OriginSetting(settings.origin, settings.immutable)
    return table


def _mounts(settings: Settings, origins: Mapping[str, OriginLike], faults: list[str]) -> Mounts:
    mounted: dict[str, Origin] = {}
    for prefix, origin in origins.items():
        try:
            mounted[prefix] = _mounted(origin, settings)
        except SettingsError as error:
            faults += error.faults
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
        raise SettingsError([f"origins: {origin!r} is no origin, application, folder or URL."])
    return WsgiOrigin(origin)


def _origin_of(setting: OriginSetting, settings: Settings) -> Origin:
    if not setting.location.startswith(("http://", "https://")):
        return Folder(Path(setting.location).expanduser(), immutable=setting.immutable)
    try:
        return HttpOrigin(
            setting.location, immutable=setting.immutable, allow_networks=settings.allow_networks
        )
    except ValueError as error:
        raise SettingsError([f"origin: {error}."]) from None


def _check_folder(folder: Folder) -> None:
    if not os.path.isdir(folder.path):
        raise SettingsError([f"origin: there is no folder {folder.path!r}."])
    if not os.access(folder.path, os.R_OK | os.X_OK):
        raise SettingsError([f"origin: this user may not read the folder {folder.path!r}."])


def _disk(settings: Settings, metrics: Metrics, faults: list[str]) -> DiskCache | None:
    if not settings.cache_dir:
        if not settings.memcached:
            log.warning("neither cache_dir nor memcached is set: every picture is made anew")
        return None
    directory = str(Path(settings.cache_dir).expanduser().absolute())
    disk = DiskCache(directory, metrics=metrics)
    try:
        disk.prepare()
    except OSError as error:
        faults.append(
            f"cache_dir: {settings.cache_dir!r} cannot be used: {error.strerror}. "
            "Choose a folder that this user may write to."
        )
    return disk


def _memcached(
    settings: Settings, disk: DiskCache | None, metrics: Metrics, faults: list[str]
) -> MemcachedCache | None:
    if not settings.memcached:
        return None
    if MemcachedCache is None:
        faults.append("memcached: pylibmc is missing; pip install 'thumbproxy[memcached]'.")
        return None
    return MemcachedCache(
        settings.memcached,
        secret=settings.keys[0],
        namespace=settings.memcached_namespace,
        host=disk.host if disk else "",
        lease_seconds=math.ceil(settings.fetch_timeout) + 2,
        metrics=metrics,
    )
