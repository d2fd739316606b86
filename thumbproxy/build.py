"""Settings in, object graph out: the one place that knows concrete engines, origins and caches."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
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
from thumbproxy.ops import Health, not_found
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
        super().__init__(app, **collaborators(checked, mounts))


def standalone(settings: Settings) -> WSGIApp:
    """The standalone server's application. Raises SettingsError."""
    origins = configured_origins(settings)
    if not origins and settings.upstream:
        origins = {"": OriginSetting(settings.upstream)}
    if not origins:
        raise SettingsError(["origin: none given; `--origin FOLDER` or `--origin http://HOST` "
                             "says where the pictures are."])  # fmt: skip
    app: WSGIApp = Upstream(settings.upstream) if settings.upstream else not_found
    if not settings.renders:
        cores, workers = os.cpu_count() or 1, settings.workers or os.cpu_count() or 1
        settings = replace(settings, renders=max(1, -(-cores // workers)))
    # Of damaged pictures Pillow says so in warnings; what counts is whether it raises.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    return Health(Middleware(app, **collaborators(settings, origins)))


def application() -> WSGIApp:
    """The standalone application, for those who start gunicorn or another server themselves.

    Reads THUMBPROXY_*, and the file that THUMBPROXY_CONFIG names. Raises SettingsError.
    """
    return standalone(Settings.load(os.environ.get("THUMBPROXY_CONFIG"), os.environ))


def collaborators(settings: Settings, origins: Mapping[str, OriginLike]) -> dict[str, Any]:
    """What a Middleware works with."""
    limits = settings.limits
    faults: list[str] = []
    try:
        engine = engine_of(settings, limits)
    except SettingsError as error:
        faults, engine = error.faults, PillowEngine(limits)
    disk = _disk(settings, faults)
    mounts = _mounts(settings, origins, faults)
    caches: list[Cache] = [disk] if disk else []
    if settings.memcached:
        caches += _memcached(settings, faults)
    if faults:
        raise SettingsError(faults)
    thumbnailer = Thumbnailer(
        mounts=mounts,
        engine=engine,
        caches=caches,
        originals=disk,
        renders=BoundedPool(settings.renders or os.cpu_count() or 1, settings.render_queue),
        limits=limits,
        source_ttl=settings.source_ttl,
        avif_pixels=settings.auto_avif_pixels,
    )
    offered = [Format(name) for name in settings.auto_formats if Format(name) in engine.outputs]
    return {
        "urls": UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=limits),
        "thumbnailer": thumbnailer,
        "auto_formats": offered,
        "policy": CachePolicy(
            settings.max_age, settings.stale_while_revalidate, settings.stale_if_error
        ),
    }


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


def _disk(settings: Settings, faults: list[str]) -> DiskCache | None:
    if not settings.cache_dir:
        if not settings.memcached:
            log.warning("neither cache_dir nor memcached is set: every picture is made anew")
        return None
    disk = DiskCache(str(Path(settings.cache_dir).expanduser().absolute()))
    try:
        disk.prepare()
    except OSError as error:
        faults.append(
            f"cache_dir: {settings.cache_dir!r} cannot be used: {error.strerror}. "
            "Choose a folder that this user may write to."
        )
    return disk


def _memcached(settings: Settings, faults: list[str]) -> list[Cache]:
    if MemcachedCache is None:
        faults.append("memcached: pylibmc is missing; pip install 'thumbproxy[memcached]'.")
        return []
    secret, namespace = settings.keys[0], settings.memcached_namespace
    return [MemcachedCache(settings.memcached, secret=secret, namespace=namespace)]
