"""How a setting is declared: its kind of value, its default and its meaning, in one place."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any

from thumbproxy.urls.value_types import Kind, Pattern


def setting(kind: Kind, default: Any, meaning: str, *, secret: bool = False) -> Any:
    """A field of a group.

    default  what counts where nobody says otherwise; {} for tables
    secret   its value is never shown
    """
    metadata = {"kind": kind, "meaning": meaning, "secret": secret}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


def kind_of(field: Field[Any]) -> Kind:
    kind: Kind = field.metadata["kind"]
    return kind


FOLDER = Pattern(r"\S.*|", "a folder")
HTTP_URL = Pattern(
    r"(https?://[^\s/?#@]+(/[^\s?#]*)?)?", "http://host or https://host, no password"
)
TOKEN = Pattern(r"[!-~]{16,}|", "a secret of 16 ASCII characters at least, without spaces")
