"""How the package is used, for a type checker; nothing runs it (see test_typing.py).

What is wrong here has to be an error: `warn_unused_ignores` makes one of each line that is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type
from wsgiref.types import WSGIApplication

from thumbproxy import (
    BadOptions,
    Folder,
    HttpOrigin,
    Limits,
    OptionKeywords,
    Options,
    PurgeResult,
    RemoteOrigin,
    Scope,
    SettingKeywords,
    SettingsError,
    Signer,
    Thumbnails,
    ThumbProxy,
    WsgiOrigin,
    remote_source,
)
from thumbproxy.config.settings import Settings


def urls(thumbs: Thumbnails) -> None:
    card: OptionKeywords = {"width": 400, "fit": "cover"}
    assert_type(thumbs.url(Path("a.jpg"), "card", width="400", gravity=(0.5, 0.2)), str)
    thumbs.url("a.jpg", **card)
    thumbs.srcset("a.jpg", widths=[320, "640"], height=9)
    thumbs.picture("a.jpg", widths="320,640", alt=None, quality=80)
    assert_type(Options(width=400).quality, int | None)
    assert_type(remote_source("https://a.example/b.jpg", encoded=True), str)
    Thumbnails(["key"], presets={"card": card, "hero": "w_1600"}, limits=Limits(output_side=9))

    thumbs.url("a.jpg", widht=400)  # type: ignore[call-arg]
    thumbs.url("a.jpg", w=400)  # type: ignore[call-arg]
    thumbs.url("a.jpg", lossless=5.0)  # type: ignore[arg-type]
    thumbs.url(5)  # type: ignore[arg-type]
    thumbs.srcset("a.jpg")  # type: ignore[call-arg]
    thumbs.picture("a.jpg", widths=[1.5])  # type: ignore[list-item]
    Options(widht=400)  # type: ignore[call-arg]
    Signer(b"key" * 9)  # type: ignore[arg-type]
    OptionKeywords(colour="red")  # type: ignore[typeddict-unknown-key]
    Limits().redirects = 9  # type: ignore[misc]


def middleware(app: WSGIApplication, some: dict[str, Any]) -> None:
    common: SettingKeywords = {"keys": ["key"], "max_age": "30 days"}
    told: list[Scope] = []
    site = ThumbProxy(
        app,
        keys=("key",),
        origins={
            "": app,
            "a/": "/srv/media",
            "b/": Folder(Path("/srv"), immutable=True),
            "c/": HttpOrigin("https://a.example", headers={"User-Agent": "us"}),
            "d/": RemoteOrigin(["a.example"]),
            "e/": WsgiOrigin(app, host="www.example.com"),
        },
        on_purge=[lambda scope, tag: told.append(scope)],
        cache_max_bytes="10 GiB",
        fetch_timeout=2.5,
        watermarks={"logo": {"image": "logo.png"}},
    )
    wrapped: WSGIApplication = ThumbProxy(site, **common)
    ThumbProxy(wrapped, **some)
    assert_type(site.purge("photos/"), PurgeResult)
    assert_type(site.purge("").failed["disk"], str)
    assert_type(SettingsError([]).faults, list[str])
    assert_type(BadOptions().status, int)

    ThumbProxy(app, key=["key"])  # type: ignore[call-arg]
    ThumbProxy(app, keys=5)  # type: ignore[arg-type]
    ThumbProxy(app, max_age=["1 day"])  # type: ignore[arg-type]
    ThumbProxy(app, immutable="yes")  # type: ignore[arg-type]
    ThumbProxy(app, origins={"": 5})  # type: ignore[dict-item]
    ThumbProxy()  # type: ignore[call-arg]
    Folder()  # type: ignore[call-arg]
    HttpOrigin("https://a.example", hosts=[])  # type: ignore[call-arg]
    site.purge(Scope(""))  # type: ignore[arg-type]


def every_setting(app: WSGIApplication, settings: Settings) -> None:
    """What a setting holds is what its keyword takes."""
    ThumbProxy(
        app,
        keys=settings.keys,
        prefix=settings.prefix,
        base_url=settings.base_url,
        presets=settings.presets,
        origin=settings.origin,
        immutable=settings.immutable,
        upstream=settings.upstream,
        allow_networks=settings.allow_networks,
        allow_ports=settings.allow_ports,
        max_redirects=settings.max_redirects,
        cache_dir=settings.cache_dir,
        cache_max_bytes=settings.cache_max_bytes,
        cache_max_files=settings.cache_max_files,
        accel_redirect=settings.accel_redirect,
        memcached=settings.memcached,
        memcached_client=settings.memcached_client,
        memcached_namespace=settings.memcached_namespace,
        source_ttl=settings.source_ttl,
        client_lifetime=settings.client_lifetime,
        max_age=settings.max_age,
        stale_while_revalidate=settings.stale_while_revalidate,
        stale_if_error=settings.stale_if_error,
        not_found_ttl=settings.not_found_ttl,
        failure_ttl=settings.failure_ttl,
        purge_token=settings.purge_token,
        nginx_cache_dir=settings.nginx_cache_dir,
        surrogate_keys=settings.surrogate_keys,
        cdn=settings.cdn,
        auto_formats=settings.auto_formats,
        auto_avif_pixels=settings.auto_avif_pixels,
        quality_jpg=settings.quality_jpg,
        quality_webp=settings.quality_webp,
        quality_avif=settings.quality_avif,
        progressive_jpg=settings.progressive_jpg,
        subsampling_jpg=settings.subsampling_jpg,
        effort_webp=settings.effort_webp,
        speed_avif=settings.speed_avif,
        subsampling_avif=settings.subsampling_avif,
        compression_png=settings.compression_png,
        watermarks=settings.watermarks,
        exif_fields=settings.exif_fields,
        max_source_bytes=settings.max_source_bytes,
        max_source_pixels=settings.max_source_pixels,
        max_source_side=settings.max_source_side,
        max_frames=settings.max_frames,
        max_output_side=settings.max_output_side,
        fetch_timeout=settings.fetch_timeout,
        request_timeout=settings.request_timeout,
        isolation=settings.isolation,
        renders=settings.renders,
        render_timeout=settings.render_timeout,
        render_pixels=settings.render_pixels,
        render_memory=settings.render_memory,
        bind=settings.bind,
        workers=settings.workers,
        threads=settings.threads,
        misses=settings.misses,
        max_requests=settings.max_requests,
        keep_alive=settings.keep_alive,
        drain_delay=settings.drain_delay,
        log_format=settings.log_format,
        access_log=settings.access_log,
        metrics_token=settings.metrics_token,
        cors_origins=settings.cors_origins,
        cross_origin_resource_policy=settings.cross_origin_resource_policy,
    )
