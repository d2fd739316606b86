"""The configuration: one schema, read from a file, the environment and arguments.

The fields of `Settings` are the schema: name, kind of value, default and meaning, in one place.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from thumbproxy.config.types import (
    REFUSALS,
    CdnSetting,
    CdnTable,
    Explained,
    Key,
    ListOf,
    Network,
    OriginSetting,
    OriginTable,
    PresetTable,
    Refusal,
    Switch,
    WatermarkSetting,
    WatermarkTable,
    WebOrigins,
)
from thumbproxy.core.errors import BadOptions, SettingsError
from thumbproxy.core.formats import Encoding
from thumbproxy.core.limits import Limits
from thumbproxy.core.suggest import hint
from thumbproxy.http.cache_tags import SEPARATORS
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.urls.hosts import redact_url
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import HOW_TO_GIVE_KEYS
from thumbproxy.urls.value_types import Choice, Kind, Number, Pattern

ENVIRONMENT_PREFIX = "THUMBPROXY_"
_MIB = 1024 * 1024
# Of workers, and of renders of each.
MOST_PROCESSES = 256
_DAY = 86_400


def _setting(kind: Any, default: Any, meaning: str, **more: Any) -> Any:
    metadata = {"kind": kind, "meaning": meaning, "secret": "repr" in more}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, **more)
    return field(default=default, metadata=metadata, **more)


class Size:
    """Bytes, as a number or in words: 10GB is 10^10, 10GiB is 10 * 2^30."""

    allowed = "bytes, or a size like 10GB or 512MiB; 0: no bound"
    _units: Mapping[str, int] = {
        "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
        "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
    }  # fmt: skip

    def read(self, text: str) -> int:
        said = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([A-Za-z]*)", text.strip())
        if said is None:
            raise ValueError
        return self.check(round(float(said[1]) * self._units[said[2].upper()]))

    def check(self, value: Any) -> int:
        if isinstance(value, str):
            return self.read(value)
        if type(value) is not int or not 0 <= value <= 2**60:
            raise ValueError
        return value


_BEST = Encoding()
_QUALITY = Number(1, 100)
_SUBSAMPLING = Choice(("420", "422", "444"))
_SECONDS = Number(0, 10 * 365 * _DAY)
# 0 would be no time at all, and is not how to say that there is no bound.
_TIMEOUT = Number(0.1, 600, 3)
_SERVERS = ListOf(
    Pattern(r"(\[[0-9a-fA-F:]+\]|[^\s:,/]+):[0-9]{1,5}|unix:/[^\s,]+", "host:port or unix:/path")
)
_HTTP_URL = Pattern(
    r"(https?://[^\s/?#@]+(/[^\s?#]*)?)?", "http://host or https://host, no password"
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration, checked. `Settings(**values)` raises SettingsError with all faults.

    Times are seconds, sizes bytes, sides pixels.
    """

    keys: tuple[str, ...] = _setting(ListOf(Key()), (), "signing keys, newest first", repr=False)
    prefix: str = _setting(
        Pattern(r"(/[A-Za-z0-9._~-]+)+/?", "a path like /thumb"), "/thumb", "where thumbnails live"
    )
    base_url: str = _setting(_HTTP_URL, "", "what `sign` puts before the prefix")
    origin: str = _setting(Pattern(r"\S.*|", "a folder or an HTTP URL"), "", "where sources are")
    immutable: bool = _setting(Switch(), False, "names at `origin` are never used again")
    origins: Mapping[str, OriginSetting] = _setting(
        OriginTable(lambda: _FIELDS), {}, "origins by source prefix", repr=False
    )
    upstream: str = _setting(_HTTP_URL, "", "where every other request is passed on to")
    allow_networks: tuple[str, ...] = _setting(
        ListOf(Network()),
        (),
        "networks that a redirect of an HTTP origin, or a host of a remote one, may lead into",
    )
    allow_ports: tuple[int, ...] = _setting(
        ListOf(Number(1, 65_535)), (80, 443), "ports that such a redirect may lead to"
    )
    cache_dir: str = _setting(Pattern(r"\S.*|", "a folder"), "", "the disk cache")
    cache_max_bytes: int = _setting(Size(), 10 * 1024 * _MIB, "largest disk cache")
    cache_max_files: int = _setting(
        Number(0, 10**12),
        0,
        "most files and directories in it; 0: one for each 8 KiB of cache_max_bytes",
    )
    nginx_cache_dir: str = _setting(
        Pattern(r"\S.*|", "a folder"), "", "nginx's `proxy_cache_path`, for a purge to reach it"
    )
    memcached: tuple[str, ...] = _setting(_SERVERS, (), "memcached servers")
    memcached_client: str = _setting(
        Choice(("builtin", "pylibmc")),
        "builtin",
        "what asks them; pylibmc: only where nobody else can be the server",
    )
    memcached_namespace: str = _setting(Pattern(r"\S*", "text"), "", "keeps caches apart")
    auto_formats: tuple[str, ...] = _setting(
        ListOf(Choice(("avif", "webp"))), ("avif", "webp"), "what `auto` offers, best first"
    )
    auto_avif_pixels: int = _setting(
        Number(0, 100_000_000), 2_500_000, "largest picture that `auto` sends as AVIF, pixels"
    )
    quality_jpg: int = _setting(_QUALITY, _BEST.quality_jpg, "default quality of JPEG")
    quality_webp: int = _setting(_QUALITY, _BEST.quality_webp, "default quality of WebP")
    quality_avif: int = _setting(_QUALITY, _BEST.quality_avif, "default quality of AVIF")
    progressive_jpg: bool = _setting(
        Switch(), _BEST.progressive_jpg, "JPEG that builds up while it loads"
    )
    subsampling_jpg: str = _setting(_SUBSAMPLING, _BEST.subsampling_jpg, "colour detail of JPEG")
    effort_webp: int = _setting(Number(0, 6), _BEST.effort_webp, "more is smaller and slower")
    speed_avif: int = _setting(Number(0, 10), _BEST.speed_avif, "less is smaller and slower")
    subsampling_avif: str = _setting(_SUBSAMPLING, _BEST.subsampling_avif, "colour detail of AVIF")
    compression_png: int = _setting(
        Number(0, 9), _BEST.compression_png, "more is smaller and slower"
    )
    watermarks: Mapping[str, WatermarkSetting] = _setting(
        WatermarkTable(), {}, "pictures for the option `wm`, by name", repr=False
    )
    presets: Mapping[str, str] = _setting(
        PresetTable(), {}, "options by name, for `sign` and `warm`"
    )
    exif_fields: tuple[str, ...] = _setting(
        ListOf(Pattern("[A-Za-z0-9]+", "the name of an EXIF field")),
        (),
        "EXIF fields that `json` tells",
    )
    bind: str = _setting(Pattern(r"\S+:[0-9]{1,5}|unix:\S+", "host:port or unix:/path"),
                         "127.0.0.1:8080", "where `serve` listens")  # fmt: skip
    workers: int = _setting(
        Number(0, MOST_PROCESSES),
        0,
        "processes of `serve`; 0: one for each processor that it may use, if memory suffices",
    )
    threads: int = _setting(Number(1, 1024), 128, "threads of each process")
    misses: int = _setting(
        Number(0, 1024),
        0,
        "requests of each process that may wait for an origin or a render, then 503; "
        "0: three quarters of the threads",
    )
    max_requests: int = _setting(
        Number(0, 10**9), 0, "requests after which a process is replaced; 0: never"
    )
    keep_alive: int = _setting(
        Number(0, _DAY),
        75,
        "how long `serve` keeps an idle connection; longer than what sends requests to it does. "
        "0: one request for each",
    )
    drain_delay: float = _setting(
        Number(0, 600, 3),
        0,
        "how long `serve` goes on after TERM, while /readyz says that it stops",
    )
    isolation: str = _setting(
        Choice(("auto", "processes", "threads")),
        "auto",
        "where pictures are made; auto: in processes of `serve`, in threads of middleware",
    )
    renders: int = _setting(
        Number(0, MOST_PROCESSES),
        0,
        "pictures made at a time by each process; 0: processors / workers, and 2 at least, "
        "if memory suffices",
    )
    render_timeout: float = _setting(
        _TIMEOUT,
        10,
        "seconds of a processor that one render may take; at most half of request_timeout",
    )
    render_pixels: int = _setting(
        Number(1, 10**10),
        100_000_000,
        "pixels that all renders of a process hold at a time; others wait",
    )
    render_memory: int = _setting(
        Size(), 2048 * _MIB, "address space of a process that makes pictures"
    )
    log_format: str = _setting(
        Choice(("text", "json")), "text", "how `serve` writes its log: for people or for programs"
    )
    access_log: bool = _setting(Switch(), False, "a line in the log of `serve` for each request")
    metrics_token: str = _setting(
        Pattern(r"[!-~]{16,}|", "a secret of 16 ASCII characters at least, without spaces"),
        "",
        "the bearer token for /metrics of `serve`; none: no such page",
        repr=False,
    )
    purge_token: str = _setting(
        Pattern(r"[!-~]{16,}|", "a secret of 16 ASCII characters at least, without spaces"),
        "",
        "the bearer token for PURGE; none: nobody purges by HTTP",
        repr=False,
    )
    cors_origins: tuple[str, ...] = _setting(
        WebOrigins(), (), "origins whose pages' scripts may read what is served (CORS)"
    )
    cross_origin_resource_policy: str = _setting(
        Choice(("cross-origin", "same-site", "same-origin")),
        "cross-origin",
        "whose pages may embed what is served",
    )
    surrogate_keys: tuple[str, ...] = _setting(
        ListOf(Choice(tuple(SEPARATORS))), (), "headers with tags by which a CDN can purge"
    )
    cdn: Mapping[str, CdnSetting] = _setting(
        CdnTable(), {}, "CDNs that are told of purges", repr=False
    )
    source_ttl: int = _setting(
        _SECONDS, 3600, "how long a source is fresh if its origin does not say"
    )
    client_lifetime: str = _setting(
        Choice(("origin", "max_age")),
        "origin",
        "what counts for clients: the lifetime that an origin gives, or always max_age",
    )
    max_age: int = _setting(
        _SECONDS,
        30 * _DAY,
        "how long clients may keep what is not immutable, if its origin does not say",
    )
    stale_while_revalidate: int = _setting(
        _SECONDS,
        _DAY,
        "how long a stale picture is served while it is asked for; sent beside max_age",
    )
    stale_if_error: int = _setting(
        _SECONDS,
        7 * _DAY,
        "how long a stale picture is served if its origin fails; sent beside max_age",
    )
    not_found_ttl: float = _setting(
        Number(0, 60, 3), 5, "how long an origin that had no such source is not asked again"
    )
    failure_ttl: float = _setting(
        Number(0, 60, 3), 5, "how long what failed, a fetch or a render, is not tried again"
    )
    max_source_bytes: int = _setting(Number(1, 1024 * _MIB), 30 * _MIB, "largest source, bytes")
    max_source_pixels: int = _setting(
        # More, and Pillow itself takes the picture for an attack.
        Number(1, 178_000_000),
        50_000_000,
        "largest source, pixels of all frames",
    )
    max_source_side: int = _setting(Number(1, 65_535), 16_384, "longest side of a source")
    max_frames: int = _setting(Number(1, 10_000), 500, "longest animation that is animated, frames")
    max_output_side: int = _setting(Number(1, 16_383), 4_096, "longest side of an output")
    max_redirects: int = _setting(Number(0, 20), 3, "redirects that a fetch follows")
    accel_redirect: str = _setting(
        Pattern(r"(/[A-Za-z0-9._~-]+)+|", "a path like /_thumbproxy"),
        "",
        "an internal location of nginx that sends what lies in cache_dir",
    )
    fetch_timeout: float = _setting(_TIMEOUT, 10, "one fetch from the origin")
    request_timeout: float = _setting(_TIMEOUT, 25, "one request")

    def __post_init__(self) -> None:
        faults, wrong = [], set()
        for setting in fields(self):
            try:
                value = _kind(setting).check(getattr(self, setting.name))
                object.__setattr__(self, setting.name, value)
            except REFUSALS as error:
                wrong.add(setting.name)
                faults.append(_fault(setting.name, setting, getattr(self, setting.name), error))
        if wrong.isdisjoint(_OF_PRESETS):
            faults += self._preset_faults()
        if self.keys == ():
            faults.append(f"keys: none given. {HOW_TO_GIVE_KEYS}")
        if wrong.isdisjoint(("origin", "origins")) and self.origin and "" in self.origins:
            faults.append("origin: it is given, and origins has one with the prefix \"\" as well; "
                          "leave one of them out.")  # fmt: skip
        if faults:
            raise SettingsError(faults)

    def _preset_faults(self) -> Iterator[str]:
        """Presets that no server with these settings would make a picture of."""
        for name, text in self.presets.items():
            options = Options.read(text)
            try:
                options.check(self.limits)
            except BadOptions as error:
                yield f"presets: of {name!r}, {error.reason}"
            if options.watermark not in (None, *self.watermarks):
                more = hint(options.watermark or "", self.watermarks) or "."
                yield f"presets: of {name!r}, there is no watermark {options.watermark!r}{more}"

    @classmethod
    def load(
        cls,
        file: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read the three places, the later winning.

        Raises UnusableSettings with all faults, SettingsError for a file that cannot be read.
        """
        values: dict[str, Any] = dict(defaults or {})
        faults: list[str] = []
        wrong: set[str] = set()
        said = [*_from_file(file), *_from_environment(environ or {}), *_from_arguments(arguments)]
        for entry in said:
            try:
                values[entry.name] = _read(entry)
            except SettingsError as error:
                wrong.add(entry.name)
                faults += error.faults
        return cls.checked(values, faults, wrong)

    @classmethod
    def checked(
        cls, values: Mapping[str, Any], faults: Collection[str] = (), wrong: Collection[str] = ()
    ) -> Self:
        """The settings with these values.

        faults  that are known already, and of which settings
        wrong   the settings that they are of; what else is found of these is not told
        Raises UnusableSettings with all faults.
        """
        hidden = _with_presets(wrong)
        found = list(faults)
        try:
            settings = cls(**values)
        except SettingsError as error:
            new = [fault for fault in error.faults if setting_of(fault) not in hidden]
            found += new
            hidden |= {setting_of(fault) for fault in new}
        if found:
            raise UnusableSettings(found, hidden, cls._without(values, _with_presets(hidden)))
        return settings

    @classmethod
    def _without(cls, values: Mapping[str, Any], wrong: Collection[str]) -> Self:
        """The rest of the values; and if there are no keys in it, one that nobody knows."""
        rest = {name: value for name, value in values.items() if name not in wrong}
        return cls(**{"keys": (secrets.token_urlsafe(32),), **rest})

    @property
    def encoding(self) -> Encoding:
        return Encoding(**{entry.name: getattr(self, entry.name) for entry in fields(Encoding)})

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            source=self.source_ttl,
            stale_while_revalidate=self.stale_while_revalidate,
            stale_if_error=self.stale_if_error,
            not_found=self.not_found_ttl,
            failure=self.failure_ttl,
        )

    @property
    def limits(self) -> Limits:
        return Limits(
            source_bytes=self.max_source_bytes,
            source_pixels=self.max_source_pixels,
            source_side=self.max_source_side,
            frames=self.max_frames,
            output_side=self.max_output_side,
            fetch_seconds=self.fetch_timeout,
            request_seconds=self.request_timeout,
            render_seconds=self.render_timeout,
            redirects=self.max_redirects,
        )


class UnusableSettings(SettingsError):
    """wrong  the settings that have faults
    rest   what can be used: the others, and defaults in place of the wrong ones; not to be served
           with, but other faults can be looked for in it
    """

    def __init__(self, faults: list[str], wrong: Collection[str], rest: Settings) -> None:
        super().__init__(faults)
        self.wrong = frozenset(wrong)
        self.rest = rest


def setting_of(fault: str) -> str:
    """The setting that a fault of Settings, or of what is built from them, begins with."""
    return fault.partition(":")[0]


# By what it is decided whether a preset can be used.
_OF_PRESETS = ("presets", "watermarks", "max_output_side")


def _with_presets(wrong: Collection[str]) -> set[str]:
    return {*wrong} if set(_OF_PRESETS).isdisjoint(wrong) else {*wrong, "presets"}


_PLACES = ("cache_dir", "nginx_cache_dir", "origin", "origins", "watermarks")
_FIELDS: dict[str, Field[Any]] = {setting.name: setting for setting in fields(Settings)}


class _Said(NamedTuple):
    """A value as somebody gave it. text: it was text where it stood, whatever its kind."""

    label: str
    name: str
    value: Any
    text: bool


def _from_file(file: str | Path | None) -> Iterator[_Said]:
    if file is None:
        return
    try:
        table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError([f"The configuration file {file} cannot be read: {error}"]) from None
    folder = Path(file).absolute().parent
    for name, value in table.items():
        located = _located(value, folder) if name in _PLACES else value
        yield _Said(f"{name} in {file}", name, located, False)


def _located(value: Any, folder: Path) -> Any:
    """Relative paths in a file begin where the file is, wherever the server is started."""
    if not isinstance(value, dict):
        return _absolute(value, folder)
    return {
        name: {
            key: _absolute(fact, folder) if key in ("location", "image") else fact
            for key, fact in entry.items()
        }
        if isinstance(entry, dict)
        else _absolute(entry, folder)
        for name, entry in value.items()
    }


def has_scheme(place: str) -> bool:
    """Whether it is meant as a URL, of whatever kind, and not as a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def _absolute(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value or value.startswith("~") or has_scheme(value):
        return value
    return str(folder / value)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Said]:
    for variable, value in environ.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and name != "config":
            yield _Said(variable, name, value, True)


def overridden(file: str | Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of the file that the environment has, too, and whose value there is what counts:
    name -> variable. Raises SettingsError for a file that cannot be read."""
    named = {said.name for said in _from_file(file)}
    return {said.name: said.label for said in _from_environment(environ) if said.name in named}


def _from_arguments(arguments: Mapping[str, Any] | None) -> Iterator[_Said]:
    for name, value in (arguments or {}).items():
        if value is not None:
            yield _Said("--" + name.replace("_", "-"), name, value, True)


def _read(said: _Said) -> Any:
    setting = _FIELDS.get(said.name)
    if setting is None:
        raise SettingsError([unknown_setting(said.label, said.name)])
    kind = _kind(setting)
    try:
        return kind.read(said.value) if said.text else kind.check(said.value)
    except REFUSALS as error:
        raise SettingsError([_fault(said.label, setting, said.value, error)]) from None


def unknown_setting(label: str, name: str) -> str:
    """The fault of a name that is none, with the nearest that is one."""
    more = hint(name, _FIELDS) or "; docs/configuration.md has them all."
    return f"{label}: there is no such setting{more}"


def _kind(setting: Field[Any]) -> Kind:
    kind: Kind = setting.metadata["kind"]
    return kind


def _fault(label: str, setting: Field[Any], value: Any, error: Exception) -> str:
    shown = "what was given" if setting.metadata["secret"] else redact_url(repr(value)[:80])
    why = f"{error}" if isinstance(error, Refusal) else f"{shown} is not allowed"
    allowed = "" if isinstance(error, Explained) else f"; it takes {_kind(setting).allowed}"
    return f"{label}: {why}{allowed}."
