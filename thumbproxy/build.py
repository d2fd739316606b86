"""Settings in, object graph out: the one place that knows concrete engines, origins and caches."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thumbproxy.caches.base import Cache
from thumbproxy.caches.disk import DiskCache
from thumbproxy.caches.host import Host, Journal, Tier
from thumbproxy.caches.nginx import NginxCache
from thumbproxy.caches.usage import Space
from thumbproxy.cdn.base import Cdn
from thumbproxy.cdn.cloudflare import Cloudflare
from thumbproxy.cdn.cloudfront import CloudFront
from thumbproxy.cdn.fastly import Fastly
from thumbproxy.concurrency import BoundedPool
from thumbproxy.errors import SettingsError
from thumbproxy.fetching import Fetcher
from thumbproxy.imaging.exif_fields import EXIF_NAMES
from thumbproxy.imaging.pillow import PillowEngine
from thumbproxy.imaging.watermark import Watermark, load_watermark
from thumbproxy.kinds import COMPASS
from thumbproxy.limits import Limits
from thumbproxy.media import Format
from thumbproxy.metrics import Metrics, prometheus
from thumbproxy.ops import SHARED_DIRECTORY, Health, MetricsPage, PurgePage, not_found
from thumbproxy.origins.base import Origin
from thumbproxy.origins.folder import Folder
from thumbproxy.origins.http import HttpOrigin
from thumbproxy.origins.mounts import Mounts
from thumbproxy.origins.wsgi import WsgiOrigin
from thumbproxy.purge import Hook, Purger, PurgeResult
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
# ext4 makes one inode for each 16 KiB of a disk: a full cache uses twice its share of them at most.
_BYTES_PER_FILE = 8192
# What a CDN finds the pictures by that it is told to forget.
_TAGGED_FOR = {"fastly": "Surrogate-Key", "cloudflare": "Cache-Tag"}
OriginLike = Origin | OriginSetting | WSGIApp | str


class ThumbProxy(Middleware):
    """WSGI middleware that serves thumbnails in front of `app`.

    app       the application; every request that is not for a thumbnail goes to it, untouched
    origins   source prefix -> where its sources come from: an origin (`Folder`, `HttpOrigin`), a
              WSGI application, a folder's path or an HTTP URL. By default `app` has them all.
    on_purge  called after each purge of this ThumbProxy with its Scope and its tag; or several
    settings  the fields of `Settings`: keys, cache_dir, memcached, prefix, ...

    Raises SettingsError with everything that is wrong.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        origins: Mapping[str, OriginLike] | None = None,
        on_purge: Hook | Sequence[Hook] = (),
        **settings: Any,
    ) -> None:
        unknown = sorted(settings.keys() - Settings.__dataclass_fields__.keys())
        if unknown:
            raise SettingsError([unknown_setting(name, name) for name in unknown])
        checked = Settings(**settings)
        mounts = origins or configured_origins(checked) or {"": app}
        hooks = (on_purge,) if callable(on_purge) else tuple(on_purge)
        super().__init__(app, **parts(checked, mounts, hooks).middleware())

    def purge(self, what: str) -> PurgeResult:
        """Remove all that is kept of "photos/cat.jpg" a source, "photos/" a folder, "" everything,
        on this host and on those that share its memcached, and have CDNs do so.

        Raises BadSource for what is neither.
        """
        return self._purger.purge(what)


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
    purger: Purger
    purge_token: str

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
            "purger": self.purger,
            "purges": PurgePage(self.purger.purge, self.purge_token) if self.purge_token else None,
        }


def parts(
    settings: Settings, origins: Mapping[str, OriginLike], hooks: Sequence[Hook] = ()
) -> Parts:
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
    cdns = _cdns(settings, faults)
    if faults:
        raise SettingsError(faults)
    tiers = [tier for tier in (disk, memcached) if tier is not None]
    sources = Sources(
        fetcher=Fetcher(
            engine=engine, limits=limits, lifetimes=settings.lifetimes, metrics=metrics
        ),
        caches=tiers,
        originals=disk,
        limits=limits,
        lifetimes=settings.lifetimes,
        metrics=metrics,
    )
    thumbnailer = Thumbnailer(
        mounts=mounts,
        sources=sources,
        engine=engine,
        caches=tiers,
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
            tagged=_tagged(settings),
        ),
        auto_formats=tuple(offered),
        purger=Purger(_host(settings, disk, memcached), cdns=cdns, hooks=hooks, metrics=metrics),
        purge_token=settings.purge_token,
    )


def purger_of(settings: Settings) -> Purger:
    """What purges the caches of a configuration, without its origins. Raises SettingsError."""
    faults: list[str] = []
    metrics = Metrics()
    disk = _disk(settings, metrics, faults)
    memcached = _memcached(settings, disk, metrics, faults)
    cdns = _cdns(settings, faults)
    if faults:
        raise SettingsError(faults)
    return Purger(_host(settings, disk, memcached), cdns=cdns, metrics=metrics)


def _host(settings: Settings, disk: DiskCache | None, memcached: MemcachedCache | None) -> Host:
    tiers: dict[str, Tier] = {"disk": disk} if disk else {}
    if settings.nginx_cache_dir:
        tiers["nginx"] = NginxCache(str(Path(settings.nginx_cache_dir).expanduser().absolute()))
    return Host(tiers, memcached, Journal(disk) if disk else None)


def _cdns(settings: Settings, faults: list[str]) -> list[Cdn]:
    cdns: list[Cdn] = []
    for name, entry in settings.cdn.items():
        more: dict[str, Any] = {"endpoint": entry.endpoint} if entry.endpoint else {}
        if name == "fastly":
            cdns.append(Fastly(entry.id, entry.token, whole=entry.whole, **more))
        elif name == "cloudflare":
            cdns.append(Cloudflare(entry.id, entry.token, whole=entry.whole, **more))
        else:
            try:
                cdns.append(CloudFront(entry.id, prefix=settings.prefix, **more))
            except ImportError:
                faults.append(
                    "cdn: botocore is missing for cloudfront; pip install 'thumbproxy[cloudfront]'."
                )
    return cdns


def _tagged(settings: Settings) -> tuple[str, ...]:
    """The headers with tags: those that are wanted, and those that a CDN needs."""
    needed = [_TAGGED_FOR[name] for name in settings.cdn if name in _TAGGED_FOR]
    return tuple(dict.fromkeys([*settings.surrogate_keys, *needed]))


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
    disk = disk_cache(settings, metrics)
    try:
        disk.prepare()
    except OSError as error:
        faults.append(
            f"cache_dir: {settings.cache_dir!r} cannot be used: {error.strerror}. "
            "Choose a folder that this user may write to."
        )
    return disk


def disk_cache(settings: Settings, metrics: Metrics | None = None) -> DiskCache:
    """The disk cache of `cache_dir`, with its bounds; nothing is touched yet."""
    files = settings.cache_max_files or settings.cache_max_bytes // _BYTES_PER_FILE
    return DiskCache(
        str(Path(settings.cache_dir).expanduser().absolute()),
        Space(settings.cache_max_bytes, files),
        metrics=metrics,
    )


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
