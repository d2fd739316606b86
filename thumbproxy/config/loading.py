"""Where settings are given: a file, the environment, arguments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from thumbproxy.core.errors import SettingsError

ENVIRONMENT_PREFIX = "THUMBPROXY_"
_PLACES = ("cache_dir", "nginx_cache_dir", "origin", "origins", "watermarks")


class Said(NamedTuple):
    """A value as somebody gave it. text: it was text where it stood, whatever its kind."""

    label: str
    name: str
    value: Any
    text: bool


def from_file(file: str | Path | None) -> Iterator[Said]:
    if file is None:
        return
    try:
        table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError([f"The configuration file {file} cannot be read: {error}"]) from None
    folder = Path(file).absolute().parent
    for name, value in table.items():
        located = _located(value, folder) if name in _PLACES else value
        yield Said(f"{name} in {file}", name, located, False)


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


def from_environment(environ: Mapping[str, str]) -> Iterator[Said]:
    for variable, value in environ.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and name != "config":
            yield Said(variable, name, value, True)


def overridden(file: str | Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of the file that the environment has, too, and whose value there is what counts:
    name -> variable. Raises SettingsError for a file that cannot be read."""
    named = {said.name for said in from_file(file)}
    return {said.name: said.label for said in from_environment(environ) if said.name in named}


def from_arguments(arguments: Mapping[str, Any] | None) -> Iterator[Said]:
    for name, value in (arguments or {}).items():
        if value is not None:
            yield Said("--" + name.replace("_", "-"), name, value, True)
