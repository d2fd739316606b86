"""Builds the application from its settings: the only place that connects engines, origins and
caches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from thumbproxy.assembly.factories import (
    OriginLike,
    cdns_of,
    disk_of,
    engine_of,
    host_of,
    memcached_of,
    metrics_of,
    mounts_of,
    origins_added,
    origins_served,
    runner_of,
    tagged_headers,
    with_all_faults,
)
from thumbproxy.caches.base import Cache
from thumbproxy.caches.disk.cache import DiskCache
from thumbproxy.caches.memcached.cache import MemcachedCache
from thumbproxy.config.keywords import SettingKeywords
from thumbproxy.config.settings import FIELDS, Settings, unknown_setting
from thumbproxy.config.sizing import sized
from thumbproxy.core import uwsgi
from thumbproxy.core.errors import SettingsError
from thumbproxy.core.formats import Format
from thumbproxy.core.resources import available
from thumbproxy.http.cross_origin import CrossOrigin
from thumbproxy.http.responses import CachePolicy
from thumbproxy.origins.mounts import Mounts
from thumbproxy.purging.purger import Hook, Purger, PurgeResult
from thumbproxy.scheduling.admission import ConcurrencyLimit, misses_of
from thumbproxy.server.malloc_trim import return_large_blocks
from thumbproxy.service.fetcher import Fetcher
from thumbproxy.service.render_queue import Renders
from thumbproxy.service.source_records import SourceRecords
from thumbproxy.service.source_resolver import SourceResolver
from thumbproxy.service.thumbnailer import Thumbnailer
from thumbproxy.telemetry.access_log import AccessLog
from thumbproxy.telemetry.metrics import Metrics
from thumbproxy.urls.codec import UrlCodec
from thumbproxy.urls.signing import Signer, keys_of
from thumbproxy.web.admin_endpoints import MetricsPage, PurgePage, not_found
from thumbproxy.web.health import (
    Readiness,
    Site,
    disk_probe,
    memcached_probe,
    origin_probe,
    upstream_probe,
)
from thumbproxy.web.middleware import Middleware, WSGIApp
from thumbproxy.web.reverse_proxy import Gated, Upstream

if TYPE_CHECKING:
    from thumbproxy.imaging.pillow import PillowEngine


class ThumbProxy(Middleware):
    """WSGI middleware that serves thumbnails in front of `app`.

    app       the application; every request that is not for a thumbnail goes to it, untouched
    origins   source prefix -> where its sources come from: an origin (`Folder`, `HttpOrigin`), a
              WSGI application, a folder's path or an HTTP URL. By default `app` has them all.
    on_purge  called after each purge of this ThumbProxy with its Scope and its tag; or several
    settings  those of docs/configuration.md: keys, cache_dir, memcached, prefix, ... Without any
              keys, those of the environment's THUMBPROXY_KEYS count.

    Raises SettingsError with everything that is wrong.

    Example:

        from thumbproxy import ThumbProxy

        key = "your signing key"
        app = ThumbProxy(app, keys=[key], cache_dir="/var/cache/thumbproxy", max_age="30 days")
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        origins: Mapping[str, OriginLike] | None = None,
        on_purge: Hook | Sequence[Hook] = (),
        **settings: Unpack[SettingKeywords],
    ) -> None:
        unknown = sorted(settings.keys() - FIELDS.keys())
        faults = [unknown_setting(name, name) for name in unknown]
        hooks = (on_purge,) if callable(on_purge) else tuple(on_purge)
        try:
            given: dict[str, Any] = {
                name: value for name, value in settings.items() if name not in unknown
            }
            given["keys"] = given.get("keys") or keys_of(os.environ)
            checked = with_all_faults(
                lambda: Settings.checked(given),
                lambda settings, faults: origins_added(settings, origins or {}, faults),
            )
            mounts = origins_added(checked, origins or {}, faults) or {"": app}
            built = parts(checked, mounts, hooks)
        except SettingsError as error:
            raise SettingsError([*faults, *error.faults]) from None
        if faults:
            raise SettingsError(faults)
        uwsgi.check_threads()
        super().__init__(app, **built.middleware())

    def purge(self, what: str) -> PurgeResult:
        """Remove all that is kept of "photos/cat.jpg" a source, "photos/" a folder, "" everything,
        on this host and on those that share its memcached, and have CDNs do so.

        Raises BadSource for what is neither.
        """
        return self._purger.purge(what)


def resolved(settings: Settings) -> Settings:
    """The settings of the standalone server, with its own answers to what they leave open."""
    isolation = "processes" if settings.isolation == "auto" else settings.isolation
    return replace(sized(settings, available()), isolation=isolation)


def standalone(settings: Settings) -> Site:
    """The standalone server's application. Raises SettingsError."""
    faults: list[str] = []
    origins = origins_served(settings, faults)
    settings = resolved(settings)
    # Of damaged pictures Pillow says so in warnings; what counts is whether it raises.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    built = parts(settings, origins, faults=faults)
    app: WSGIApp = not_found
    if settings.upstream:
        app = Gated(Upstream(settings.upstream), built.misses)
    middleware = Middleware(app, **built.middleware())
    site: WSGIApp = middleware
    if settings.access_log:
        site = AccessLog(site, json=settings.log_format == "json")

    def start() -> None:
        if settings.isolation == "processes":
            return_large_blocks()
        built.renders.start()

    return Site(
        MetricsPage(site, settings.metrics_token),
        _readiness(settings, origins, built),
        token=settings.metrics_token,
        start=start,
        ignores_body=middleware.ignores_body if settings.upstream else lambda _: True,
    )


def _readiness(settings: Settings, origins: Mapping[str, OriginLike], built: Parts) -> Readiness:
    places = {prefix: getattr(origin, "location", "") for prefix, origin in origins.items()}
    caches = [disk_probe(built.disk.layout.directory)] if built.disk else []
    if settings.memcached:
        caches.append(memcached_probe(settings.memcached))
    return Readiness(
        origins=[origin_probe(prefix, place) for prefix, place in places.items() if place],
        caches=caches,
        others=[upstream_probe(settings.upstream)] if settings.upstream else [],
        pool_status=built.renders.pool_status,
    )


def application() -> Site:
    """The standalone application, for those who start gunicorn or another server themselves.

    Reads THUMBPROXY_*, and the file that THUMBPROXY_CONFIG names: gunicorn finds it as
    `thumbproxy:application()`. Raises SettingsError.
    """
    file = os.environ.get("THUMBPROXY_CONFIG")
    return standalone(with_all_faults(lambda: Settings.load(file, os.environ)))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a site consists of, for those who serve it and those who look after it.

    disk, memcached  None where there is none
    caches           those that there are, nearest first
    """

    urls: UrlCodec
    mounts: Mounts
    engine: PillowEngine
    renders: Renders
    misses: ConcurrencyLimit
    disk: DiskCache | None
    memcached: MemcachedCache | None
    thumbnailer: Thumbnailer
    metrics: Metrics
    policy: CachePolicy
    auto_formats: tuple[Format, ...]
    purger: Purger
    cross_origin: CrossOrigin
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
            "cross_origin": self.cross_origin,
            "purges": PurgePage(self.purger.purge, self.purge_token) if self.purge_token else None,
        }


def parts(
    settings: Settings,
    origins: Mapping[str, OriginLike],
    hooks: Sequence[Hook] = (),
    *,
    faults: Sequence[str] = (),
) -> Parts:
    """Build it all. faults: that are known already. Raises SettingsError with all of them."""
    limits = settings.limits
    faults, engine = list(faults), None
    try:
        engine = engine_of(settings, limits)
    except SettingsError as error:
        faults += error.faults
    metrics = metrics_of(settings, faults)
    disk = disk_of(settings, metrics, faults)
    mounts = mounts_of(settings, origins, faults)
    memcached = memcached_of(settings, disk, metrics, faults)
    cdns = cdns_of(settings, faults)
    if faults or engine is None:
        raise SettingsError(faults)
    tiers = [tier for tier in (disk, memcached) if tier is not None]
    renders = Renders(
        engine,
        runner_of(engine, settings, metrics),
        pixels=settings.render_pixels,
        # Who comes to its turn in time has time for it.
        seconds=min(settings.render_timeout, settings.request_timeout / 2),
        metrics=metrics,
        failure_ttl=settings.failure_ttl,
    )
    misses = ConcurrencyLimit(settings.misses or misses_of(settings.threads))
    records = SourceRecords(tiers, settings.lifetimes)
    sources = SourceResolver(
        fetcher=Fetcher(
            engine=engine,
            renders=renders,
            limits=limits,
            lifetimes=settings.lifetimes,
            metrics=metrics,
        ),
        records=records,
        caches=tiers,
        originals=disk,
        limits=limits,
        lifetimes=settings.lifetimes,
        metrics=metrics,
    )
    thumbnailer = Thumbnailer(
        mounts=mounts,
        records=records,
        sources=sources,
        caches=tiers,
        renders=renders,
        misses=misses,
        limits=limits,
        metrics=metrics,
        avif_pixels=settings.auto_avif_pixels,
    )
    offered = [Format(name) for name in settings.auto_formats if Format(name) in engine.outputs]
    return Parts(
        urls=UrlCodec(Signer(settings.keys), prefix=settings.prefix, limits=limits),
        mounts=mounts,
        engine=engine,
        renders=renders,
        misses=misses,
        disk=disk,
        memcached=memcached,
        thumbnailer=thumbnailer,
        metrics=metrics,
        policy=CachePolicy(
            settings.max_age,
            settings.stale_while_revalidate,
            settings.stale_if_error,
            settings.accel_redirect,
            tagged=tagged_headers(settings),
            origins_count=settings.client_lifetime == "origin",
        ),
        auto_formats=tuple(offered),
        purger=Purger(host_of(settings, disk, memcached), cdns=cdns, hooks=hooks, metrics=metrics),
        cross_origin=CrossOrigin(settings.cors_origins, settings.cross_origin_resource_policy),
        purge_token=settings.purge_token,
    )


def purger_of(settings: Settings) -> Purger:
    """What purges the caches of a configuration, without its origins. Raises SettingsError."""
    faults: list[str] = []
    metrics = Metrics()
    disk = disk_of(settings, metrics, faults)
    memcached = memcached_of(settings, disk, metrics, faults)
    cdns = cdns_of(settings, faults)
    if faults:
        raise SettingsError(faults)
    return Purger(host_of(settings, disk, memcached), cdns=cdns, metrics=metrics)
