"""Makes the tables of docs/configuration.md, and conf/thumbproxy.toml, from the schema of settings.

`make reference` runs it; tests/test_docs_reference.py says when it has to be run.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from thumbproxy.config.schema import kind_of
from thumbproxy.config.settings import DEFAULTS, GROUPS
from thumbproxy.config.types import Duration, Size

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "conf" / "thumbproxy.toml"
_WIDTH = 96
_HEAD = """\
# Every setting of thumbproxy, with its default. Take the # before a line away to change it.
#
#     thumbproxy serve --config thumbproxy.toml
#
# docs/configuration.md has what each may be, and examples of the tables. Sizes and times may be
# numbers, of bytes and seconds, as well.
"""


def introduction(group: type[Any]) -> tuple[str, str]:
    """The title of a group, and when to touch it."""
    title, _, text = inspect.cleandoc(group.__doc__ or "").partition("\n\n")
    return title, text


def in_words(setting: Field[Any]) -> str:
    """A default as people write it."""
    kind, value = kind_of(setting), DEFAULTS[setting.name]
    if isinstance(value, bool):
        return str(value).lower()
    if value in ((), "", {}):
        return "none"
    if isinstance(kind, Size | Duration):
        return kind.write(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def in_toml(setting: Field[Any]) -> str:
    """A default as a file has it."""
    kind, value = kind_of(setting), DEFAULTS[setting.name]
    if isinstance(kind, Size | Duration) and value:
        return json.dumps(kind.write(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return json.dumps(value)


def tables() -> str:
    """For docs/configuration.md: a heading, two sentences and a table for each group."""
    parts = []
    for group in GROUPS:
        title, text = introduction(group)
        rows = [
            f"| `{setting.name}` | {in_words(setting)} | {setting.metadata['meaning']}"
            f" | {_readable(kind_of(setting).allowed)} |"
            for setting in fields(group)
        ]
        head = "| setting | default | meaning | allowed |\n|---|---|---|---|"
        parts.append("\n".join([f"### {title}\n\n{text}\n", head, *rows]))
    return "\n\n".join(parts)


def _readable(text: str) -> str:
    """With commas in long numbers."""
    return re.sub(r"\b[0-9]{6,}\b", lambda number: f"{int(number[0]):,}", text)


def example() -> str:
    """conf/thumbproxy.toml: every setting with its default, as a comment."""
    parts = [_HEAD]
    for group in GROUPS:
        title, text = introduction(group)
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"docs/\1.md", text)
        lines = [f"# -- {title} ".ljust(_WIDTH, "-"), "#", *_comment(plain)]
        for setting in fields(group):
            lines += ["", *_comment(setting.metadata["meaning"])]
            lines.append(f"#{setting.name} = {in_toml(setting)}")
        parts.append("\n".join(lines) + "\n")
    return "\n\n".join(parts)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH - 2)]


def with_tables(page: str) -> str:
    begin, end = "<!-- settings -->\n", "<!-- end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE.name} has no place for the settings.")
    return f"{before}{begin}\n{tables()}\n\n{end}{after}"


def made() -> Mapping[Path, str]:
    """What each file should have in it."""
    return {PAGE: with_tables(PAGE.read_text()), EXAMPLE: example()}


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text)
