"""What the settings are as keywords, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class SettingKeywords(TypedDict, total=False):
    """The settings as keywords of `ThumbProxy`; of these, `origins` is an argument of its own.

    docs/configuration.md says what each is. Sizes are bytes and times are seconds, or text in
    words: "10 GiB", "30 days".

    Example:

        from thumbproxy import SettingKeywords, ThumbProxy

        common: SettingKeywords = {"keys": ["your signing key"], "max_age": "30 days"}
        app = ThumbProxy(app, **common)
    """

    keys: Sequence[str]
    prefix: str
    base_url: str
    presets: Mapping[str, str]
    origin: str
    immutable: bool
    upstream: str
    allow_networks: Sequence[str]
    allow_ports: Sequence[int]
    max_redirects: int
    cache_dir: str
    cache_max_bytes: int | str
    cache_max_files: int
    accel_redirect: str
    memcached: Sequence[str]
    memcached_client: str
    memcached_namespace: str
    source_ttl: float | str
    client_lifetime: str
    max_age: float | str
    stale_while_revalidate: float | str
    stale_if_error: float | str
    not_found_ttl: float | str
    failure_ttl: float | str
    purge_token: str
    nginx_cache_dir: str
    surrogate_keys: Sequence[str]
    cdn: Mapping[str, Any]
    auto_formats: Sequence[str]
    auto_avif_pixels: int
    quality_jpg: int
    quality_webp: int
    quality_avif: int
    progressive_jpg: bool
    subsampling_jpg: str
    effort_webp: int
    speed_avif: int
    subsampling_avif: str
    compression_png: int
    watermarks: Mapping[str, Any]
    exif_fields: Sequence[str]
    max_source_bytes: int | str
    max_source_pixels: int
    max_source_side: int
    max_frames: int
    max_output_side: int
    fetch_timeout: float | str
    request_timeout: float | str
    isolation: str
    renders: int
    render_timeout: float | str
    render_pixels: int
    render_memory: int | str
    bind: str
    workers: int
    threads: int
    misses: int
    max_requests: int
    keep_alive: float | str
    drain_delay: float | str
    log_format: str
    access_log: bool
    metrics_token: str
    cors_origins: Sequence[str]
    cross_origin_resource_policy: str
