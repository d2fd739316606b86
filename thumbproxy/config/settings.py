"""The configuration: one schema, read from a file, the environment and arguments.

The schema is in `groups`: name, kind of value, default and meaning of each setting, in one place.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Self

from thumbproxy.config.groups.caching import CacheSettings, FreshnessSettings, PurgeSettings
from thumbproxy.config.groups.pictures import LimitSettings, PictureSettings, RenderSettings
from thumbproxy.config.groups.serving import LogSettings, ServerSettings, WebPageSettings
from thumbproxy.config.groups.sources import SourceSettings, UrlSettings
from thumbproxy.config.loading import Said, from_arguments, from_environment, from_file
from thumbproxy.config.schema import kind_of
from thumbproxy.config.types import REFUSALS, Explained, Refusal
from thumbproxy.core.errors import BadOptions, SettingsError
from thumbproxy.core.formats import Encoding
from thumbproxy.core.limits import Limits
from thumbproxy.core.suggest import hint
from thumbproxy.http.freshness import Lifetimes
from thumbproxy.urls.hosts import redact_url
from thumbproxy.urls.options import Options
from thumbproxy.urls.signing import HOW_TO_GIVE_KEYS

# By what it is decided whether a preset can be used.
_OF_PRESETS = ("presets", "watermarks", "max_output_side")


@dataclass(frozen=True, kw_only=True)
class Settings(
    UrlSettings,
    SourceSettings,
    CacheSettings,
    FreshnessSettings,
    PurgeSettings,
    PictureSettings,
    LimitSettings,
    RenderSettings,
    ServerSettings,
    LogSettings,
    WebPageSettings,
):
    """The whole configuration, checked. `Settings(**values)` raises SettingsError with all faults.

    Times are seconds, sizes bytes, sides pixels. The first line of a group's docstring is its title
    in docs/configuration.md, where the rest says when to touch it.
    """

    def __post_init__(self) -> None:
        faults, wrong = [], set()
        for setting in FIELDS.values():
            try:
                value = kind_of(setting).check(getattr(self, setting.name))
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
        said = [*from_file(file), *from_environment(environ or {}), *from_arguments(arguments)]
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


# In the order of the documentation.
GROUPS: tuple[type[Any], ...] = Settings.__bases__
FIELDS: Mapping[str, Field[Any]] = {
    setting.name: setting for group in GROUPS for setting in fields(group)
}
DEFAULTS: Mapping[str, Any] = {
    name: {} if setting.default is MISSING else setting.default for name, setting in FIELDS.items()
}


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


def _with_presets(wrong: Collection[str]) -> set[str]:
    return {*wrong} if set(_OF_PRESETS).isdisjoint(wrong) else {*wrong, "presets"}


def _read(said: Said) -> Any:
    setting = FIELDS.get(said.name)
    if setting is None:
        raise SettingsError([unknown_setting(said.label, said.name)])
    kind, value, faults = kind_of(setting), said.value, []
    if said.name == "origins" and isinstance(value, dict):
        # What stands below the heading [origins] is an origin in TOML.
        faults = [
            f"{said.label}: {name!r} is a setting and belongs above [origins]."
            for name in value
            if name in FIELDS
        ]
        value = {name: entry for name, entry in value.items() if name not in FIELDS}
    try:
        read = kind.read(value) if said.text else kind.check(value)
    except REFUSALS as error:
        faults.append(_fault(said.label, setting, value, error))
    if faults:
        raise SettingsError(faults)
    return read


def unknown_setting(label: str, name: str) -> str:
    """The fault of a name that is none, with the nearest that is one."""
    more = hint(name, FIELDS) or "; docs/configuration.md has them all."
    return f"{label}: there is no such setting{more}"


def _fault(label: str, setting: Field[Any], value: Any, error: Exception) -> str:
    shown = "what was given" if setting.metadata["secret"] else redact_url(repr(value)[:80])
    why = f"{error}" if isinstance(error, Refusal) else f"{shown} is not allowed"
    allowed = "" if isinstance(error, Explained) else f"; it takes {kind_of(setting).allowed}"
    return f"{label}: {why}{allowed}."
